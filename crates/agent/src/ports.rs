//! What the turn loop needs from the rest of Greenroom, as traits that `app` implements.

use crate::attachments::Said;
use async_trait::async_trait;
use greenroom_domain::event::{Durability, Event, StartStage};
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Asked, Attachment, BlockId, BranchName, CommitHash, Problem};
use greenroom_sandbox::Sandbox;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The turn no longer belongs to this loop: the session has another owner, or its log cannot be written. The loop stops
/// at once and writes nothing more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the turn is over: {reason}")]
pub struct TurnEnded {
    pub reason: String,
}

impl TurnEnded {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// The session's log, for one turn.
#[async_trait]
pub trait Log: Send + Sync + Debug {
    /// Appends all events or none. With `Durability::Synced` they are on disk when this returns.
    async fn commit(&self, events: Vec<Event>, durability: Durability) -> Result<(), TurnEnded>;

    /// Shows text of a block that is not yet in the log. Ephemeral; never blocks. `offset` in bytes.
    fn delta(&self, block: BlockId, offset: u64, text: &str);

    /// Shows output of a running tool. Ephemeral; never blocks. `offset` in bytes from the run's start.
    fn output(&self, call: &str, offset: u64, bytes: &[u8]);

    /// Notes when the turn's start reached a stage.
    fn mark(&self, stage: StartStage);

    fn next_block_id(&self) -> BlockId;

    /// Takes the prompts that wait with `insert` delivery, as what [`crate::Speakers`] gives, and commits
    /// their `PromptInserted`. Must be durable when this returns.
    async fn take_inserts(&self) -> Result<Vec<Said>, TurnEnded>;

    /// Asks people for what a call needs, once for each call whatever comes between, and waits for their answer or the end of
    /// its time, which the implementer keeps. Durable when it returns.
    async fn ask_people(&self, call: &str, of: Asked) -> Result<AskEnd, TurnEnded>;
}

/// The sandbox, which may be on its way, lost, or claimed again.
#[async_trait]
pub trait Hands: Send + Sync + Debug {
    /// Waits for the claimed and synced sandbox, claiming again when it was lost. The implementer keeps a deadline.
    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, Problem>;

    /// Something to read files from, without waiting for the sync. What is written there may be discarded.
    async fn reader(&self) -> Result<Reading, Problem> {
        Ok(Reading::current(self.sandbox().await?))
    }

    /// Environment of every command: the git identity of the person who asked.
    fn tool_env(&self) -> Vec<(String, String)>;
}

/// A sandbox to read from.
#[derive(Debug)]
pub struct Reading {
    pub sandbox: Arc<dyn Sandbox>,
    /// It shows the files as they were before the newest commits of the base branch arrive.
    pub is_before_sync: bool,
    /// Keeps the sandbox alive as long as it is read from.
    pub hold: Option<Box<dyn Debug + Send + Sync>>,
}

impl Reading {
    /// Of the session's own sandbox.
    pub fn current(sandbox: Arc<dyn Sandbox>) -> Self {
        Self { sandbox, is_before_sync: false, hold: None }
    }
}

/// What `open_change` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedChange {
    pub number: u64,
    pub title: String,
    pub branch: BranchName,
    pub commit: CommitHash,
    pub url: String,
}

#[async_trait]
pub trait Changes: Send + Sync + Debug {
    /// Commits what is left, pushes the session's branch, and opens its change or updates the one that is open.
    async fn open_change(&self, title: &str, body: &str) -> Result<OpenedChange, Problem>;
}

/// Keeps what the agent gives to people.
#[async_trait]
pub trait Artifacts: Send + Sync + Debug {
    /// The largest file that is taken, in bytes.
    fn limit(&self) -> u64;

    /// Durable when it returns. `name` is a file's name as the model gave it.
    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<Attachment, Problem>;
}

/// Time, passed in: the loop reads no other clock.
#[async_trait]
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since an arbitrary moment; never goes back.
    fn now_ms(&self) -> i64;

    async fn sleep(&self, duration: Duration);
}

/// The runtime's clock: real time, or the paused time of a test.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
