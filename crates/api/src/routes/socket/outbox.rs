//! What waits to be sent to one client, within bounds. Pure: no clock, no socket.
//!
//! While a session's past is replayed, nothing is taken that there is no room for: the log waits. Once live, frames are
//! taken as they come; when the client does not keep up, ephemeral frames are dropped first, the waiting ones included.
//! When durable frames alone are too many, all are dropped and the client is told from where to `resume`.

use axum::extract::ws::{Message, Utf8Bytes};
use greenroom_wire::Frame;
use std::collections::VecDeque;

const FRAMES: usize = 1024;
const BYTES: usize = 2 * 1024 * 1024;
/// Waiting bytes above which a replay pauses.
const REPLAY_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    is_live: bool,
    /// The last entry handed to the socket.
    sent_seq: u64,
}

#[derive(Debug)]
struct Waiting {
    text: Utf8Bytes,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Entry(u64),
    /// Of the session, but no entry: `hello`, `caught_up`.
    Mark,
    Ephemeral,
    /// What is so now, of one kind: only the newest waits.
    Newest(Now),
    /// Of this connection: receipts, errors. Survives a `resume`.
    Answer,
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Presence,
    Readers,
    Read,
    Draft,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Waits,
    Dropped,
    Overflow,
}

impl Outbox {
    /// The client said hello: what waited of an earlier stream is not for it any more.
    pub(super) fn begin(&mut self, after_seq: u64) {
        self.keep(|kind| matches!(kind, Kind::Answer | Kind::Ping));
        self.is_live = false;
        self.sent_seq = after_seq;
    }

    /// Whether the session's stream may be read now.
    pub(super) fn may_take(&self) -> bool {
        self.is_live || self.bytes < REPLAY_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A frame of the session's stream.
    pub(super) fn push(&mut self, frame: &Frame) -> Pushed {
        let kind = match frame {
            Frame::Entry { entry } => Kind::Entry(entry.seq),
            Frame::Delta { .. } | Frame::Output { .. } => Kind::Ephemeral,
            Frame::Presence(_) => Kind::Newest(Now::Presence),
            Frame::Readers(_) => Kind::Newest(Now::Readers),
            Frame::Read(_) => Kind::Newest(Now::Read),
            Frame::Draft(_) => Kind::Newest(Now::Draft),
            _ => Kind::Mark,
        };
        if matches!(kind, Kind::Newest(_)) {
            // There are four at most: they wait beyond the bound.
            self.keep(|waiting| waiting != kind);
            self.add(text_of(frame), kind);
            return Pushed::Waits;
        }
        self.is_live |= matches!(frame, Frame::CaughtUp { .. });
        if self.is_full() {
            if kind == Kind::Ephemeral {
                return Pushed::Dropped;
            }
            self.keep(|kind| kind != Kind::Ephemeral);
            if self.is_full() {
                return Pushed::Overflow;
            }
        }
        self.add(text_of(frame), kind);
        Pushed::Waits
    }

    /// A frame of this connection. Bounded by what the connection accepts at a time.
    pub(super) fn answer(&mut self, frame: &Frame) {
        self.add(text_of(frame), Kind::Answer);
    }

    pub(super) fn ping(&mut self) {
        let is_waiting = self.waiting.iter().any(|waiting| waiting.kind == Kind::Ping);
        if !is_waiting {
            self.add(Utf8Bytes::default(), Kind::Ping);
        }
    }

    /// The stream is over for this client until it says hello again.
    pub(super) fn resume(&mut self) {
        self.keep(|kind| matches!(kind, Kind::Answer | Kind::Ping));
        self.add(text_of(&Frame::Resume { after_seq: self.sent_seq }), Kind::Answer);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let Waiting { text, kind } = self.waiting.pop_front()?;
        self.bytes -= text.len();
        Some(match kind {
            Kind::Ping => Message::Ping(bytes::Bytes::new()),
            Kind::Entry(seq) => {
                self.sent_seq = seq;
                Message::Text(text)
            }
            _ => Message::Text(text),
        })
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= FRAMES || self.bytes >= BYTES
    }

    fn add(&mut self, text: Utf8Bytes, kind: Kind) {
        self.bytes += text.len();
        self.waiting.push_back(Waiting { text, kind });
    }

    fn keep(&mut self, wanted: impl Fn(Kind) -> bool) {
        self.waiting.retain(|waiting| wanted(waiting.kind));
        self.bytes = self.waiting.iter().map(|waiting| waiting.text.len()).sum();
    }
}

fn text_of(frame: &Frame) -> Utf8Bytes {
    serde_json::to_string(frame).expect("the contract's types serialise").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::{BlockId, Entry, Event};

    fn entry(seq: u64) -> Frame {
        let event = Event::TitleChanged { title: format!("title {seq}") };
        Frame::Entry { entry: Entry { seq, at_ms: 1, epoch: 1, event } }
    }

    fn delta() -> Frame {
        Frame::Delta { block: BlockId::from_parts(1, 1), offset: 0, text: "text".into() }
    }

    fn live() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        outbox.push(&Frame::CaughtUp { seq: 0 });
        outbox
    }

    fn texts(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop()).filter_map(|m| Some(m.into_text().ok()?.to_string())).collect()
    }

    #[test]
    fn a_replay_is_not_taken_faster_than_it_is_sent() {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        let mut seq = 0;
        while outbox.may_take() {
            seq += 1;
            assert_eq!(
                outbox.push(&entry(seq)),
                if seq <= FRAMES as u64 { Pushed::Waits } else { Pushed::Overflow }
            );
            if seq == 500 {
                outbox.bytes = REPLAY_BYTES;
            }
        }
        assert_eq!(seq, 500);
    }

    #[test]
    fn a_slow_client_loses_ephemeral_frames_before_any_entry() {
        let mut outbox = live();
        outbox.push(&entry(1));
        while outbox.push(&delta()) == Pushed::Waits {}
        assert_eq!(outbox.push(&delta()), Pushed::Dropped);
        assert_eq!(outbox.push(&entry(2)), Pushed::Waits);
        let sent = texts(&mut outbox);
        assert_eq!(sent.len(), 3, "caught_up and two entries: {sent:?}");
    }

    #[test]
    fn a_client_that_falls_behind_on_entries_resumes_after_the_last_one_sent() {
        let mut outbox = live();
        outbox.push(&entry(1));
        outbox.pop();
        outbox.pop();
        let mut seq = 1;
        let overflow = std::iter::repeat_with(|| {
            seq += 1;
            outbox.push(&entry(seq))
        });
        assert!(overflow.take(FRAMES + 1).any(|pushed| pushed == Pushed::Overflow));
        outbox.resume();
        assert_eq!(texts(&mut outbox), [r#"{"type":"resume","after_seq":1}"#]);
    }

    #[test]
    fn of_what_is_so_now_only_the_newest_waits_and_a_slow_client_gets_it() {
        let presence = |more| Frame::Presence(greenroom_wire::Presence { people: vec![], more });
        let mut outbox = live();
        while outbox.push(&delta()) == Pushed::Waits {}
        for more in 0..5000 {
            assert_eq!(outbox.push(&presence(more)), Pushed::Waits);
        }
        assert_eq!(outbox.push(&entry(1)), Pushed::Waits);
        let sent = texts(&mut outbox);
        assert_eq!(sent.len(), 3, "caught_up, one presence and the entry: {sent:?}");
        assert!(sent[1].contains("4999"), "{sent:?}");
    }

    #[test]
    fn answers_survive_a_resume() {
        let mut outbox = live();
        outbox.answer(&Frame::Error { problem: crate::error::invalid("x") });
        outbox.resume();
        assert_eq!(texts(&mut outbox).len(), 2);
    }
}
