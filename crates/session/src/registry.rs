//! The sessions of this process: opens each once, starts its actor, hands out handles.

use crate::actor::{Birth, SessionActor};
use crate::clock::Clock;
use crate::handle::{SessionHandle, TurnHandle, problem_of_log};
use crate::log::{Ownership, SessionDirectory};
use crate::recent::Recent;
use crate::running_output::RunningOutput;
use async_trait::async_trait;
use greenroom_domain::{Entry, Event, Problem, SessionId, SessionState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// Commands that may wait for a session's actor.
const MAILBOX: usize = 256;
/// Frames that a viewer may be behind before it is told to resume.
const LIVE_FRAMES: usize = 2048;
/// Entries read at a time when a session is opened.
const PAGE: usize = 1000;

/// A session's line in the directory.
#[derive(Clone, Debug)]
pub struct Summary {
    pub session: SessionId,
    pub state: SessionState,
}

/// What a session causes outside itself. Implemented by `app`. Calls must not block: they hand the work on.
#[async_trait]
pub trait Effects: Send + Sync + std::fmt::Debug {
    /// Answers the turn's prompts; ends with `TurnHandle::finish`. Called again after a restart in mid-turn.
    /// `conversation`: what `SessionHandle::conversation` would read, where it is at hand.
    fn run_turn(&self, turn: TurnHandle, state: SessionState, conversation: Option<Vec<Entry>>);

    /// Called in the order of commits; a later summary of a session replaces an earlier one.
    fn publish(&self, summary: Summary);

    /// The model that would answer the session's next turn.
    async fn model_of(&self, state: &SessionState) -> Option<String>;
}

/// Opened sessions. One per process and data directory.
#[derive(Debug)]
pub struct Registry {
    directory: Arc<dyn SessionDirectory>,
    effects: Arc<dyn Effects>,
    clock: Arc<dyn Clock>,
    slots: Mutex<HashMap<SessionId, Slot>>,
}

/// Held while a session is opened, made or removed, so that no session waits for another's files.
type Slot = Arc<tokio::sync::Mutex<Option<SessionHandle>>>;

impl Registry {
    pub fn new(
        directory: Arc<dyn SessionDirectory>,
        effects: Arc<dyn Effects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { directory, effects, clock, slots: Mutex::default() }
    }

    /// Makes a session whose log begins with `events`, in one synced commit.
    pub async fn create(&self, session: SessionId, events: Vec<Event>) -> Result<SessionHandle, Problem> {
        let slot = self.slot(session);
        let mut open = slot.lock().await;
        let created = self.directory.create(session, self.clock.now_ms(), events).await;
        let (ownership, entries) = match created {
            Ok(created) => created,
            Err(error) => {
                self.forget(session, &slot, &open);
                return Err(problem_of_log(error));
            }
        };
        let handle = self.start(session, ownership, SessionState::default(), Birth::Created(entries));
        *open = Some(handle.clone());
        Ok(handle)
    }

    /// The session's handle, opening it when it is not open.
    pub async fn get(&self, session: SessionId) -> Result<SessionHandle, Problem> {
        let slot = self.slot(session);
        let mut open = slot.lock().await;
        if let Some(handle) = open.as_ref().filter(|handle| !handle.mailbox.is_closed()) {
            return Ok(handle.clone());
        }
        *open = None;
        let opened = self.open(session).await;
        match &opened {
            Ok(handle) => *open = Some(handle.clone()),
            Err(_) => self.forget(session, &slot, &open),
        }
        opened
    }

    async fn open(&self, session: SessionId) -> Result<SessionHandle, Problem> {
        let ownership = self.directory.acquire(session).await.map_err(problem_of_log)?;
        let state = replay(&ownership).await?;
        self.effects.publish(Summary { session, state: state.clone() });
        Ok(self.start(session, ownership, state, Birth::Reopened))
    }

    /// Closes the session and removes everything it keeps.
    pub async fn remove(&self, session: SessionId) -> Result<(), Problem> {
        let slot = self.slot(session);
        let mut open = slot.lock().await;
        if let Some(handle) = open.take() {
            handle.close().await;
        }
        let removed = self.directory.remove(session).await.map_err(problem_of_log);
        self.forget(session, &slot, &open);
        removed
    }

    /// Closes every session.
    pub async fn close(&self) {
        let slots: Vec<Slot> = self.slots().drain().map(|(_, slot)| slot).collect();
        for slot in slots {
            if let Some(handle) = slot.lock().await.take() {
                handle.close().await;
            }
        }
        self.directory.close().await;
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<SessionId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, session: SessionId) -> Slot {
        Arc::clone(self.slots().entry(session).or_default())
    }

    /// An empty slot stays only as long as somebody else waits for it.
    fn forget(&self, session: SessionId, slot: &Slot, open: &Option<SessionHandle>) {
        let mut slots = self.slots();
        // This caller's and the map's.
        if open.is_none() && Arc::strong_count(slot) == 2 {
            slots.remove(&session);
        }
    }

    fn start(
        &self,
        session: SessionId,
        ownership: Ownership,
        state: SessionState,
        birth: Birth,
    ) -> SessionHandle {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let (live, _) = broadcast::channel(LIVE_FRAMES);
        let output = Arc::new(RunningOutput::new(live.clone()));
        let handle =
            SessionHandle { id: session, epoch: ownership.epoch, mailbox, output, live, log: ownership.log };
        let actor = SessionActor {
            handle: handle.clone(),
            state,
            mailbox: messages,
            effects: Arc::clone(&self.effects),
            clock: Arc::clone(&self.clock),
            cancel_turn: CancellationToken::new(),
            birth,
            recent: Recent::default(),
            starved: Default::default(),
        };
        tokio::spawn(actor.run());
        handle
    }
}

async fn replay(ownership: &Ownership) -> Result<SessionState, Problem> {
    let mut state = SessionState::default();
    loop {
        let page = ownership.log.read(state.head_seq, PAGE).await.map_err(problem_of_log)?;
        for entry in &page {
            // Effects of the past are found again in the state that they lead to.
            let _ = state.step(entry);
        }
        if page.len() < PAGE {
            return Ok(state);
        }
    }
}
