//! Snapshots of sessions at the right moments: after a turn that may have changed files, before a sandbox is stopped,
//! after it was lost. Owns which session has unsaved files, that one copy is made at a time, and how many are kept.
//! Never delays a turn: a copy runs beside whatever comes next. `shelf` owns the disk; `restore` and `fork` begin from
//! what is here.
//!
//! `SnapshotTaken` is committed when the copy is on the disk, never before.

mod shelf;
mod sweep;
mod writes;

pub(crate) use shelf::{Description, Place, Shelf};
pub(crate) use shelf::{check, read_description, write_description};
pub(crate) use writes::{Writes, ended_turns, unsaved_turn};

use crate::blame::Unmarked;
use crate::{Inner, Result};
use greenroom_domain::event::SnapshotReason;
use greenroom_domain::{ErrorCode, Event, Problem, SessionId, SessionState, SnapshotId, TurnId};
use greenroom_sandbox::{Sandbox, Snapshot, Storage};
use greenroom_session::SessionHandle;
use greenroom_wire::SnapshotView;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Snapshots kept of one session where no setting says otherwise.
pub const SNAPSHOTS_KEPT: usize = 50;

/// What this process knows of the sessions' unsaved files.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(crate) shelf: Shelf,
    by_session: Mutex<HashMap<SessionId, Arc<Track>>>,
    /// Journals that are written at the same time, of all sessions.
    pub(crate) journals: tokio::sync::Semaphore,
}

const JOURNALS_AT_ONCE: usize = 2;

/// One session's files, since it was last used in this process.
#[derive(Debug)]
pub(crate) struct Track {
    /// Held while files are copied or put back: one at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Held while it is marked whose work they are.
    pub(crate) marking: Arc<tokio::sync::Mutex<()>>,
    unmarked: Mutex<Unmarked>,
    /// Turns that have ended and whose snapshot is on its way.
    endings: watch::Sender<usize>,
    noted: Mutex<Noted>,
    /// No sandbox of this process has had the files yet.
    is_untouched: AtomicBool,
    pub(crate) journal: Mutex<crate::journal::Pace>,
    pub(crate) steps: crate::trees::Steps,
}

#[derive(Debug)]
struct Noted {
    /// Since the last snapshot.
    is_changed: bool,
    writes: Writes,
}

impl Track {
    pub(crate) fn unmarked(&self) -> MutexGuard<'_, Unmarked> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a session that this process has not seen yet nobody knows: it counts as changed.
    fn new() -> Self {
        let noted = Noted { is_changed: true, writes: Writes::default() };
        Self {
            turn: tokio::sync::Mutex::default(),
            marking: Arc::default(),
            unmarked: Mutex::default(),
            endings: watch::Sender::new(0),
            noted: Mutex::new(noted),
            is_untouched: AtomicBool::new(true),
            journal: Mutex::default(),
            steps: crate::trees::Steps::default(),
        }
    }

    /// A turn ends: until this is dropped, its snapshot is on its way.
    pub(crate) fn begin_ending(self: &Arc<Self>) -> Ending {
        self.endings.send_modify(|count| *count += 1);
        Ending(Arc::clone(self))
    }

    /// Waits for the snapshots of all turns that have ended.
    pub(crate) async fn wait_for_endings(&self) {
        let mut endings = self.endings.subscribe();
        let _all = endings.wait_for(|count| *count == 0).await.map(drop);
    }

    #[cfg(test)]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.endings.receiver_count() > 0
    }

    /// Whether the files are as an earlier process left them: true once.
    pub(crate) fn begin(&self) -> bool {
        self.is_untouched.swap(false, Ordering::Relaxed)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_changed(&self, is_changed: bool) -> bool {
        std::mem::replace(&mut self.noted().is_changed, is_changed)
    }
}

/// A copy on its way: the files count as changed again unless it arrives, whether it fails or is not waited for.
struct Copying<'a> {
    track: &'a Track,
    is_done: bool,
}

impl Copying<'_> {
    fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.track.set_changed(true);
        }
    }
}

/// A turn that has ended and whose snapshot is on its way.
#[derive(Debug)]
pub(crate) struct Ending(Arc<Track>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.endings.send_modify(|count| *count -= 1);
    }
}

impl Snapshots {
    pub(crate) fn open(storage: Storage) -> io::Result<Self> {
        let journals = tokio::sync::Semaphore::new(JOURNALS_AT_ONCE);
        Ok(Self { shelf: Shelf::open(storage)?, by_session: Mutex::default(), journals })
    }

    pub(crate) fn track(&self, session: SessionId) -> Arc<Track> {
        let mut tracks = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tracks.entry(session).or_insert_with(|| Arc::new(Track::new())))
    }

    /// Nothing came of the session: unless somebody else waits for it, it is not known any more.
    pub(crate) fn let_go(&self, session: SessionId, track: &Arc<Track>) {
        let mut tracks = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        // This caller's and the map's.
        if Arc::strong_count(track) == 2 {
            tracks.remove(&session);
        }
    }

    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    /// Something other than a tool call may change files from now on: a person's command, a terminal.
    pub(crate) fn touch(&self, session: SessionId) {
        let track = self.track(session);
        track.set_changed(true);
        track.steps.touch();
    }

    /// What a turn is about to commit; answers which tool calls that may change files begin and end.
    pub(crate) fn observe(&self, session: SessionId, events: &[Event]) -> Observed {
        let track = self.track(session);
        let mut noted = track.noted();
        let mut observed = Observed::default();
        for event in events {
            let begins = noted.writes.begins_with(event);
            let ends = noted.writes.end_with(event);
            // At its end too: a copy may have been made in the middle of it.
            noted.is_changed |= begins || ends;
            observed.has_begun |= begins;
            if let (true, Event::ToolFinished { call, .. }) = (ends, event) {
                observed.ended.push(call.clone());
            }
        }
        observed
    }

    pub(crate) fn is_changed(&self, session: SessionId) -> bool {
        self.track(session).noted().is_changed
    }
}

/// Tool calls that may change files.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) has_begun: bool,
    pub(crate) ended: Vec<String>,
}

/// Newest first.
pub(crate) fn snapshot_views(state: &SessionState) -> Vec<SnapshotView> {
    let view = |kept: &greenroom_domain::state::SnapshotRef| SnapshotView {
        id: kept.snapshot,
        reason: kept.reason,
        turn: kept.turn,
        at_ms: kept.at_ms,
    };
    state.workspace.snapshots.iter().rev().map(view).collect()
}

impl Inner {
    /// Copies the session's files as they are now, when they may have changed since the last copy. Durable, and in the
    /// log, when it returns.
    pub(crate) async fn take_snapshot(
        self: &Arc<Self>,
        handle: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        reason: SnapshotReason,
        turn: Option<TurnId>,
    ) -> Result<Option<SnapshotId>> {
        let track = self.snapshots.track(handle.id());
        let _one = track.turn.lock().await;
        if !track.set_changed(false) {
            return Ok(None);
        }
        let copying = Copying { track: &track, is_done: false };
        let taken = self.copy(handle, sandbox, reason, turn).await?;
        copying.done();
        Ok(Some(taken))
    }

    async fn copy(
        self: &Arc<Self>,
        handle: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        reason: SnapshotReason,
        turn: Option<TurnId>,
    ) -> Result<SnapshotId> {
        let begun = Instant::now();
        let state = handle.state().await?;
        let place = self.new_place(handle.id());
        let made = self.copy_to(place, sandbox, &state, turn).await;
        let copied = match made {
            Ok(copied) => copied,
            Err(problem) => {
                self.discard_quietly(place);
                return Err(problem);
            }
        };
        let event = Event::SnapshotTaken {
            snapshot: place.snapshot,
            reason,
            turn,
            freeze_us: copied.freeze_us,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        // Where this fails the outcome can be unknown: the mark stays, and the next start finds out.
        handle.record(vec![event]).await?;
        self.snapshots.shelf.close_mark(place);
        self.discard_journal(handle.id());
        self.thin_out(handle).await;
        Ok(place.snapshot)
    }

    async fn copy_to(
        &self,
        place: Place,
        sandbox: &Arc<dyn Sandbox>,
        state: &SessionState,
        turn: Option<TurnId>,
    ) -> Result<Snapshot> {
        let description = self.description(place.owner, state, turn)?;
        self.snapshots.shelf.open_mark(place).map_err(unwritten)?;
        let path = self.snapshots.shelf.path(place);
        let copied = sandbox.snapshot(&path).await.map_err(crate::problem_of_sandbox)?;
        self.snapshots.shelf.describe(place, &description).map_err(unwritten)?;
        self.storage.sync().await.map_err(crate::problem_of_sandbox)?;
        Ok(copied)
    }

    pub(crate) fn description(
        &self,
        session: SessionId,
        state: &SessionState,
        turn: Option<TurnId>,
    ) -> Result<Description> {
        let image = state.workspace.image.ok_or_else(|| {
            Problem::new(ErrorCode::SandboxFailed, "The session's files are not ready yet.")
                .hint("Try again shortly.")
        })?;
        Ok(Description::new(session, image, &self.config.runtime_version, turn, self.now_ms()))
    }

    pub(crate) fn new_place(&self, owner: SessionId) -> Place {
        let (at, random) = self.id_parts();
        Place { owner, snapshot: SnapshotId::from_parts(at, random) }
    }

    /// Drops the session's oldest snapshots beyond the number that is kept; the newest, and what others need, stay.
    async fn thin_out(&self, handle: &SessionHandle) {
        let Ok(state) = handle.state().await else { return };
        let kept = &state.workspace.snapshots;
        let surplus = kept.len().saturating_sub(self.config.snapshots_kept.max(1));
        let places = kept.iter().map(|kept| Place { owner: handle.id(), snapshot: kept.snapshot });
        let droppable: Vec<Place> = places
            .take(kept.len().saturating_sub(1))
            .filter(|place| !self.snapshots.shelf.is_needed(*place))
            .take(surplus)
            .collect();
        for place in droppable {
            if let Err(problem) = self.drop_snapshot(handle, place).await {
                tracing::warn!(session = %handle.id(), %problem, "a surplus snapshot could not be dropped");
            }
        }
    }

    /// Told before its files go; between the two it is marked.
    pub(crate) async fn drop_snapshot(&self, handle: &SessionHandle, place: Place) -> Result<()> {
        self.snapshots.shelf.open_mark(place).map_err(unwritten)?;
        handle.record(vec![Event::SnapshotDropped { snapshot: place.snapshot }]).await?;
        self.snapshots.shelf.discard(place).map_err(unwritten)
    }

    pub(crate) fn discard_quietly(&self, place: Place) {
        if let Err(error) = self.snapshots.shelf.discard(place) {
            tracing::warn!(session = %place.owner, %error, "an unfinished snapshot is left over");
        }
    }

    /// Directory of a snapshot that is whole and fits this version.
    pub(crate) fn usable(&self, place: Place) -> Result<PathBuf> {
        self.snapshots.shelf.check(place, &self.config.runtime_version)?;
        Ok(self.snapshots.shelf.path(place))
    }
}

// Taken by value so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn unwritten(error: io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::Internal,
    };
    Problem::new(code, format!("A snapshot could not be written: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bounds, World};
    use futures::poll;

    #[tokio::test]
    async fn a_copy_that_is_not_waited_for_is_not_noted_as_taken() {
        let world = World::start(Bounds::without_pool()).await;
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        world.use_sandbox(&world.admin, session).await;
        let inner = world.inner();
        let handle = inner.sessions().get(session).await.unwrap();
        let sandbox = inner.workspaces.ready_sandbox(session).unwrap();
        inner.snapshots.touch(session);
        {
            // As when a deadline ends it.
            let mut taking = Box::pin(inner.take_snapshot(&handle, &sandbox, SnapshotReason::Exit, None));
            crate::testing::until("it has begun", async || {
                assert!(poll!(&mut taking).is_pending());
                !inner.snapshots.is_changed(session)
            })
            .await;
        }
        assert!(inner.snapshots.is_changed(session));
    }
}
