//! The single writer of a session. One loop: decide, append, apply, then act. Nothing leaves before the append that
//! justifies it is durable.

mod asks;
mod given_up;

use crate::checkpoint::{Checkpoint, Folded};
use crate::clock::Clock;
use crate::handle::{SessionHandle, TurnEnded, TurnHandle, problem_of_log};
use crate::live::Told;
use crate::log::{Append, CommitLog, LogError, StoredReceipt, Tidy};
use crate::message::Message;
use crate::recent::Recent;
use crate::registry::{Effects, Summary};
use crate::room::Room;
use crate::subscription::{Feed, Live, Opening};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::state::QueuedPrompt;
use greenroom_domain::{
    Asking, Command, CommandId, Durability, Effect, Entry, ErrorCode, Event, Ids, Present, Problem, PromptId,
    Right, SessionState, TurnId,
};
use greenroom_tasks::caught;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use asks::{NewAsk, Waiting};
pub(crate) use given_up::GivenUp;

/// After a stop, the turn has this long to report what it did before the actor ends it.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often a full disk is tried again while something waits to be written.
const SPACE_PAUSE: Duration = Duration::from_secs(2);

/// A checkpoint is written after so many entries, beside those of hibernation.
const CHECKPOINT_ENTRIES: u64 = 1000;

pub(crate) struct SessionActor {
    pub(crate) room: Arc<Room>,
    pub(crate) epoch: u64,
    pub(crate) log: Arc<dyn CommitLog>,
    pub(crate) state: SessionState,
    pub(crate) present: Present,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    /// Its own mailbox's other end, for those it starts.
    pub(crate) messages: mpsc::WeakSender<Message>,
    /// Entries since the last checkpoint.
    pub(crate) unsaved: u64,
    pub(crate) effects: Arc<dyn Effects>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cancel_turn: CancellationToken,
    pub(crate) birth: Birth,
    /// Not yet synced, so not yet told: after a crash another entry could bear the number.
    pub(crate) untold: Vec<Arc<Entry>>,
    /// Of what is in the state since the last summary, some is for others to know.
    pub(crate) is_unpublished: bool,
    /// What a full disk holds up.
    pub(crate) starved: Starved,
    pub(crate) given_up: GivenUp,
    pub(crate) waiting: Waiting,
    pub(crate) recent: Recent,
}

/// Set while the disk is full.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    is_waiting: bool,
    /// Runs no more, because it could not write; its end is still to be written.
    turn: Option<TurnId>,
}

/// How this actor came to its session.
pub(crate) enum Birth {
    /// It was just made; these entries are its whole log, and their effects are still to be performed.
    Created(Vec<Entry>),
    /// `state` was rebuilt from the log of an earlier owner, whose last summary may not have arrived unless `is_known`.
    Reopened { is_known: bool },
}

/// Whether the loop goes on.
#[derive(PartialEq)]
enum Flow {
    Continue,
    /// With viewers: they find out what is in the log now by connecting again.
    End,
    /// Without them.
    Hibernate,
}

impl SessionActor {
    pub(crate) async fn run(mut self) {
        let living = async { self.begin().await.is_ok() && self.serve().await == Flow::Hibernate };
        let lived = caught("a session's actor", living).await;
        self.cancel_turn.cancel();
        if !matches!(lived, Ok(true)) {
            self.room.output.end();
        }
        let goes_on = lived.is_err() && self.is_busy();
        let room = Arc::clone(&self.room);
        drop(self);
        if lived.is_err() {
            tracing::error!(session = %room.id, goes_on, "a session has no actor");
        }
        if goes_on {
            room.rise().await;
        }
    }

    async fn serve(&mut self) -> Flow {
        while let Some(message) = self.mailbox.recv().await {
            match self.handle_message(message).await {
                Flow::Continue => {}
                over => return over,
            }
        }
        Flow::End
    }

    async fn begin(&mut self) -> Result<(), LogError> {
        match std::mem::replace(&mut self.birth, Birth::Reopened { is_known: true }) {
            Birth::Created(entries) => {
                self.recent = Recent::of_a_new_session();
                let mut effects = self.apply(entries, Durability::Synced);
                // A fork's log begins with turns that ended in another session.
                effects.retain(|effect| self.is_of_now(effect));
                self.perform(effects);
                Ok(())
            }
            Birth::Reopened { is_known } => {
                self.is_unpublished = !is_known;
                self.recover().await?;
                // Only now: the end of a log that a turn was writing to is durable with what recovery appends.
                self.publish();
                Ok(())
            }
        }
    }

    fn is_of_now(&self, effect: &Effect) -> bool {
        match effect {
            Effect::RunTurn { turn } | Effect::CancelTurn { turn } => {
                self.state.running.as_ref().is_some_and(|running| running.turn == *turn)
            }
            Effect::PublishSummary => true,
            Effect::TellRights => false,
        }
    }

    /// Goes on where the owner before stopped: says what was cut off, then runs the turn again from the log.
    async fn recover(&mut self) -> Result<(), LogError> {
        let interruption = self.state.interruption();
        if interruption.is_empty() {
            return self.start_next_turn().await;
        }
        self.commit(interruption, Durability::Synced, None).await?;
        if let Some(running) = &self.state.running {
            let turn = running.turn;
            if running.is_stopping {
                self.end_turn(turn, TurnOutcome::Stopped).await?;
            } else {
                self.perform(vec![Effect::RunTurn { turn }]);
            }
        }
        Ok(())
    }

    async fn handle_message(&mut self, message: Message) -> Flow {
        match message {
            Message::Command { key, command, asking, reply } => {
                let answer = self.command(key, &command, &asking).await;
                let flow = flow_after(&answer);
                let _ = reply.send(answer);
                flow
            }
            Message::Record { events, reply } => {
                let answer =
                    self.commit(events, Durability::Synced, None).await.map(drop).map_err(problem_of_log);
                let flow = flow_after(&answer);
                let _ = reply.send(answer);
                flow
            }
            Message::Decide { decide, reply } => {
                let answer = match (decide.0)(&self.state) {
                    Ok(events) => self.commit(events, Durability::Synced, None).await.map_err(problem_of_log),
                    Err(problem) => Err(problem),
                };
                let flow = flow_after(&answer);
                let _ = reply.send(answer);
                flow
            }
            Message::Commit { turn, events, durability, reply } => {
                self.commit_turn(turn, events, durability, reply).await
            }
            Message::Ask { turn, new, reply } => self.open_ask(turn, new, reply).await,
            Message::AskOverdue { turn, ask } => self.ask_overdue(turn, ask).await,
            Message::TakeInserts { turn, reply } => self.take_inserts(turn, reply).await,
            Message::State { reply } => {
                let _ = reply.send(self.state.clone());
                Flow::Continue
            }
            Message::Look(look) => {
                (look.0)(&self.state);
                Flow::Continue
            }
            Message::Subscribe { opening_below, reply } => {
                let (live, mut output) = self.room.output.subscribe();
                output.extend(self.untold_text());
                let head_seq = self.told_seq();
                let opening = (head_seq > opening_below).then(|| self.opening());
                let _ = reply.send(Feed { head_seq, live, output, opening });
                Flow::Continue
            }
            Message::GivenUp { turn, problem } => self.given_up(turn, problem).await,
            Message::StopOverdue { turn } => self.stop_overdue(turn).await,
            Message::TrySpace => self.try_space().await,
            Message::Hibernate { reply } => self.hibernate(reply).await,
            Message::Close { reply } => {
                if !self.is_busy() {
                    self.rest();
                }
                let _ = reply.send(());
                Flow::End
            }
        }
    }

    fn opening(&self) -> Opening {
        Opening {
            from_seq: self.told_seq() + 1,
            head_seq: self.told_seq(),
            standing: self.present.entries(),
            usage: self.state.usage,
            prompters: self.state.prompters.clone(),
            queue: self.state.queue.clone(),
            open_blocks: self
                .state
                .running
                .as_ref()
                .map_or_else(Vec::new, |running| running.open_blocks.clone()),
        }
    }

    /// The last entry that viewers may know of.
    fn told_seq(&self) -> u64 {
        self.state.head_seq - self.untold.len() as u64
    }

    /// What a new viewer would otherwise wait for until the next sync.
    fn untold_text(&self) -> impl Iterator<Item = Told> {
        self.untold.iter().filter_map(|entry| match &entry.event {
            Event::BlockText { block, offset, text } => {
                let text = text.as_str().into();
                Some(Live::Delta { block: *block, offset: *offset, text }.into())
            }
            _ => None,
        })
    }

    /// Something goes on, now or when the session is next opened.
    fn is_busy(&self) -> bool {
        self.state.running.is_some()
            || self.state.queue.iter().any(|queued| !queued.is_held)
            || self.starved.is_waiting
            || !self.untold.is_empty()
    }

    async fn hibernate(&mut self, reply: oneshot::Sender<Option<u64>>) -> Flow {
        if self.is_busy() {
            let _ = reply.send(None);
            return Flow::Continue;
        }
        self.save_checkpoint(Tidy::Journal).await;
        self.rest();
        let _ = reply.send(Some(self.state.head_seq));
        Flow::Hibernate
    }

    /// Without it the next opening reads more of the log; nothing else is lost.
    async fn save_checkpoint(&mut self, tidy: Tidy) {
        let folded = Folded { state: self.state.clone(), present: self.present.clone() };
        let checkpoint = Checkpoint::of(&folded);
        match self.log.save_checkpoint(self.epoch, checkpoint, tidy).await {
            Ok(()) => self.unsaved = 0,
            Err(error) => {
                tracing::warn!(session = %self.room.id, %error, "a checkpoint was not written");
            }
        }
    }

    async fn command(
        &mut self,
        key: CommandId,
        command: &Command,
        asking: &Asking,
    ) -> Result<StoredReceipt, Problem> {
        let digest = digest_of(command, asking);
        let ids = self.new_ids();
        let asking = &Asking { model: self.model_for(command).await, ..asking.clone() };
        let (events, problem) = match self.state.decide(command, asking, ids) {
            Ok(events) => (events, None),
            Err(problem) => (vec![], Some(problem)),
        };
        let last = self.state.head_seq + events.len() as u64;
        let receipt = StoredReceipt {
            key: key.as_str().to_owned(),
            digest,
            seq: (!events.is_empty()).then_some(last),
            problem,
        };
        let (person, role) = (asking.author.on_behalf_of, asking.role);
        if receipt.problem.is_some() && !self.state.access.may(person, role, Right::Prompt) {
            return self.refused(&key, receipt).await;
        }
        match self.commit(events, Durability::Synced, Some(receipt.clone())).await {
            Ok(()) => Ok(receipt),
            // The common way asks the log once: a key that is known is found out by the append.
            Err(LogError::Repeated) => self.known_receipt(&key, digest).await,
            Err(error) => Err(problem_of_log(error)),
        }
    }

    /// Who may only look writes nothing, not even a receipt: receipts are bounded, and theirs would take the place of others'.
    /// What they did while they might is answered as it was.
    async fn refused(&self, key: &CommandId, refusal: StoredReceipt) -> Result<StoredReceipt, Problem> {
        match self.log.receipt(key.as_str()).await.map_err(problem_of_log)? {
            Some(known) if known.digest == refusal.digest => Ok(known),
            Some(_) => Err(key_reused()),
            None => Ok(refusal),
        }
    }

    /// The model that would answer at once, where the command can begin a turn.
    async fn model_for(&self, command: &Command) -> Option<String> {
        match command {
            Command::Prompt { .. } | Command::ReleaseQueue {} | Command::Compact {}
                if self.state.running.is_none() =>
            {
                self.effects.model_of(&self.state).await
            }
            _ => None,
        }
    }

    async fn known_receipt(&self, key: &CommandId, digest: [u8; 32]) -> Result<StoredReceipt, Problem> {
        match self.log.receipt(key.as_str()).await.map_err(problem_of_log)? {
            Some(known) if known.digest == digest => Ok(known),
            _ => Err(key_reused()),
        }
    }

    async fn commit_turn(
        &mut self,
        turn: TurnId,
        events: Vec<Event>,
        durability: Durability,
        reply: oneshot::Sender<Result<(), TurnEnded>>,
    ) -> Flow {
        if !events.iter().all(|event| self.state.accepts(turn, event)) {
            let _ = reply.send(Err(TurnEnded));
            return Flow::Continue;
        }
        let committed = self.commit(events, durability, None).await;
        if matches!(committed, Err(LogError::Full)) {
            self.starved.turn = Some(turn);
        }
        let _ = reply.send(committed.as_ref().map(drop).map_err(|_| TurnEnded));
        let next = match committed {
            Ok(()) => self.start_next_turn().await,
            Err(error) => Err(error),
        };
        self.flow_after_log(next)
    }

    async fn take_inserts(&mut self, turn: TurnId, reply: oneshot::Sender<Vec<QueuedPrompt>>) -> Flow {
        let events = match &self.state.running {
            Some(running) if running.turn == turn => self.state.inserts(),
            _ => vec![],
        };
        if events.is_empty() {
            let _ = reply.send(vec![]);
            return Flow::Continue;
        }
        let waiting: Vec<PromptId> = events
            .iter()
            .filter_map(|event| match event {
                Event::PromptInserted { prompt, .. } => Some(*prompt),
                _ => None,
            })
            .collect();
        let inserted =
            self.state.queue.iter().filter(|queued| waiting.contains(&queued.prompt)).cloned().collect();
        let committed = self.commit(events, Durability::Synced, None).await;
        match &committed {
            Ok(()) => drop(reply.send(inserted)),
            // None was moved; what the turn does next is refused.
            Err(LogError::Full) => drop(reply.send(vec![])),
            // Nobody knows: the turn gives up, and whoever opens the session next reads it in the log.
            Err(_) => {}
        }
        self.flow_after_log(committed)
    }

    async fn stop_overdue(&mut self, turn: TurnId) -> Flow {
        let is_due =
            self.state.running.as_ref().is_some_and(|running| running.turn == turn && running.is_stopping);
        if !is_due {
            return Flow::Continue;
        }
        let ended = self.end_turn(turn, TurnOutcome::Stopped).await;
        if matches!(ended, Err(LogError::Full)) {
            self.starved.turn = Some(turn);
        }
        self.flow_after_log(ended)
    }

    /// Writes what a full disk held up: the end of a turn that could not write, or the start of the next.
    async fn try_space(&mut self) -> Flow {
        self.starved.is_waiting = false;
        let written = match &self.state.running {
            Some(running) if self.starved.turn == Some(running.turn) => {
                let full = TurnOutcome::Failed { problem: problem_of_log(LogError::Full) };
                let outcome = if running.is_stopping { TurnOutcome::Stopped } else { full };
                self.end_turn(running.turn, outcome).await
            }
            _ => self.start_next_turn().await,
        };
        self.flow_after_log(written)
    }

    /// Ends a turn that does not end itself: what it left open is named first.
    async fn end_turn(&mut self, turn: TurnId, outcome: TurnOutcome) -> Result<(), LogError> {
        let (usage, started) = self
            .state
            .running
            .as_ref()
            .map_or_else(Default::default, |running| (running.usage, running.started_at_ms));
        let duration_ms = u64::try_from(self.clock.now_ms() - started).unwrap_or(0);
        let mut events = self.state.interruption();
        events.push(Event::TurnFinished { turn, outcome, usage, duration_ms });
        self.commit(events, Durability::Synced, None).await?;
        self.start_next_turn().await
    }

    async fn start_next_turn(&mut self) -> Result<(), LogError> {
        let turn = self.new_ids().turn;
        if !self.effects.may_begin() || self.state.next_turn(turn, None).is_empty() {
            return Ok(());
        }
        let model = self.effects.model_of(&self.state).await;
        let events = self.state.next_turn(turn, model.as_deref());
        self.commit(events, Durability::Synced, None).await
    }

    /// The only way to change a session: append, apply, tell viewers, act.
    async fn commit(
        &mut self,
        events: Vec<Event>,
        durability: Durability,
        receipt: Option<StoredReceipt>,
    ) -> Result<(), LogError> {
        if events.is_empty() && receipt.is_none() {
            return Ok(());
        }
        let append = Append {
            epoch: self.epoch,
            expected_head: self.state.head_seq,
            at_ms: self.clock.now_ms(),
            events,
            durability,
            receipt,
        };
        let entries = self.log.append(append).await?;
        self.unsaved += entries.len() as u64;
        let effects = self.apply(entries, durability);
        self.tell_waiting();
        self.perform(effects);
        if self.unsaved >= CHECKPOINT_ENTRIES {
            self.save_checkpoint(Tidy::No).await;
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>, durability: Durability) -> Vec<Effect> {
        let mut effects = vec![];
        for entry in entries {
            effects.extend(self.state.step(&entry));
            self.present.step(&entry);
            self.recent.add(&entry);
            self.room.output.observe(&entry.event);
            self.untold.push(Arc::new(entry));
        }
        if durability == Durability::Synced {
            for entry in self.untold.drain(..) {
                self.room.output.live.entry(entry);
            }
        }
        effects
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::RunTurn { turn } => {
                    self.cancel_turn = CancellationToken::new();
                    // Whoever woke this actor holds its mailbox open.
                    let Some(mailbox) = self.messages.upgrade() else { return };
                    let session = SessionHandle { room: Arc::clone(&self.room) };
                    let handle = TurnHandle { session, turn, cancel: self.cancel_turn.clone(), mailbox };
                    self.effects.run_turn(handle, self.state.clone(), self.recent.conversation());
                }
                Effect::CancelTurn { turn } => {
                    self.cancel_turn.cancel();
                    self.watch_stop(turn);
                }
                Effect::PublishSummary => self.is_unpublished = true,
                Effect::TellRights => self.effects.rights_changed(self.room.id),
            }
        }
        self.publish();
    }

    /// Others are told of what is durable only.
    fn publish(&mut self) {
        if self.untold.is_empty() && std::mem::take(&mut self.is_unpublished) {
            self.effects.publish(Summary { session: self.room.id, state: self.state.clone() });
        }
    }

    /// Nothing more is written by this actor.
    fn rest(&mut self) {
        self.publish();
        self.effects.rests(self.room.id, self.state.head_seq);
    }

    fn watch_stop(&self, turn: TurnId) {
        let mailbox = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STOP_GRACE).await;
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::StopOverdue { turn }).await;
            }
        });
    }

    fn wait_for_space(&mut self) {
        if std::mem::replace(&mut self.starved.is_waiting, true) {
            return;
        }
        let mailbox = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SPACE_PAUSE).await;
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::TrySpace).await;
            }
        });
    }

    fn new_ids(&self) -> Ids {
        let at = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        Ids {
            prompt: PromptId::from_parts(at, self.clock.random()),
            turn: TurnId::from_parts(at, self.clock.random()),
        }
    }

    /// A log that fenced us, or whose state is unknown, ends this actor: the next use opens the log again.
    fn flow_after_log<T>(&mut self, result: Result<T, LogError>) -> Flow {
        match result {
            Ok(_) => Flow::Continue,
            Err(LogError::Full) => {
                tracing::error!(session = %self.room.id, "the disk is full");
                self.wait_for_space();
                Flow::Continue
            }
            Err(error) => {
                tracing::error!(session = %self.room.id, %error, "the session's log failed; the actor ends");
                Flow::End
            }
        }
    }
}

fn flow_after<T>(answer: &Result<T, Problem>) -> Flow {
    match answer {
        Err(problem) if matches!(problem.code, ErrorCode::Internal | ErrorCode::Fenced) => Flow::End,
        _ => Flow::Continue,
    }
}

/// Covers who asks too: a key belongs to one person's command.
fn digest_of(command: &Command, asking: &Asking) -> [u8; 32] {
    let body = serde_json::to_vec(&(command, asking.author.on_behalf_of)).unwrap_or_default();
    Sha256::digest(body).into()
}

fn key_reused() -> Problem {
    Problem::new(ErrorCode::KeyReused, "This idempotency key was used for another command.")
        .hint("Make a new key for every command; repeat a key only to repeat the same command.")
}
