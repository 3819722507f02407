//! The ports to a session's durable log, and to who owns it. The embedded implementation is `sqlite_log`.

use crate::checkpoint::Checkpoint;
use async_trait::async_trait;
use greenroom_domain::{Durability, Entry, Event, Problem, SessionId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What became of a command, kept to answer its repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredReceipt {
    pub key: String,
    /// SHA-256 of the command: the same key with another body is refused.
    pub digest: [u8; 32],
    pub seq: Option<u64>,
    pub problem: Option<Problem>,
}

/// One atomic append.
#[derive(Clone, Debug)]
pub struct Append {
    pub epoch: u64,
    /// The log's last sequence number as the writer knows it.
    pub expected_head: u64,
    pub at_ms: i64,
    pub events: Vec<Event>,
    pub durability: Durability,
    pub receipt: Option<StoredReceipt>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another owner took the session: this one must stop.
    #[error("the session is owned by epoch {owner}")]
    Fenced { owner: u64 },
    /// The append may or may not be in the log; re-read the head before going on.
    #[error("the append's outcome is unknown: {reason}")]
    Unknown { reason: String },
    #[error("the log cannot be used: {reason}")]
    Unavailable { reason: String },
    /// The receipt's key is in the log already: nothing was appended.
    #[error("the command was carried out before")]
    Repeated,
    #[error("the disk is full")]
    Full,
    #[error("no such session")]
    Missing,
    /// A newer Greenroom wrote it: nothing of it is read or changed.
    #[error("the session's file has version {found}, known are those up to {known}")]
    Newer { found: i64, known: i64 },
    /// A session of this id is there already: nothing was made.
    #[error("the session exists already")]
    Exists,
}

/// One session's log. Entries are numbered from 1 without gaps.
#[async_trait]
pub trait CommitLog: Send + Sync + std::fmt::Debug {
    /// Appends all events or none, and answers the entries. With `Durability::Synced` they, and everything appended
    /// before, are on disk when this returns.
    async fn append(&self, append: Append) -> Result<Vec<Entry>, LogError>;

    /// Entries after a sequence number, oldest first, at most `limit`.
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// Entries after a sequence number, oldest first, at most `limit`, leaving out coalesced block text that is not after
    /// `text_after`.
    async fn read_shown(&self, after: u64, text_after: u64, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// The last entries before a sequence number, oldest first, at most `limit`, without coalesced block text.
    async fn read_before(&self, before: u64, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// All entries but coalesced block text: what a conversation is rebuilt from.
    async fn read_conversation(&self) -> Result<Vec<Entry>, LogError>;

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError>;

    /// The last one that was saved whole, if any. It may be of another version of the state, or behind the log.
    async fn checkpoint(&self) -> Result<Option<Checkpoint>, LogError>;

    /// Replaces the one before. Not synced: who loses it reads the log from its beginning.
    async fn save_checkpoint(&self, epoch: u64, checkpoint: Checkpoint, tidy: Tidy) -> Result<(), LogError>;
}

/// Whether the log is left so that opening it again is quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidy {
    No,
    /// A long journal is folded into the file, which is synced.
    Journal,
}

/// The right to write a session's log, until a higher epoch is taken.
#[derive(Clone, Debug)]
pub struct Ownership {
    pub epoch: u64,
    pub log: Arc<dyn CommitLog>,
}

/// Who owns which session. Taking one raises its epoch and fences the owner before.
#[async_trait]
pub trait SessionDirectory: Send + Sync + std::fmt::Debug {
    /// Makes a new session and takes it. Its log begins with `events`, which are on disk when this returns; a session
    /// without entries does not exist.
    async fn create(
        &self,
        session: SessionId,
        at_ms: i64,
        events: Vec<Event>,
    ) -> Result<(Ownership, Vec<Entry>), LogError>;

    async fn acquire(&self, session: SessionId) -> Result<Ownership, LogError>;

    /// The last entry's number, for whoever does not want to own the session.
    async fn head_seq(&self, session: SessionId) -> Result<u64, LogError>;

    /// Removes the session with all that belongs to it. Repeating it is harmless.
    async fn remove(&self, session: SessionId) -> Result<(), LogError>;

    /// When this returns nothing is made in the background any more, and another process may have the directory.
    async fn close(&self) {}
}
