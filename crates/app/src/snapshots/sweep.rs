//! At start: settles what a crash left half made or half dropped, removes what no session owns, and keeps room on the
//! disk by dropping old snapshots.

use super::Place;
use crate::Inner;
use greenroom_domain::{SessionId, SnapshotId};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Old snapshots are dropped while less than this share of the disk is free.
const FREE_SHARE: f64 = 0.10;
const ROOM_EVERY: Duration = Duration::from_secs(60);
/// Dropped in one go; the next look is a minute later.
const DROPPED_AT_ONCE: usize = 32;

impl Inner {
    /// Before sessions go on: what belongs to no session is put out of sight.
    pub(crate) fn sweep_files(&self) -> io::Result<()> {
        let shelf = &self.snapshots.shelf;
        for session in shelf.sessions()? {
            if !self.has_log(session) {
                shelf.discard_session(session, |other| self.has_log(other))?;
            }
        }
        for entry in self.storage.root().join("workspaces").read_dir()? {
            let entry = entry?;
            let session: Option<SessionId> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !session.is_some_and(|session| self.has_log(session)) {
                self.storage.discard(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether a session exists, by its file.
    pub(crate) fn has_log(&self, session: SessionId) -> bool {
        self.config.data_dir.join("sessions").join(session.to_string()).join("session.db").exists()
    }

    /// Asks the logs about what was being made or dropped when the server ended.
    pub(crate) async fn settle_snapshots(self: &Arc<Self>) {
        let sessions = self.snapshots.shelf.sessions().unwrap_or_default();
        for session in sessions {
            let found = self.snapshots.shelf.snapshots(session).unwrap_or_default();
            let open: Vec<SnapshotId> =
                found.into_iter().filter(|(_, is_open)| *is_open).map(|(id, _)| id).collect();
            if !open.is_empty() && self.has_log(session) {
                self.settle(session, &open).await;
            }
        }
    }

    async fn settle(self: &Arc<Self>, session: SessionId, open: &[SnapshotId]) {
        let Ok(handle) = self.sessions().get(session).await else { return };
        // Nothing of this process is being made meanwhile.
        let track = self.snapshots.track(session);
        let _one = track.turn.lock().await;
        let Ok(state) = handle.state().await else { return };
        for snapshot in open {
            let place = Place { owner: session, snapshot: *snapshot };
            let is_known = state.workspace.snapshots.iter().any(|kept| kept.snapshot == *snapshot);
            if is_known || self.snapshots.shelf.is_needed(place) {
                self.snapshots.shelf.close_mark(place);
            } else {
                self.discard_quietly(place);
            }
        }
    }

    /// Keeps room on the disk until the app is gone.
    pub(crate) async fn keep_room(inner: Weak<Self>) {
        loop {
            tokio::time::sleep(ROOM_EVERY).await;
            let Some(inner) = inner.upgrade() else { return };
            if inner.is_short_of_room() {
                inner.make_snapshot_room().await;
            }
        }
    }

    fn is_short_of_room(&self) -> bool {
        rustix::fs::statvfs(self.storage.root())
            .is_ok_and(|facts| (facts.f_bavail as f64) < facts.f_blocks as f64 * FREE_SHARE)
    }

    /// Drops the oldest snapshots of all sessions; the newest of each, and what forks need, stay.
    async fn make_snapshot_room(self: &Arc<Self>) {
        let mut oldest: Vec<Place> = vec![];
        for owner in self.snapshots.shelf.sessions().unwrap_or_default() {
            let found = self.snapshots.shelf.snapshots(owner).unwrap_or_default();
            let droppable = found.len().saturating_sub(1);
            let settled = found.into_iter().take(droppable).filter(|(_, is_open)| !is_open);
            oldest.extend(settled.map(|(snapshot, _)| Place { owner, snapshot }));
        }
        oldest.sort_unstable_by_key(|place| place.snapshot);
        let droppable = oldest.into_iter().filter(|place| !self.snapshots.shelf.is_needed(*place));
        for place in droppable.take(DROPPED_AT_ONCE) {
            let Ok(handle) = self.sessions().get(place.owner).await else { continue };
            if let Err(problem) = self.drop_snapshot(&handle, place).await {
                tracing::warn!(session = %place.owner, %problem, "an old snapshot could not be dropped");
            }
        }
    }
}
