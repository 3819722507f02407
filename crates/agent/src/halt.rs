//! What ends a turn from outside: a person's stop, or the turn's time limit. Every wait of the loop is made through
//! [`Halt::or`], and every wait on something else also has a deadline of its own ([`Halt::within`]).

use crate::ports::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halted {
    Stopped,
    TimeOver,
}

#[derive(Clone, Debug)]
pub(crate) struct Halt {
    cancel: CancellationToken,
    clock: Arc<dyn Clock>,
    /// Later with each wait for people.
    deadline_ms: Arc<AtomicI64>,
}

impl Halt {
    pub(crate) fn new(cancel: CancellationToken, clock: Arc<dyn Clock>, wall_ms: u64) -> Self {
        let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        let deadline_ms = Arc::new(AtomicI64::new(clock.now_ms().saturating_add(wall_ms)));
        Self { cancel, clock, deadline_ms }
    }

    pub(crate) fn check(&self) -> Option<Halted> {
        if self.cancel.is_cancelled() {
            Some(Halted::Stopped)
        } else if self.clock.now_ms() >= self.deadline_ms.load(Ordering::Relaxed) {
            Some(Halted::TimeOver)
        } else {
            None
        }
    }

    /// Resolves when the turn must end.
    pub(crate) async fn reached(&self) -> Halted {
        let rest = self.deadline_ms.load(Ordering::Relaxed).saturating_sub(self.clock.now_ms());
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Halted::Stopped,
            () = self.clock.sleep(Duration::from_millis(u64::try_from(rest).unwrap_or(0))) => Halted::TimeOver,
        }
    }

    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Halted> {
        tokio::select! {
            biased;
            halted = self.reached() => Err(halted),
            done = work => Ok(done),
        }
    }

    /// For work in which the turn's time stands still.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halted> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Halted::Stopped),
            done = work => Ok(done),
        }
    }

    /// The turn's time ends so much later.
    pub(crate) fn extend(&self, ms: u64) {
        self.deadline_ms.fetch_add(i64::try_from(ms).unwrap_or(0), Ordering::Relaxed);
    }

    /// `None` when `limit` passed first.
    pub(crate) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        within(&*self.clock, limit, work).await
    }
}

pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep(limit) => None,
    }
}
