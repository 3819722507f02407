//! What the server says, without a protocol: the same script is spoken in all three.

use greenroom_domain::message::StopReason;
use serde_json::Value;
use std::time::Duration;

/// One answer.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub says: Vec<Say>,
    /// `ToolUse` when there are calls and `EndTurn` otherwise, unless it is set.
    pub stop: Option<StopReason>,
    pub fault: Option<Fault>,
    /// The pause before each event.
    pub pace: Duration,
    pub tokens: Tokens,
    /// Told by Chat Completions, as OpenRouter does.
    pub cost_usd: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Say {
    Text(String),
    Thinking {
        text: String,
        /// Anthropic's signature, OpenAI's encrypted content.
        signature: String,
    },
    RedactedThinking(String),
    /// `arguments` is written as it is, so that it can be broken JSON.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

/// Token counts as our `Usage` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { input: 100, output: 20, cache_read: 50, cache_write: 10 }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// An HTTP error instead of an answer.
    Status(StatusFault),
    /// An error event after the first piece of text.
    ErrorEvent { kind: String, message: String },
    /// The connection breaks in the middle of the text.
    CutInText,
    /// The connection breaks in the middle of the last call's JSON.
    CutInCall,
    /// The answer ends properly for HTTP, but without the protocol's final event.
    NoFinalEvent,
    /// The data of an event is cut JSON.
    BrokenEventJson,
    /// A web page with status 200.
    NotEvents,
    /// The first event comes twice.
    DuplicateStart,
    /// The output limit is reached in the middle of the last call's JSON.
    MaxTokensInCall,
    /// Nothing comes after the first event; the connection stays open.
    Silence,
    /// No headers come at all.
    SilenceBeforeHeaders,
    /// Text without end.
    Endless,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StatusFault {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub kind: String,
    pub message: String,
}

impl Turn {
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().and_text(text)
    }

    pub fn call(id: &str, name: &str, input: &Value) -> Self {
        Self::default().and_call(id, name, input)
    }

    pub fn fault(fault: Fault) -> Self {
        Self::text("never seen in full, sorry").with_fault(fault)
    }

    pub fn and_text(mut self, text: impl Into<String>) -> Self {
        self.says.push(Say::Text(text.into()));
        self
    }

    pub fn and_thinking(mut self, text: impl Into<String>, signature: impl Into<String>) -> Self {
        self.says.push(Say::Thinking { text: text.into(), signature: signature.into() });
        self
    }

    pub fn and_call(self, id: &str, name: &str, input: &Value) -> Self {
        self.and_written_call(id, name, input.to_string())
    }

    /// A call with exactly these arguments.
    pub fn and_written_call(mut self, id: &str, name: &str, arguments: impl Into<String>) -> Self {
        self.says.push(Say::Call { id: id.into(), name: name.into(), arguments: arguments.into() });
        self
    }

    pub fn with_stop(mut self, stop: StopReason) -> Self {
        self.stop = Some(stop);
        self
    }

    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub fn with_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    pub(super) fn stop_reason(&self) -> StopReason {
        let has_calls = self.says.iter().any(|say| matches!(say, Say::Call { .. }));
        self.stop.unwrap_or(if self.fault == Some(Fault::MaxTokensInCall) {
            StopReason::MaxTokens
        } else if has_calls {
            StopReason::ToolUse
        } else {
            StopReason::EndTurn
        })
    }

    /// The arguments of the call at `index`, cut in the middle where the fault wants it.
    pub(super) fn written_arguments<'a>(&self, index: usize, arguments: &'a str) -> &'a str {
        let is_cut = self.fault == Some(Fault::MaxTokensInCall) && index + 1 == self.says.len();
        let middle = arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
        if is_cut { &arguments[..middle] } else { arguments }
    }
}

impl Fault {
    pub fn status(status: u16, kind: &str, message: &str) -> Self {
        Self::Status(StatusFault {
            status,
            headers: Vec::new(),
            kind: kind.to_owned(),
            message: message.to_owned(),
        })
    }

    /// 429; `retry_after` is the header's value.
    pub fn rate_limited(retry_after: &str) -> Self {
        Self::status(429, "rate_limit_error", "too many requests").with_header("retry-after", retry_after)
    }

    pub fn overloaded() -> Self {
        Self::status(529, "overloaded_error", "Overloaded")
    }

    pub fn internal() -> Self {
        Self::status(500, "api_error", "Internal server error")
    }

    pub fn key_refused() -> Self {
        Self::status(401, "authentication_error", "invalid x-api-key")
    }

    pub fn context_overflow() -> Self {
        Self::status(400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum")
    }

    pub fn error_event(kind: &str, message: &str) -> Self {
        Self::ErrorEvent { kind: kind.to_owned(), message: message.to_owned() }
    }

    /// Adds a header to an HTTP error; other faults have none.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status(fault) = &mut self {
            fault.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}
