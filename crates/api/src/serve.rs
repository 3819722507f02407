//! Accepting connections, and stopping: no new ones, streams end, plain requests get a while to finish.

use crate::limits::Peer;
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// Open connections; more wait in the system's queue.
const CONNECTIONS: usize = 8192;
/// From a connection's start, or its last answer, until the next request's headers are complete.
const HEADER_TIME: Duration = Duration::from_secs(90);
const HEADER_BYTES: usize = 64 * 1024;
const FINISH_TIME: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled (the same token as the state's), and then until what runs is finished.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let answering = Answering { router: router.clone(), open: open.clone(), shutdown: shutdown.clone() };
                    open.spawn(answering.run(stream, Peer(peer.ip()), permit));
                }
                Err(error) => pause(&error).await,
            },
        }
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(FINISH_TIME, open.wait()).await.is_err() {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
    Ok(())
}

/// What a connection is answered with.
struct Answering {
    router: Router,
    /// For what goes on when its client has left.
    open: TaskTracker,
    shutdown: CancellationToken,
}

impl Answering {
    async fn run(self, stream: TcpStream, peer: Peer, _permit: OwnedSemaphorePermit) {
        let Self { router, open, shutdown } = self;
        // Deltas are small and must not wait for one another.
        let _as_it_is = stream.set_nodelay(true);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(open.clone());
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// Out of descriptors, most likely: others will be closed in a moment.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(AFTER_ERROR).await;
}
