//! Ways to speak to a session's actor. The mailbox is bounded: when it is full, senders wait for at most `PATIENCE`
//! and then get `deadline`; ephemeral text never goes through it. Only a running turn waits for as long as the actor
//! is there: who asked is told no half-truth, and the log's own deadlines end the actor.

use crate::actor::NewAsk;
use crate::live::TextOf;
use crate::log::{CommitLog, LogError, StoredReceipt};
use crate::message::{Decide, Look, Message};
use crate::room::{Room, too_new};
use crate::subscription::Subscription;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::money::Usage;
use greenroom_domain::present::turn_boundary;
use greenroom_domain::state::{AskEnd, QueuedPrompt};
use greenroom_domain::{
    Asked, Asking, BlockId, Command, CommandId, Durability, Entry, ErrorCode, Event, Problem, SessionId,
    SessionState, TurnId,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A session, for anyone who may use it: awake or not, its first message wakes it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    pub(crate) room: Arc<Room>,
}

impl SessionHandle {
    pub fn id(&self) -> SessionId {
        self.room.id
    }

    /// Of the newest owner; each time the session is woken it is a higher one.
    pub fn epoch(&self) -> u64 {
        self.room.epoch()
    }

    /// Carries out a command once per key. The receipt is durable when this returns; so is what the command did.
    pub async fn command(
        &self,
        key: CommandId,
        command: Command,
        asking: Asking,
    ) -> Result<StoredReceipt, Problem> {
        ask(&self.room, |reply| Message::Command { key, command, asking, reply }).await?
    }

    /// Appends what happened outside a turn: a review, a merge, the sandbox's state.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), Problem> {
        ask(&self.room, |reply| Message::Record { events, reply }).await?
    }

    /// Appends what the session's state itself says should follow: nothing comes between the decision and the append.
    pub async fn decide(
        &self,
        decide: impl FnOnce(&SessionState) -> Result<Vec<Event>, Problem> + Send + 'static,
    ) -> Result<(), Problem> {
        let decide = Decide(Box::new(decide));
        ask(&self.room, |reply| Message::Decide { decide, reply }).await?
    }

    /// Part of the state, without a copy of all of it.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&SessionState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        ask(&self.room, |reply| Message::Look(Look(Box::new(move |state| drop(reply.send(look(state)))))))
            .await
    }

    pub async fn state(&self) -> Result<SessionState, Problem> {
        ask(&self.room, |reply| Message::State { reply }).await
    }

    /// Everything after `after`, then what running tools have printed, then live.
    pub async fn subscribe(&self, after: u64) -> Result<Subscription, Problem> {
        let feed = self.room.watch(after, u64::MAX).await?;
        Ok(Subscription::new(after, feed, self.clone()))
    }

    /// As `subscribe`, but who is more than `window` entries behind is given an [`Opening`] and then only the newest, from
    /// a turn's beginning where there is one among them, without the text that a finished answer repeats.
    pub async fn subscribe_window(&self, after: u64, window: u64) -> Result<Subscription, Problem> {
        let mut feed = self.room.watch(after, after.saturating_add(window)).await?;
        let Some(opening) = feed.opening.take() else {
            return Ok(Subscription::new(after, feed, self.clone()));
        };
        let log = self.log().await?;
        let newest = log.read_before(opening.head_seq + 1, window as usize).await.map_err(problem_of_log)?;
        Ok(Subscription::windowed(opening, &newest, feed, self.clone()))
    }

    /// The last `limit` entries before this one, oldest first, without coalesced text; fewer where a turn begins among them.
    pub async fn entries_before(&self, before: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries = self.log().await?.read_before(before, limit).await.map_err(problem_of_log)?;
        let from = turn_boundary(&entries);
        entries.retain(|entry| entry.seq >= from);
        Ok(entries)
    }

    /// Entries after this one, without coalesced text up to `text_after`.
    pub(crate) async fn entries_shown(
        &self,
        after: u64,
        text_after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Problem> {
        self.log().await?.read_shown(after, text_after, limit).await.map_err(problem_of_log)
    }

    pub async fn entries(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
        self.log().await?.read(after, limit).await.map_err(problem_of_log)
    }

    /// Entries after this one without coalesced text, oldest first.
    pub async fn entries_without_text(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
        self.entries_shown(after, i64::MAX.unsigned_abs(), limit).await
    }

    /// The log without coalesced text, oldest first.
    pub async fn conversation(&self) -> Result<Vec<Entry>, Problem> {
        self.log().await?.read_conversation().await.map_err(problem_of_log)
    }

    async fn log(&self) -> Result<Arc<dyn CommitLog>, Problem> {
        Ok(Arc::clone(&self.room.awake().await?.log))
    }
}

/// Wakes the session where it sleeps, sends, and waits for the answer.
pub(crate) async fn ask<T>(
    room: &Arc<Room>,
    message: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Result<T, Problem> {
    let (reply, answer) = oneshot::channel();
    within_patience(async {
        room.awake().await?.mailbox.send(message(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    })
    .await
}

async fn within_patience<T>(exchange: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| {
        Err(Problem::new(
            ErrorCode::Deadline,
            format!("The session did not answer within {} s.", PATIENCE.as_secs()),
        ))
    })
}

pub(crate) fn gone() -> Problem {
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
        LogError::Missing => greenroom_domain::access::unknown_session(),
        LogError::Fenced { .. } => {
            Problem::new(ErrorCode::Fenced, "Another server has taken over this session.")
                .hint("Connect again.")
        }
        LogError::Newer { found, known } => too_new(found, known),
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
    pub(crate) session: SessionHandle,
    pub(crate) turn: TurnId,
    pub(crate) cancel: CancellationToken,
    /// Of the actor that began it: with that the turn ends, whoever owns the session then.
    pub(crate) mailbox: mpsc::Sender<Message>,
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
        self.ask(|reply| Message::Commit { turn, events, durability, reply }).await?
    }

    /// Moves waiting prompts with insert delivery into the turn and answers them. Refused when the turn has ended, or
    /// nobody knows which were moved: then the log says.
    pub async fn take_inserts(&self) -> Result<Vec<QueuedPrompt>, TurnEnded> {
        let turn = self.turn;
        self.ask(|reply| Message::TakeInserts { turn, reply }).await
    }

    /// Asks people for what this call needs, once for each call, and waits for their answer, at most for `patience`. Refused
    /// when the turn has ended.
    pub async fn ask_people(&self, call: &str, of: Asked, patience: Duration) -> Result<AskEnd, TurnEnded> {
        let (turn, new) = (self.turn, NewAsk { call: call.to_owned(), of, patience });
        self.ask(|reply| Message::Ask { turn, new, reply }).await
    }

    /// Nobody runs the turn any more and it was not finished: where it is still this session's, it is begun again from
    /// the log, or ended when that happened too often.
    pub async fn give_up(&self) {
        // Who is not there any more needs no word: the next one goes on from the log by itself.
        let _ = self.mailbox.send(Message::GivenUp { turn: self.turn, problem: None }).await;
    }

    /// Whoever ran the turn died of it: where it is still this session's, it has failed, and what it left open is named.
    /// It is not begun again: that would end the same way.
    pub async fn fail(&self, problem: Problem) {
        let _ = self.mailbox.send(Message::GivenUp { turn: self.turn, problem: Some(problem) }).await;
    }

    /// Ends the turn; the next waiting prompt starts its own.
    pub async fn finish(&self, outcome: TurnOutcome, usage: Usage, duration_ms: u64) {
        let finished = Event::TurnFinished { turn: self.turn, outcome, usage, duration_ms };
        // Refused only when the actor already ended the turn.
        let _ = self.commit(vec![finished], Durability::Synced).await;
    }

    pub fn delta(&self, block: BlockId, offset: u64, text: &str) {
        self.session.room.output.live.text(TextOf::Block(block), offset, text);
    }

    pub fn output(&self, call: &str, offset: u64, text: &str) {
        self.session.room.output.send(call, offset, text);
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, TurnEnded> {
        let (reply, answer) = oneshot::channel();
        self.session.room.touch();
        self.mailbox.send(message(reply)).await.map_err(|_| TurnEnded)?;
        answer.await.map_err(|_| TurnEnded)
    }
}
