//! How many tokens the next request has: what the provider counted in the last one, and an estimate of what came since.

use super::Conversation;
use greenroom_domain::message::{Content, Message};
use greenroom_domain::money::Usage;

/// English and code have about four bytes for a token.
const BYTES_PER_TOKEN: usize = 4;
/// What a message costs beside its text.
const MESSAGE_TOKENS: u64 = 4;
/// A picture as the providers scale it.
const IMAGE_TOKENS: u64 = 1_600;
/// Estimates are corrected by what the provider counted, within these bounds, in thousandths.
const CORRECTION: std::ops::RangeInclusive<u64> = 500..=2_000;
/// Too little text tells nothing about the tokenizer.
const CORRECTION_FROM_TOKENS: u64 = 2_000;

/// What the provider counted, and of what.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    /// The last answer and everything before it: tokens and messages. Forgotten when the beginning changes.
    last: Option<(u64, usize)>,
    /// What it counted last, and our estimate of the same messages.
    compared: Option<(u64, u64)>,
    /// An estimate of what every request begins with: instructions and tools.
    pub(super) fixed: u64,
}

impl Measured {
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

/// Of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) count: u64,
    /// So many of them the provider counted itself.
    pub(crate) counted: u64,
}

impl Conversation {
    /// What the provider counted for the answer that was added last.
    pub(crate) fn measured(&mut self, usage: &Usage) {
        let counted = usage.total_tokens();
        if counted > 0 {
            self.measured.last = Some((counted, self.messages.len()));
            self.measured.compared = Some((counted, self.estimate()));
        }
    }

    /// An estimate of what every request begins with: instructions and tools.
    pub(crate) fn begins_with(&mut self, tokens: u64) {
        self.measured.fixed = tokens;
    }

    pub(crate) fn tokens(&self) -> Tokens {
        let estimate = self.measured.fixed + self.estimate();
        match self.measured.last {
            Some((counted, messages)) if messages <= self.messages.len() => {
                let since: u64 = self.messages[messages..].iter().map(tokens_of).sum();
                // Some servers count only what they had not cached.
                let count = (counted + self.corrected(since)).max(estimate / 2);
                Tokens { count, counted: counted.min(count) }
            }
            _ => Tokens { count: self.corrected(estimate), counted: 0 },
        }
    }

    /// An estimate as the provider would count it.
    pub(crate) fn corrected(&self, estimate: u64) -> u64 {
        match self.measured.compared {
            Some((counted, messages)) if self.measured.fixed + messages >= CORRECTION_FROM_TOKENS => {
                let correction = counted * 1_000 / (self.measured.fixed + messages);
                estimate * correction.clamp(*CORRECTION.start(), *CORRECTION.end()) / 1_000
            }
            _ => estimate,
        }
    }

    fn estimate(&self) -> u64 {
        self.messages.iter().map(tokens_of).sum()
    }
}

pub(crate) fn tokens_of_text(text: &str) -> u64 {
    text.len().div_ceil(BYTES_PER_TOKEN) as u64
}

/// Without sealed reasoning, which providers count by what is in it.
pub(crate) fn tokens_of(message: &Message) -> u64 {
    MESSAGE_TOKENS
        + match message {
            Message::User { text, images } => tokens_of_text(text) + IMAGE_TOKENS * images.len() as u64,
            Message::Assistant { content, .. } => content.iter().map(tokens_of_content).sum(),
            Message::ToolResults { results } => {
                results.iter().map(|result| tokens_of_text(&result.text)).sum()
            }
        }
}

fn tokens_of_content(content: &Content) -> u64 {
    match content {
        Content::Text { text } | Content::Thinking { text } => tokens_of_text(text),
        Content::ToolCall(call) => tokens_of_text(&call.name) + tokens_of_text(&call.input.to_string()),
    }
}
