//! What of its steps' trees a session is decided by: which step the files are at, and whether they are being put back.
//! Bounded: which commit holds which step says the log, not the state.

use super::{Asking, SessionState};
use crate::event::{Event, StepOf};
use crate::{CommitHash, ErrorCode, PersonId, Problem, TurnId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    /// The number of the next step.
    pub next: u64,
    /// The step whose tree the files had last; `None`: none has one yet.
    pub at: Option<StepRef>,
    /// Where the files were before they were put back; `None`: nothing was, or a later step changed them.
    pub forward: Option<u64>,
    pub reverting: Option<Reverting>,
    /// What the model is still to be told.
    pub untold: Option<Untold>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRef {
    pub step: u64,
    pub commit: CommitHash,
}

/// Files are on their way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverting {
    pub to: u64,
    pub by: PersonId,
    pub name: String,
    /// The step that keeps what was there. From then on the files may be anything between the two.
    pub from: Option<u64>,
}

/// Files were put back since the model's last turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    pub name: String,
    /// The turn whose step it is; `None`: no turn's.
    pub turn: Option<TurnId>,
    /// As in `Event::Reverted`.
    pub changed: Vec<String>,
    pub changed_count: u64,
}

impl SessionState {
    pub(super) fn decide_revert(&self, to: u64, asking: &Asking) -> Result<Vec<Event>, Problem> {
        if self.running.is_some() {
            return Err(Problem::new(ErrorCode::SessionBusy, "A turn is running in this session.")
                .hint("Wait for its end, or stop it; then put the files back."));
        }
        if let Some(reverting) = &self.trees.reverting {
            let message = format!("{} is putting the files back just now.", reverting.name);
            return Err(Problem::new(ErrorCode::SessionBusy, message).hint("Try again in a moment."));
        }
        if self.is_archived {
            return Err(Problem::new(ErrorCode::SessionBusy, "The session is archived.")
                .hint("Bring it back first: `greenroom session unarchive`."));
        }
        if to >= self.trees.next {
            return Err(step_unknown(to));
        }
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        Ok(vec![Event::RevertRequested { to, by, name }])
    }

    pub(super) fn decide_forward(&self, asking: &Asking) -> Result<Vec<Event>, Problem> {
        match self.trees.forward {
            Some(to) => self.decide_revert(to, asking),
            None => Err(Problem::new(
                ErrorCode::StepUnknown,
                "There is nothing to go forward to: no files were put back since the last step.",
            )
            .hint("`greenroom session steps` lists all steps; `session revert --to` takes any of them.")),
        }
    }

    /// What `Reverted` says of the way forward.
    pub fn forward_after(&self, to: u64, from: u64) -> Option<u64> {
        self.trees.forward.or(Some(from)).filter(|forward| *forward != to)
    }

    pub(super) fn step_trees(&mut self, event: &Event) {
        let trees = &mut self.trees;
        match event {
            Event::StepTree { step, commit, .. } => {
                trees.next = step.saturating_add(1);
                trees.at = Some(StepRef { step: *step, commit: commit.clone() });
                trees.forward = None;
            }
            Event::RevertRequested { to, by, name } => {
                trees.reverting = Some(Reverting { to: *to, by: *by, name: name.clone(), from: None });
            }
            Event::RevertBegun { from, .. } => {
                if let Some(reverting) = &mut trees.reverting {
                    reverting.from = Some(*from);
                }
            }
            Event::Reverted { to, commit, of, name, changed, changed_count, forward, mark, .. } => {
                trees.reverting = None;
                trees.at = Some(StepRef { step: *to, commit: commit.clone() });
                trees.forward = *forward;
                let turn = match of {
                    StepOf::Calls { turn, .. } => Some(*turn),
                    StepOf::Outside => None,
                };
                let (name, changed, changed_count) = (name.clone(), changed.clone(), *changed_count);
                trees.untold = Some(Untold { name, turn, changed, changed_count });
                if let Some(mark) = mark {
                    self.workspace.note_mark(mark);
                }
            }
            Event::RevertFailed { .. } => trees.reverting = None,
            Event::NoticeGiven { .. } => trees.untold = None,
            _ => {}
        }
    }
}

pub fn step_unknown(step: u64) -> Problem {
    Problem::new(ErrorCode::StepUnknown, format!("The session has no step {step}."))
        .hint("`greenroom session steps` lists those it has.")
}

#[cfg(test)]
#[path = "trees_tests.rs"]
mod tests;
