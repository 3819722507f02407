//! The `Provider` trait and its values: one request in, a stream of deltas and one complete response out.

use async_trait::async_trait;
use greenroom_domain::message::{Content, Message, RawItems, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::{Effort, ErrorCode, Problem};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    pub name: String,
    pub description: String,
    /// JSON Schema of the input object.
    pub input_schema: Value,
}

/// One model call. `system`, `tools` and all but the last messages are a stable prefix: request N+1 extends request N.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub system: String,
    pub tools: Vec<ToolDefinition>,
    pub messages: Vec<Message>,
    pub max_output_tokens: u32,
    pub effort: Option<Effort>,
    /// The session's id: the provider's prompt cache key where it has one.
    pub cache_key: String,
}

/// What a stream yields: any number of `Delta`s, then exactly one `Done` or `Failed`; a channel that closes without
/// either is `Error::Broken`.
#[derive(Debug)]
pub enum StreamEvent {
    Delta(Delta),
    Done(Box<Response>),
    Failed(Error),
}

/// `index` is the position in `Response::content` that this text will have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    Text { index: usize, text: String },
    Thinking { index: usize, text: String },
    ToolCallStarted { index: usize, id: String, name: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Every tool call in it was finished by the model and may be executed, also with `StopReason::MaxTokens`: a call
    /// that the limit cut off is neither here nor in `raw`.
    pub content: Vec<Content>,
    pub raw: Option<RawItems>,
    pub stop_reason: StopReason,
    /// With cost, when the model's price is known.
    pub usage: Usage,
}

pub type ProviderStream = mpsc::Receiver<StreamEvent>;

#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// Shown to people and kept in the log, for example `anthropic/claude-sonnet-4-5`.
    fn model(&self) -> &str;

    /// Tokens the model can take in one request.
    fn context_window(&self) -> u64;

    /// Whether it takes pictures.
    fn sees_images(&self) -> bool {
        true
    }

    /// Whether it was trained to change files by `apply_patch`.
    fn edits_by_patch(&self) -> bool {
        false
    }

    /// What tokens of one request cost, in millionths of a US dollar; `None`: the price is not known.
    fn price_microusd(&self, _usage: &Usage) -> Option<u64> {
        None
    }

    /// Whether it calls tools, which an agent needs.
    fn uses_tools(&self) -> bool {
        true
    }

    /// How hard it can be asked to think, from the least; empty: it cannot be asked.
    fn efforts(&self) -> Vec<Effort> {
        Effort::ALL.to_vec()
    }

    /// Opens connections ahead of need, so that the next `stream` finds one. Errors are kept for `stream` to report.
    async fn warm(&self);

    /// Sends the request. Dropping the receiver cancels it. Never retries: the caller decides, with `Error::retry`.
    async fn stream(&self, request: Request) -> Result<ProviderStream, Error>;
}

/// Why a model call failed. No variant holds a key or a header's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the model provider could not be reached: {reason}")]
    Unreachable { reason: String },
    #[error("the model provider refused the key (HTTP {status})")]
    KeyRefused { status: u16 },
    #[error("the model provider limits the rate of requests")]
    RateLimited { retry_after: Option<Duration> },
    #[error("the model provider is overloaded (HTTP {status})")]
    Overloaded { status: u16, retry_after: Option<Duration> },
    #[error("the account of the model provider's key has nothing left to spend: {message}")]
    OutOfCredit { message: String },
    #[error("the model cannot call tools: {message}")]
    WithoutTools { message: String },
    #[error("the model provider did not accept the request (HTTP {status}): {message}")]
    Invalid { status: u16, message: String },
    #[error("the conversation is longer than the model can take: {message}")]
    ContextOverflow { message: String },
    #[error("the answer broke off: {reason}")]
    Broken { reason: String },
    #[error("the model provider sent nothing for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
}

impl Error {
    /// How long to wait before the same request may be sent again; `None` when that cannot help. `attempt` begins at 1.
    pub fn retry(&self, attempt: u32) -> Option<Duration> {
        let backoff =
            Duration::from_secs(2u64.saturating_pow(attempt.clamp(1, 5))).min(Duration::from_secs(30));
        match self {
            Self::RateLimited { retry_after } | Self::Overloaded { retry_after, .. } => {
                Some(retry_after.unwrap_or(backoff))
            }
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Some(backoff),
            Self::KeyRefused { .. }
            | Self::OutOfCredit { .. }
            | Self::WithoutTools { .. }
            | Self::Invalid { .. }
            | Self::ContextOverflow { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    /// Whether another model may well answer what this one did not: the fault is its provider's or its key's, not the
    /// request's.
    pub fn is_of_the_provider(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::KeyRefused { .. }
            | Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::OutOfCredit { .. }
            | Self::Broken { .. }
            | Self::Silent { .. } => true,
            Self::WithoutTools { .. }
            | Self::Invalid { .. }
            | Self::ContextOverflow { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// The same in words for a person.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::Unreachable { .. } => {
                (ErrorCode::ModelUnreachable, "Check the address with `greenroom model test NAME`.")
            }
            Self::KeyRefused { .. } => (
                ErrorCode::ModelKeyRefused,
                "Store a valid key with `greenroom model add NAME --provider … --key-from …`.",
            ),
            Self::RateLimited { .. } => {
                (ErrorCode::ModelRateLimited, "Wait a little, or raise the limit with the provider.")
            }
            Self::Overloaded { .. } => {
                (ErrorCode::ModelOverloaded, "Send the prompt again in a few minutes.")
            }
            Self::OutOfCredit { .. } => {
                (ErrorCode::ModelOutOfCredit, "Add credit with the provider, or choose another model.")
            }
            Self::WithoutTools { .. } => (ErrorCode::ModelWithoutTools, "Choose a model that calls tools."),
            Self::Invalid { .. } => {
                (ErrorCode::ModelRequestInvalid, "Check the model's name with `greenroom model list`.")
            }
            Self::ContextOverflow { .. } => {
                (ErrorCode::ContextOverflow, "Start a new session for the rest of the work.")
            }
            Self::Broken { .. } | Self::Silent { .. } | Self::TooLarge { .. } => {
                (ErrorCode::ModelStreamBroken, "Send the prompt again.")
            }
        };
        Problem::new(code, capitalised(&self.to_string())).hint(hint)
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}
