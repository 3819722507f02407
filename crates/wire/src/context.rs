//! What the model sees of a session, and what that costs.

use greenroom_domain::TurnId;
use greenroom_domain::event::CompactionReason;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the next request to the model begins with. Tokens are what the provider counted in the last request
/// (`counted_tokens` of `tokens`), and an estimate of the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextView {
    /// `None`: no model is configured that would answer.
    pub model: Option<String>,
    /// Tokens that the model can take.
    pub window_tokens: Option<u64>,
    /// Of those, what is left for its answer: a longer request makes room first.
    pub reserve_tokens: Option<u64>,
    pub tokens: u64,
    pub counted_tokens: u64,
    /// In the order in which the model sees them; only those that there are.
    pub parts: Vec<ContextPart>,
    /// `None`: the model's price is not known.
    pub next_request: Option<ContextCost>,
    /// Outputs of tools that are notes now. They stay readable in the log.
    pub pruned_outputs: u64,
    /// What the model is given in place of the beginning of the conversation.
    pub summary: Option<String>,
    /// How often and when the conversation was summarised, the last 20, oldest first.
    pub compactions: Vec<ContextCompaction>,
}

/// Its tokens are always an estimate, corrected by what the provider counted in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextPart {
    pub part: ContextPartKind,
    pub tokens: u64,
    /// Tools, skills, messages or outputs.
    pub items: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextPartKind {
    Tools,
    System,
    /// The repository's AGENTS.md.
    Instructions,
    Skills,
    /// Services and ports.
    Environment,
    Summary,
    /// What people said, and what the server told the model beside it.
    Prompts,
    /// What the model said, its tool calls included.
    Answers,
    ToolOutputs,
}

/// What sending it costs, without the answer, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextCost {
    /// When the provider has what it counted last in its cache.
    pub cached_microusd: u64,
    pub uncached_microusd: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextCompaction {
    pub turn: TurnId,
    pub at_ms: i64,
    pub reason: CompactionReason,
    pub tokens_before: u64,
    pub tokens_after: u64,
}
