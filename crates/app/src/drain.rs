//! Stopping in order: nothing new begins, what runs may finish for a while, and what does not goes on after the next
//! start. Reads, streams, stops and answers to the agent go on meanwhile.

use crate::{App, Inner, Result};
use greenroom_domain::{ErrorCode, Problem};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// When another server is likely to answer at this address.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// What a stop waits for the snapshots and traces of turns that have ended.
const ENDINGS_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_draining: AtomicBool,
    /// Turns that run.
    pub(crate) turns: TaskTracker,
    /// What ended turns leave to be done: snapshots, traces.
    pub(crate) endings: TaskTracker,
}

impl App {
    /// From now on nothing new is taken, and no waiting prompt begins its turn: it does after the next start. Answers how
    /// many turns run.
    pub fn begin_drain(&self) -> usize {
        self.inner.drain.is_draining.store(true, Ordering::Release);
        self.inner.pool.turn_off();
        self.inner.drain.turns.len()
    }

    pub fn is_draining(&self) -> bool {
        self.inner.drain.is_draining()
    }

    /// Waits until no turn runs. Answers how many still did when `patience` was over.
    pub async fn wait_for_turns(&self, patience: Duration) -> usize {
        let drain = &self.inner.drain;
        drain.turns.close();
        let _whoever_is_left_is_counted = tokio::time::timeout(patience, drain.turns.wait()).await;
        drain.turns.len()
    }
}

impl Drain {
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Of turns that have ended; before their sessions close.
    pub(crate) async fn wait_for_endings(&self) {
        self.endings.close();
        if tokio::time::timeout(ENDINGS_DEADLINE, self.endings.wait()).await.is_err() {
            tracing::warn!("not every snapshot and trace was made before the server stopped");
        }
    }
}

impl Inner {
    /// Refuses while the server drains.
    pub(crate) fn may_begin(&self) -> Result<()> {
        if !self.drain.is_draining() {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::ShuttingDown, "The server is stopping and begins nothing new.")
            .hint("Send it again in a moment, with the same key; what is running finishes, or goes on after the next start.")
            .retry_after(TRY_AGAIN))
    }
}
