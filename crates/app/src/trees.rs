//! A tree for each step: what tool calls of one answer, and people in between, made of a session's files. Owns when a tree
//! is made and that one is made at a time; `scripts` says how, `look` shows and compares them, `revert` puts files back.
//!
//! A tree is the working tree, committed aside on a hidden reference of the session's clone over an index of its own that is
//! kept between steps, so that an unchanged file costs a look at its times. It is made beside the model's thinking; a call that
//! would write meanwhile waits, for two seconds at most. Where it is not known how a step found the files (in a new sandbox, or
//! after a person's command) they are looked at first, before its first call writes.
//!
//! Git runs inside the sandbox, whose code is hostile: what it says is parsed as such, bounded, and shown to people.
//! Nothing is decided by it.

mod look;
mod revert;
mod scripts;

use crate::snapshots::Observed;
use crate::{Inner, Result};
use greenroom_domain::event::StepOf;
use greenroom_domain::{Entry, Event, SessionId, TurnId};
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, watch};

/// What a write, and a turn's snapshot, wait for a tree. A model thinks longer than one takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Calls of one step that are named.
const CALLS_LIMIT: usize = 256;

/// One session's trees, since it was last used in this process.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Held while a tree is made or files are put back.
    turn: Arc<tokio::sync::Mutex<()>>,
    noted: Mutex<Noted>,
    /// How often files were put back, or could not be.
    reverts: watch::Sender<u64>,
}

#[derive(Debug)]
struct Noted {
    /// Files may have changed otherwise than by tool calls since the last tree.
    is_unknown: bool,
    /// Calls that may have written since the last tree.
    calls: Vec<String>,
}

impl Default for Steps {
    fn default() -> Self {
        let noted = Noted { is_unknown: true, calls: vec![] };
        Self { turn: Arc::default(), noted: Mutex::new(noted), reverts: watch::Sender::new(0) }
    }
}

impl Steps {
    pub(crate) fn touch(&self) {
        self.noted().is_unknown = true;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a tree among the trees of its session. `None`: another is being made, and it comes after.
    fn begin(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }
}

impl Noted {
    fn add(&mut self, calls: impl IntoIterator<Item = String>) {
        let room = CALLS_LIMIT.saturating_sub(self.calls.len());
        self.calls.extend(calls.into_iter().take(room));
    }
}

impl Inner {
    /// A turn is about to commit these events. Must return at once.
    pub(crate) fn step_goes_on(
        self: &Arc<Self>,
        session: &SessionHandle,
        turn: TurnId,
        events: &[Event],
        observed: Observed,
    ) {
        let track = self.snapshots.track(session.id());
        let mut noted = track.steps.noted();
        noted.add(observed.ended);
        let is_unknown = observed.has_begun && std::mem::take(&mut noted.is_unknown);
        drop(noted);
        let is_answered =
            |event: &Event| matches!(event, Event::ModelRequested { .. } | Event::CompactionStarted { .. });
        if events.iter().any(is_answered) {
            self.step_ends(session, turn);
        }
        if is_unknown {
            self.begin_tree(session, StepOf::Outside);
        }
    }

    /// The calls of an answer are done, or its turn is. Must return at once.
    pub(crate) fn step_ends(self: &Arc<Self>, session: &SessionHandle, turn: TurnId) {
        let calls = std::mem::take(&mut self.snapshots.track(session.id()).steps.noted().calls);
        if !calls.is_empty() {
            self.begin_tree(session, StepOf::Calls { turn, calls });
        }
    }

    /// A turn begins, or goes on after a restart: calls of it whose tree was not made by then.
    pub(crate) fn step_was_cut_off(self: &Arc<Self>, session: &SessionHandle, entries: &[Entry]) {
        if let Some((turn, calls)) = without_tree(entries) {
            self.snapshots.track(session.id()).steps.noted().add(calls);
            self.step_ends(session, turn);
        }
    }

    /// A sandbox is claimed, and nothing runs in it yet.
    pub(crate) async fn trees_begin(self: &Arc<Self>, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>) {
        self.snapshots.track(session.id()).steps.touch();
        self.finish_revert(session, sandbox).await;
    }

    /// From now on writes wait for this tree.
    fn begin_tree(self: &Arc<Self>, session: &SessionHandle, of: StepOf) {
        let track = self.snapshots.track(session.id());
        let begun = track.steps.begin();
        let (app, session) = (Arc::clone(self), session.clone());
        self.drain.endings.spawn(async move {
            let _one = match begun {
                Some(one) => one,
                None => Arc::clone(&track.steps.turn).lock_owned().await,
            };
            let Err(problem) = app.make_tree(&session, &of).await else { return };
            tracing::warn!(session = %session.id(), %problem, "a step has no tree; the next one has both");
            let mut noted = track.steps.noted();
            match of {
                StepOf::Calls { calls, .. } => noted.add(calls),
                StepOf::Outside => noted.is_unknown = true,
            }
        });
    }

    async fn make_tree(self: &Arc<Self>, session: &SessionHandle, of: &StepOf) -> Result<()> {
        let sandbox = match of {
            // Somebody is about to write in it.
            StepOf::Outside => self.ensure_sandbox(session).await?,
            StepOf::Calls { .. } => match self.workspaces.ready_sandbox(session.id()) {
                Some(sandbox) => sandbox,
                // Its files are looked at when there is one again.
                None => return Ok(self.snapshots.track(session.id()).steps.touch()),
            },
        };
        self.keep_tree(session, &sandbox, of.clone()).await
    }

    /// The place among the session's trees is the caller's.
    async fn keep_tree(&self, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>, of: StepOf) -> Result<()> {
        let at = session.look(|state| state.trees.at.clone()).await?;
        let found = self.run_in(sandbox, scripts::keep(at.as_ref()).shell()).await?;
        let Some(kept) = scripts::read_kept(&found)? else { return Ok(()) };
        let from = at.filter(|_| kept.is_compared).map(|at| at.step);
        session
            .decide(move |state| {
                let (files, additions, deletions) = kept.counts;
                let (step, commit) = (state.trees.next, kept.commit);
                Ok(vec![Event::StepTree { step, from, commit, of, files, additions, deletions }])
            })
            .await
    }

    /// What was done is not yet kept, and something may now be done: waits, not for long. Where files are being put back,
    /// for that.
    pub(crate) async fn stepped(&self, session: &SessionHandle) -> Result<()> {
        let track = self.snapshots.track(session.id());
        let _late = tokio::time::timeout(PATIENCE, track.steps.turn.lock()).await;
        self.reverted(session).await
    }

    /// Before a copy of the files, so that it has their last tree.
    pub(crate) async fn stepped_for_copy(&self, session: SessionId) {
        let track = self.snapshots.track(session);
        let _late = tokio::time::timeout(PATIENCE, track.steps.turn.lock()).await;
    }
}

/// Calls of the log's last turn that may have written since the last tree, and the turn.
fn without_tree(entries: &[Entry]) -> Option<(TurnId, Vec<String>)> {
    let mut writes = crate::snapshots::Writes::default();
    let (mut last, mut calls) = (None, vec![]);
    for entry in entries {
        writes.begins_with(&entry.event);
        match &entry.event {
            event @ Event::ToolFinished { turn, call, .. } => {
                if writes.end_with(event) && calls.len() < CALLS_LIMIT {
                    last = Some(*turn);
                    calls.push(call.clone());
                }
            }
            Event::TurnStarted { .. } | Event::StepTree { .. } => calls.clear(),
            _ => {}
        }
    }
    last.filter(|_| !calls.is_empty()).map(|turn| (turn, calls))
}

#[cfg(test)]
mod tests;
