//! Moments in the life of a session's files at which something of them may have to be kept. The life cycle calls these;
//! what is kept, and how, is `snapshots`' and `journal`'s. Nothing here may delay the model's next request.

use crate::blame::{MARK_PATIENCE, Work};
use crate::journal::{PEOPLE_FIRST, REQUEST_FIRST};
use crate::restore::Files;
use crate::snapshots::unsaved_turn;
use crate::{Inner, Result};
use greenroom_domain::event::SnapshotReason;
use greenroom_domain::{Event, SessionState, TurnId};
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use std::sync::Arc;
use std::time::Duration;

/// What an end waits for its snapshot; the files stay anyway.
const EXIT_DEADLINE: Duration = Duration::from_secs(60);
/// What a shutdown waits for all of them.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(8);

/// Why a session's sandbox ends or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nobody used it, another session needs its place, or the server stops: the session may go on later.
    Parked,
    /// The session is deleted with everything it has.
    Deleted,
}

impl Inner {
    /// What the session's next sandbox begins from. Asked before every claim and before the pool: only what is `New` may
    /// take a sandbox of the pool, and its branch is begun and synced whatever the state says. Not `New`: after the
    /// claim, `take_own_branch`, and no sync.
    pub(crate) async fn restore_point(
        self: &Arc<Self>,
        session: &SessionHandle,
        state: &SessionState,
    ) -> Result<Files> {
        self.files_of(session, state).await
    }

    /// A sandbox is claimed, and nothing runs in it yet. Over files that an earlier process left behind a turn's end without
    /// a snapshot (it was killed in between) that snapshot is taken now, before the next turn changes them.
    pub(crate) async fn sandbox_begins(
        self: &Arc<Self>,
        session: &SessionHandle,
        state: &SessionState,
        sandbox: &Arc<dyn Sandbox>,
        files: &Files,
    ) {
        self.trees_begin(session, sandbox).await;
        if !self.snapshots.track(session.id()).begin() || *files != Files::Kept {
            return;
        }
        let inherited = state.origin.as_ref().and_then(greenroom_domain::state::Origin::inherited_until);
        let entries = match session.conversation().await {
            Ok(entries) => entries,
            Err(problem) => {
                tracing::warn!(session = %session.id(), %problem, "nobody knows whether a snapshot is missing");
                return;
            }
        };
        let Some(turn) = unsaved_turn(&entries, inherited) else { return };
        let taken = self.snapshot_or_warn(session, sandbox, SnapshotReason::Turn, Some(turn));
        if tokio::time::timeout(EXIT_DEADLINE, taken).await.is_err() {
            tracing::warn!(session = %session.id(), "the snapshot after a restart took too long");
        }
    }

    /// A turn is about to be told finished. Must return at once: what takes longer is spawned.
    pub(crate) fn turn_ends(self: &Arc<Self>, session: &SessionHandle, turn: TurnId, work: Work) {
        self.turn_is_over(session.id(), turn);
        self.step_ends(session, turn);
        if !self.snapshots.is_changed(session.id()) {
            return;
        }
        let Some(sandbox) = self.workspaces.ready_sandbox(session.id()) else { return };
        let (app, session) = (Arc::clone(self), session.clone());
        let begun = self.begin_mark(session.id());
        let ending = self.snapshots.track(session.id()).begin_ending();
        self.drain.endings.spawn(async move {
            let _on_its_way = ending;
            // Before the snapshot, so that a fork has it, unless that takes long: the next turn may soon write.
            let marking = app.drain.endings.spawn({
                let (app, session, sandbox) = (Arc::clone(&app), session.clone(), Arc::clone(&sandbox));
                async move { app.mark(&session, &sandbox, &work, begun).await }
            });
            let _goes_on = tokio::time::timeout(MARK_PATIENCE, marking).await;
            app.stepped_for_copy(session.id()).await;
            app.snapshot_or_warn(&session, &sandbox, SnapshotReason::Turn, Some(turn)).await;
        });
    }

    /// Another prompt is about to join the turn: what was done so far is for those before it. Must return at once.
    pub(crate) fn prompt_joins(self: &Arc<Self>, session: &SessionHandle, work: Work) {
        if !self.snapshots.is_changed(session.id()) {
            return;
        }
        let Some(sandbox) = self.workspaces.ready_sandbox(session.id()) else { return };
        let (app, session) = (Arc::clone(self), session.clone());
        let begun = self.begin_mark(session.id());
        self.drain.endings.spawn(async move { app.mark(&session, &sandbox, &work, begun).await });
    }

    /// A turn is about to commit these events, results of tool calls among them. Must return at once.
    pub(crate) fn turn_commits(self: &Arc<Self>, session: &SessionHandle, turn: TurnId, events: &[Event]) {
        let observed = self.snapshots.observe(session.id(), events);
        if !observed.ended.is_empty() {
            self.write_journal(session, REQUEST_FIRST);
        }
        self.step_goes_on(session, turn, events, observed);
    }

    /// A person's command, terminal or the like may change files from now on.
    pub(crate) fn person_may_write(self: &Arc<Self>, session: &SessionHandle) {
        self.snapshots.touch(session.id());
    }

    /// What a person did is done. Must return at once.
    pub(crate) fn person_wrote(self: &Arc<Self>, session: &SessionHandle) {
        // Again: a copy may have been made in the middle of it.
        self.snapshots.touch(session.id());
        self.write_journal(session, PEOPLE_FIRST);
    }

    /// The sandbox is ended when this returns, unless somebody began to use it meanwhile.
    pub(crate) async fn before_sandbox_ends(
        self: &Arc<Self>,
        session: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        ending: Ending,
    ) {
        if ending == Ending::Deleted || !self.snapshots.is_changed(session.id()) {
            return;
        }
        self.marked(session, sandbox).await;
        let turn = self.last_turn(session).await;
        let taken = self.snapshot_or_warn(session, sandbox, SnapshotReason::Exit, turn);
        if tokio::time::timeout(EXIT_DEADLINE, taken).await.is_err() {
            tracing::warn!(session = %session.id(), "the snapshot before a stop took too long; the files stay");
        }
    }

    /// The sandbox ended by itself, for example because its memory ran out; its workspace directory is there, and no
    /// process writes to it any more. The next claim of the session waits until this returns.
    pub(crate) async fn sandbox_was_lost(
        self: &Arc<Self>,
        session: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        reason: &str,
    ) {
        let reason =
            if reason.contains("memory") { SnapshotReason::OutOfMemory } else { SnapshotReason::Exit };
        let turn = self.last_turn(session).await;
        let taken = self.snapshot_or_warn(session, sandbox, reason, turn);
        if tokio::time::timeout(EXIT_DEADLINE, taken).await.is_err() {
            tracing::warn!(session = %session.id(), "the snapshot after a loss took too long; the files stay");
        }
    }

    /// The server stops: every ready sandbox is ended when this returns.
    pub(crate) async fn before_shutdown(self: &Arc<Self>) {
        let each = self.workspaces.ready_sandboxes().into_iter().map(|(session, sandbox)| async move {
            let Ok(session) = self.sessions().get(session).await else { return };
            self.before_sandbox_ends(&session, &sandbox, Ending::Parked).await;
        });
        if tokio::time::timeout(SHUTDOWN_DEADLINE, futures::future::join_all(each)).await.is_err() {
            tracing::warn!("not every snapshot was taken before the server stopped; the files stay");
        }
    }

    async fn snapshot_or_warn(
        self: &Arc<Self>,
        session: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        reason: SnapshotReason,
        turn: Option<TurnId>,
    ) {
        if let Err(problem) = self.take_snapshot(session, sandbox, reason, turn).await {
            tracing::warn!(session = %session.id(), %problem, "no snapshot was taken");
        }
    }

    /// The turn whose work the files hold now: the running one, in part, or the last.
    async fn last_turn(&self, session: &SessionHandle) -> Option<TurnId> {
        let state = session.state().await.ok()?;
        state.running.as_ref().map(|running| running.turn).or(state.last_turn)
    }
}
