//! Each session's sandbox: taken from the pool or claimed when it is needed, synced once, claimed again when it was
//! lost, ended when idle. The workspace directory outlives it: a later claim finds the same files.
//!
//! A slot is `Starting`, then `Making`, then `Claimed` while newer commits arrive (reads have a reader, everything else waits), then
//! `Ready`. Where nothing has to arrive, `Claimed` is left out.

pub(crate) mod claim;
mod idle;
mod reader;
mod sight;
pub(crate) mod sync;
mod words;

pub(crate) use sight::InSight;
pub use words::problem_of_sandbox;
pub(crate) use words::{phase, run};

use crate::moments::Ending;
use crate::services::Services;
use crate::{Inner, Result};
use greenroom_agent::Reading;
use greenroom_domain::event::{SandboxPhase, SandboxStart};
use greenroom_domain::{ErrorCode, Event, Problem, SessionId};
use greenroom_image::ImageManifest;
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use greenroom_tasks::caught;
use reader::Reader;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
pub(crate) use words::git_identity;

/// From the claim to the synced sandbox, the wait for an image left out.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long anyone waits for a repository's first image.
const IMAGE_DEADLINE: Duration = Duration::from_secs(45 * 60);

/// When a sandbox reached which stage, and what it was made from, for the start timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub(crate) made_from: SandboxStart,
    pub(crate) claimed: Instant,
    /// The session had begun before, and its files are there again.
    pub(crate) restored: Option<Instant>,
    pub(crate) synced: Instant,
}

/// A sandbox that its session may use.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) stages: Stages,
    pub(crate) services: Services,
    pub(crate) manifest: Arc<ImageManifest>,
}

#[derive(Clone, Debug)]
enum Slot {
    Starting,
    /// Its session's state has been read.
    Making,
    /// Newer commits are on their way into it.
    Claimed {
        reader: Arc<Reader>,
    },
    Ready(Ready),
    Failed(Problem),
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    slot: watch::Sender<Slot>,
    /// Nobody wants the sandbox any more: do not wait for its image.
    give_up: CancellationToken,
    last_used: Instant,
}

/// The making of one sandbox.
pub(crate) struct Begun {
    pub(crate) generation: u64,
    slot: watch::Sender<Slot>,
    give_up: CancellationToken,
}

impl Entry {
    fn has_failed(&self) -> bool {
        matches!(*self.slot.borrow(), Slot::Failed(_))
    }

    fn ready(&self) -> Option<Ready> {
        match &*self.slot.borrow() {
            Slot::Ready(ready) => Some(ready.clone()),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Workspaces {
    by_session: Mutex<HashMap<SessionId, Entry>>,
    /// Sessions whose last sandbox is ending: the receiver closes when its workspace is free.
    ending: Mutex<HashMap<SessionId, watch::Receiver<()>>>,
    /// Never repeats within this process, so that a session's later sandboxes always carry a higher fence.
    generations: AtomicU64,
}

impl Workspaces {
    pub(crate) fn new() -> Self {
        Self { by_session: Mutex::default(), ending: Mutex::default(), generations: 1.into() }
    }

    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<SessionId, Entry>) -> T) -> T {
        work(&mut self.by_session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those with a sandbox, or one that is being made.
    pub(crate) fn sessions(&self) -> HashSet<SessionId> {
        self.with(|entries| entries.keys().copied().collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.with(|entries| entries.len())
    }

    /// The session's sandbox, if it can be used now.
    pub(crate) fn ready(&self, session: SessionId) -> Option<Ready> {
        self.with(|entries| entries.get(&session)?.ready())
    }

    pub(crate) fn ready_sandbox(&self, session: SessionId) -> Option<Arc<dyn Sandbox>> {
        self.ready(session).map(|ready| ready.sandbox)
    }

    pub(crate) fn ready_sandboxes(&self) -> Vec<(SessionId, Arc<dyn Sandbox>)> {
        let ready = |(session, entry): (&SessionId, &Entry)| Some((*session, entry.ready()?.sandbox));
        self.with(|entries| entries.iter().filter_map(ready).collect())
    }

    fn last_used(&self, session: SessionId) -> Option<Instant> {
        self.with(|entries| entries.get(&session).map(|entry| entry.last_used))
    }

    /// Nobody wants the session's sandbox: where it is still being made, that need not go on. Answers its generation, and
    /// when it was last used.
    fn give_up(&self, session: SessionId) -> Option<(SandboxWatch, u64, Instant)> {
        self.with(|entries| {
            let entry = entries.get(&session)?;
            entry.give_up.cancel();
            Some((SandboxWatch { slot: entry.slot.subscribe() }, entry.generation, entry.last_used))
        })
    }

    /// Takes the entry away if it is still of this generation.
    fn forget(&self, session: SessionId, generation: u64) -> Option<Entry> {
        self.with(|entries| take(entries, session, generation))
    }

    /// The same; until the guard is dropped, the session's next sandbox waits for the end of this one. Of all who see a
    /// sandbox end, by their own doing or not, exactly one gets it, and tells why.
    fn end(&self, session: SessionId, generation: u64) -> Option<(Entry, watch::Sender<()>)> {
        self.with(|entries| {
            // Before a next one can begin: that takes the same lock.
            let entry = take(entries, session, generation)?;
            let (guard, ended) = watch::channel(());
            let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
            // Of those that have ended already nobody has to know.
            ending.retain(|_, ended| ended.has_changed().is_ok());
            ending.insert(session, ended);
            Some((entry, guard))
        })
    }

    /// The server stops: the ends that follow are nobody's to tell.
    pub(crate) fn forget_all(&self) {
        self.with(HashMap::clear);
    }

    /// Until the session's last sandbox has ended, and what its end brings is done.
    async fn wait_for_the_last_one(&self, session: SessionId) {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned();
        if let Some(mut ended) = ending {
            while ended.changed().await.is_ok() {}
        }
    }
}

fn take(entries: &mut HashMap<SessionId, Entry>, session: SessionId, generation: u64) -> Option<Entry> {
    match entries.get(&session) {
        Some(entry) if entry.generation == generation => entries.remove(&session),
        _ => None,
    }
}

impl Inner {
    /// Starts the session's sandbox if it has none, and does not wait.
    pub(crate) fn start_sandbox(self: &Arc<Self>, handle: &SessionHandle) -> SandboxWatch {
        let session = handle.id();
        let mut begin = None;
        let slot = self.workspaces.with(|entries| {
            let known = entries.get_mut(&session).filter(|entry| !entry.has_failed());
            if let Some(entry) = known {
                entry.last_used = Instant::now();
                return entry.slot.subscribe();
            }
            let (slot, receiver) = watch::channel(Slot::Starting);
            let generation = self.workspaces.next_generation();
            let give_up = CancellationToken::new();
            begin = Some(Begun { generation, slot: slot.clone(), give_up: give_up.clone() });
            entries.insert(session, Entry { generation, slot, give_up, last_used: Instant::now() });
            receiver
        });
        if let Some(begun) = begin {
            tokio::spawn(Arc::clone(self).start(handle.clone(), begun));
        }
        SandboxWatch { slot }
    }

    /// The session's synced sandbox, started when there is none. Fails in words when it cannot be had.
    pub(crate) async fn ensure_sandbox(self: &Arc<Self>, handle: &SessionHandle) -> Result<Arc<dyn Sandbox>> {
        if let Some(sandbox) = self.use_ready(handle.id()) {
            return Ok(sandbox);
        }
        Ok(self.start_sandbox(handle).ready().await?.sandbox)
    }

    fn use_ready(&self, session: SessionId) -> Option<Arc<dyn Sandbox>> {
        self.workspaces.with(|entries| {
            let entry = entries.get_mut(&session)?;
            entry.last_used = Instant::now();
            entry.ready().map(|ready| ready.sandbox)
        })
    }

    /// Something to read the session's files from at once: its sandbox, or a reader while newer commits are on their way.
    pub(crate) async fn reader_of(self: &Arc<Self>, handle: &SessionHandle) -> Result<Reading> {
        let watch = self.start_sandbox(handle);
        match watch.clone().readable().await? {
            Readable::Current(ready) => Ok(Reading::current(ready.sandbox)),
            Readable::Early(reader) => match reader.reading(self).await {
                Some(reading) => Ok(reading),
                // The sync was faster, or this machine has no place for a reader.
                None => Ok(Reading::current(watch.ready().await?.sandbox)),
            },
        }
    }

    /// Ends the session's sandbox, if it has one; its files stay. One that is being made is waited for first. A parked one
    /// that somebody begins to use meanwhile stays.
    pub(crate) async fn end_sandbox(self: &Arc<Self>, handle: &SessionHandle, ending: Ending, reason: &str) {
        let session = handle.id();
        let Some((begun, generation, last_used)) = self.workspaces.give_up(session) else { return };
        let ready = begun.ready().await.ok();
        if let Some(ready) = &ready {
            self.before_sandbox_ends(handle, &ready.sandbox, ending).await;
            if ending == Ending::Parked && self.workspaces.last_used(session) != Some(last_used) {
                return;
            }
        }
        let Some((entry, _ending)) = self.workspaces.end(session, generation) else {
            // Somebody else ended it, or it ended by itself; whoever saw that first keeps its files and tells.
            return self.workspaces.wait_for_the_last_one(session).await;
        };
        if self.put_down(session, generation, &entry, ready, reason).await {
            // The end is a fact whether or not the session can still note it.
            let _ = handle.record(vec![phase(SandboxPhase::Stopped, None)]).await;
        }
        self.pool.wake();
    }

    /// Ends what a session that is gone left behind: nobody keeps its files, and nobody is told.
    pub(crate) async fn end_orphan(&self, session: SessionId, reason: &str) {
        let Some((begun, generation, _)) = self.workspaces.give_up(session) else { return };
        let ready = begun.ready().await.ok();
        match self.workspaces.end(session, generation) {
            Some((entry, _ending)) => {
                self.put_down(session, generation, &entry, ready, reason).await;
                self.pool.wake();
            }
            None => self.workspaces.wait_for_the_last_one(session).await,
        }
    }

    /// Whether there was a sandbox to end.
    async fn put_down(
        &self,
        session: SessionId,
        generation: u64,
        entry: &Entry,
        ready: Option<Ready>,
        reason: &str,
    ) -> bool {
        let problem = Problem::new(ErrorCode::SandboxLost, format!("The sandbox was ended: {reason}."));
        entry.slot.send_replace(Slot::Failed(problem));
        self.policies.revoke(&session.to_string(), generation);
        let Some(ready) = ready else { return false };
        ready.services.stop();
        if let Err(error) = ready.sandbox.destroy().await {
            tracing::warn!(%session, %error, "a sandbox did not end in order");
        }
        true
    }

    async fn start(self: Arc<Self>, handle: SessionHandle, begun: Begun) {
        let session = handle.id();
        self.workspaces.wait_for_the_last_one(session).await;
        let claimed = caught("starting a sandbox", Box::pin(self.claim_and_sync(&handle, &begun))).await;
        let claimed = claimed.unwrap_or_else(|panicked| {
            self.policies.revoke(&session.to_string(), begun.generation);
            Err(crate::broken(&panicked))
        });
        match claimed {
            Ok(ready) => {
                begun.slot.send_replace(Slot::Ready(ready.clone()));
                ready.services.start_all();
                self.watch_end(handle, begun.generation, ready).await;
            }
            Err(problem) => {
                tracing::warn!(%session, %problem, "a sandbox could not be started");
                let failed = Event::SandboxChanged {
                    state: SandboxPhase::Failed,
                    image: None,
                    commit: None,
                    problem: Some(problem.clone()),
                };
                let _ = handle.record(vec![failed]).await;
                begun.slot.send_replace(Slot::Failed(problem));
                self.workspaces.forget(session, begun.generation);
            }
        }
    }

    /// Waits for the end of a sandbox; one that nobody ended is lost, and said to be.
    async fn watch_end(self: &Arc<Self>, handle: SessionHandle, generation: u64, ready: Ready) {
        let reason = ready.sandbox.ended().await;
        ready.services.stop();
        self.policies.revoke(&handle.id().to_string(), generation);
        // Held while its last files are kept: the next sandbox waits for that.
        let Some((_entry, _ending)) = self.workspaces.end(handle.id(), generation) else { return };
        let problem = Problem::new(ErrorCode::SandboxLost, format!("The sandbox ended: {reason}."))
            .hint("Its files are kept; the next command starts it again.");
        let lost = Event::SandboxChanged {
            state: SandboxPhase::Lost,
            image: None,
            commit: None,
            problem: Some(problem),
        };
        let _ = handle.record(vec![lost]).await;
        self.sandbox_was_lost(&handle, &ready.sandbox, &reason).await;
    }
}

/// A sandbox on its way.
#[derive(Clone, Debug)]
pub(crate) struct SandboxWatch {
    slot: watch::Receiver<Slot>,
}

/// What can be read now.
enum Readable {
    Current(Ready),
    Early(Arc<Reader>),
}

impl SandboxWatch {
    pub(crate) async fn ready(self) -> Result<Ready> {
        let is_settled = |slot: &Slot| matches!(slot, Slot::Ready(_) | Slot::Failed(_));
        match self.wait(is_settled).await? {
            Slot::Ready(ready) => Ok(ready),
            Slot::Failed(problem) => Err(problem),
            Slot::Starting | Slot::Making | Slot::Claimed { .. } => unreachable!("waited for another state"),
        }
    }

    /// Until the making needs the session itself no more for a while: what is asked of that now delays nothing.
    pub(crate) async fn under_way(self) {
        // Whoever waits for the sandbox hears how that ends.
        let _ended = self.wait(|slot| !matches!(slot, Slot::Starting)).await;
    }

    async fn readable(self) -> Result<Readable> {
        match self.wait(|slot| !matches!(slot, Slot::Starting | Slot::Making)).await? {
            Slot::Ready(ready) => Ok(Readable::Current(ready)),
            Slot::Claimed { reader } => Ok(Readable::Early(reader)),
            Slot::Failed(problem) => Err(problem),
            Slot::Starting | Slot::Making => unreachable!("waited for another state"),
        }
    }

    async fn wait(mut self, is_it: impl FnMut(&Slot) -> bool) -> Result<Slot> {
        let wait = self.slot.wait_for(is_it);
        match tokio::time::timeout(IMAGE_DEADLINE + START_DEADLINE, wait).await {
            Ok(Ok(slot)) => Ok(slot.clone()),
            _ => Err(Problem::new(ErrorCode::Deadline, "The sandbox did not become ready.")),
        }
    }
}

#[cfg(test)]
mod tests;
