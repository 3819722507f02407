//! What leaves a session: its line in the directory, traces for a collector, and the forge's word that comes back. The
//! log is the truth of what is to be told, and a cursor for each session and consumer says how far each has got; what
//! waits in memory is only whom to tell next, so a crash forgets nothing. Each consumer has a lane of its own: one that
//! is slow or away holds up no other.

mod collector;
mod directory;
mod forge;
mod lane;
mod start;
mod taken;
#[cfg(test)]
mod tests;
mod view;

use crate::{Inner, Result};
use directory::row_of;
use greenroom_directory::SettledRow;
use greenroom_domain::event::Event;
use greenroom_domain::state::Origin;
use greenroom_domain::{Consumer, Entry, ErrorCode, Problem, SessionId, TurnId};
use greenroom_session::Summary;
use greenroom_tasks::{caught, keep};
pub use lane::RetryPolicy;
use lane::{Failed, Lane, Letter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, RwLock};
use tokio::time::Instant;

pub(crate) use directory::{open_asks, status_of};

/// An attempt that takes longer has failed.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(60);
/// What a shutdown waits for the directory.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);
/// Places among which sessions are spread for what must not be done twice at a time.
const FORGE_LOCKS: usize = 64;

#[derive(Debug)]
pub(crate) struct Outbox {
    policy: RetryPolicy,
    lanes: [Lane; Consumer::ALL.len()],
    /// Sessions that left memory: where their logs end, and how their files looked.
    resting: Mutex<HashMap<SessionId, (u64, String)>>,
    rested: Notify,
    /// Held for reading while a session's line is written and told, for writing while a session is deleted: nobody is
    /// told of a line after its end.
    telling: RwLock<()>,
    forge_locks: [tokio::sync::Mutex<()>; FORGE_LOCKS],
    #[cfg(test)]
    about_to_tell: std::sync::atomic::AtomicUsize,
    /// So many of the next attempts panic.
    #[cfg(test)]
    pub(crate) panics: std::sync::atomic::AtomicUsize,
}

impl Outbox {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            lanes: Default::default(),
            resting: Mutex::default(),
            rested: Notify::new(),
            telling: RwLock::default(),
            forge_locks: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            #[cfg(test)]
            about_to_tell: Default::default(),
            #[cfg(test)]
            panics: Default::default(),
        }
    }

    /// Starts the lanes. They end with the app.
    pub(crate) fn run(self: &Arc<Self>, app: &Weak<Inner>) {
        for consumer in Consumer::ALL {
            let (this, app) = (Arc::clone(self), Weak::clone(app));
            let run = move || Arc::clone(&this).deliver(consumer, Weak::clone(&app));
            tokio::spawn(keep("a lane of the outbox", run));
        }
        let (this, app) = (Arc::clone(self), Weak::clone(app));
        tokio::spawn(keep("noting sessions at rest", move || Arc::clone(&this).settle(Weak::clone(&app))));
    }

    /// `exports`: there is a collector of traces.
    pub(crate) fn publish(&self, summary: &Summary, exports: bool) {
        let state = &summary.state;
        let Some(row) = row_of(summary) else { return };
        let is_dead = |consumer| state.dead_letters.iter().any(|letter| letter.consumer == consumer);
        let letter = |consumer, row| Letter {
            row,
            upto: state.head_seq,
            inherited: state.origin.as_ref().and_then(Origin::inherited_until),
            was_dead: is_dead(consumer),
        };
        if exports && state.running.is_none() && state.last_turn.is_some() {
            self.put(Consumer::Collector, summary.session, letter(Consumer::Collector, None));
        }
        if crate::children::is_owed(state) {
            self.put(Consumer::Family, summary.session, letter(Consumer::Family, None));
        }
        self.put(Consumer::Directory, summary.session, letter(Consumer::Directory, Some(Box::new(row))));
    }

    /// The session left memory: nothing is written to its file any more. `stamp` is how it looks now.
    pub(crate) fn rests(&self, session: SessionId, head_seq: u64, stamp: String) {
        lock(&self.resting).insert(session, (head_seq, stamp));
        self.rested.notify_one();
    }

    /// While this is held, nobody is told of a session's line.
    pub(crate) async fn telling(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.telling.write().await
    }

    /// Somebody is still to be told of the session.
    pub(crate) fn is_telling_of(&self, session: SessionId) -> bool {
        self.lanes.iter().any(|lane| lane.has(session))
    }

    /// What waits for the directory.
    pub(crate) fn waiting_count(&self) -> usize {
        self.lane(Consumer::Directory).len()
    }

    fn put(&self, consumer: Consumer, session: SessionId, letter: Letter) {
        self.lane(consumer).put(session, letter);
    }

    fn lane(&self, consumer: Consumer) -> &Lane {
        let at = Consumer::ALL.iter().position(|one| *one == consumer);
        &self.lanes[at.expect("all of them are listed")]
    }

    fn forge_lock(&self, session: SessionId) -> &tokio::sync::Mutex<()> {
        let spread =
            session.to_string().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        &self.forge_locks[spread % FORGE_LOCKS]
    }

    /// One consumer's lane, until the app is gone.
    async fn deliver(self: Arc<Self>, consumer: Consumer, app: Weak<Inner>) {
        let lane = self.lane(consumer);
        // Of the loop before this one, where that panicked.
        lane.sent_is_lost();
        let mut attempts = tokio::task::JoinSet::new();
        loop {
            let Some(inner) = app.upgrade() else { return };
            for (session, letter) in lane.take_due(Instant::now(), most_at_once(consumer) - attempts.len()) {
                let inner = Arc::clone(&inner);
                attempts.spawn(async move { (session, inner.attempt(consumer, session, letter).await) });
            }
            drop(inner);
            let next = lane.next_due().filter(|_| attempts.len() < most_at_once(consumer));
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(Ok((session, done))) = attempts.join_next() => self.settle_attempt(consumer, session, done, &app).await,
                () = lane.changed() => {}
                () = due => {}
            }
        }
    }

    async fn settle_attempt(
        &self,
        consumer: Consumer,
        session: SessionId,
        done: Result<()>,
        app: &Weak<Inner>,
    ) {
        let Err(problem) = done else {
            let was_dead = self.lane(consumer).done(session);
            if was_dead && let Some(inner) = app.upgrade() {
                inner.note(session, Event::DeadLetterSettled { consumer }).await;
            }
            self.rested.notify_one();
            return;
        };
        let Some(inner) = app.upgrade() else { return };
        tracing::warn!(%session, consumer = consumer.as_str(), %problem, "a delivery failed");
        let luck = inner.clock.random();
        match self.lane(consumer).failed(session, problem.clone(), self.policy, Instant::now(), luck) {
            Failed::Later => {}
            Failed::Dead => {
                inner.note(session, Event::DeadLetterAdded { consumer, problem }).await;
                self.rested.notify_one();
            }
        }
    }

    /// Writes down which resting sessions have nothing left to tell, until the app is gone.
    async fn settle(self: Arc<Self>, app: Weak<Inner>) {
        loop {
            self.rested.notified().await;
            let Some(inner) = app.upgrade() else { return };
            self.write_settled(&inner).await;
        }
    }

    /// A row that is not written costs the next start a look at the session's file.
    async fn write_settled(&self, inner: &Inner) {
        let is_quiet = |session| !self.is_telling_of(session);
        let rows: Vec<_> = {
            let mut resting = lock(&self.resting);
            let quiet: Vec<_> = resting.keys().copied().filter(|session| is_quiet(*session)).collect();
            let row =
                |session| resting.remove(&session).map(|(seq, stamp)| SettledRow { session, seq, stamp });
            quiet.into_iter().filter_map(row).collect()
        };
        if rows.is_empty() {
            return;
        }
        if let Err(error) = inner.directory.settle(rows).await {
            tracing::warn!(%error, "sessions at rest are not noted");
        }
    }
}

#[cfg(test)]
impl Outbox {
    fn panic_if_due(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let due = self.panics.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        assert!(due.is_err(), "as tests do");
    }
}

fn most_at_once(consumer: Consumer) -> usize {
    match consumer {
        Consumer::Directory => 16,
        // Each reads a log.
        Consumer::Collector => 2,
        Consumer::Forge | Consumer::Family => 4,
    }
}

impl Inner {
    async fn attempt(self: &Arc<Self>, consumer: Consumer, session: SessionId, letter: Letter) -> Result<()> {
        let attempt = async {
            #[cfg(test)]
            self.outbox.panic_if_due();
            match consumer {
                Consumer::Directory => self.tell_directory(session, &letter).await,
                Consumer::Collector => self.tell_collector(session, &letter).await,
                Consumer::Forge => self.hear_forge(session).await,
                Consumer::Family => self.tell_family(session).await,
            }
        };
        let attempt = tokio::time::timeout(ATTEMPT_DEADLINE, attempt);
        let done = match caught("a delivery", attempt).await {
            Ok(Ok(done)) => done,
            Ok(Err(_late)) => {
                let message = format!("It was not done within {} s.", ATTEMPT_DEADLINE.as_secs());
                Err(Problem::new(ErrorCode::Deadline, message)
                    .hint("Try again when the server is less busy."))
            }
            Err(panicked) => Err(crate::broken(&panicked)),
        };
        match done {
            // Deleted meanwhile: there is nobody to be told of.
            Err(problem) if problem.code == ErrorCode::SessionUnknown => Ok(()),
            done => done,
        }
    }

    /// What became of a delivery, in the log. A restart finds the same out again.
    async fn note(&self, session: SessionId, event: Event) {
        let noted = match self.sessions().get(session).await {
            Ok(handle) => handle.record(vec![event]).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = noted
            && problem.code != ErrorCode::SessionUnknown
        {
            tracing::warn!(%session, %problem, "the session does not know what became of a delivery");
        }
    }

    /// Waits until the directory knows all that was published, not for long.
    pub(crate) async fn drain_outbox(&self) {
        let lane = self.outbox.lane(Consumer::Directory);
        if tokio::time::timeout(DRAIN_DEADLINE, lane.emptied()).await.is_err() {
            tracing::warn!(waiting = lane.len(), "the directory is behind; the next start goes on with it");
        }
    }

    /// The sessions are closed.
    pub(crate) async fn settle_outbox(&self) {
        self.outbox.write_settled(self).await;
    }
}

/// Finds out what of a log is the session's own work: entries after the turn that it was forked at.
#[derive(Debug)]
struct Own {
    /// The last turn that came from another session, until it is passed.
    inherited: Option<TurnId>,
}

impl Own {
    /// For a reader that begins after this entry.
    fn after(seq: u64, inherited: Option<TurnId>) -> Self {
        Self { inherited: inherited.filter(|_| seq == 0) }
    }

    /// To be asked of every entry in its order.
    fn has(&mut self, entry: &Entry) -> bool {
        let Some(last) = self.inherited else { return true };
        if matches!(&entry.event, Event::TurnFinished { turn, .. } if *turn == last) {
            self.inherited = None;
        }
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
