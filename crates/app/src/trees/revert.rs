//! Files put back to how a step left them, and forward again.
//!
//! The intent is in the log (`RevertRequested`), then what is there is kept as a step (`RevertBegun` names it), then the files
//! are put back, then `Reverted` says so. Cut off anywhere, it is gone on with before anything else runs in the session's next
//! sandbox: a step that is kept is not kept again, and putting files back twice is putting them back once.

use super::look::{self, Row};
use super::scripts;
use crate::{Inner, Result};
use greenroom_domain::event::{MarkedFor, StepOf};
use greenroom_domain::state::{Reverting, Untold, step_unknown};
use greenroom_domain::{CommitHash, ErrorCode, Event, Problem};
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use std::sync::Arc;
use std::time::Duration;

/// What a tool call waits for files that are being put back: longer than that may take.
const REVERT_PATIENCE: Duration = Duration::from_secs(300);
/// Paths of changed files that the model is told.
const TOLD_PATHS: usize = 30;

impl Inner {
    /// Somebody asked for it, and it is in the log. Must return at once.
    pub(crate) fn begin_revert(self: &Arc<Self>, session: &SessionHandle) {
        let (app, session) = (Arc::clone(self), session.clone());
        self.drain.endings.spawn(async move { app.carry_out_revert(&session).await });
    }

    /// Nothing is done where nothing is asked for.
    pub(crate) async fn carry_out_revert(self: &Arc<Self>, session: &SessionHandle) {
        let is_asked = || session.look(|state| state.trees.reverting.is_some());
        // A sandbox that is lost in the middle: the next one's start goes on.
        for _ in 0..2 {
            if !matches!(is_asked().await, Ok(true)) {
                return;
            }
            match self.ensure_sandbox(session).await {
                Ok(sandbox) => self.finish_revert(session, &sandbox).await,
                Err(problem) => return self.revert_failed(session, problem).await,
            }
        }
        if matches!(is_asked().await, Ok(true)) {
            let problem =
                Problem::new(ErrorCode::SandboxLost, "The sandbox ended while files were put back.");
            self.revert_failed(session, problem.hint("Try again.")).await;
        }
    }

    /// Only a loss of the sandbox leaves it as it is.
    pub(super) async fn finish_revert(self: &Arc<Self>, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>) {
        let track = self.snapshots.track(session.id());
        let asked = session.look(|state| state.trees.reverting.clone()).await;
        let Ok(Some(_)) = asked else { return };
        let _one = track.steps.turn.lock().await;
        let Ok(Some(reverting)) = session.look(|state| state.trees.reverting.clone()).await else { return };
        // What was done so far is marked first, and nobody marks whose work half of this is.
        self.marked(session, sandbox).await;
        let _unmarked = track.marking.lock().await;
        self.person_may_write(session);
        let done = self.put_back(session, sandbox, &reverting).await;
        self.person_wrote(session);
        match done {
            Ok(()) => track.steps.reverts.send_modify(|count| *count += 1),
            Err(problem) if problem.code == ErrorCode::SandboxLost => {
                tracing::warn!(session = %session.id(), %problem, "the sandbox was lost while files were put back");
            }
            Err(problem) => self.revert_failed(session, problem).await,
        }
    }

    async fn revert_failed(&self, session: &SessionHandle, problem: Problem) {
        tracing::warn!(session = %session.id(), %problem, "files could not be put back");
        let recorded = session
            .decide(move |state| {
                let asked = state.trees.reverting.as_ref();
                Ok(asked.map(|asked| Event::RevertFailed { to: asked.to, problem }).into_iter().collect())
            })
            .await;
        if let Err(problem) = recorded {
            tracing::warn!(session = %session.id(), %problem, "and the log does not say so");
        }
        self.snapshots.track(session.id()).steps.reverts.send_modify(|count| *count += 1);
    }

    async fn put_back(
        &self,
        session: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        asked: &Reverting,
    ) -> Result<()> {
        let to = asked.to;
        // Before anything is written: what cannot be found is not begun.
        let entries = session.conversation().await?;
        let wanted = look::row(&entries, to).ok_or_else(|| step_unknown(to))?;
        let from = match asked.from {
            Some(from) => from,
            None => {
                self.keep_tree(session, sandbox, StepOf::Outside).await?;
                let at = session.look(|state| state.trees.at.clone()).await?;
                let from = at.ok_or_else(|| step_unknown(to))?.step;
                session.record(vec![Event::RevertBegun { to, from }]).await?;
                from
            }
        };
        let entries = session.conversation().await?;
        let left = look::row(&entries, from).ok_or_else(|| step_unknown(from))?;
        let base = session.look(|state| state.workspace.base_commit.clone()).await?;
        let marks = marks_before(&entries, &wanted, base);
        let script = scripts::revert(&wanted.commit, &left.commit, &marks);
        let done = scripts::read_put_back(&self.run_in(sandbox, script.shell()).await?)?;
        let mark_of = turn_of(&entries, &wanted).filter(|_| done.is_new_mark);
        let (by, name) = (asked.by, asked.name.clone());
        let (told, is_told) = tokio::sync::oneshot::channel();
        session
            .decide(move |state| {
                // A turn that began meanwhile is told now; otherwise the next one is when it begins.
                let _ = told.send(state.running.is_some());
                let forward = state.forward_after(to, from);
                Ok(vec![Event::Reverted {
                    to,
                    from,
                    by,
                    name,
                    commit: wanted.commit,
                    of: wanted.of,
                    changed: done.changed,
                    changed_count: done.changed_count,
                    forward,
                    mark: done.mark,
                    mark_of,
                }])
            })
            .await?;
        if is_told.await.unwrap_or(false)
            && let Some(untold) = session.look(|state| state.trees.untold.clone()).await?
        {
            self.tell_of_revert(session, &untold);
        }
        Ok(())
    }

    /// The model hears of it before its next request.
    pub(crate) fn tell_of_revert(&self, session: &SessionHandle, untold: &Untold) {
        self.memories.files(session.id()).synced(&untold.changed, &[words(untold)]);
    }

    /// While files are being put back, waits for the end of it.
    pub(crate) async fn reverted(&self, session: &SessionHandle) -> Result<()> {
        let track = self.snapshots.track(session.id());
        let mut ended = track.steps.reverts.subscribe();
        let wait = async {
            while session.look(|state| state.trees.reverting.is_some()).await? {
                let _never_closed = ended.changed().await;
            }
            Ok(())
        };
        tokio::time::timeout(REVERT_PATIENCE, wait).await.unwrap_or_else(|_| {
            Err(Problem::new(ErrorCode::Deadline, "The files were not put back in time.")
                .hint("Look at the session's log, and try again."))
        })
    }
}

fn words(untold: &Untold) -> String {
    let Untold { name, changed, changed_count, .. } = untold;
    let paths: Vec<String> = changed.iter().take(TOLD_PATHS).map(|path| format!("{path:?}")).collect();
    let more = changed_count.saturating_sub(paths.len() as u64);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let which = match paths.is_empty() {
        true => "No file differs from before.".to_owned(),
        false => format!("These differ now from before that: {}{rest}.", paths.join(", ")),
    };
    format!(
        "{name} put the workspace's files back to how they were at another step of this session, so what tool calls did to \
         them may be undone or done again. {which} The branch and its commits were left alone. Read a file again before \
         you rely on what you saw of it, and do not do again by yourself what was undone."
    )
}

/// The marks from before the step was, the newest first; the last is what the session stands on.
fn marks_before(
    entries: &[greenroom_domain::Entry],
    step: &Row,
    base: Option<CommitHash>,
) -> Vec<CommitHash> {
    let before = entries.iter().rev().filter(|entry| entry.seq < step.seq);
    let mark = |entry: &greenroom_domain::Entry| match &entry.event {
        Event::FilesMarked { commit, .. } | Event::Reverted { mark: Some(commit), .. } => {
            Some(commit.clone())
        }
        _ => None,
    };
    before.filter_map(mark).take(32).chain(base).collect()
}

/// Whose the step's lines are that were not marked by then: all whose prompts its turn had been given.
fn turn_of(entries: &[greenroom_domain::Entry], step: &Row) -> Option<MarkedFor> {
    let StepOf::Calls { turn, .. } = &step.of else { return None };
    let mut prompts = vec![];
    for entry in entries.iter().take_while(|entry| entry.seq < step.seq) {
        match &entry.event {
            Event::TurnStarted { turn: of, prompts: first } if of == turn => prompts.clone_from(first),
            Event::PromptInserted { turn: of, prompt } if of == turn => prompts.push(*prompt),
            _ => {}
        }
    }
    Some(MarkedFor::Turn { turn: *turn, prompts })
}
