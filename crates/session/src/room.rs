//! What of a session stays while anybody holds on to it: its viewers and what running tools print. The actor with its
//! open file comes and goes: an idle one leaves memory (`hibernation`), and whoever needs it wakes it here.

use crate::handle::{gone, problem_of_log};
use crate::log::CommitLog;
use crate::message::{Look, Message};
use crate::registry::Core;
use crate::running_output::RunningOutput;
use crate::subscription::Feed;
use greenroom_domain::{ErrorCode, Problem, SessionId, SessionState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLock, RwLockReadGuard, mpsc};
use tokio::time::Instant;

/// How often a session goes on by itself after its actor panicked, while anybody holds on to it, and the first pause before.
const RISES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: SessionId,
    core: Weak<Core>,
    /// Read while a message is sent, written while an actor begins or ends: a message never meets an actor that is about
    /// to end, and there are never two actors.
    pub(crate) seat: RwLock<Seat>,
    /// Of the newest actor.
    epoch: AtomicU64,
    /// Milliseconds since `born`.
    used_ms: AtomicU64,
    born: Instant,
    /// Actors that panicked.
    falls: AtomicU32,
    pub(crate) output: RunningOutput,
}

/// Who answers for the session.
#[derive(Debug)]
pub(crate) enum Seat {
    /// Nobody looked yet, or the actor failed.
    Empty,
    /// Hibernates: its log ends at `head_seq`, and nothing is written until it is woken.
    Asleep {
        head_seq: u64,
    },
    Awake(Awake),
    Removed,
}

/// A running actor. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Awake {
    pub(crate) epoch: u64,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) log: Arc<dyn CommitLog>,
}

impl Room {
    pub(crate) fn new(id: SessionId, core: Weak<Core>) -> Self {
        Self {
            id,
            core,
            seat: RwLock::new(Seat::Empty),
            epoch: AtomicU64::new(0),
            used_ms: AtomicU64::new(0),
            born: Instant::now(),
            falls: AtomicU32::new(0),
            output: RunningOutput::default(),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now, Ordering::Relaxed);
    }

    /// When somebody last spoke to the actor.
    pub(crate) fn used_at(&self) -> Instant {
        self.born + Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// Fails when there is no such session; wakes nobody who is known to sleep.
    pub(crate) async fn find(self: &Arc<Self>) -> Result<(), Problem> {
        if matches!(&*self.seat.read().await, Seat::Asleep { .. }) {
            return Ok(());
        }
        self.awake().await.map(drop)
    }

    /// The actor, which stays while the guard is held.
    pub(crate) async fn awake(self: &Arc<Self>) -> Result<AwakeGuard<'_>, Problem> {
        self.touch();
        let seat = self.seat.read().await;
        if let Ok(awake) = RwLockReadGuard::try_map(seat, Seat::living) {
            return Ok(awake);
        }
        let mut seat = self.seat.write().await;
        let core = self.core.upgrade().ok_or_else(gone)?;
        self.wake(&core, &mut seat).await?;
        RwLockReadGuard::try_map(seat.downgrade(), Seat::living).map_err(|_| gone())
    }

    async fn wake(self: &Arc<Self>, core: &Core, seat: &mut Seat) -> Result<(), Problem> {
        if seat.living().is_some() {
            return Ok(());
        }
        if matches!(*seat, Seat::Removed) {
            return Err(problem_of_log(crate::LogError::Missing));
        }
        let is_known = matches!(*seat, Seat::Asleep { .. });
        let awake = core.open(self, is_known).await?;
        self.take_seat(core, seat, awake);
        Ok(())
    }

    /// The actor panicked while something was going on: the next one goes on from the log after a pause. Not for ever: what
    /// it panics at may be in the log. Then it waits until somebody needs the session.
    pub(crate) async fn rise(self: &Arc<Self>) {
        let falls = self.falls.fetch_add(1, Ordering::Relaxed);
        if falls >= RISES {
            tracing::error!(session = %self.id, "a session whose actor panics again and again is left as it is");
            return;
        }
        tokio::time::sleep(FIRST_PAUSE * (1 << falls)).await;
        if let Err(problem) = self.awake().await {
            tracing::warn!(session = %self.id, %problem, "a session whose actor panicked does not go on");
        }
    }

    /// For whoever holds the seat: what the state says, after everything that was sent before.
    pub(crate) async fn ask_in_seat<T: Send + 'static>(
        self: &Arc<Self>,
        core: &Core,
        seat: &mut Seat,
        look: impl FnOnce(&SessionState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.wake(core, seat).await?;
        let mailbox = seat.living().ok_or_else(gone)?.mailbox.clone();
        let (reply, answer) = tokio::sync::oneshot::channel();
        let look = Look(Box::new(move |state| drop(reply.send(look(state)))));
        mailbox.send(Message::Look(look)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// What a viewer begins with who has the entries up to `after`. Somebody who has all there is wakes nobody.
    pub(crate) async fn watch(self: &Arc<Self>, after: u64, opening_below: u64) -> Result<Feed, Problem> {
        if let Seat::Asleep { head_seq } = &*self.seat.read().await
            && after >= *head_seq
        {
            // Nobody can append while the seat is read.
            let (live, output) = self.output.subscribe();
            return Ok(Feed { head_seq: *head_seq, live, output, opening: None });
        }
        crate::handle::ask(self, |reply| Message::Subscribe { opening_below, reply }).await
    }

    pub(crate) fn take_seat(self: &Arc<Self>, core: &Core, seat: &mut Seat, awake: Awake) {
        self.epoch.store(awake.epoch, Ordering::Release);
        self.touch();
        *seat = Seat::Awake(awake);
        core.note_awake(self);
    }

    /// Ends the actor without a word in the log, as if the server had stopped, and leaves this behind.
    pub(crate) async fn vacate(&self, seat: &mut Seat, behind: Seat) {
        if let Seat::Awake(awake) = std::mem::replace(seat, behind) {
            let (reply, closed) = tokio::sync::oneshot::channel();
            if awake.mailbox.send(Message::Close { reply }).await.is_ok() {
                let _ = closed.await;
            }
        }
        self.output.end();
    }

    /// Lets the actor end when nothing is going on in the session. Answers whether it did.
    pub(crate) async fn hibernate(self: &Arc<Self>, core: &Core) -> bool {
        // Somebody is sending: it is in use.
        let Ok(mut seat) = self.seat.try_write() else { return false };
        let Seat::Awake(awake) = &*seat else { return false };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let next = match awake.mailbox.send(Message::Hibernate { reply }).await {
            Ok(()) => match answer.await {
                Ok(Some(head_seq)) => Seat::Asleep { head_seq },
                Ok(None) => return false,
                Err(_) => Seat::Empty,
            },
            Err(_) => Seat::Empty,
        };
        *seat = next;
        core.note_asleep(self);
        true
    }
}

pub(crate) type AwakeGuard<'a> = RwLockReadGuard<'a, Awake>;

impl Seat {
    fn living(&self) -> Option<&Awake> {
        match self {
            Self::Awake(awake) if !awake.mailbox.is_closed() => Some(awake),
            _ => None,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.output.end();
    }
}

pub(crate) fn too_new(found: i64, known: i64) -> Problem {
    let message = format!(
        "A newer Greenroom wrote this session: its file has version {found}, this one reads up to {known}."
    );
    Problem::new(ErrorCode::SessionTooNew, message)
        .hint("Start the newer Greenroom again; the file was left as it is.")
}
