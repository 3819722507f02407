//! Search over sessions, and figures of what happened in them.

use crate::SessionView;
use greenroom_domain::{PersonId, RepositoryName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SearchHit {
    pub session: SessionView,
    /// The best places, at most three.
    pub matches: Vec<SearchMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchMatch {
    pub found_in: FoundIn,
    /// The entry of the session's log that it is from.
    pub seq: u64,
    pub snippet: Vec<SnippetPart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoundIn {
    Title,
    Repository,
    Branch,
    Prompt,
    Answer,
}

/// Plain text, to be shown as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnippetPart {
    pub text: String,
    /// It is one of the words.
    pub is_match: bool,
}

/// What is counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatisticsBy {
    #[default]
    Day,
    Person,
    Repository,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsView {
    /// The first day, in UTC, such as `2026-11-01`.
    pub from: String,
    /// The last day.
    pub to: String,
    pub by: StatisticsBy,
    pub totals: FiguresView,
    /// At most 400. Days without anything are left out.
    pub groups: Vec<StatisticsGroup>,
    /// The tools that were called most, at most 50.
    pub tools: Vec<ToolFigures>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsGroup {
    /// A day, or the name of a person or a repository.
    pub name: String,
    pub person: Option<PersonId>,
    pub repository: Option<RepositoryName>,
    pub figures: FiguresView,
}

/// `null`: nothing is known of it, which is not zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FiguresView {
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
