//! Retention: what is kept for how long, what the last pass did, and what the next one would.

use greenroom_domain::{KeptBy, RepositoryName, RetentionSettings, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionView {
    pub settings: RetentionSettings,
    /// `None`: there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RetentionReport>,
}

/// What a pass did; what it would have done, of a plan. A report that is kept names no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionReport {
    pub at_ms: i64,
    /// Nothing was done.
    pub is_plan: bool,
    /// `false`: the pass reached its bound, or the server's stop, and the next goes on soon.
    pub is_complete: bool,
    pub archived: RetiredSessions,
    pub deleted: RetiredSessions,
    /// Old enough to go, and kept.
    pub kept: Vec<KeptSessions>,
    /// Those that are old enough to go and could not be dealt with; the server's log says why.
    pub failed: u64,
    pub rows: Vec<RetiredRows>,
    /// With their logs.
    pub failed_builds: u64,
    pub failed_builds_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetiredSessions {
    pub sessions: u64,
    /// Of logs, attached files, workspaces and snapshots, as far as this machine counts them. Archiving frees nothing.
    pub bytes: u64,
    /// Longest at rest first, at most 200; of a plan only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<RetiredSession>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetiredSession {
    pub session: SessionId,
    pub repository: RepositoryName,
    pub title: String,
    /// When something last happened in it.
    pub rests_since_ms: i64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptSessions {
    pub by: KeptBy,
    pub sessions: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetiredRows {
    pub kind: RowKind,
    pub rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    Statistics,
    /// That expired or were revoked.
    ShareLinks,
    /// Sign-in links and browsers' sessions that expired.
    SignIns,
    /// Of deleted sessions.
    Leftovers,
}
