//! What of a conversation the model is given, and how it is kept within its window.
//!
//! Requests extend one another byte for byte, so that providers find the beginning in their caches. The breaks, all of them:
//! 1. *Pruning* (`ContextPruned`): old outputs of tools become notes, when the next request would leave no room for an answer.
//! 2. *Compaction* (`ContextCompacted`): a summary takes the place of the beginning, where pruning is not enough, the provider
//!    says that a request is too long, or a person asks for it.
//! 3. Another model, which does not get the first one's own items back.
//! 4. Other instructions: those of another image, taken when a session comes back into memory.
//!
//! The first two are decisions of the loop and entries of the log: whoever rebuilds the conversation gets the same bytes. Nothing
//! is ever taken out of the log.

use crate::conversation::{Conversation, tokens_of, tokens_of_text};
use crate::prompt::{self, Instructions};
use crate::tools::{self, Editing};
use crate::transcript::Transcript;
use greenroom_domain::message::Message;
use greenroom_model::ToolDefinition;

/// Room for an answer, and the share of the window that it is at most.
const RESERVE_TOKENS: u64 = 16_000;
/// The newest outputs of tools are not pruned, up to this.
const KEPT_OUTPUTS_TOKENS: u64 = 40_000;
/// What a break must gain, so that it does not come again with the next request.
const WORTH_TOKENS: u64 = 20_000;

/// The tokens that a model can take in one request, and what follows for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub tokens: u64,
}

impl Window {
    pub fn new(tokens: u64) -> Self {
        Self { tokens }
    }

    pub fn reserve(self) -> u64 {
        RESERVE_TOKENS.min(self.tokens / 4)
    }

    /// A longer request is not sent.
    pub fn limit(self) -> u64 {
        self.tokens - self.reserve()
    }

    pub(crate) fn kept_outputs(self) -> u64 {
        KEPT_OUTPUTS_TOKENS.min(self.tokens / 4)
    }

    pub(crate) fn worth(self) -> u64 {
        WORTH_TOKENS.min(self.tokens / 10)
    }
}

/// A part of what the model sees, in the order in which it sees them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    Tools,
    System,
    /// AGENTS.md.
    Instructions,
    Skills,
    /// Services and ports.
    Environment,
    Summary,
    /// What people said, and what we told.
    Prompts,
    /// What the model said, its calls included.
    Answers,
    ToolOutputs,
}

/// `tokens`: estimated, corrected by what the provider counted in all. `items`: tools, skills, messages, outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub tokens: u64,
    pub items: u64,
}

/// What the next request would begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Only those that there are.
    pub parts: Vec<Part>,
    pub tokens: u64,
    /// So many of `tokens` the provider counted itself in the last request.
    pub counted: u64,
    /// Outputs that are notes now.
    pub pruned_outputs: u64,
}

/// What a model that changes files in this way sees of a session: its transcript under these instructions.
pub fn describe(transcript: &Transcript, instructions: &Instructions, editing: Editing) -> Description {
    let mut conversation = transcript.conversation.clone();
    conversation.settle();
    let fixed = fixed_parts(&tools::offered(editing, instructions), instructions);
    conversation.begins_with(fixed.iter().map(|part| part.tokens).sum());
    let mut parts = fixed;
    parts.extend(parts_of(&conversation));
    parts.retain(|part| part.tokens > 0);
    parts.iter_mut().for_each(|part| part.tokens = conversation.corrected(part.tokens));
    let tokens = conversation.tokens();
    let results = conversation.messages().iter().filter_map(|message| match message {
        Message::ToolResults { results } => Some(results),
        _ => None,
    });
    let pruned = results.flatten().filter(|result| conversation.is_pruned(&result.call)).count();
    Description { parts, tokens: tokens.count, counted: tokens.counted, pruned_outputs: pruned as u64 }
}

/// An estimate of what every request begins with.
pub(crate) fn fixed_tokens(tools: &[ToolDefinition], instructions: &Instructions) -> u64 {
    fixed_parts(tools, instructions).iter().map(|part| part.tokens).sum()
}

fn fixed_parts(tools: &[ToolDefinition], instructions: &Instructions) -> Vec<Part> {
    let of_tool = |tool: &ToolDefinition| {
        tokens_of_text(&tool.name)
            + tokens_of_text(&tool.description)
            + tokens_of_text(&tool.input_schema.to_string())
    };
    let tokens = tools.iter().map(of_tool).sum();
    let tools = Part { kind: PartKind::Tools, tokens, items: tools.len() as u64 };
    let texts = prompt::parts(instructions).into_iter().map(|part| {
        let items = match part.kind {
            PartKind::Skills => instructions.skills.len(),
            PartKind::Environment => instructions.services.len() + instructions.ports.len(),
            _ => 1,
        };
        Part { kind: part.kind, tokens: tokens_of_text(&part.text), items: items as u64 }
    });
    std::iter::once(tools).chain(texts).collect()
}

fn parts_of(conversation: &Conversation) -> Vec<Part> {
    let part = |kind| Part { kind, tokens: 0, items: 0 };
    let mut summary = part(PartKind::Summary);
    let [mut prompts, mut answers, mut outputs] =
        [PartKind::Prompts, PartKind::Answers, PartKind::ToolOutputs].map(part);
    for (index, message) in conversation.messages().iter().enumerate() {
        let tokens = tokens_of(message);
        match message {
            Message::User { text, .. } => {
                let bytes = if index == 0 { conversation.summary_bytes() } else { 0 };
                let of_summary = match bytes < text.len() {
                    true => tokens_of_text(&text[..text.floor_char_boundary(bytes)]).min(tokens),
                    false => tokens,
                };
                summary.tokens += of_summary;
                summary.items += u64::from(bytes > 0);
                prompts.tokens += tokens - of_summary;
                prompts.items += u64::from(bytes < text.len());
            }
            Message::Assistant { .. } => {
                answers.tokens += tokens;
                answers.items += 1;
            }
            Message::ToolResults { results } => {
                outputs.tokens += tokens;
                outputs.items += results.len() as u64;
            }
        }
    }
    vec![summary, prompts, answers, outputs]
}
