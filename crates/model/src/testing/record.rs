//! What clients sent, in order, with the instants of arrival.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The number of the connection it came on, from 1.
    pub connection: u64,
    pub head_at: Instant,
    /// When its last byte was there.
    pub received_at: Instant,
}

impl Recorded {
    /// The body; `Null` when it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{seen} of {wanted} requests came in time")]
pub struct Timeout {
    pub wanted: usize,
    pub seen: usize,
}

#[derive(Debug, Default)]
pub(super) struct Records {
    list: Mutex<Vec<Recorded>>,
    added: Notify,
}

impl Records {
    fn list(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, recorded: Recorded) {
        self.list().push(recorded);
        self.added.notify_waiters();
    }

    pub(super) fn all(&self) -> Vec<Recorded> {
        self.list().clone()
    }

    pub(super) async fn wait_for(&self, wanted: usize, limit: Duration) -> Result<Vec<Recorded>, Timeout> {
        let waiting = async {
            loop {
                let added = self.added.notified();
                tokio::pin!(added);
                added.as_mut().enable();
                let all = self.all();
                if all.len() >= wanted {
                    return all;
                }
                added.await;
            }
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.map_err(|_| Timeout { wanted, seen: self.list().len() })
    }
}
