//! Ways to speak to a session's actor. The mailbox is bounded: when it is full, senders wait for at most `PATIENCE`
//! and then get `deadline`; ephemeral text never goes through it.

use crate::actor::Message;
use crate::log::{CommitLog, LogError, StoredReceipt};
use crate::running_output::RunningOutput;
use crate::subscription::{Live, Subscription};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Asking, Author, BlockId, Command, CommandId, Durability, Entry, ErrorCode, Event, Problem, SessionId,
    SessionState, TurnId,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A session, for anyone who may use it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    pub(crate) id: SessionId,
    pub(crate) epoch: u64,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) live: broadcast::Sender<Live>,
    pub(crate) output: Arc<RunningOutput>,
    pub(crate) log: Arc<dyn CommitLog>,
}

impl SessionHandle {
    pub fn id(&self) -> SessionId {
        self.id
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Carries out a command once per key. The receipt is durable when this returns; so is what the command did.
    pub async fn command(
        &self,
        key: CommandId,
        command: Command,
        asking: Asking,
    ) -> Result<StoredReceipt, Problem> {
        self.ask(|reply| Message::Command { key, command, asking, reply }).await?
    }

    /// Appends what happened outside a turn: a review, a merge, the sandbox's state.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), Problem> {
        self.ask(|reply| Message::Record { events, reply }).await?
    }

    pub async fn state(&self) -> Result<SessionState, Problem> {
        self.ask(|reply| Message::State { reply }).await
    }

    /// Everything after `after`, then what running tools have printed, then live.
    pub async fn subscribe(&self, after: u64) -> Result<Subscription, Problem> {
        let feed = self.ask(|reply| Message::Subscribe { reply }).await?;
        Ok(Subscription::new(after, feed, self.epoch, Arc::clone(&self.log)))
    }

    pub async fn entries(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
        self.log.read(after, limit).await.map_err(problem_of_log)
    }

    /// The log without coalesced text, oldest first.
    pub async fn conversation(&self) -> Result<Vec<Entry>, Problem> {
        self.log.read_conversation().await.map_err(problem_of_log)
    }

    /// Stops the actor: the running turn is cancelled without a word in the log, as if the server had stopped.
    pub async fn close(&self) {
        let _ = self.ask(|reply| Message::Close { reply }).await;
    }

    pub(crate) fn turn(&self, turn: TurnId, cancel: CancellationToken) -> TurnHandle {
        TurnHandle { session: self.clone(), turn, cancel }
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.mailbox.send(message(reply)).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| {
            Err(Problem::new(
                ErrorCode::Deadline,
                format!("The session did not answer within {} s.", PATIENCE.as_secs()),
            ))
        })
    }
}

fn gone() -> Problem {
    Problem::new(ErrorCode::ShuttingDown, "The session is closing.")
        .hint("Send the command again with the same key.")
}

pub(crate) fn problem_of_log(error: LogError) -> Problem {
    match error {
        LogError::Full => {
            Problem::new(ErrorCode::DiskFull, "The server's disk is full; nothing was changed.")
                .hint("Free some space on the data directory's disk and send it again.")
        }
        LogError::Repeated => Problem::new(ErrorCode::KeyReused, "This idempotency key was used before."),
        LogError::Missing => Problem::new(ErrorCode::SessionUnknown, "There is no such session."),
        LogError::Fenced { .. } => {
            Problem::new(ErrorCode::Fenced, "Another server has taken over this session.")
                .hint("Connect again.")
        }
        LogError::Exists => Problem::new(ErrorCode::Internal, "A session of this id exists already."),
        LogError::Unknown { reason } | LogError::Unavailable { reason } => {
            Problem::new(ErrorCode::Internal, format!("The session's log cannot be used: {reason}."))
        }
    }
}

/// The turn is over for whoever holds its handle: it was ended, or the session has another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the turn has ended")]
pub struct TurnEnded;

/// The running turn's side of its session: commits what it does, streams what it says.
#[derive(Clone, Debug)]
pub struct TurnHandle {
    session: SessionHandle,
    turn: TurnId,
    cancel: CancellationToken,
}

impl TurnHandle {
    pub fn turn(&self) -> TurnId {
        self.turn
    }

    pub fn session(&self) -> &SessionHandle {
        &self.session
    }

    /// Cancelled when a person stops the turn or the session closes.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Appends events of this turn; refused once it has ended.
    pub async fn commit(&self, events: Vec<Event>, durability: Durability) -> Result<(), TurnEnded> {
        let turn = self.turn;
        let sent = self.session.ask(|reply| Message::Commit { turn, events, durability, reply }).await;
        sent.unwrap_or(Err(TurnEnded))
    }

    /// Moves waiting prompts with insert delivery into the turn and answers their texts with their authors.
    pub async fn take_inserts(&self) -> Vec<(Author, String)> {
        let turn = self.turn;
        self.session.ask(|reply| Message::TakeInserts { turn, reply }).await.unwrap_or_default()
    }

    /// Ends the turn; the next waiting prompt starts its own.
    pub async fn finish(&self, outcome: TurnOutcome, usage: Usage, duration_ms: u64) {
        let finished = Event::TurnFinished { turn: self.turn, outcome, usage, duration_ms };
        // Refused only when the actor already ended the turn.
        let _ = self.commit(vec![finished], Durability::Synced).await;
    }

    pub fn delta(&self, block: BlockId, offset: u64, text: &str) {
        // No receiver is no error: nobody watches.
        let _ = self.session.live.send(Live::Delta { block, offset, text: text.into() });
    }

    pub fn output(&self, call: &str, offset: u64, text: &str) {
        self.session.output.send(call, offset, text);
    }
}
