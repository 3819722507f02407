//! A model that says and does anything: words, several commands at once, nothing for a while, half an answer.

use crate::dice::Dice;
use crate::disk::Disk;
use crate::hands::Ledger;
use async_trait::async_trait;
use greenroom_domain::message::{Content, Message, StopReason, ToolCall};
use greenroom_domain::money::Usage;
use greenroom_model::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

#[derive(Clone, Debug)]
pub(crate) struct Brain {
    pub(crate) dice: Dice,
    pub(crate) disk: Arc<Disk>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) heard: Heard,
}

/// What anybody said to the model, in all requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<BTreeSet<String>>>);

impl Heard {
    fn note(&self, messages: &[Message]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            if let Message::User { text, .. } = message {
                heard.insert(text.clone());
            }
        }
    }

    /// Whether a request held this text.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|text| text.contains(wanted))
    }
}

#[async_trait]
impl Provider for Brain {
    fn model(&self) -> &'static str {
        "simulated/model"
    }

    fn context_window(&self) -> u64 {
        1_000_000
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        self.disk.point().await;
        self.heard.note(&request.messages);
        if !self.disk.is_kind() && self.dice.chance(4) {
            return Err(Error::Overloaded { status: 529, retry_after: None });
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(self.clone().speak(sender));
        Ok(receiver)
    }
}

impl Brain {
    async fn speak(self, sender: mpsc::Sender<StreamEvent>) {
        let content = self.answer();
        for (index, part) in content.iter().enumerate() {
            let words = match part {
                Content::Text { text } => text.split_inclusive(' ').map(str::to_owned).collect(),
                _ => vec![],
            };
            for text in words {
                self.disk.point().await;
                let delta = StreamEvent::Delta(Delta::Text { index, text });
                if sender.send(delta).await.is_err() {
                    return;
                }
            }
        }
        self.disk.point().await;
        if !self.disk.is_kind() && self.dice.chance(5) {
            // The connection breaks before the answer is whole.
            return;
        }
        let has_calls = content.iter().any(|part| matches!(part, Content::ToolCall(_)));
        let stop_reason = if has_calls { StopReason::ToolUse } else { StopReason::EndTurn };
        let usage = Usage { requests: 1, output_tokens: 1, ..Usage::default() };
        let response = Response { content, raw: None, stop_reason, usage };
        let _ = sender.send(StreamEvent::Done(Box::new(response))).await;
    }

    fn answer(&self) -> Vec<Content> {
        // Long ones are written to the log in parts.
        let words = if self.dice.chance(20) { self.dice.range(20, 120) } else { self.dice.range(1, 12) };
        let text = (0..words).map(|_| format!("word{} ", self.dice.range(0, 100))).collect();
        let mut content = vec![Content::Text { text }];
        if self.dice.chance(45) {
            for _ in 0..self.dice.range(1, 4) {
                let command = self.ledger.command();
                let id = format!("call-{}", self.dice.next());
                let input = json!({ "command": command, "read_only": self.dice.chance(30) });
                content.push(Content::ToolCall(ToolCall { id, name: "bash".into(), input }));
            }
        }
        content
    }
}
