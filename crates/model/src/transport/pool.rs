//! Connections that wait for a request, and the task that keeps one of them ready.

use super::dial::Connection;
use super::{EndpointOptions, Inner};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Pool {
    shared: Option<Shared>,
    idle: Vec<Idle>,
    /// What the server spoke last time.
    pub(super) is_http1: bool,
    pub(super) has_keeper: bool,
    pub(super) wanted_until: Option<Instant>,
    pub(super) made: u64,
}

struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    opened: Instant,
}

struct Idle {
    sender: http1::SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Pool {
    /// The shared connection, or the most recently used idle one.
    pub(super) fn take(&mut self, options: &EndpointOptions) -> Option<Connection> {
        self.drop_dead(options);
        if let Some(shared) = &self.shared {
            return Some(Connection::Http2(shared.sender.clone()));
        }
        self.idle.pop().map(|idle| Connection::Http1(idle.sender))
    }

    pub(super) fn put(&mut self, connection: Connection, options: &EndpointOptions) {
        match connection {
            Connection::Http2(sender) => self.shared = Some(Shared { sender, opened: Instant::now() }),
            Connection::Http1(sender) if self.idle.len() < options.idle_connections => {
                self.idle.push(Idle { sender, since: Instant::now() });
            }
            Connection::Http1(_) => {}
        }
    }

    pub(super) fn has_ready(&mut self, options: &EndpointOptions) -> bool {
        self.drop_dead(options);
        match &self.shared {
            Some(shared) => shared.opened.elapsed() < options.shared_lifetime,
            None => !self.idle.is_empty(),
        }
    }

    /// An old shared connection stays until its replacement is there; its streams end on it.
    fn drop_dead(&mut self, options: &EndpointOptions) {
        self.shared.take_if(|shared| shared.sender.is_closed());
        self.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < options.idle_lifetime);
    }

    /// Nobody asked for long: an unused connection would be pinged for ever.
    fn close(&mut self) {
        self.shared = None;
        self.idle.clear();
    }

    fn is_wanted(&self) -> bool {
        self.wanted_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Replaces connections that were taken, died or grew old, for as long as the endpoint exists and was used lately.
pub(super) async fn keep(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let _ = tokio::time::timeout(CHECK_INTERVAL, wake.notified()).await;
        let Some(inner) = inner.upgrade() else { return };
        let is_missing = {
            let mut pool = inner.pool();
            if !pool.is_wanted() {
                pool.close();
            }
            pool.is_wanted() && !pool.has_ready(&inner.options)
        };
        if !is_missing {
            continue;
        }
        match inner.make_ready().await {
            Ok(()) => backoff = BACKOFF_FIRST,
            Err(error) => {
                tracing::debug!(host = inner.target.shown(), %error, "no connection could be made in advance");
                drop(inner);
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_LIMIT);
            }
        }
    }
}
