//! Frames of a session's stream, over WebSocket (one JSON text message each, or compressed, see [`FrameCompression`]) and, from server to client, over SSE
//! (`event:` is the frame's type; `id:` is the sequence number of an `entry`).

use crate::{ClientKind, Draft, DraftAnswer, Presence, QueuedPromptView, ReadPosition, Readers, SessionView};
use greenroom_domain::money::Usage;
use greenroom_domain::{Author, BlockId, Command, CommandId, Entry, Problem, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Version of this schema; a server refuses a client that asks for another.
pub const PROTOCOL: u32 = 1;

/// From client to server. Unknown fields and types are refused with an `error` frame; the connection stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum ClientFrame {
    /// The first frame: everything after `after_seq` is replayed, then the stream is live. With `window` (at most 1000)
    /// a client that is more entries behind gets a `snapshot` and about so many of the newest.
    Hello {
        protocol: u32,
        #[serde(default)]
        after_seq: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<u32>,
        /// What the person looks with; `api` when not said.
        #[serde(default)]
        client: ClientKind,
        /// Whether long frames may come compressed; not when not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compression: Option<FrameCompression>,
    },
    /// Answered by a `receipt` with the same key.
    Command { key: CommandId, command: Command },
    /// The person types, or has stopped. Passes by itself: said again every few seconds while it is so.
    Typing { is_typing: bool },
    /// The last entry that the person has seen.
    Read { seq: u64 },
    /// What the person has typed here, on top of `revision`. Answered by a `draft`; of writes that come too quickly only
    /// the newest is carried out.
    Draft { text: String, revision: u64 },
}

/// How frames may come that are longer than 1 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrameCompression {
    /// As a binary message: the frame's JSON as raw deflate (RFC 1951), each by itself. Text messages are JSON as ever.
    DeflateRaw,
}

/// From server to client.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every frame is an entry, and frames are moved a few times at most"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Frame {
    /// Answer to the client's hello. `head_seq` is the last entry at that moment.
    Hello {
        protocol: u32,
        head_seq: u64,
        epoch: u64,
    },
    /// Comes before the entries where the client asked for a window and is further behind. What it had is replaced.
    Snapshot {
        /// The first entry that follows, a turn's beginning where there is one in the window. Earlier ones are read with
        /// `GET /sessions/{id}/entries?before=`.
        from_seq: u64,
        head_seq: u64,
        /// Of the entries before `from_seq` those that the present still shows, oldest first: how the session was made,
        /// its title, waiting prompts, the running turn, the list of tasks, sandbox, services, snapshots, the change.
        standing: Vec<Entry>,
        /// Used before `from_seq`.
        usage: Usage,
        /// Everyone whose prompt was answered so far.
        prompters: Vec<Author>,
        /// Prompts that wait as of `head_seq`, in order: what the queue is once the stream has caught up. (Moves and holds
        /// of before `from_seq` are not told one by one.)
        queue: Vec<QueuedPromptView>,
    },
    Entry {
        entry: Entry,
    },
    /// Entries up to this one are left out of a windowed replay: streamed text that a finished answer repeats. They count
    /// as received.
    Omitted {
        through_seq: u64,
    },
    /// Replay is over; what follows is live.
    CaughtUp {
        seq: u64,
    },
    /// Text of an open block, not yet in the log. `offset` in bytes of UTF-8 from the block's start; text that
    /// overlaps what is already there says the same.
    Delta {
        block: BlockId,
        offset: u64,
        text: String,
    },
    /// Output of a running tool, not yet in the log. `offset` in bytes from the start of the run's output.
    Output {
        call: String,
        offset: u64,
        text: String,
    },
    Receipt(Receipt),
    /// Who is here and who types: after `hello`, and when it changes, at most a few times a second.
    Presence(Presence),
    /// Who has read how far, in the same rhythm.
    Readers(Readers),
    /// How far the reader has read, with any of their clients. After `hello`: before this visit.
    Read(ReadPosition),
    /// The reader's own draft here, after `hello` and whenever one of their clients changed it.
    Draft(DraftAnswer),
    /// The stream is over: entries go on after `after_seq` once the client says hello again; what was ephemeral is lost.
    Resume {
        after_seq: u64,
        reason: ResumeReason,
    },
    Error {
        problem: Problem,
    },
}

/// Why a client has to say hello again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResumeReason {
    /// It did not take its frames in time, and more waited than is kept for one client.
    TooSlow,
    /// The server stops: everything durable was sent, and another one answers soon.
    Stopping,
}

/// A [`Frame`] as it is written, without a copy of what it says.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FrameRef<'a> {
    Entry { entry: &'a Entry },
    Delta { block: BlockId, offset: u64, text: &'a str },
    Output { call: &'a str, offset: u64, text: &'a str },
}

/// Frames of the stream of sessions. A session's line is told as it is now: lines that nobody took in time are left out.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum SessionsFrame {
    /// The first frame, and again for a reader who was too slow: all that a list shows, newest first. Replaces what the
    /// reader has.
    Snapshot {
        sessions: Vec<SessionView>,
        /// How far the reader has read those of them that they have opened.
        #[serde(default)]
        reads: Vec<ReadPosition>,
    },
    /// A new session, or a new line of one.
    Changed {
        session: Box<SessionView>,
    },
    Removed {
        session: SessionId,
    },
    /// The reader has read on, with any of their clients.
    Read(ReadPosition),
    /// The reader's own draft for a new session, after one of their clients changed it.
    Draft(Draft),
    /// The last frame: why the reader may not look any more.
    Error {
        problem: Problem,
    },
}

/// What became of a command. A repeated key gets the same receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    pub key: CommandId,
    /// The last entry that the command appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::Event;

    #[test]
    fn a_frame_is_written_the_same_with_and_without_a_copy() {
        let entry = Entry {
            seq: 1,
            at_ms: 2,
            epoch: 3,
            event: Event::TitleChanged { title: "t\n".into(), by: None },
        };
        let (block, offset) = (BlockId::from_parts(1, 1), 5);
        let (call, text) = ("c".to_owned(), "é\u{1b}".to_owned());
        let pairs = [
            (Frame::Entry { entry: entry.clone() }, FrameRef::Entry { entry: &entry }),
            (
                Frame::Delta { block, offset, text: text.clone() },
                FrameRef::Delta { block, offset, text: &text },
            ),
            (
                Frame::Output { call: call.clone(), offset, text: text.clone() },
                FrameRef::Output { call: &call, offset, text: &text },
            ),
        ];
        for (frame, written) in pairs {
            assert_eq!(serde_json::to_string(&frame).unwrap(), serde_json::to_string(&written).unwrap());
        }
    }
}
