//! One WebSocket's bytes. What comes is read by tungstenite, which also answers pings and closes. What goes is written past
//! it: a frame's text is the same memory for everyone who gets it, and a connection has no buffer of its own for writing,
//! only what the system has not taken yet of a few frames.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Frames that are written by one call: a replay goes in few.
const GATHERED: usize = 16;
/// Of a frame that is not masked.
const LONGEST_HEAD: usize = 10;
/// Each open connection holds so much for reading, however quiet it is; larger frames grow it while they last.
const BUFFER: usize = 256;
/// Answers to pings and the close wait within this.
const CONTROLS: usize = 4 * 1024;

/// What is sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Bytes),
    Binary(Bytes),
    Ping,
}

#[derive(Debug)]
pub(super) struct Wire<S>(WebSocketStream<Stream<S>>);

#[derive(Debug)]
struct Stream<S> {
    inner: S,
    /// Taken from whoever sends, and not written whole.
    pieces: VecDeque<Piece>,
    /// A part of tungstenite's own bytes is written: the rest comes next.
    is_torn: bool,
}

#[derive(Debug)]
struct Piece {
    head: [u8; LONGEST_HEAD],
    head_len: usize,
    body: Bytes,
    /// Of head and body together.
    written: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a stream whose handshake is done. `read_limit`: bytes of a frame and of a message.
    pub(super) async fn new(stream: S, read_limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(read_limit))
            .max_frame_size(Some(read_limit))
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROLS);
        let stream = Stream { inner: stream, pieces: VecDeque::new(), is_torn: false };
        Self(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }

    /// Cancel safe. Ends as [`WebSocketStream`] does.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, tungstenite::Error>>> {
        self.0.poll_next_unpin(context)
    }

    /// Something was taken and is not written whole.
    pub(super) fn is_sending(&self) -> bool {
        !self.0.get_ref().pieces.is_empty()
    }

    /// Takes what there is, as far as the system takes it; ready when all of it is written.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        mut next: impl FnMut() -> Option<Outgoing>,
    ) -> Poll<Result<(), tungstenite::Error>> {
        if self.0.get_ref().is_torn {
            ready!(self.0.poll_flush_unpin(context))?;
        }
        let stream = self.0.get_mut();
        loop {
            while stream.pieces.len() < GATHERED
                && let Some(outgoing) = next()
            {
                stream.pieces.push_back(outgoing.into());
            }
            if stream.pieces.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(stream.poll_write_pieces(context))?;
        }
    }

    /// Behind everything that was taken. What still comes can be read.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), tungstenite::Error> {
        let close = CloseFrame { code: code.into(), reason: reason.into() };
        self.0.send(Message::Close(Some(close))).await
    }
}

impl From<Outgoing> for Piece {
    fn from(outgoing: Outgoing) -> Self {
        let (opcode, body) = match outgoing {
            Outgoing::Text(body) => (OpCode::Data(Data::Text), body),
            Outgoing::Binary(body) => (OpCode::Data(Data::Binary), body),
            Outgoing::Ping => (OpCode::Control(Control::Ping), Bytes::new()),
        };
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let mut head = [0; LONGEST_HEAD];
        let mut rest = &mut head[..];
        header.format(body.len() as u64, &mut rest).expect("there is room for the longest head");
        let head_len = LONGEST_HEAD - rest.len();
        Self { head, head_len, body, written: 0 }
    }
}

impl Piece {
    fn slices(&self) -> [&[u8]; 2] {
        let head = &self.head[..self.head_len];
        let of_body = self.written.saturating_sub(self.head_len);
        [&head[self.written.min(self.head_len)..], &self.body[of_body..]]
    }

    fn left(&self) -> usize {
        self.head_len + self.body.len() - self.written
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    /// Once; `pieces` is not empty.
    fn poll_write_pieces(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); 2 * GATHERED];
        let mut count = 0;
        for slice in self.pieces.iter().flat_map(Piece::slices).filter(|slice| !slice.is_empty()) {
            slices[count] = IoSlice::new(slice);
            count += 1;
        }
        let stream = Pin::new(&mut self.inner);
        let mut written = ready!(stream.poll_write_vectored(context, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::Error::from(ErrorKind::WriteZero)));
        }
        while let Some(piece) = self.pieces.front_mut() {
            let of_this = written.min(piece.left());
            piece.written += of_this;
            written -= of_this;
            if piece.left() > 0 {
                break;
            }
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            // A quiet connection holds no room for frames.
            self.pieces = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_all_pieces(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            ready!(self.poll_write_pieces(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

/// Tungstenite's own bytes, which never come into the middle of a frame.
impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_all_pieces(context))?;
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, buffer))?;
        // It hands over all that it has each time.
        self.is_torn = written < buffer.len();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_all_pieces(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_all_pieces(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// Through a pipe that takes a few bytes at a time, so that nearly every write ends within a frame.
    #[tokio::test]
    async fn frames_and_answers_to_pings_never_come_into_each_other() {
        let (server, client) = tokio::io::duplex(7);
        let mut wire = Wire::new(server, 1 << 20).await;
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let texts: Vec<Bytes> = [0, 1, 125, 126, 300, 70_000]
            .iter()
            .cycle()
            .take(60)
            .map(|length| "x".repeat(*length).into())
            .collect();
        let (mut say, mut hear) = client.split();
        let pinging = async move {
            for number in 0..200_u8 {
                say.send(Message::Ping(vec![number; 100].into())).await.unwrap();
            }
            say
        };
        let wanted = texts.clone();
        let hearing = async move {
            let (mut heard, mut pongs) = (vec![], 0);
            while heard.len() < wanted.len() || pongs == 0 {
                match hear.next().await.unwrap().unwrap() {
                    Message::Text(text) => heard.push(Bytes::from(text)),
                    Message::Pong(payload) => {
                        assert!(payload.iter().all(|byte| *byte == payload[0]));
                        pongs += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(heard == wanted, "what is heard is what was sent, in its order");
            hear
        };
        let serving = async {
            let mut left = texts.into_iter();
            poll_fn(|context| -> Poll<()> {
                while let Poll::Ready(message) = wire.poll_next(context) {
                    if !matches!(message, Some(Ok(Message::Ping(_)))) {
                        return Poll::Ready(());
                    }
                }
                let _ = wire.poll_send(context, || left.next().map(Outgoing::Text)).map(|sent| sent.unwrap());
                Poll::Pending
            })
            .await;
        };
        let clients = async { tokio::join!(pinging, hearing) };
        let both = async {
            tokio::select! { _ = clients => {}, () = serving => panic!("the client left") }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), both)
            .await
            .expect("everything is heard in time");
        assert!(!wire.is_sending());
        assert_eq!(wire.0.get_ref().pieces.capacity(), 0, "a quiet connection holds no room for frames");
    }
}
