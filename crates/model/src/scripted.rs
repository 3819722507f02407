//! The demo's stand-in for a model. It knows one job, "make the failing test pass" in a small plain Python repository,
//! and only chooses words: it sees what a model sees, the conversation, and each of its steps follows from what the
//! tools really answered. When it cannot repair something it says so. `greenroom serve` never constructs it.

mod failure;
mod policy;
mod project;
mod python;
mod repair;
mod replay;
mod summary;

use crate::provider::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent};
use async_trait::async_trait;
use greenroom_domain::message::{Content, Message, StopReason};
use greenroom_domain::money::Usage;
use std::time::Duration;
use tokio::sync::mpsc;

pub use policy::next;

const DEFAULT_PACE: Duration = Duration::from_millis(6);
const CONTEXT_WINDOW: u64 = 200_000;
const CHANNEL_SIZE: usize = 16;

/// A provider without a model: no network, no tokens, no cost.
#[derive(Clone, Debug)]
pub struct Scripted {
    pace: Duration,
}

impl Scripted {
    pub fn new() -> Self {
        Self { pace: DEFAULT_PACE }
    }

    /// The pause before each word; none for tests.
    pub fn with_pace(pace: Duration) -> Self {
        Self { pace }
    }
}

impl Default for Scripted {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for Scripted {
    fn model(&self) -> &'static str {
        "scripted/demo"
    }

    fn context_window(&self) -> u64 {
        CONTEXT_WINDOW
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        let content = next(&request.messages);
        let (sender, receiver) = mpsc::channel(CHANNEL_SIZE);
        tokio::spawn(speak(content, self.pace, sender));
        Ok(receiver)
    }
}

/// Ends when nobody listens any more.
async fn speak(content: Vec<Content>, pace: Duration, sender: mpsc::Sender<StreamEvent>) {
    for (index, part) in content.iter().enumerate() {
        for delta in deltas(index, part) {
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            if sender.send(StreamEvent::Delta(delta)).await.is_err() {
                return;
            }
        }
    }
    let has_calls = content.iter().any(|part| matches!(part, Content::ToolCall(_)));
    let stop_reason = if has_calls { StopReason::ToolUse } else { StopReason::EndTurn };
    let usage = Usage { requests: 1, ..Usage::default() };
    let response = Response { content, raw: None, stop_reason, usage };
    let _ = sender.send(StreamEvent::Done(Box::new(response))).await;
}

fn deltas(index: usize, part: &Content) -> Vec<Delta> {
    match part {
        Content::Text { text } => {
            text.split_inclusive(' ').map(|word| Delta::Text { index, text: word.to_owned() }).collect()
        }
        Content::Thinking { text } => vec![Delta::Thinking { index, text: text.clone() }],
        Content::ToolCall(call) => {
            vec![Delta::ToolCallStarted { index, id: call.id.clone(), name: call.name.clone() }]
        }
    }
}

/// The last prompt and what was said and done since.
fn since_last_prompt(messages: &[Message]) -> (&str, &[Message]) {
    let last = messages.iter().rposition(|message| matches!(message, Message::User { .. }));
    match last.map(|at| (&messages[at], &messages[at + 1..])) {
        Some((Message::User { text, .. }, rest)) => (text, rest),
        _ => ("", messages),
    }
}
