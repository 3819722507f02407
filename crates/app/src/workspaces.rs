//! Each session's sandbox: claimed when it is needed, synced once, claimed again when it was lost, ended when idle.
//! The workspace directory outlives it: a later claim finds the same files.

use crate::{Inner, Result};
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{CommitHash, ErrorCode, Event, ImageId, Problem, SessionId, SessionState};
use greenroom_image::{ImageManifest, WORKSPACE};
use greenroom_sandbox::{ClaimSpec, ExecEvent, ExecSpec, ExitReason, Fence, Sandbox, Workspace};
use greenroom_session::SessionHandle;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// From the claim to the synced sandbox, the wait for an image left out.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long anyone waits for a repository's first image.
const IMAGE_DEADLINE: Duration = Duration::from_secs(45 * 60);
const SYNC_DEADLINE_MS: u64 = 100_000;
/// A sandbox that nobody used for this long is ended; its files stay.
const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);
const IDLE_SWEEP: Duration = Duration::from_secs(60);

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

    /// Every step has its own deadline: the image, the claim, the sync.
    async fn claim_and_sync(
        self: &Arc<Self>,
        handle: &SessionHandle,
        begun: &Begun,
    ) -> Result<(Arc<dyn Sandbox>, Stages)> {
        let state = handle.state().await?;
        let manifest = tokio::select! {
            manifest = self.image_of(handle, &state) => manifest?,
            () = begun.give_up.cancelled() => {
                return Err(Problem::new(ErrorCode::Interrupted, "The sandbox is not needed any more."));
            }
        };
        self.make_room(handle.id()).await?;
        self.claim_from(handle, &state, &manifest, begun.generation).await
    }

    /// The image the session's files stand on; for its first sandbox the newest good one, waited for if need be.
    async fn image_of(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
    ) -> Result<Arc<ImageManifest>> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        if let Some(image) = state.workspace.image.or(origin.image) {
            return self.manifest(image).await;
        }
        let repository = origin.repository;
        if let Some(image) = self.directory.newest_ready_image(repository).await? {
            return self.manifest(image.id).await;
        }
        let _ = handle.record(vec![phase(SandboxPhase::WaitingForImage, None)]).await;
        let image =
            tokio::time::timeout(IMAGE_DEADLINE, self.first_image(repository)).await.map_err(|_| {
                Problem::new(ErrorCode::Deadline, "The repository's first image was not built in time.")
                    .hint("`greenroom image list` shows what it is doing.")
            })??;
        self.manifest(image).await
    }

    /// Where the most sandboxes are alive already, ends the one that was used longest ago and has no running turn.
    async fn make_room(self: &Arc<Self>, session: SessionId) -> Result<()> {
        let most = self.config.max_sandboxes;
        for candidate in self.workspaces.oldest_beyond(most, session) {
            let Ok(handle) = self.sessions().get(candidate).await else { continue };
            if handle.state().await.is_ok_and(|state| state.running.is_none()) {
                self.end_sandbox(&handle, "another session needed its place").await;
                return Ok(());
            }
        }
        if self.workspaces.count() <= most {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::SessionBusy, format!("All {most} sandboxes of this server are at work."))
            .hint(
                "Send the prompt again when another turn has ended, or raise max_sandboxes in the settings.",
            ))
    }

    async fn claim_from(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
        manifest: &ImageManifest,
        generation: u64,
    ) -> Result<(Arc<dyn Sandbox>, Stages)> {
        let spec = self.claim_spec(handle, manifest, generation).await?;
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let allow = crate::policy::allowed(&manifest.egress_allow, &self.config.registry)?;
        self.policies.grant_session(handle, origin, generation, allow);
        let claiming = handle.record(vec![phase(SandboxPhase::Claiming, Some(manifest.id))]);
        let (claimed, recorded) = tokio::join!(self.sandboxes.claim(spec), claiming);
        let started = match (claimed, recorded) {
            (Ok(sandbox), recorded) => {
                let claimed = Instant::now();
                let synced = match recorded {
                    Ok(()) => self.sync(handle, state, manifest, &sandbox).await,
                    Err(problem) => Err(problem),
                };
                match synced {
                    Ok(()) => Ok((sandbox, claimed)),
                    Err(problem) => {
                        let _ = sandbox.destroy().await;
                        Err(problem)
                    }
                }
            }
            (Err(error), _) => Err(problem_of_sandbox(error)),
        };
        match started {
            Ok((sandbox, claimed)) => Ok((sandbox, Stages { claimed, synced: Instant::now() })),
            Err(problem) => {
                self.policies.revoke(&handle.id().to_string(), generation);
                Err(problem)
            }
        }
    }

    async fn claim_spec(
        &self,
        handle: &SessionHandle,
        manifest: &ImageManifest,
        generation: u64,
    ) -> Result<ClaimSpec> {
        let parts = manifest
            .claim_parts(self.images.layers(), self.images.setup())
            .map_err(|error| error.problem())?;
        let session = handle.id();
        Ok(ClaimSpec {
            id: format!("{session}-{}-{generation}", handle.epoch()),
            fence: Fence { session: session.to_string(), epoch: handle.epoch(), generation },
            base: parts.base,
            layers: parts.layers,
            workspace: Workspace {
                directory: self.files.directory(session).join("workspace"),
                begin_from: None,
            },
            binds: parts.binds,
            egress_ports: parts.egress_ports,
            resources: parts.resources,
            hostname: "greenroom".to_owned(),
            env: parts.env,
            is_background: false,
        })
    }

    /// Brings a first sandbox to the head of its base branch, on the session's own branch. A session that has begun
    /// keeps its files as they are.
    async fn sync(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
        manifest: &ImageManifest,
        sandbox: &Arc<dyn Sandbox>,
    ) -> Result<()> {
        if state.workspace.base_commit.is_some() {
            return handle.record(vec![phase(SandboxPhase::Ready, None)]).await;
        }
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let head = self.forge.branch_head(origin.repository, &origin.base_branch).await?;
        let commit = match head {
            Some(head) if head != manifest.commit => {
                handle.record(vec![phase(SandboxPhase::Syncing, None)]).await?;
                fetch(sandbox, &head, origin.branch.as_str(), origin.base_branch.as_str()).await?;
                head
            }
            _ => {
                start_branch(sandbox, &manifest.commit, origin.branch.as_str()).await?;
                manifest.commit.clone()
            }
        };
        let ready = Event::SandboxChanged {
            state: SandboxPhase::Ready,
            image: Some(manifest.id),
            commit: Some(commit),
            problem: None,
        };
        handle.record(vec![ready]).await
    }

    /// Ends sandboxes that nobody used for a while, until the app is gone.
    pub(crate) async fn sweep_idle(inner: std::sync::Weak<Self>) {
        loop {
            tokio::time::sleep(IDLE_SWEEP).await;
            let Some(inner) = inner.upgrade() else { return };
            for session in inner.workspaces.idle(Instant::now()) {
                let Ok(handle) = inner.sessions().get(session).await else { continue };
                let is_running = handle.state().await.is_ok_and(|state| state.running.is_some());
                if !is_running {
                    inner.end_sandbox(&handle, "nobody used it for a while").await;
                }
            }
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

/// Points HEAD at a new branch of the session at the image's commit: two small files, no git process.
async fn start_branch(sandbox: &Arc<dyn Sandbox>, commit: &CommitHash, branch: &str) -> Result<()> {
    let git = format!("{WORKSPACE}/.git");
    let reference = format!("{git}/refs/heads/{branch}");
    sandbox.write_file(&reference, format!("{commit}\n").as_bytes()).await.map_err(problem_of_sandbox)?;
    let head = format!("ref: refs/heads/{branch}\n");
    sandbox.write_file(&format!("{git}/HEAD"), head.as_bytes()).await.map_err(problem_of_sandbox)
}

async fn fetch(sandbox: &Arc<dyn Sandbox>, head: &CommitHash, branch: &str, base: &str) -> Result<()> {
    let script = r#"git fetch -q --no-tags origin "+refs/heads/$BASE:refs/remotes/origin/$BASE" && git checkout -q -f -B "$BRANCH" "$HEAD_COMMIT""#;
    let spec = ExecSpec {
        call: "greenroom-sync".to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: WORKSPACE.to_owned(),
        env: [("BASE", base), ("BRANCH", branch), ("HEAD_COMMIT", head.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        stdin: vec![],
        timeout_ms: SYNC_DEADLINE_MS,
        output_limit_bytes: 64 * 1024,
    };
    let (exit, output) = run(sandbox, spec).await?;
    match exit {
        Some(ExitReason::Code { code: 0 }) => Ok(()),
        _ => Err(Problem::new(
            ErrorCode::SandboxFailed,
            "The newest commits could not be fetched into the sandbox.",
        )
        .hint("Send the prompt again.")
        .detail(output)),
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

fn phase(state: SandboxPhase, image: Option<ImageId>) -> Event {
    Event::SandboxChanged { state, image, commit: None, problem: None }
}

fn unknown_session() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "There is no such session.")
}

// Taken by value so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
/// The same in words for a person.
pub fn problem_of_sandbox(error: greenroom_sandbox::Error) -> Problem {
    use greenroom_sandbox::Error as E;
    let message = format!("The sandbox failed: {error}.");
    match error {
        E::Unsupported { reason, remedy } => {
            let problem = Problem::new(
                ErrorCode::SandboxUnsupported,
                format!("This machine cannot make sandboxes: {reason}."),
            );
            match remedy {
                Some(remedy) => problem.hint(format!("Run as root: {remedy}")),
                None => problem.hint("`greenroom serve` needs Linux with user namespaces and overlayfs."),
            }
        }
        E::Ended { reason } => Problem::new(ErrorCode::SandboxLost, format!("The sandbox ended: {reason}."))
            .hint("Its files are kept; the next command starts it again."),
        E::Unavailable { .. } => Problem::new(ErrorCode::SandboxUnsupported, message),
        E::Fenced { .. } => Problem::new(ErrorCode::Fenced, "Another server has taken over this session."),
        E::NotFound { path } => Problem::new(ErrorCode::FileUnknown, format!("There is no file {path}.")),
        E::DiskFull => Problem::new(ErrorCode::DiskFull, "The sandbox's disk is full.")
            .hint("Remove build output in the sandbox, or free space on the server's disk."),
        E::Deadline { .. } => Problem::new(ErrorCode::Deadline, message),
        E::Invalid { .. } => Problem::new(ErrorCode::InvalidRequest, message),
        E::System { .. } | E::File { .. } | E::Protocol { .. } => {
            Problem::new(ErrorCode::SandboxFailed, message)
        }
    }
}
