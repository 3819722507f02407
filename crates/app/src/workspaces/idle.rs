//! Whose sandbox may be ended: those nobody uses, and those others need the place of. Sessions come before the pool.

use super::{Entry, Slot, Workspaces};
use crate::moments::Ending;
use crate::{Inner, Result};
use greenroom_domain::{ErrorCode, Problem, SessionId};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A sandbox that nobody used for this long is ended; its files stay.
const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);
const IDLE_SWEEP: Duration = Duration::from_secs(60);

impl Workspaces {
    fn idle(&self, now: Instant) -> Vec<SessionId> {
        let is_idle = |entry: &Entry| now.saturating_duration_since(entry.last_used) > IDLE_LIMIT;
        self.with(|entries| {
            entries.iter().filter(|(_, entry)| is_idle(entry)).map(|(session, _)| *session).collect()
        })
    }

    /// Of these sessions, those whose sandbox is ready, longest unused first.
    pub(crate) fn longest_unused(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        let mut by_use: Vec<_> = self.with(|entries| {
            let ready = sessions.iter().filter_map(|session| Some((*session, entries.get(session)?)));
            let ready = ready.filter(|(_, entry)| matches!(*entry.slot.borrow(), Slot::Ready { .. }));
            ready.map(|(session, entry)| (entry.last_used, session)).collect()
        });
        by_use.sort_unstable();
        by_use.into_iter().map(|(_, session)| session).collect()
    }

    /// With more than `most` entries, those whose sandbox is ready, longest unused first, without `session`'s.
    fn oldest_beyond(&self, most: usize, session: SessionId) -> Vec<SessionId> {
        self.with(|entries| {
            if entries.len() <= most {
                return vec![];
            }
            let is_ready = |entry: &Entry| matches!(*entry.slot.borrow(), Slot::Ready { .. });
            let others = entries.iter().filter(|(other, entry)| **other != session && is_ready(entry));
            let mut by_use: Vec<_> = others.map(|(other, entry)| (entry.last_used, *other)).collect();
            by_use.sort_unstable();
            by_use.into_iter().map(|(_, other)| other).collect()
        })
    }
}

impl Inner {
    /// Where the most sandboxes are alive already, ends one of the pool, or else the one that was used longest ago and has
    /// no running turn.
    pub(super) async fn make_room(self: &Arc<Self>, session: SessionId) -> Result<()> {
        let most = self.config.max_sandboxes;
        if self.workspaces.count() <= most {
            self.pool_yields(most.saturating_sub(self.workspaces.count()));
            return Ok(());
        }
        self.pool_yields(0);
        for candidate in self.workspaces.oldest_beyond(most, session) {
            self.end_unused(candidate, "another session needed its place").await;
            if self.workspaces.count() <= most {
                return Ok(());
            }
        }
        Err(Problem::new(ErrorCode::SessionBusy, format!("All {most} sandboxes of this server are at work."))
            .hint(
                "Send the prompt again when another turn has ended, or raise max_sandboxes in the settings.",
            ))
    }

    /// Ends sandboxes that nobody used for a while, until the app is gone.
    pub(crate) async fn sweep_idle(inner: Weak<Self>) {
        loop {
            tokio::time::sleep(IDLE_SWEEP).await;
            let Some(inner) = inner.upgrade() else { return };
            inner.end_idle(Instant::now()).await;
        }
    }

    pub(super) async fn end_idle(self: &Arc<Self>, now: Instant) {
        for session in self.workspaces.idle(now) {
            self.end_unused(session, "nobody used it for a while").await;
        }
    }

    /// Ends the session's sandbox unless a turn runs in it; also when the session itself is gone.
    async fn end_unused(self: &Arc<Self>, session: SessionId, reason: &str) {
        let found = async {
            let handle = self.sessions().get(session).await?;
            let is_running = handle.state().await?.running.is_some();
            Ok((handle, is_running))
        };
        match found.await {
            Ok((_, true)) => {}
            Ok((handle, false)) => self.end_sandbox(&handle, Ending::Parked, reason).await,
            Err(Problem { code: ErrorCode::SessionUnknown, .. }) => self.end_orphan(session, reason).await,
            Err(problem) => tracing::warn!(%session, %problem, "nobody knows whether its sandbox is used"),
        }
    }
}
