//! What the turn loop needs from the rest of Greenroom, as traits that `app` implements.

use crate::attachments::Said;
use async_trait::async_trait;
use greenroom_domain::children::no_such_child;
use greenroom_domain::event::{Durability, Event, StartStage};
use greenroom_domain::money::Usage;
use greenroom_domain::state::AskEnd;
use greenroom_domain::{
    Asked, Attachment, BlockId, BranchName, ChildOutcome, CommitHash, Delivery, Problem, SessionId,
};
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

/// What a session that is to be begun is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// `None`: the session's own repository.
    pub repository: Option<String>,
    pub prompt: String,
    pub title: Option<String>,
    pub base_branch: Option<String>,
    pub model: Option<String>,
    /// Percent of what is left of the turn's budget.
    pub share: Option<u64>,
    pub notify: bool,
}

/// A session that this one began, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildReport {
    pub session: SessionId,
    pub repository: String,
    pub title: String,
    /// How it ended; `None`: it is at work.
    pub outcome: Option<ChildOutcome>,
    /// Why it was not completed.
    pub problem: Option<Problem>,
    /// The number of its change.
    pub change: Option<u64>,
    /// Its last answer, as a whole.
    pub words: String,
    pub usage: Usage,
}

/// Which of several sessions are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    Any,
    All,
}

/// The sessions that this one began.
#[async_trait]
pub trait Children: Send + Sync + Debug {
    /// Begins one. What a call began is not begun again. The answer is for the model.
    async fn spawn(&self, call: &str, spawn: Spawn) -> Result<String, Problem>;

    /// All of them, oldest first, or the named ones in their order.
    async fn reports(&self, of: &[SessionId]) -> Result<Vec<ChildReport>, Problem>;

    /// The repositories that one may work in.
    async fn repositories(&self) -> Result<Vec<String>, Problem>;

    /// A prompt to one. What a call sent is not sent again.
    async fn message(
        &self,
        call: &str,
        session: SessionId,
        text: &str,
        delivery: Delivery,
    ) -> Result<(), Problem>;

    /// Stops the turns of one and of those that it began, and holds back what waits there.
    async fn cancel(&self, call: &str, session: SessionId) -> Result<(), Problem>;

    /// Returns when they are at rest; of none named, all that are at work are meant. The caller keeps the deadline.
    async fn rest(&self, of: &[SessionId], until: WaitFor) -> Result<(), Problem>;

    /// Tokens and millionths of a dollar of the running turn's budget that they have, or had, as far as is known here.
    fn promised(&self) -> (u64, u64);
}

/// For a host in which no session begins others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoChildren;

#[async_trait]
impl Children for NoChildren {
    async fn spawn(&self, _call: &str, _spawn: Spawn) -> Result<String, Problem> {
        Err(no_such_child())
    }

    async fn reports(&self, _of: &[SessionId]) -> Result<Vec<ChildReport>, Problem> {
        Ok(vec![])
    }

    async fn repositories(&self) -> Result<Vec<String>, Problem> {
        Ok(vec![])
    }

    async fn message(&self, _: &str, _: SessionId, _: &str, _: Delivery) -> Result<(), Problem> {
        Err(no_such_child())
    }

    async fn cancel(&self, _call: &str, _session: SessionId) -> Result<(), Problem> {
        Err(no_such_child())
    }

    async fn rest(&self, _of: &[SessionId], _until: WaitFor) -> Result<(), Problem> {
        Err(no_such_child())
    }

    fn promised(&self) -> (u64, u64) {
        (0, 0)
    }
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
