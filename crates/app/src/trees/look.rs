//! Steps as people see them: which there are, and what differs between their trees. The log says which commit holds which
//! step: it is read whole for a look, and nothing of it is kept.

use super::scripts;
use crate::{App, Result};
use greenroom_domain::event::StepOf;
use greenroom_domain::state::step_unknown;
use greenroom_domain::{CommitHash, Entry, ErrorCode, Event, Person, Problem, Right, SessionId, TurnId};
use greenroom_wire::{FileDiffView, SessionStep, SessionSteps, TreesOf};

/// Steps of one answer.
const STEPS_PAGE: usize = 200;

/// A step as its log tells it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) step: u64,
    pub(super) from: Option<u64>,
    pub(super) commit: CommitHash,
    pub(super) of: StepOf,
}

fn rows(entries: &[Entry]) -> impl DoubleEndedIterator<Item = Row> + '_ {
    entries.iter().filter_map(|entry| match &entry.event {
        Event::StepTree { step, from, commit, of, .. } => {
            let (step, from, commit, of) = (*step, *from, commit.clone(), of.clone());
            Some(Row { seq: entry.seq, step, from, commit, of })
        }
        _ => None,
    })
}

pub(super) fn row(entries: &[Entry], step: u64) -> Option<Row> {
    rows(entries).rev().find(|row| row.step == step)
}

fn is_of(row: &Row, turn: TurnId) -> bool {
    matches!(&row.of, StepOf::Calls { turn: of, .. } if *of == turn)
}

/// From the tree that a turn found to the one that it left; `None`: it changed no file that a tree has.
fn of_turn(entries: &[Entry], turn: TurnId) -> Option<(CommitHash, CommitHash)> {
    let first = rows(entries).find(|row| is_of(row, turn))?;
    let last = rows(entries).rev().find(|row| is_of(row, turn))?;
    let found = first.from.and_then(|from| row(entries, from)).unwrap_or_else(|| first.clone());
    Some((found.commit, last.commit))
}

impl App {
    /// The session's steps, newest first, at most 200 before the one that is named.
    pub async fn session_steps(
        &self,
        caller: &Person,
        id: SessionId,
        before: Option<u64>,
    ) -> Result<SessionSteps> {
        let handle = self.open(caller, Right::View, id).await?;
        let trees = handle.look(|state| state.trees.clone()).await?;
        let entries = handle.conversation().await?;
        let at = trees.at.map(|at| at.step);
        let view = |entry: &Entry| match &entry.event {
            Event::StepTree { step, from, of, files, additions, deletions, .. } => Some(SessionStep {
                step: *step,
                from: *from,
                of: of.clone(),
                files: *files,
                additions: *additions,
                deletions: *deletions,
                at_ms: entry.at_ms,
                is_current: at == Some(*step),
            }),
            _ => None,
        };
        let is_before = |view: &SessionStep| before.is_none_or(|before| view.step < before);
        let steps = entries.iter().rev().filter_map(view).filter(is_before).take(STEPS_PAGE).collect();
        let reverting = trees.reverting.map(|reverting| reverting.to);
        Ok(SessionSteps { steps, at, forward: trees.forward, reverting })
    }

    /// What differs between two trees. Whoever only looks sees it while the sandbox runs.
    pub async fn tree_diff(&self, caller: &Person, id: SessionId, of: TreesOf) -> Result<Vec<FileDiffView>> {
        let handle = self.open(caller, Right::View, id).await?;
        let entries = handle.conversation().await?;
        let (a, b) = match of {
            TreesOf::Step(step) => {
                let to = row(&entries, step).ok_or_else(|| step_unknown(step))?;
                // The first one found the files as they were.
                let from = to.from.and_then(|from| row(&entries, from));
                (Some(from.unwrap_or_else(|| to.clone()).commit), to.commit)
            }
            TreesOf::Turn(turn) => {
                let is_it =
                    |entry: &Entry| matches!(entry.event, Event::TurnStarted { turn: of, .. } if of == turn);
                if !entries.iter().any(is_it) {
                    return Err(Problem::new(ErrorCode::TurnUnknown, "This session has no such turn."));
                }
                match of_turn(&entries, turn) {
                    Some((a, b)) => (Some(a), b),
                    None => return Ok(vec![]),
                }
            }
            TreesOf::Revert(step) => (None, row(&entries, step).ok_or_else(|| step_unknown(step))?.commit),
        };
        drop(entries);
        let sandbox = self.sandbox_in_sight(&handle, caller).await?.sandbox();
        let found = self.inner.run_in(&sandbox, scripts::diff(a.as_ref(), &b).shell()).await?;
        let (counts, patches) = scripts::read_diff(&found)?;
        let files = greenroom_forge::read_diff(counts.as_bytes(), patches, found.is_truncated);
        Ok(files.into_iter().map(crate::changes::diff_view).collect())
    }
}
