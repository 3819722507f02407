//! `LocalProvider`: places sandboxes on this machine. Remembers who owns which session, starts the zygote, and keeps the
//! list of the living.

use crate::capabilities;
use crate::cgroup::{Cgroup, DEFAULT_PROCESSES, Layout};
use crate::channel;
use crate::sandbox::{Handle, LocalSandbox, Start};
use crate::workspace;
use crate::zygote::{Spawned, Zygote, system};
use async_trait::async_trait;
use greenroom_sandbox::{
    Base, Capabilities, ClaimSpec, EgressHandler, Error, Fence, Result, Sandbox, SandboxProvider,
};
use greenroom_stage::protocol::{PlanBase, PlanBind, SpawnPlan};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout_at;

const CLAIM_LIMIT: Duration = Duration::from_secs(10);
/// Overlay's options are one page; a layer takes nine bytes of it.
const MAX_LAYERS: usize = 400;
const MAX_NAME: usize = 128;
/// Sessions whose fence is remembered.
const MAX_FENCES: usize = 65_536;
const MAX_BINDS: usize = 256;
const TMP_BYTES: u64 = 2 << 30;
const BACKGROUND_NICE: i32 = 10;

/// With which rights sandboxes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As root where this process is root.
    #[default]
    Auto,
    Root,
    /// As an ordinary user would, even when root: for tests of the gaps.
    User,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LocalSettings {
    pub mode: Mode,
}

/// Sandboxes of this machine. They end when the last handle of the provider goes, or with this process, however it ends.
#[derive(Debug)]
pub struct LocalProvider {
    shared: Arc<Shared>,
    capabilities: Capabilities,
}

#[derive(Debug)]
pub(crate) struct Shared {
    is_user_mode: bool,
    cgroups: Layout,
    egress: Arc<dyn EgressHandler>,
    /// None after it died; the next claim starts another.
    zygote: AsyncMutex<Option<Zygote>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Highest (epoch, generation) per session, with when it was last used.
    fences: HashMap<String, (u64, u64, Option<Instant>)>,
    sandboxes: HashMap<String, Slot>,
    is_closed: bool,
}

/// A sandbox that lives, or one that is being made.
#[derive(Debug)]
enum Slot {
    Claiming(ClaimedWorkspace),
    Alive(ClaimedWorkspace, Arc<LocalSandbox>),
}

type ClaimedWorkspace = std::path::PathBuf;

impl Slot {
    fn workspace(&self) -> &Path {
        match self {
            Self::Claiming(workspace) | Self::Alive(workspace, _) => workspace,
        }
    }
}

impl LocalProvider {
    /// Prepares this machine: ends what a crashed server left, starts the zygote. `Error::Unsupported` with the reason and
    /// the remedy where the kernel refuses.
    pub async fn start(settings: LocalSettings, egress: Arc<dyn EgressHandler>) -> Result<Arc<Self>> {
        let is_user_mode = match settings.mode {
            Mode::Auto => !rustix::process::geteuid().is_root(),
            Mode::Root => false,
            Mode::User => true,
        };
        let cgroups = if is_user_mode {
            Layout::None { reason: "an ordinary user owns no control group".into() }
        } else {
            Layout::detect()
        };
        cgroups.sweep().await;
        let zygote = Zygote::start(is_user_mode).await?;
        let capabilities = capabilities::describe(is_user_mode, &cgroups, &zygote.gaps);
        let zygote = AsyncMutex::new(Some(zygote));
        let shared = Shared { is_user_mode, cgroups, egress, zygote, state: Mutex::default() };
        Ok(Arc::new(Self { shared: Arc::new(shared), capabilities }))
    }

    /// Whether a data directory can hold workspaces and layers; the error says what to do.
    pub fn check_data_directory(directory: &Path) -> Result<()> {
        workspace::refuse_overlay(directory)
    }
}

impl Drop for LocalProvider {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        // Outside a shutdown nobody waits for them; their sockets close with the handles.
        for slot in state.sandboxes.values() {
            if let Slot::Alive(_, sandbox) = slot {
                sandbox.kill("the provider was dropped");
            }
        }
    }
}

#[async_trait]
impl SandboxProvider for LocalProvider {
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>> {
        validate(&spec)?;
        let shared = self.shared.clone();
        // A task of its own: a caller that gives up must not leave half a sandbox.
        let claim = tokio::spawn(async move { shared.claim(spec).await });
        let sandbox = claim.await.map_err(|error| Error::Ended { reason: format!("the claim failed: {error}") })??;
        Ok(Arc::new(Handle(sandbox)))
    }

    async fn list(&self) -> Result<Vec<String>> {
        let state = self.shared.lock();
        let alive = state.sandboxes.iter().filter(|(_, slot)| matches!(slot, Slot::Alive(..)));
        Ok(alive.map(|(id, _)| id.clone()).collect())
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn shutdown(&self) -> Result<()> {
        let sandboxes: Vec<_> = {
            let mut state = self.shared.lock();
            state.is_closed = true;
            state.sandboxes.values().filter_map(|slot| match slot {
                Slot::Alive(_, sandbox) => Some(sandbox.clone()),
                Slot::Claiming(_) => None,
            }).collect()
        };
        for sandbox in &sandboxes {
            sandbox.kill("the provider shuts down");
        }
        for sandbox in &sandboxes {
            sandbox.wait_for_end().await?;
        }
        // Its lock is held by a claim that is under way, so this waits for it.
        let zygote = self.shared.zygote.lock().await.take();
        tokio::task::spawn_blocking(move || drop(zygote)).await.ok();
        Ok(())
    }
}

fn validate(spec: &ClaimSpec) -> Result<()> {
    let invalid = |reason: &str| Err(Error::Invalid { reason: reason.into() });
    let is_name = |text: &str| !text.is_empty() && text.len() <= MAX_NAME;
    if !is_name(&spec.id) || !is_name(&spec.fence.session) {
        return invalid("ids of sandbox and session have 1 to 128 characters");
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !(1..=63).contains(&spec.hostname.len()) || !spec.hostname.bytes().all(is_host) {
        return invalid("a host name has 1 to 63 letters, digits and hyphens");
    }
    if spec.layers.len() > MAX_LAYERS {
        return invalid("a sandbox has at most 400 layers");
    }
    if spec.binds.len() > MAX_BINDS || !spec.binds.iter().all(|bind| is_clean(&bind.target)) {
        return invalid("at most 256 binds, each at an absolute path without '..'");
    }
    if !spec.workspace.directory.is_absolute() {
        return invalid("the workspace is an absolute path");
    }
    Ok(())
}

fn is_clean(target: &str) -> bool {
    target.starts_with('/') && target.len() > 1 && target.split('/').all(|part| part != "..")
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is changed by single assignments, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses whoever is older than the newest owner known.
    pub(crate) fn check_fence(&self, fence: &Fence) -> Result<()> {
        match self.lock().fences.get(&fence.session) {
            Some((epoch, generation, _)) if (*epoch, *generation) > (fence.epoch, fence.generation) => {
                Err(Error::Fenced { seen: *epoch })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().sandboxes.remove(id);
    }

    async fn claim(self: &Arc<Self>, spec: ClaimSpec) -> Result<Arc<LocalSandbox>> {
        let deadline = Instant::now() + CLAIM_LIMIT;
        self.raise_fence(&spec.fence)?;
        self.end_predecessor(&spec).await?;
        self.reserve(&spec)?;
        let id = spec.id.clone();
        let placed = timeout_at(deadline.into(), self.place(spec)).await;
        let placed = placed.unwrap_or(Err(Error::Deadline {
            what: "starting a sandbox",
            limit_ms: CLAIM_LIMIT.as_millis() as u64,
        }));
        if placed.is_err() {
            self.forget(&id);
        }
        placed
    }

    fn raise_fence(&self, fence: &Fence) -> Result<()> {
        self.check_fence(fence)?;
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Ended { reason: "the provider has shut down".into() });
        }
        if state.fences.len() >= MAX_FENCES && !state.fences.contains_key(&fence.session) {
            let oldest = state.fences.iter().min_by_key(|(_, (_, _, used))| *used).map(|(name, _)| name.clone());
            oldest.and_then(|name| state.fences.remove(&name));
        }
        state.fences.insert(fence.session.clone(), (fence.epoch, fence.generation, Some(Instant::now())));
        Ok(())
    }

    /// A newer owner of the same workspace takes it over: two mounts of one upper would tear it.
    async fn end_predecessor(&self, spec: &ClaimSpec) -> Result<()> {
        let predecessor = {
            let state = self.lock();
            let mut same = state.sandboxes.values().filter(|slot| slot.workspace() == spec.workspace.directory);
            match same.next() {
                Some(Slot::Alive(_, sandbox)) if sandbox.is_older_than(&spec.fence) => Some(sandbox.clone()),
                Some(_) => return Err(Error::Invalid { reason: "the workspace is in use by another sandbox".into() }),
                None => None,
            }
        };
        match predecessor {
            Some(sandbox) => {
                sandbox.kill("a newer owner took its workspace");
                sandbox.wait_for_end().await
            }
            None => Ok(()),
        }
    }

    fn reserve(&self, spec: &ClaimSpec) -> Result<()> {
        let mut state = self.lock();
        let workspace = &spec.workspace.directory;
        let is_taken = state.sandboxes.iter().any(|(id, slot)| *id == spec.id || slot.workspace() == workspace);
        if is_taken {
            return Err(Error::Invalid { reason: format!("a sandbox {} or its workspace exists already", spec.id) });
        }
        state.sandboxes.insert(spec.id.clone(), Slot::Claiming(workspace.clone()));
        Ok(())
    }

    async fn place(self: &Arc<Self>, spec: ClaimSpec) -> Result<Arc<LocalSandbox>> {
        let (channel, theirs) = channel::pair().map_err(|error| system("socketpair", "stage", error))?;
        let cgroups = self.cgroups.clone();
        let (resources, is_background) = (spec.resources.clone(), spec.is_background);
        let group = tokio::task::spawn_blocking(move || cgroups.create(&resources, is_background));
        let spawned = self.spawn(&spec, theirs).await;
        let group = group.await.map_err(|error| Error::Ended { reason: error.to_string() })??;
        let start = Start { channel, egress: self.egress.clone(), shared: Arc::downgrade(self), spec };
        let sandbox = match spawned {
            Ok(spawned) => attach(start, spawned, group).await,
            Err(error) => {
                if let Some(group) = group {
                    group.remove().await;
                }
                Err(error)
            }
        }?;
        let mut state = self.lock();
        if state.is_closed {
            sandbox.kill("the provider has shut down");
            return Err(Error::Ended { reason: "the provider has shut down".into() });
        }
        // It may have ended already, and been forgotten; then it is not listed again.
        if !sandbox.has_ended() {
            let slot = Slot::Alive(sandbox.workspace().to_owned(), sandbox.clone());
            state.sandboxes.insert(sandbox.name().to_owned(), slot);
        }
        Ok(sandbox)
    }

    async fn spawn(&self, spec: &ClaimSpec, socket: rustix::fd::OwnedFd) -> Result<Spawned> {
        let mut slot = self.zygote.lock().await;
        if slot.is_none() {
            *slot = Some(Zygote::start(self.is_user_mode).await?);
        }
        let zygote = slot.as_ref().expect("set above");
        self.prepare_workspace(spec, zygote).await?;
        let spawned = zygote.spawn(self.plan(spec)?, socket, CLAIM_LIMIT).await;
        if matches!(spawned, Err(Error::Ended { .. } | Error::Deadline { .. } | Error::Protocol { .. })) {
            *slot = None;
        }
        spawned
    }

    async fn prepare_workspace(&self, spec: &ClaimSpec, zygote: &Zygote) -> Result<()> {
        let mut volumes = vec!["root".to_owned()];
        if spec.base == Base::HostRoot {
            volumes.extend_from_slice(&zygote.volumes);
        }
        let (directory, is_user_mode) = (spec.workspace.directory.clone(), self.is_user_mode);
        let prepare = move || {
            let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
            workspace::prepare(&directory, &volumes, is_user_mode)
        };
        tokio::task::spawn_blocking(prepare).await.map_err(|error| Error::Ended { reason: error.to_string() })?
    }

    fn plan(&self, spec: &ClaimSpec) -> Result<SpawnPlan> {
        let text = |path: &Path| {
            let refused = || Error::Invalid { reason: format!("{} is not valid UTF-8", path.display()) };
            path.to_str().map(str::to_owned).ok_or_else(refused)
        };
        let base = match &spec.base {
            Base::HostRoot => PlanBase::HostRoot,
            Base::Directory { path } => PlanBase::Directory { path: text(path)? },
        };
        let bind = |bind: &greenroom_sandbox::ReadOnlyBind| {
            Ok(PlanBind { source: text(&bind.source)?, target: bind.target.clone() })
        };
        let needs_rlimit = matches!(self.cgroups, Layout::None { .. });
        Ok(SpawnPlan {
            base,
            layers: spec.layers.iter().map(|path| text(path)).collect::<Result<_>>()?,
            workspace: text(&spec.workspace.directory)?,
            binds: spec.binds.iter().map(bind).collect::<Result<_>>()?,
            hostname: spec.hostname.clone(),
            nice: if spec.is_background { BACKGROUND_NICE } else { 0 },
            tmp_bytes: TMP_BYTES,
            process_rlimit: needs_rlimit.then(|| spec.resources.processes.unwrap_or(DEFAULT_PROCESSES)),
        })
    }
}

/// Limits first, then trust: no program of a user runs before both.
async fn attach(start: Start, spawned: Spawned, group: Option<Cgroup>) -> Result<Arc<LocalSandbox>> {
    let pid = spawned.pid;
    let group = group.map(Arc::new);
    let limited = {
        let group = group.clone();
        tokio::task::spawn_blocking(move || group.map_or(Ok(()), |group| group.attach(pid)))
    };
    let sandbox = LocalSandbox::start(start, spawned, group).await;
    let limited = limited.await.map_err(io_of)?.map_err(|error| system("limit", "control group", error));
    match (sandbox, limited) {
        (Ok(sandbox), Ok(())) => Ok(sandbox),
        (Ok(sandbox), Err(error)) => {
            sandbox.kill("its limits could not be set");
            sandbox.wait_for_end().await?;
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

fn io_of(error: tokio::task::JoinError) -> Error {
    Error::Ended { reason: error.to_string() }
}
