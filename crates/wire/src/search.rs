//! Search over sessions, and figures of what happened in them.

use crate::SessionView;
use greenroom_domain::statistics::{Figures, StatisticsBy, ToolFigures};
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsView {
    /// The first day, in UTC, such as `2026-11-01`.
    pub from: String,
    /// The last day.
    pub to: String,
    pub by: StatisticsBy,
    pub totals: Figures,
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
    pub figures: Figures,
}
