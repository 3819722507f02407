//! The conversation with a model, in a form of our own beside the provider's raw items, which are kept verbatim.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// One part of what a model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Content {
    Text { text: String },
    Thinking { text: String },
    ToolCall(ToolCall),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// The provider's id of the call; unique within a session.
    pub id: String,
    pub name: String,
    /// A JSON object, or, when the model wrote broken JSON, a string with what it wrote.
    pub input: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolResult {
    pub call: String,
    pub text: String,
    pub is_error: bool,
}

/// Items of one provider exactly as they came, to be sent back as they are. `format` says whose they are
/// (`anthropic_messages`, `openai_responses`, `openai_chat`, `gemini`); another provider, or another model of it, uses the normalised content instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RawItems {
    pub format: String,
    pub items: Vec<Value>,
    /// The model they are bound to: what signs its thinking, and encrypts it, is of no use to another one. `None` in logs
    /// of before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    EndTurn,
    ToolUse,
    MaxTokens,
    Refusal,
    /// The provider paused a long turn and wants to be called again.
    Pause,
    Other,
}

/// A picture for a model that sees. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub media_type: String,
    /// Base64 of its bytes.
    #[serde(with = "shared_text")]
    pub data: Arc<str>,
}

/// As a string: serde's own way needs a feature of its that every crate would be built again for.
mod shared_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Into::into)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("media_type", &self.media_type)
            .field("base64_bytes", &self.data.len())
            .finish()
    }
}

impl Message {
    /// Words without pictures.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into(), images: Vec::new() }
    }
}

/// The conversation as a provider is given it, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Message {
    User {
        text: String,
        /// What the text speaks of, in its order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image>,
    },
    Assistant {
        content: Vec<Content>,
        raw: Option<RawItems>,
    },
    ToolResults {
        results: Vec<ToolResult>,
    },
}
