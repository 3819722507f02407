//! Frames on their way to viewers: each is written as JSON once, and compressed at most once, whoever it goes to.

use bytes::Bytes;
use greenroom_domain::Entry;
use greenroom_session::{Live, TextOf, Told, Written};
use greenroom_wire::{Frame, FrameRef, ResumeReason};
use std::sync::Arc;

/// One frame, and what a client's queue has to know of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedFrame {
    pub kind: FrameKind,
    /// A [`Frame`] as JSON, on one line.
    pub written: Arc<Written>,
}

#[derive(Clone, Debug)]
pub enum FrameKind {
    Entry(Arc<Entry>),
    /// Counts as received: every entry up to this one.
    Omitted(u64),
    /// `delta` and `output`: ephemeral, and pieces that follow each other may become one.
    Text {
        of: TextOf,
        offset: u64,
        text: Arc<str>,
    },
    CaughtUp,
    Resume,
    Error,
    /// What is so now, of one type: only the newest counts.
    Newest(&'static str),
    /// Of the session, but no entry: as lasting as one.
    Mark(&'static str),
}

impl FrameKind {
    /// The frame's type, as in its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Entry(_) => "entry",
            Self::Omitted(_) => "omitted",
            Self::Text { of: TextOf::Block(_), .. } => "delta",
            Self::Text { of: TextOf::Call(_), .. } => "output",
            Self::CaughtUp => "caught_up",
            Self::Resume => "resume",
            Self::Error => "error",
            Self::Newest(name) | Self::Mark(name) => name,
        }
    }
}

impl From<&Told> for SharedFrame {
    fn from(told: &Told) -> Self {
        Self { kind: kind_of(told.live()), written: told.written(live_as_json) }
    }
}

impl From<Frame> for SharedFrame {
    fn from(frame: Frame) -> Self {
        let written = Arc::new(as_json(&frame).into());
        let kind = match frame {
            Frame::Entry { entry } => FrameKind::Entry(Arc::new(entry)),
            Frame::Delta { block, offset, text } => {
                FrameKind::Text { of: TextOf::Block(block), offset, text: text.into() }
            }
            Frame::Output { call, offset, text } => {
                FrameKind::Text { of: TextOf::Call(call.into()), offset, text: text.into() }
            }
            Frame::Omitted { through_seq } => FrameKind::Omitted(through_seq),
            Frame::Snapshot { .. } => FrameKind::Mark("snapshot"),
            Frame::CaughtUp { .. } => FrameKind::CaughtUp,
            Frame::Resume { .. } => FrameKind::Resume,
            Frame::Error { .. } => FrameKind::Error,
            Frame::Hello { .. } => FrameKind::Mark("hello"),
            Frame::Receipt(_) => FrameKind::Mark("receipt"),
            Frame::Presence(_) => FrameKind::Newest("presence"),
            Frame::Readers(_) => FrameKind::Newest("readers"),
            Frame::Read(_) => FrameKind::Newest("read"),
            Frame::Draft(_) => FrameKind::Newest("draft"),
        };
        Self { kind, written }
    }
}

/// Text that was merged.
pub fn written_text(of: &TextOf, offset: u64, text: &str) -> Written {
    let json = as_json(&match of {
        TextOf::Block(block) => FrameRef::Delta { block: *block, offset, text },
        TextOf::Call(call) => FrameRef::Output { call, offset, text },
    });
    json.into()
}

fn kind_of(live: &Live) -> FrameKind {
    match live {
        Live::Opening(_) => FrameKind::Mark("snapshot"),
        Live::Entry(entry) => FrameKind::Entry(Arc::clone(entry)),
        Live::Omitted { through_seq } => FrameKind::Omitted(*through_seq),
        Live::CaughtUp { .. } => FrameKind::CaughtUp,
        Live::Delta { block, offset, text } => {
            FrameKind::Text { of: TextOf::Block(*block), offset: *offset, text: Arc::clone(text) }
        }
        Live::Output { call, offset, text } => {
            FrameKind::Text { of: TextOf::Call(Arc::clone(call)), offset: *offset, text: Arc::clone(text) }
        }
        Live::Lagged { .. } => FrameKind::Resume,
    }
}

fn live_as_json(live: &Live) -> Bytes {
    match live {
        Live::Opening(opening) => as_json(&Frame::Snapshot {
            from_seq: opening.from_seq,
            head_seq: opening.head_seq,
            standing: opening.standing.clone(),
            usage: opening.usage,
            prompters: opening.prompters.clone(),
            queue: opening.queue.iter().cloned().map(crate::queue::view).collect(),
        }),
        Live::Entry(entry) => as_json(&FrameRef::Entry { entry }),
        Live::Omitted { through_seq } => as_json(&Frame::Omitted { through_seq: *through_seq }),
        Live::CaughtUp { seq } => as_json(&Frame::CaughtUp { seq: *seq }),
        Live::Delta { block, offset, text } => {
            as_json(&FrameRef::Delta { block: *block, offset: *offset, text })
        }
        Live::Output { call, offset, text } => as_json(&FrameRef::Output { call, offset: *offset, text }),
        Live::Lagged { after_seq } => {
            as_json(&Frame::Resume { after_seq: *after_seq, reason: ResumeReason::TooSlow })
        }
    }
}

fn as_json(frame: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(frame).expect("the contract's types serialise").into()
}
