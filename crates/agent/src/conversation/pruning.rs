//! Old outputs of tools give way to notes. The calls themselves stay, so that calls and results remain pairs.

use super::{Conversation, tokens_of_text};
use greenroom_domain::message::Message;

/// Less than this is not worth a note.
const WORTH_TOKENS: u64 = 100;

/// Outputs that can give way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prunable {
    pub(crate) calls: Vec<String>,
    /// What that saves, as the provider counts.
    pub(crate) tokens: u64,
}

impl Conversation {
    /// All outputs but the newest `kept` tokens of them.
    pub(crate) fn prunable(&self, kept: u64) -> Prunable {
        let mut prunable = Prunable::default();
        let mut newer = 0;
        for result in
            self.messages.iter().rev().filter_map(results_of).flat_map(|results| results.iter().rev())
        {
            let tokens = tokens_of_text(&result.text);
            newer += tokens;
            let saved = tokens.saturating_sub(tokens_of_text(&note(result.text.len())));
            if self.corrected(newer) > kept && saved >= WORTH_TOKENS && !self.pruned.contains(&result.call) {
                prunable.calls.push(result.call.clone());
                prunable.tokens += saved;
            }
        }
        prunable.calls.reverse();
        prunable.tokens = self.corrected(prunable.tokens);
        prunable
    }

    /// From here on the model sees notes in place of these outputs.
    pub(crate) fn prune(&mut self, calls: &[String]) {
        self.settle();
        for message in &mut self.messages {
            let Message::ToolResults { results } = message else { continue };
            for result in results.iter_mut().filter(|result| calls.contains(&result.call)) {
                if self.pruned.insert(result.call.clone()) {
                    result.text = note(result.text.len());
                }
            }
        }
        self.measured.forget();
    }

    pub(crate) fn is_pruned(&self, call: &str) -> bool {
        self.pruned.contains(call)
    }
}

fn results_of(message: &Message) -> Option<&Vec<greenroom_domain::message::ToolResult>> {
    match message {
        Message::ToolResults { results } => Some(results),
        Message::User { .. } | Message::Assistant { .. } => None,
    }
}

pub(super) fn note(bytes: usize) -> String {
    format!(
        "(Removed to make room: {bytes} bytes of output. Look again if you need it; do not repeat a call that changes \
         something.)"
    )
}
