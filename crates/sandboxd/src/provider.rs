//! `LocalProvider`: places sandboxes on this machine. Remembers who owns which session, starts the zygote, and keeps the
//! list of the living.

use crate::capabilities;
use crate::cgroup::{Cgroup, DEFAULT_PROCESSES, Layout};
use crate::channel;
use crate::sandbox::{Handle, LocalSandbox, Start};
use crate::volume::Volume;
use crate::workspace;
use crate::zygote::{Carrier, Spawned, Zygote, system};
use async_trait::async_trait;
use greenroom_sandbox::{
    Base, Capabilities, ClaimSpec, EgressHandler, Error, Fence, Resources, Result, Sandbox, SandboxProvider,
};
use greenroom_stage::protocol::{PlanBase, PlanBind, SpawnPlan};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
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
/// Carriers kept ready. Moving a process into a control group takes the kernel about 7 ms during which nothing on the
/// machine can fork, but a second one right behind it almost nothing: so it is done in advance, by the batch, and not
/// while a session is just starting.
const CARRIERS: usize = 6;
const FEW_CARRIERS: usize = 2;
const REFILL_PAUSE: Duration = Duration::from_millis(300);

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

#[derive(Clone, Debug, Default)]
pub struct LocalSettings {
    pub mode: Mode,
    /// What workspaces lie on; kept mounted, and said in the capabilities.
    pub volume: Option<Volume>,
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
    /// Parts of the host's root that have overlays of their own.
    volumes: Vec<String>,
    cgroups: Layout,
    egress: Arc<dyn EgressHandler>,
    /// None after it died; the next claim starts another.
    zygote: AsyncMutex<Option<Zygote>>,
    /// Processes in control groups of their own that wait to become sandboxes.
    carriers: Mutex<Vec<(Carrier, Cgroup)>>,
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

type ClaimedWorkspace = PathBuf;

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
        let capabilities =
            capabilities::describe(is_user_mode, &cgroups, &zygote.gaps, settings.volume.as_ref());
        let volumes = zygote.volumes.clone();
        let zygote = AsyncMutex::new(Some(zygote));
        let carriers = Mutex::default();
        let shared = Arc::new(Shared {
            is_user_mode,
            volumes,
            cgroups,
            egress,
            zygote,
            carriers,
            state: Mutex::default(),
        });
        shared.fill().await?;
        Ok(Arc::new(Self { shared, capabilities }))
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
        drop(state);
        let carriers = self.shared.take_carriers();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(carriers));
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
        let sandbox =
            claim.await.map_err(|error| Error::Ended { reason: format!("the claim failed: {error}") })??;
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
            state
                .sandboxes
                .values()
                .filter_map(|slot| match slot {
                    Slot::Alive(_, sandbox) => Some(sandbox.clone()),
                    Slot::Claiming(_) => None,
                })
                .collect()
        };
        for sandbox in &sandboxes {
            sandbox.kill("the provider shuts down");
        }
        for sandbox in &sandboxes {
            sandbox.wait_for_end().await?;
        }
        // Its lock is held by a claim or a refill that is under way, so this waits for it.
        let zygote = self.shared.zygote.lock().await.take();
        discard(self.shared.take_carriers()).await;
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
            let oldest =
                state.fences.iter().min_by_key(|(_, (_, _, used))| *used).map(|(name, _)| name.clone());
            oldest.and_then(|name| state.fences.remove(&name));
        }
        state.fences.insert(fence.session.clone(), (fence.epoch, fence.generation, Some(Instant::now())));
        Ok(())
    }

    /// A newer owner of the same workspace takes it over: two mounts of one upper would tear it.
    async fn end_predecessor(&self, spec: &ClaimSpec) -> Result<()> {
        let predecessor = {
            let state = self.lock();
            let mut same =
                state.sandboxes.values().filter(|slot| slot.workspace() == spec.workspace.directory);
            match same.next() {
                Some(Slot::Alive(_, sandbox)) if sandbox.is_older_than(&spec.fence) => Some(sandbox.clone()),
                Some(_) => {
                    return Err(Error::Invalid {
                        reason: "the workspace is in use by another sandbox".into(),
                    });
                }
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
        let is_taken =
            state.sandboxes.iter().any(|(id, slot)| *id == spec.id || slot.workspace() == workspace);
        if is_taken {
            return Err(Error::Invalid {
                reason: format!("a sandbox {} or its workspace exists already", spec.id),
            });
        }
        state.sandboxes.insert(spec.id.clone(), Slot::Claiming(workspace.clone()));
        Ok(())
    }

    async fn place(self: &Arc<Self>, spec: ClaimSpec) -> Result<Arc<LocalSandbox>> {
        let (channel, theirs) = channel::pair().map_err(|error| system("socketpair", "stage", error))?;
        let begun = self.prepare_workspace(&spec).await?;
        let (spawned, group) = self.spawn(&spec, begun, theirs).await?;
        let start = Start { channel, egress: self.egress.clone(), shared: Arc::downgrade(self), spec };
        let sandbox = LocalSandbox::start(start, spawned, group).await?;
        self.refill();
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

    /// Limits first, then life: a carrier is in its groups before it becomes a sandbox.
    async fn spawn(
        &self,
        spec: &ClaimSpec,
        begun: Vec<PathBuf>,
        socket: OwnedFd,
    ) -> Result<(Spawned, Option<Cgroup>)> {
        let plan = self.plan(spec, &begun)?;
        if matches!(self.cgroups, Layout::None { .. }) {
            let mut slot = self.zygote.lock().await;
            let spawned = started(&mut slot, self.is_user_mode).await?.spawn(plan, socket, CLAIM_LIMIT).await;
            if is_loss(&spawned) {
                *slot = None;
            }
            return Ok((spawned?, None));
        }
        let ready = self.take_carrier();
        let (carrier, group) = match ready {
            Some(ready) => ready,
            None => self.make_carrier().await?,
        };
        let limited = if spec.resources == Resources::default() && !spec.is_background {
            Ok(())
        } else {
            group.limit(&spec.resources, spec.is_background)
        };
        let spawned = match limited {
            Ok(()) => carrier.spawn(plan, socket, CLAIM_LIMIT).await,
            Err(error) => Err(system("limit", "control group", error)),
        };
        if spawned.is_err() {
            group.remove().await;
        }
        Ok((spawned?, Some(group)))
    }

    fn take_carrier(&self) -> Option<(Carrier, Cgroup)> {
        let mut carriers = self.carriers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of a zygote that died are dead too.
        while let Some((carrier, group)) = carriers.pop() {
            if carrier.is_alive() {
                return Some((carrier, group));
            }
            tokio::spawn(async move { group.remove().await });
        }
        None
    }

    fn take_carriers(&self) -> Vec<(Carrier, Cgroup)> {
        std::mem::take(&mut *self.carriers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn make_carrier(&self) -> Result<(Carrier, Cgroup)> {
        let made = self.make_carriers(1).await?.pop();
        made.ok_or_else(|| Error::Invalid { reason: "this machine has no control groups".into() })
    }

    async fn make_carriers(&self, count: usize) -> Result<Vec<(Carrier, Cgroup)>> {
        let mut carriers = Vec::with_capacity(count);
        {
            let mut slot = self.zygote.lock().await;
            for _ in 0..count {
                let carrier = started(&mut slot, self.is_user_mode).await?.carrier().await;
                if is_loss(&carrier) {
                    *slot = None;
                }
                carriers.push(carrier?);
            }
        }
        let cgroups = self.cgroups.clone();
        let attach = tokio::task::spawn_blocking(move || attach_all(&cgroups, carriers));
        attach.await.map_err(|error| Error::Ended { reason: error.to_string() })?
    }

    async fn fill(&self) -> Result<()> {
        if matches!(self.cgroups, Layout::None { .. }) {
            return Ok(());
        }
        let mut made = self.make_carriers(CARRIERS.saturating_sub(self.carrier_count())).await?;
        let surplus = {
            let is_closed = self.lock().is_closed;
            let mut carriers = self.carriers.lock().unwrap_or_else(PoisonError::into_inner);
            let room = if is_closed { 0 } else { CARRIERS.saturating_sub(carriers.len()) };
            let surplus = made.split_off(room.min(made.len()));
            carriers.append(&mut made);
            surplus
        };
        discard(surplus).await;
        Ok(())
    }

    fn carrier_count(&self) -> usize {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Fills up in the background, when few are left and the session that took one has had its start.
    fn refill(self: &Arc<Self>) {
        let is_due = matches!(self.carrier_count(), FEW_CARRIERS | 0);
        if !is_due || matches!(self.cgroups, Layout::None { .. }) {
            return;
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(REFILL_PAUSE).await;
            let Some(shared) = shared.upgrade().filter(|shared| !shared.lock().is_closed) else { return };
            if let Err(error) = shared.fill().await {
                tracing::warn!(%error, "no carriers could be made in advance");
            }
        });
    }

    /// Answers the layers to lie directly below the upper.
    async fn prepare_workspace(&self, spec: &ClaimSpec) -> Result<Vec<PathBuf>> {
        let mut volumes = vec!["root".to_owned()];
        if spec.base == Base::HostRoot {
            volumes.extend_from_slice(&self.volumes);
        }
        let (spec, is_user_mode) = (spec.clone(), self.is_user_mode);
        let prepare = move || {
            let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
            workspace::prepare(&spec, &volumes, is_user_mode)
        };
        tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| Error::Ended { reason: error.to_string() })?
    }

    fn plan(&self, spec: &ClaimSpec, begun: &[PathBuf]) -> Result<SpawnPlan> {
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
            layers: spec.layers.iter().chain(begun).map(|path| text(path)).collect::<Result<_>>()?,
            workspace: text(&spec.workspace.directory)?,
            binds: spec.binds.iter().map(bind).collect::<Result<_>>()?,
            hostname: spec.hostname.clone(),
            nice: if spec.is_background { BACKGROUND_NICE } else { 0 },
            tmp_bytes: TMP_BYTES,
            process_rlimit: needs_rlimit.then(|| spec.resources.processes.unwrap_or(DEFAULT_PROCESSES)),
        })
    }
}

async fn started(slot: &mut Option<Zygote>, is_user_mode: bool) -> Result<&Zygote> {
    if slot.is_none() {
        *slot = Some(Zygote::start(is_user_mode).await?);
    }
    Ok(slot.as_ref().expect("set above"))
}

/// Whether an answer means that the zygote is of no more use.
fn is_loss<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Ended { .. } | Error::Deadline { .. } | Error::Protocol { .. }))
}

fn attach_all(cgroups: &Layout, carriers: Vec<Carrier>) -> Result<Vec<(Carrier, Cgroup)>> {
    let mut attached = Vec::with_capacity(carriers.len());
    for carrier in carriers {
        let Some(group) = cgroups.create()? else { break };
        let pid = carrier.process.pid;
        group.attach(pid).map_err(|error| system("attach", format!("control group of {pid}"), error))?;
        attached.push((carrier, group));
    }
    Ok(attached)
}

/// Ends carriers that nobody needs, and removes their groups.
async fn discard(carriers: Vec<(Carrier, Cgroup)>) {
    for (carrier, group) in carriers {
        drop(carrier);
        group.remove().await;
    }
}
