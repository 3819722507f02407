//! Steps of a session and their trees.

use greenroom_domain::TurnId;
use greenroom_domain::event::StepOf;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which trees are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreesOf {
    /// What the step found with what it left.
    Step(u64),
    /// What the turn's first step found with what its last one left.
    Turn(TurnId),
    /// The files as they are now with what the step left: what putting them back would change.
    Revert(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionSteps {
    /// Newest first, at most 200.
    pub steps: Vec<SessionStep>,
    /// The step that the files were at last; `None`: none was kept yet.
    pub at: Option<u64>,
    /// The step that going forward leads to.
    pub forward: Option<u64>,
    /// Files are being put back to this step just now.
    pub reverting: Option<u64>,
}

/// What changed the session's files, and how the files were after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionStep {
    pub step: u64,
    /// What it is compared with; `None`: files begin here.
    pub from: Option<u64>,
    pub of: StepOf,
    /// That differ from `from`, as git in the sandbox counts them.
    pub files: u64,
    /// Lines of text.
    pub additions: u64,
    pub deletions: u64,
    pub at_ms: i64,
    pub is_current: bool,
}
