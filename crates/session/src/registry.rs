//! The sessions of this process: a room for each that somebody uses, with one actor at a time. Hands out handles.

use crate::actor::{Birth, SessionActor};
use crate::checkpoint::Folded;
use crate::clock::Clock;
use crate::handle::{SessionHandle, TurnHandle, gone, problem_of_log};
use crate::hibernation::{self, Hibernation};
use crate::log::{Ownership, SessionDirectory};
use crate::recent::Recent;
use crate::room::{Awake, Room, Seat};
use async_trait::async_trait;
use greenroom_domain::{Entry, Event, Problem, SessionId, SessionState};
use greenroom_tasks::keep;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Commands that may wait for a session's actor.
const MAILBOX: usize = 256;
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

    /// Called in the order of commits, each time when everything up to the state's last entry is durable; a later summary
    /// of a session replaces an earlier one.
    fn publish(&self, summary: Summary);

    /// Whether waiting prompts may begin turns. They stay where they are until the session is next opened.
    fn may_begin(&self) -> bool {
        true
    }

    /// The session leaves memory: its log ends at this entry, durably, and its file is not written any more.
    fn rests(&self, _session: SessionId, _head_seq: u64) {}

    /// Somebody may do more or less in the session than before.
    fn rights_changed(&self, session: SessionId);

    /// The model that would answer the session's next turn.
    async fn model_of(&self, state: &SessionState) -> Option<String>;
}

/// One per process and data directory.
#[derive(Debug)]
pub struct Registry {
    core: Arc<Core>,
}

#[derive(Debug)]
pub(crate) struct Core {
    this: Weak<Core>,
    directory: Arc<dyn SessionDirectory>,
    effects: Arc<dyn Effects>,
    clock: Arc<dyn Clock>,
    pub(crate) hibernation: Hibernation,
    rooms: Mutex<HashMap<SessionId, Arc<Room>>>,
    /// Rooms with an actor.
    awake: Mutex<HashMap<SessionId, Arc<Room>>>,
    /// Told when hibernation has something to look at.
    changed: Arc<Notify>,
    /// How many they are.
    count: watch::Sender<usize>,
    is_closed: AtomicBool,
}

impl Registry {
    /// Within a tokio runtime.
    pub fn new(
        directory: Arc<dyn SessionDirectory>,
        effects: Arc<dyn Effects>,
        clock: Arc<dyn Clock>,
        hibernation: Hibernation,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let core = Arc::new_cyclic(|this| Core {
            this: Weak::clone(this),
            directory,
            effects,
            clock,
            hibernation,
            rooms: Mutex::default(),
            awake: Mutex::default(),
            changed: Arc::clone(&changed),
            count: watch::Sender::new(0),
            is_closed: AtomicBool::new(false),
        });
        let of = Arc::downgrade(&core);
        tokio::spawn(keep("hibernation", move || hibernation::run(Weak::clone(&of), Arc::clone(&changed))));
        Self { core }
    }

    /// Makes a session whose log begins with `events`, in one synced commit.
    pub async fn create(&self, session: SessionId, events: Vec<Event>) -> Result<SessionHandle, Problem> {
        let core = &self.core;
        let room = core.room(session);
        let mut seat = room.seat.write().await;
        if core.is_closed.load(Ordering::Acquire) {
            drop(seat);
            core.forget(&room);
            return Err(gone());
        }
        let created = core.directory.create(session, core.clock.now_ms(), events).await;
        let (ownership, entries) = match created {
            Ok(created) => created,
            Err(error) => {
                drop(seat);
                core.forget(&room);
                return Err(problem_of_log(error));
            }
        };
        let awake = core.start(&room, ownership, Folded::default(), Birth::Created(entries));
        room.take_seat(core, &mut seat, awake);
        drop(seat);
        Ok(SessionHandle { room })
    }

    /// The session's handle; opens it when nothing is known of it yet.
    pub async fn get(&self, session: SessionId) -> Result<SessionHandle, Problem> {
        let room = self.core.room(session);
        match room.find().await {
            Ok(()) => Ok(SessionHandle { room }),
            Err(problem) => {
                self.core.forget(&room);
                Err(problem)
            }
        }
    }

    /// Closes the session and removes everything it keeps.
    pub async fn remove(&self, session: SessionId) -> Result<(), Problem> {
        let room = self.core.room(session);
        let mut seat = room.seat.write().await;
        room.vacate(&mut seat, Seat::Empty).await;
        self.core.note_asleep(&room);
        self.core.directory.remove(session).await.map_err(problem_of_log)?;
        *seat = Seat::Removed;
        lock(&self.core.rooms).remove(&session);
        Ok(())
    }

    /// As `remove`, when `may` says so of the session as it is at its end: nothing comes between its word and the removal.
    /// `part` is what has to be durable before anything of the session goes. Answers whether it was removed.
    pub async fn remove_if(
        &self,
        session: SessionId,
        may: impl FnOnce(&SessionState) -> bool + Send + 'static,
        part: impl Future<Output = Result<(), Problem>>,
    ) -> Result<bool, Problem> {
        let room = self.core.room(session);
        // Whoever wants to send something waits for the seat.
        let mut seat = room.seat.write().await;
        let asked = room.ask_in_seat(&self.core, &mut seat, may).await;
        match asked {
            Ok(true) => part.await?,
            Ok(false) => return Ok(false),
            Err(problem) => {
                drop(seat);
                self.core.forget(&room);
                return Err(problem);
            }
        }
        room.vacate(&mut seat, Seat::Empty).await;
        self.core.note_asleep(&room);
        self.core.directory.remove(session).await.map_err(problem_of_log)?;
        *seat = Seat::Removed;
        lock(&self.core.rooms).remove(&session);
        Ok(true)
    }

    /// Closes every session; none is opened any more.
    pub async fn close(&self) {
        self.core.is_closed.store(true, Ordering::Release);
        let rooms: Vec<_> = lock(&self.core.rooms).drain().map(|(_, room)| room).collect();
        for room in rooms {
            let mut seat = room.seat.write().await;
            room.vacate(&mut seat, Seat::Empty).await;
            self.core.note_asleep(&room);
        }
        self.core.directory.close().await;
    }

    /// Where the session's log ends; opens nothing.
    pub async fn head_seq(&self, session: SessionId) -> Result<u64, Problem> {
        self.core.directory.head_seq(session).await.map_err(problem_of_log)
    }

    pub fn is_awake(&self, session: SessionId) -> bool {
        lock(&self.core.awake).contains_key(&session)
    }

    /// Sessions that are in memory.
    pub fn awake(&self) -> usize {
        lock(&self.core.awake).len()
    }

    /// The same, followed; ends with the registry.
    pub fn follow_awake(&self) -> watch::Receiver<usize> {
        self.core.count.subscribe()
    }
}

impl Core {
    fn room(&self, session: SessionId) -> Arc<Room> {
        let mut rooms = lock(&self.rooms);
        let room = rooms.entry(session);
        Arc::clone(room.or_insert_with(|| Arc::new(Room::new(session, Weak::clone(&self.this)))))
    }

    /// An empty room stays only as long as somebody else waits for it.
    fn forget(&self, room: &Arc<Room>) {
        let mut rooms = lock(&self.rooms);
        // This caller's and the map's.
        if Arc::strong_count(room) == 2 && rooms.get(&room.id).is_some_and(|kept| Arc::ptr_eq(kept, room)) {
            rooms.remove(&room.id);
        }
    }

    /// Rooms that nobody holds on to.
    pub(crate) fn prune(&self) {
        lock(&self.rooms).retain(|_, room| Arc::strong_count(room) > 1);
    }

    pub(crate) fn awake(&self) -> Vec<Arc<Room>> {
        lock(&self.awake).values().map(Arc::clone).collect()
    }

    pub(crate) fn is_anyone_awake(&self) -> bool {
        !lock(&self.awake).is_empty()
    }

    pub(crate) fn note_awake(&self, room: &Arc<Room>) {
        let mut awake = lock(&self.awake);
        awake.insert(room.id, Arc::clone(room));
        self.count.send_replace(awake.len());
        if awake.len() == 1 || awake.len() > self.hibernation.most_awake {
            self.changed.notify_one();
        }
    }

    pub(crate) fn note_asleep(&self, room: &Arc<Room>) {
        let mut awake = lock(&self.awake);
        awake.remove(&room.id);
        self.count.send_replace(awake.len());
    }

    /// Takes the session from whoever had it and starts its actor. `is_known`: this process had it before, and published
    /// what is in it.
    pub(crate) async fn open(&self, room: &Arc<Room>, is_known: bool) -> Result<Awake, Problem> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(gone());
        }
        let ownership = self.directory.acquire(room.id).await.map_err(problem_of_log)?;
        let folded = folded_of(room.id, &ownership).await?;
        Ok(self.start(room, ownership, folded, Birth::Reopened { is_known }))
    }

    fn start(&self, room: &Arc<Room>, ownership: Ownership, folded: Folded, birth: Birth) -> Awake {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let Ownership { epoch, log } = ownership;
        let Folded { state, present } = folded;
        let actor = SessionActor {
            room: Arc::clone(room),
            epoch,
            log: Arc::clone(&log),
            state,
            present,
            mailbox: messages,
            messages: mailbox.downgrade(),
            unsaved: 0,
            effects: Arc::clone(&self.effects),
            clock: Arc::clone(&self.clock),
            cancel_turn: CancellationToken::new(),
            birth,
            recent: Recent::default(),
            untold: vec![],
            is_unpublished: false,
            starved: Default::default(),
            given_up: Default::default(),
            waiting: Default::default(),
        };
        tokio::spawn(actor.run());
        Awake { epoch, mailbox, log }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Hibernation finds that there is nothing to look after any more.
        self.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From the last checkpoint on, or from the beginning.
async fn folded_of(session: SessionId, ownership: &Ownership) -> Result<Folded, Problem> {
    let saved = ownership.log.checkpoint().await.map_err(problem_of_log)?;
    let mut folded = match &saved {
        Some(saved) => saved.folded().unwrap_or_else(|| {
            tracing::info!(%session, "the checkpoint is not of this version, or damaged; the log is read instead");
            Folded::default()
        }),
        None => Folded::default(),
    };
    loop {
        let page = ownership.log.read(folded.state.head_seq, PAGE).await.map_err(problem_of_log)?;
        page.iter().for_each(|entry| folded.step(entry));
        if page.len() < PAGE {
            return Ok(folded);
        }
    }
}
