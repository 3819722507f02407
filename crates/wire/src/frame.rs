//! Frames of a session's stream, over WebSocket (one JSON text message each) and, from server to client, over SSE
//! (`event:` is the frame's type; `id:` is the sequence number of an `entry`).

use crate::SessionView;
use greenroom_domain::{BlockId, Command, CommandId, Entry, Problem, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Version of this schema; a server refuses a client that asks for another.
pub const PROTOCOL: u32 = 1;

/// From client to server. Unknown fields and types are refused with an `error` frame; the connection stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum ClientFrame {
    /// The first frame: everything after `after_seq` is replayed, then the stream is live.
    Hello {
        protocol: u32,
        #[serde(default)]
        after_seq: u64,
    },
    /// Answered by a `receipt` with the same key.
    Command { key: CommandId, command: Command },
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
    Entry {
        entry: Entry,
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
    /// The client was too slow: what was ephemeral is lost, entries go on after `seq` once it says hello again.
    Resume {
        after_seq: u64,
    },
    Error {
        problem: Problem,
    },
}

/// Frames of the stream of sessions. A session's line is told as it is now: lines that nobody took in time are left out.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum SessionsFrame {
    /// The first frame, and again for a reader who was too slow: all that a list shows, newest first. Replaces what the
    /// reader has.
    Snapshot {
        sessions: Vec<SessionView>,
    },
    /// A new session, or a new line of one.
    Changed {
        session: Box<SessionView>,
    },
    Removed {
        session: SessionId,
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
