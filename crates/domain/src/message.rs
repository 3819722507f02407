//! The conversation with a model, in a form of our own beside the provider's raw items, which are kept verbatim.

use serde::{Deserialize, Serialize};
use serde_json::Value;
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
/// (`anthropic_messages`, `openai_responses`, `openai_chat`); another provider uses the normalised content instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RawItems {
    pub format: String,
    pub items: Vec<Value>,
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

/// The conversation as a provider is given it, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Message {
    User { text: String },
    Assistant { content: Vec<Content>, raw: Option<RawItems> },
    ToolResults { results: Vec<ToolResult> },
}
