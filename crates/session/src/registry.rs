//! The sessions of this process: opens each once, starts its actor, hands out handles.

use crate::actor::{Birth, SessionActor};
use crate::clock::Clock;
use crate::handle::{SessionHandle, TurnHandle, problem_of_log};
use crate::log::{Append, Ownership, SessionDirectory};
use crate::recent::Recent;
use crate::running_output::RunningOutput;
use async_trait::async_trait;
use greenroom_domain::{Durability, Entry, Event, Problem, SessionId, SessionState};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, broadcast, mpsc};
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
    open: Mutex<HashMap<SessionId, SessionHandle>>,
}

impl Registry {
    pub fn new(
        directory: Arc<dyn SessionDirectory>,
        effects: Arc<dyn Effects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { directory, effects, clock, open: Mutex::default() }
    }

    /// Makes a session whose log begins with `events`, in one synced commit.
    pub async fn create(&self, session: SessionId, events: Vec<Event>) -> Result<SessionHandle, Problem> {
        let mut open = self.open.lock().await;
        let ownership = self.directory.create(session).await.map_err(problem_of_log)?;
        let first = Append {
            epoch: ownership.epoch,
            expected_head: 0,
            at_ms: self.clock.now_ms(),
            events,
            durability: Durability::Synced,
            receipt: None,
        };
        let entries = match ownership.log.append(first).await {
            Ok(entries) => entries,
            Err(error) => {
                let _ = self.directory.remove(session).await;
                return Err(problem_of_log(error));
            }
        };
        let handle = self.start(session, ownership, SessionState::default(), Birth::Created(entries));
        open.insert(session, handle.clone());
        Ok(handle)
    }

    /// The session's handle, opening it when it is not open.
    pub async fn get(&self, session: SessionId) -> Result<SessionHandle, Problem> {
        let mut open = self.open.lock().await;
        if let Some(handle) = open.get(&session).filter(|handle| !handle.mailbox.is_closed()) {
            return Ok(handle.clone());
        }
        let ownership = self.directory.acquire(session).await.map_err(problem_of_log)?;
        let state = replay(&ownership).await?;
        self.effects.publish(Summary { session, state: state.clone() });
        let handle = self.start(session, ownership, state, Birth::Reopened);
        open.insert(session, handle.clone());
        Ok(handle)
    }

    /// Closes the session and removes everything it keeps.
    pub async fn remove(&self, session: SessionId) -> Result<(), Problem> {
        let mut open = self.open.lock().await;
        if let Some(handle) = open.remove(&session) {
            handle.close().await;
        }
        self.directory.remove(session).await.map_err(problem_of_log)
    }

    /// Closes every session.
    pub async fn close(&self) {
        let handles: Vec<_> = self.open.lock().await.drain().map(|(_, handle)| handle).collect();
        for handle in handles {
            handle.close().await;
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
