//! Figures of what happened, as they are counted, stored and told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatisticsBy {
    #[default]
    Day,
    Person,
    Repository,
}

/// `null`: nothing is known of it, which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    pub sessions: u64,
    pub people: u64,
    pub prompts: u64,
    /// Turns that began in that time and have ended.
    pub turns: u64,
    pub completed: u64,
    pub stopped: u64,
    pub failed: u64,
    pub budget_reached: u64,
    /// How long they took together, in milliseconds.
    pub turn_ms: Option<u64>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    /// Millionths of a US dollar, of the turns whose cost is known.
    pub cost_microusd: Option<u64>,
    /// Turns whose cost is not known.
    pub unpriced_turns: u64,
    pub tool_calls: u64,
    /// That failed, or whose outcome is not known.
    pub tool_failures: u64,
    pub changes_opened: u64,
    pub changes_merged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolFigures {
    pub tool: String,
    pub calls: u64,
    pub failures: u64,
    /// Milliseconds, together.
    pub duration_ms: Option<u64>,
}
