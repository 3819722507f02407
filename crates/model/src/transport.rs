//! A thin HTTP client for one model provider, whose connections are made *before* they are needed: `warm` resolves,
//! connects, does the TLS handshake and keeps the result ready, so that a request costs no round trip of its own.
//! HTTP/2 shares one connection, HTTP/1.1 keeps a small pool. Deadlines and size limits on everything; no redirects,
//! no retries but one: a request that certainly was not processed goes out once more on a fresh connection.

mod answer;
mod dial;
mod pool;

pub(crate) use answer::{Answer, AnswerBody};

use crate::provider::Error;
use bytes::Bytes;
use dial::{Connection, SendFailure, Target};
use http::HeaderMap;
use pool::Pool;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

/// Limits and trust of an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    pub connect_timeout: Duration,
    /// From the request to the answer's headers.
    pub headers_timeout: Duration,
    /// The longest pause between two pieces of an answer.
    pub silence_timeout: Duration,
    /// Bytes of one answer.
    pub answer_limit: usize,
    /// HTTP/1.1: connections kept ready, and how long an unused one is trusted.
    pub idle_connections: usize,
    pub idle_lifetime: Duration,
    /// HTTP/2: an older connection is replaced by a new one in the background.
    pub shared_lifetime: Duration,
    /// How long after the last use a connection is kept ready.
    pub warm_for: Duration,
    /// Offer HTTP/2 to TLS servers.
    pub http2: bool,
    /// Trusted beside the system's certificates (`SSL_CERT_FILE` is honoured by those).
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            headers_timeout: Duration::from_secs(120),
            silence_timeout: Duration::from_secs(120),
            answer_limit: 16 * 1024 * 1024,
            idle_connections: 4,
            idle_lifetime: Duration::from_secs(55),
            shared_lifetime: Duration::from_secs(30 * 60),
            warm_for: Duration::from_secs(10 * 60),
            http2: true,
            extra_roots: Vec::new(),
        }
    }
}

/// One provider's server. Clones share the connections.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    options: EndpointOptions,
    pool: Mutex<Pool>,
    /// Held while the shared or first connection is made, so that it is made once.
    opening: tokio::sync::Mutex<()>,
    wake: Arc<Notify>,
}

impl Endpoint {
    /// Checks the address; connects nothing. Paths of requests are appended to the path of `base`.
    pub fn new(base: &Url, options: EndpointOptions) -> Result<Self, Error> {
        let target = Target::new(base, &options)?;
        let inner = Inner {
            target,
            options,
            pool: Mutex::new(Pool::default()),
            opening: tokio::sync::Mutex::new(()),
            wake: Arc::new(Notify::new()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a connection if none is ready, and keeps one ready for a while. A failure is only logged: the next
    /// `post` tries again and reports it.
    pub async fn warm(&self) {
        self.inner.want();
        self.start_keeper();
        if let Err(error) = self.inner.make_ready().await {
            tracing::debug!(host = self.inner.target.shown(), %error, "no connection could be made in advance");
        }
    }

    /// Connections made since the beginning.
    pub fn connections_made(&self) -> u64 {
        self.inner.pool().made
    }

    /// Sends a request with a JSON body and returns when the answer's headers are there.
    pub(crate) async fn post(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Answer, Error> {
        self.inner.want();
        self.start_keeper();
        let limit = self.inner.options.headers_timeout;
        let sending = self.post_with_second_chance(path, headers, &body);
        match tokio::time::timeout(limit, Box::pin(sending)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Silent { seconds: limit.as_secs() }),
        }
    }

    async fn post_with_second_chance(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, Error> {
        let inner = &self.inner;
        if let Some(connection) = inner.take() {
            match connection.send(&inner.target, path, headers, body.clone()).await {
                Ok(sent) => return Ok(Answer::new(sent, inner)),
                Err(SendFailure::NotProcessed(reason)) => {
                    tracing::debug!(host = inner.target.shown(), reason, "a kept connection was stale");
                }
                Err(SendFailure::Broken(reason)) => return Err(Error::Broken { reason }),
            }
        }
        let connection = inner.open().await?;
        match connection.send(&inner.target, path, headers, body.clone()).await {
            Ok(sent) => Ok(Answer::new(sent, inner)),
            Err(SendFailure::NotProcessed(reason)) => Err(Error::Unreachable { reason }),
            Err(SendFailure::Broken(reason)) => Err(Error::Broken { reason }),
        }
    }

    fn start_keeper(&self) {
        let mut pool = self.inner.pool();
        if !std::mem::replace(&mut pool.has_keeper, true) {
            let (inner, wake) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.wake));
            let keep = move || pool::keep(inner.clone(), Arc::clone(&wake));
            tokio::spawn(greenroom_tasks::keep("keeping a connection ready", keep));
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.inner.target.shown()).finish_non_exhaustive()
    }
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self) {
        self.pool().wanted_until = Some(Instant::now() + self.options.warm_for);
    }

    /// A ready connection, if there is one; the keeper then prepares the next.
    fn take(&self) -> Option<Connection> {
        let taken = self.pool().take(&self.options);
        if matches!(taken, Some(Connection::Http1(_))) {
            self.wake.notify_one();
        }
        taken
    }

    /// Makes sure that a connection is ready.
    async fn make_ready(self: &Arc<Self>) -> Result<(), Error> {
        let _opening = self.opening.lock().await;
        if self.pool().has_ready(&self.options) {
            return Ok(());
        }
        let connection = self.dial().await?;
        self.pool().put(connection, &self.options);
        Ok(())
    }

    /// A connection for use now. With HTTP/1.1 each caller needs one of its own, so nobody waits for another's.
    async fn open(self: &Arc<Self>) -> Result<Connection, Error> {
        if self.pool().is_http1 {
            return self.dial().await;
        }
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.take() {
            return Ok(connection);
        }
        let connection = self.dial().await?;
        if let Connection::Http2(sender) = &connection {
            self.pool().put(Connection::Http2(sender.clone()), &self.options);
        }
        Ok(connection)
    }

    async fn dial(self: &Arc<Self>) -> Result<Connection, Error> {
        let limit = self.options.connect_timeout;
        let dialling = self.target.dial(Arc::clone(&self.wake));
        let connection = tokio::time::timeout(limit, Box::pin(dialling)).await.map_err(|_| {
            let reason =
                format!("no connection to {} within {} s", self.target.shown(), limit.as_secs().max(1));
            Error::Unreachable { reason }
        })??;
        let mut pool = self.pool();
        pool.made += 1;
        pool.is_http1 = matches!(connection, Connection::Http1(_));
        Ok(connection)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}
