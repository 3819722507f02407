//! A byte stream of whatever kind: a socket, a tunnel, TLS over either.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

pub(crate) type BoxedIo = Box<dyn Io>;

/// The stream with bytes that were read from it already in front again.
pub(crate) fn replayed(seen: Vec<u8>, stream: impl Io) -> BoxedIo {
    let (reader, writer) = tokio::io::split(stream);
    Box::new(tokio::io::join(io::Cursor::new(seen).chain(reader), writer))
}
