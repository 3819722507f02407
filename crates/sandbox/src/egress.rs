//! The way out of a sandbox. A sandbox has no network interface; every connection it makes arrives here instead.

use async_trait::async_trait;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a connection came from, established by the provider and not by anything the sandbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub sandbox: String,
    pub session: String,
    pub generation: u64,
    /// The address the sandbox tried to reach: a hint for protocols without a name, never dialled as it is.
    pub destination: SocketAddr,
}

pub trait EgressStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> EgressStream for T {}

/// Receives what sandboxes send out. Implemented by the broker; a provider calls it and holds no policy itself.
#[async_trait]
pub trait EgressHandler: Send + Sync + std::fmt::Debug {
    /// Owns one TCP connection until it is done.
    async fn connection(&self, origin: Origin, stream: Box<dyn EgressStream>);

    /// Answers one DNS query (wire format); `None` drops it.
    async fn dns(&self, origin: Origin, query: Vec<u8>) -> Option<Vec<u8>>;
}
