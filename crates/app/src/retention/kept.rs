//! Which sessions stay, whatever their age. What the session's own state says of it is `domain`'s (`SessionState::kept_by`).

use super::internal;
use crate::{Inner, Result};
use greenroom_directory::{SessionRow, SessionStatus};
use greenroom_domain::{KeptBy, SessionId};
use std::sync::Arc;

impl Inner {
    /// As far as it is known without opening the session.
    pub(super) async fn kept_by_line(&self, row: &SessionRow, before_ms: i64) -> Result<Option<KeptBy>> {
        let by_line = match () {
            () if row.status == SessionStatus::Running => Some(KeptBy::Turn),
            () if row.queued_prompts > 0 => Some(KeptBy::Queue),
            () if row.change.is_some_and(|(.., is_merged)| !is_merged) => Some(KeptBy::Change),
            // To open a session tells of it: only what is told before that counts.
            () if self.outbox.is_telling_of(row.id) => Some(KeptBy::Delivery),
            () => self.kept_by_company(row.id),
        };
        if by_line.is_some() || !row.is_archived {
            return Ok(by_line);
        }
        // An archived one is as it was; a deleted one takes the text along.
        let typed = self.directory.newest_draft_ms(row.id).await?;
        Ok(typed.is_some_and(|at_ms| at_ms > before_ms).then_some(KeptBy::Draft))
    }

    /// Somebody is there, or something.
    pub(super) fn kept_by_company(&self, session: SessionId) -> Option<KeptBy> {
        if self.rooms.room(session).is_some() {
            return Some(KeptBy::Viewer);
        }
        self.workspaces.sessions().contains(&session).then_some(KeptBy::Sandbox)
    }

    pub(super) async fn bytes_of_session(self: &Arc<Self>, session: SessionId) -> Result<u64> {
        let app = Arc::clone(self);
        let measured = tokio::task::spawn_blocking(move || {
            let name = session.to_string();
            let log = app.config.data_dir.join("sessions").join(&name);
            crate::disk::tree_bytes(&log) + app.storage.bytes_of(&name)
        });
        measured.await.map_err(|error| internal(&error))
    }
}
