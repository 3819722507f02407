//! What waits to be sent to one client, within bounds. Pure: no clock, no socket.
//!
//! While a session's past is replayed, nothing is taken that there is no room for: the log waits. Once live, frames are
//! taken as they come. A client that does not keep up is sent less of what is ephemeral: text that follows waiting text
//! joins it, and text that a waiting entry holds goes. When there is no room still, all of it goes; when entries alone
//! are too many, they go too and the client is told from where to `resume`.

use crate::port::{Frames, UseCases};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use greenroom_app::{FrameKind, SharedFrame, TextOf, Written, brings, written_text};
use greenroom_wire::{Frame, ResumeReason};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

const FRAMES: usize = 1024;
const BYTES: usize = 2 * 1024 * 1024;
/// What waits when a replay pauses: far from the bounds, so that a replay alone never reaches them.
const REPLAY_BYTES: usize = 256 * 1024;
const REPLAY_FRAMES: usize = FRAMES / 2;
/// Of one block or call, the end of what waits.
const TEXT_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    answers: usize,
    is_live: bool,
    /// The last entry that was handed on.
    sent_seq: u64,
}

#[derive(Debug)]
struct Waiting {
    name: &'static str,
    kind: Kind,
    written: Arc<Written>,
}

#[derive(Debug)]
enum Kind {
    Entry(u64),
    /// Of the session, but no entry: `hello`, `caught_up`.
    Mark,
    Text(Text),
    /// What is so now, of one type: only the newest waits.
    Newest,
    /// Of this connection: receipts, errors. Survives a `resume`.
    Answer,
    Ping,
}

/// A piece as it came, or what pieces became together: that is written when it is sent.
#[derive(Debug)]
struct Text {
    of: TextOf,
    offset: u64,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Once(Arc<str>),
    Joined(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Waits,
    Dropped,
    Overflow,
}

/// What is sent next.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Frame { name: &'static str, seq: Option<u64>, written: Arc<Written> },
    Ping,
}

impl Outbox {
    /// The client said hello: what waited of an earlier stream is not for it any more.
    pub(super) fn begin(&mut self, after_seq: u64) {
        self.keep(|waiting| waiting.is_of_connection());
        self.is_live = false;
        self.sent_seq = after_seq;
    }

    /// Whether the session's stream may be read now.
    pub(super) fn may_take(&self) -> bool {
        self.is_live || (self.bytes < REPLAY_BYTES && self.waiting.len() < REPLAY_FRAMES)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A frame of the session's stream.
    pub(super) fn push(&mut self, frame: SharedFrame) -> Pushed {
        let SharedFrame { kind, written } = frame;
        let name = kind.name();
        self.is_live |= matches!(kind, FrameKind::CaughtUp);
        let kind = match kind {
            FrameKind::Text { of, offset, text: said } => {
                return self.push_text(name, Text { of, offset, said: Said::Once(said) }, written);
            }
            FrameKind::Entry(entry) => {
                let has_text = self.waiting.iter().any(|waiting| matches!(waiting.kind, Kind::Text(_)));
                if has_text {
                    self.keep(|waiting| {
                        !waiting.text().is_some_and(|text| brings(&entry.event, &text.of, text.end()))
                    });
                }
                Kind::Entry(entry.seq)
            }
            FrameKind::Omitted(seq) => Kind::Entry(seq),
            FrameKind::Newest(_) => {
                // There are a few types: they wait beyond the bound.
                self.keep(|waiting| !matches!(waiting.kind, Kind::Newest) || waiting.name != name);
                self.add(Waiting { name, kind: Kind::Newest, written });
                return Pushed::Waits;
            }
            FrameKind::CaughtUp | FrameKind::Resume | FrameKind::Error | FrameKind::Mark(_) => Kind::Mark,
        };
        if self.is_full() {
            self.keep(|waiting| waiting.text().is_none());
            if self.is_full() {
                return Pushed::Overflow;
            }
        }
        self.add(Waiting { name, kind, written });
        Pushed::Waits
    }

    fn push_text(&mut self, name: &'static str, piece: Text, written: Arc<Written>) -> Pushed {
        let has_room = self.bytes < BYTES;
        // Behind the last entry: what is before it may have been withdrawn by it.
        let since_entry =
            self.waiting.iter_mut().rev().take_while(|waiting| !matches!(waiting.kind, Kind::Entry(_)));
        let mut texts = since_entry.filter(|waiting| waiting.text().is_some_and(|text| text.of == piece.of));
        if let Some(waiting) = texts.next()
            && has_room
        {
            let before = waiting.size();
            if waiting.join(&piece) {
                self.bytes = self.bytes - before + waiting.size();
                return Pushed::Waits;
            }
        }
        if self.is_full() {
            return Pushed::Dropped;
        }
        self.add(Waiting { name, kind: Kind::Text(piece), written });
        Pushed::Waits
    }

    /// Frames of this connection that wait.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// A frame of this connection. Beyond the bounds: whoever answers looks at [`Self::answers`] before it takes on more.
    pub(super) fn answer(&mut self, frame: Frame) {
        let frame = SharedFrame::from(frame);
        self.add(Waiting { name: frame.kind.name(), kind: Kind::Answer, written: frame.written });
    }

    pub(super) fn ping(&mut self) {
        let is_waiting = self.waiting.iter().any(|waiting| matches!(waiting.kind, Kind::Ping));
        if !is_waiting {
            self.add(Waiting { name: "", kind: Kind::Ping, written: Arc::new(Bytes::new().into()) });
        }
    }

    /// The stream is over for this client until it says hello again.
    pub(super) fn resume(&mut self, reason: ResumeReason) {
        self.keep(|waiting| waiting.is_of_connection());
        self.answer(Frame::Resume { after_seq: self.sent_seq, reason });
    }

    /// The stream is over: what waits is still sent, then from where to go on.
    pub(super) fn end(&mut self, reason: ResumeReason) {
        let last = self.waiting.iter().rev().find_map(|waiting| match waiting.kind {
            Kind::Entry(seq) => Some(seq),
            _ => None,
        });
        self.answer(Frame::Resume { after_seq: last.unwrap_or(self.sent_seq), reason });
    }

    pub(super) fn pop(&mut self) -> Option<Sent> {
        let waiting = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            // A quiet connection holds no room for frames.
            self.waiting = VecDeque::new();
        }
        self.bytes -= waiting.size();
        self.answers -= usize::from(matches!(waiting.kind, Kind::Answer));
        let Waiting { name, kind, written } = waiting;
        let (seq, written) = match kind {
            Kind::Ping => return Some(Sent::Ping),
            Kind::Entry(seq) => {
                self.sent_seq = seq;
                (Some(seq), written)
            }
            Kind::Text(Text { of, offset, said: Said::Joined(said) }) => {
                (None, Arc::new(written_text(&of, offset, &said)))
            }
            Kind::Text(_) | Kind::Newest | Kind::Mark | Kind::Answer => (None, written),
        };
        Some(Sent::Frame { name, seq, written })
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= FRAMES || self.bytes >= BYTES
    }

    fn add(&mut self, waiting: Waiting) {
        self.bytes += waiting.size();
        self.answers += usize::from(matches!(waiting.kind, Kind::Answer));
        self.waiting.push_back(waiting);
    }

    fn keep(&mut self, wanted: impl Fn(&Waiting) -> bool) {
        self.waiting.retain(wanted);
        self.bytes = self.waiting.iter().map(Waiting::size).sum();
        self.answers = self.waiting.iter().filter(|waiting| matches!(waiting.kind, Kind::Answer)).count();
    }
}

impl Waiting {
    fn is_of_connection(&self) -> bool {
        matches!(self.kind, Kind::Answer | Kind::Ping)
    }

    fn text(&self) -> Option<&Text> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Text(Text { said: Said::Joined(said), .. }) => said.len(),
            _ => self.written.text().len(),
        }
    }

    /// Takes a piece that begins where this text ends.
    fn join(&mut self, piece: &Text) -> bool {
        let Kind::Text(text) = &mut self.kind else { return false };
        if text.end() != piece.offset {
            return false;
        }
        let mut joined = match std::mem::replace(&mut text.said, Said::Joined(String::new())) {
            Said::Joined(joined) => joined,
            Said::Once(said) => said.to_string(),
        };
        joined.push_str(piece.said.as_str());
        if joined.len() > TEXT_BYTES {
            // In half, so that not every piece moves all of it.
            let cut = joined.ceil_char_boundary(joined.len() - TEXT_BYTES / 2);
            joined.drain(..cut);
            text.offset += cut as u64;
        }
        text.said = Said::Joined(joined);
        true
    }
}

impl Text {
    fn end(&self) -> u64 {
        self.offset + self.said.as_str().len() as u64
    }
}

impl Said {
    fn as_str(&self) -> &str {
        match self {
            Self::Once(said) => said,
            Self::Joined(said) => said,
        }
    }
}

/// A session's frames for a client that takes them one by one, read ahead into an outbox. Ends with them, or with
/// `resume`.
pub(super) struct Drained {
    frames: Option<Frames>,
    outbox: Outbox,
    app: Arc<dyn UseCases>,
}

impl Drained {
    pub(super) fn new(frames: Frames, after_seq: u64, app: Arc<dyn UseCases>) -> Self {
        let mut outbox = Outbox::default();
        outbox.begin(after_seq);
        Self { frames: Some(frames), outbox, app }
    }

    fn read_ahead(&mut self, context: &mut Context<'_>) {
        while let Some(frames) = self.frames.as_mut().filter(|_| self.outbox.may_take()) {
            match frames.poll_next_unpin(context) {
                Poll::Pending => return,
                Poll::Ready(None) => {
                    if self.app.is_draining() {
                        self.outbox.end(ResumeReason::Stopping);
                    }
                    self.frames = None;
                }
                Poll::Ready(Some(frame)) => {
                    if self.outbox.push(frame) == Pushed::Overflow {
                        self.outbox.resume(ResumeReason::TooSlow);
                        self.frames = None;
                    }
                }
            }
        }
    }
}

impl Stream for Drained {
    type Item = Sent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Sent>> {
        self.read_ahead(context);
        match self.outbox.pop() {
            Some(sent) => Poll::Ready(Some(sent)),
            None if self.frames.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
