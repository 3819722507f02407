//! Each session's sandbox: claimed when it is needed, synced once, claimed again when it was lost, ended when idle.
//! The workspace directory outlives it: a later claim finds the same files.

mod claim;
mod idle;
mod sync;
mod words;

pub use words::problem_of_sandbox;

use crate::{Inner, Result};
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{ErrorCode, Event, Problem, SessionId};
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason, Sandbox};
use greenroom_session::SessionHandle;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use words::phase;

/// From the claim to the synced sandbox, the wait for an image left out.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long anyone waits for a repository's first image.
const IMAGE_DEADLINE: Duration = Duration::from_secs(45 * 60);
/// A sandbox that nobody used for this long is ended; its files stay.
const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// When a sandbox reached which stage, for the start timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub(crate) claimed: Instant,
    pub(crate) synced: Instant,
}

#[derive(Clone, Debug)]
enum Slot {
    Starting,
    Ready { sandbox: Arc<dyn Sandbox>, stages: Stages },
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
struct Begun {
    generation: u64,
    slot: watch::Sender<Slot>,
    give_up: CancellationToken,
}

impl Entry {
    fn has_failed(&self) -> bool {
        matches!(*self.slot.borrow(), Slot::Failed(_))
    }
}

#[derive(Debug)]
pub(crate) struct Workspaces {
    by_session: Mutex<HashMap<SessionId, Entry>>,
    /// Never repeats within this process, so that a session's later sandboxes always carry a higher fence.
    generations: std::sync::atomic::AtomicU64,
}

impl Workspaces {
    pub(crate) fn new() -> Self {
        Self { by_session: Mutex::default(), generations: 1.into() }
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<SessionId, Entry>) -> T) -> T {
        work(&mut self.by_session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn idle(&self, now: Instant) -> Vec<SessionId> {
        let is_idle = |entry: &Entry| now.saturating_duration_since(entry.last_used) > IDLE_LIMIT;
        self.with(|entries| {
            entries.iter().filter(|(_, entry)| is_idle(entry)).map(|(session, _)| *session).collect()
        })
    }

    fn count(&self) -> usize {
        self.with(|entries| entries.len())
    }

    /// With more than `most` entries, those whose sandbox is ready, longest unused first, without `session`'s.
    fn oldest_beyond(&self, most: usize, session: SessionId) -> Vec<SessionId> {
        self.with(|entries| {
            if entries.len() <= most {
                return vec![];
            }
            let is_ready = |entry: &Entry| matches!(*entry.slot.borrow(), Slot::Ready { .. });
            let others = entries.iter().filter(|(other, entry)| **other != session && is_ready(entry));
            let mut by_use: Vec<_> = others.map(|(other, entry)| (entry.last_used, *other)).collect();
            by_use.sort_unstable();
            by_use.into_iter().map(|(_, other)| other).collect()
        })
    }

    /// Takes the entry away if it is still of this generation.
    fn forget(&self, session: SessionId, generation: u64) -> bool {
        self.with(|entries| match entries.get(&session) {
            Some(entry) if entry.generation == generation => entries.remove(&session).is_some(),
            _ => false,
        })
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
        Ok(self.start_sandbox(handle).ready().await?.0)
    }

    /// Ends the session's sandbox, if it has one; its files stay. One that is being made is waited for first.
    pub(crate) async fn end_sandbox(&self, handle: &SessionHandle, reason: &str) {
        let session = handle.id();
        let begun = self.workspaces.with(|entries| {
            entries.get(&session).map(|entry| {
                entry.give_up.cancel();
                SandboxWatch { slot: entry.slot.subscribe() }
            })
        });
        let Some(begun) = begun else { return };
        let ready = begun.ready().await.ok();
        let Some(entry) = self.workspaces.with(|entries| entries.remove(&session)) else { return };
        let problem = Problem::new(ErrorCode::SandboxLost, format!("The sandbox was ended: {reason}."));
        entry.slot.send_replace(Slot::Failed(problem));
        self.policies.revoke(&session.to_string(), entry.generation);
        let Some((sandbox, _)) = ready else { return };
        if let Err(error) = sandbox.destroy().await {
            tracing::warn!(%session, %error, "a sandbox did not end in order");
        }
        // The end is a fact whether or not the session can still note it.
        let _ = handle.record(vec![phase(SandboxPhase::Stopped, None)]).await;
    }

    async fn start(self: Arc<Self>, handle: SessionHandle, begun: Begun) {
        let session = handle.id();
        match self.claim_and_sync(&handle, &begun).await {
            Ok((sandbox, stages)) => {
                begun.slot.send_replace(Slot::Ready { sandbox: Arc::clone(&sandbox), stages });
                self.watch_end(handle, begun.generation, sandbox).await;
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
    async fn watch_end(self: &Arc<Self>, handle: SessionHandle, generation: u64, sandbox: Arc<dyn Sandbox>) {
        let reason = sandbox.ended().await;
        self.policies.revoke(&handle.id().to_string(), generation);
        if self.workspaces.forget(handle.id(), generation) {
            let problem = Problem::new(ErrorCode::SandboxLost, format!("The sandbox ended: {reason}."))
                .hint("Its files are kept; the next command starts it again.");
            let lost = Event::SandboxChanged {
                state: SandboxPhase::Lost,
                image: None,
                commit: None,
                problem: Some(problem),
            };
            let _ = handle.record(vec![lost]).await;
        }
    }

}

/// A sandbox on its way.
#[derive(Debug)]
pub(crate) struct SandboxWatch {
    slot: watch::Receiver<Slot>,
}

impl SandboxWatch {
    pub(crate) async fn ready(mut self) -> Result<(Arc<dyn Sandbox>, Stages)> {
        let wait = self.slot.wait_for(|slot| !matches!(slot, Slot::Starting));
        let slot = match tokio::time::timeout(IMAGE_DEADLINE + START_DEADLINE, wait).await {
            Ok(Ok(slot)) => slot.clone(),
            _ => return Err(Problem::new(ErrorCode::Deadline, "The sandbox did not become ready.")),
        };
        match slot {
            Slot::Ready { sandbox, stages } => Ok((sandbox, stages)),
            Slot::Failed(problem) => Err(problem),
            Slot::Starting => unreachable!("waited for another state"),
        }
    }
}

/// Runs a program to its end and answers how it ended and what it printed. `None`: the sandbox ended first.
pub(crate) async fn run(sandbox: &Arc<dyn Sandbox>, spec: ExecSpec) -> Result<(Option<ExitReason>, String)> {
    let call = spec.call.clone();
    let mut events = sandbox.exec(spec).await.map_err(problem_of_sandbox)?;
    let (mut output, mut exit) = (vec![], None);
    while let Some(event) = events.recv().await {
        match event {
            ExecEvent::Output { bytes, .. } => output.extend(bytes),
            ExecEvent::Exit(done) => exit = Some(done.reason),
        }
    }
    // Only frees memory in the sandbox: nothing depends on it.
    let _ = sandbox.acknowledge(&call).await;
    Ok((exit, String::from_utf8_lossy(&output).into_owned()))
}

/// Environment that makes git commit in a person's name.
pub(crate) fn git_identity(name: &str, email: &str) -> Vec<(String, String)> {
    [
        ("GIT_AUTHOR_NAME", name),
        ("GIT_AUTHOR_EMAIL", email),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_COMMITTER_EMAIL", email),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

