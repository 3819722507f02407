//! The way of a claim: fence, workspace, a blank, its image, its owner.

use crate::cgroup::{Cgroup, Controller, DEFAULT_PROCESSES};
use crate::egress::Owner;
use crate::provider::Shared;
use crate::room::Room;
use crate::sandbox::{LocalSandbox, text};
use crate::spare::Spare;
use crate::stock::{Attached, MAX_BLANKS};
use crate::workspace;
use crate::zygote::system;
use greenroom_sandbox::{Base, ClaimSpec, Error, Identity, Resources, Result, Workspace};
use greenroom_stage::protocol::{AttachPlan, PlanBase, PlanBind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

const CLAIM_LIMIT: Duration = Duration::from_secs(10);
/// Overlay's options are one page; a layer takes nine bytes of it.
const MAX_LAYERS: usize = 400;
const MAX_NAME: usize = 128;
const MAX_BINDS: usize = 256;
/// Besides those every sandbox has.
const MAX_EGRESS_PORTS: usize = 64;
const BACKGROUND_NICE: i32 = 10;

pub(crate) fn validate(spec: &ClaimSpec) -> Result<()> {
    let invalid = |reason: &str| Err(Error::Invalid { reason: reason.into() });
    validate_identity(&identity_of(spec))?;
    if spec.layers.len() > MAX_LAYERS {
        return invalid("a sandbox has at most 400 layers");
    }
    if spec.binds.len() > MAX_BINDS || !spec.binds.iter().all(|bind| is_clean(&bind.target)) {
        return invalid("at most 256 binds, each at an absolute path without '..'");
    }
    if spec.egress_ports.len() > MAX_EGRESS_PORTS {
        return invalid("at most 64 ports lead out besides those every sandbox has");
    }
    Ok(())
}

pub(crate) fn validate_identity(identity: &Identity) -> Result<()> {
    let invalid = |reason: &str| Err(Error::Invalid { reason: reason.into() });
    let is_name = |text: &str| !text.is_empty() && text.len() <= MAX_NAME;
    if !is_name(&identity.id) || !is_name(&identity.fence.session) {
        return invalid("ids of sandbox and session have 1 to 128 characters");
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !(1..=63).contains(&identity.hostname.len()) || !identity.hostname.bytes().all(is_host) {
        return invalid("a host name has 1 to 63 letters, digits and hyphens");
    }
    if !identity.workspace.is_absolute() {
        return invalid("the workspace is an absolute path");
    }
    Ok(())
}

fn is_clean(target: &str) -> bool {
    target.starts_with('/') && target.len() > 1 && target.split('/').all(|part| part != "..")
}

fn identity_of(spec: &ClaimSpec) -> Identity {
    Identity {
        id: spec.id.clone(),
        fence: spec.fence.clone(),
        workspace: spec.workspace.directory.clone(),
        hostname: spec.hostname.clone(),
        env: spec.env.clone(),
    }
}

pub(crate) async fn claim(shared: &Arc<Shared>, spec: ClaimSpec) -> Result<Arc<LocalSandbox>> {
    let deadline = Instant::now() + CLAIM_LIMIT;
    let _claiming = shared.stock.begin_claim();
    let workspace = &spec.workspace.directory;
    shared.registry.raise_fence(&spec.fence)?;
    shared.registry.end_predecessor(workspace, &spec.fence).await?;
    let reserved = shared.registry.reserve(&spec.id, workspace)?;
    let placing = async {
        // Blanks of a zygote that has just died look alive for a moment: there is another try for each of them.
        for _ in 0..MAX_BLANKS {
            match place(shared, &spec).await {
                Err(Error::Ended { .. }) => {}
                placed => return placed,
            }
        }
        place(shared, &spec).await
    };
    let placed = timeout_at(deadline.into(), placing).await;
    let sandbox = placed.unwrap_or(Err(Error::Deadline {
        what: "starting a sandbox",
        limit_ms: CLAIM_LIMIT.as_millis() as u64,
    }))?;
    if let Err(error) = reserved.fill(&sandbox) {
        sandbox.kill("the provider has shut down");
        return Err(error);
    }
    Ok(sandbox)
}

/// On failure nothing is left: whatever was taken ends when it is dropped.
async fn place(shared: &Arc<Shared>, spec: &ClaimSpec) -> Result<Arc<LocalSandbox>> {
    let mut blank = match shared.stock.ready(can_move_in(spec)) {
        Some(blank) => blank,
        // The workspace is made while the kernel makes the namespaces.
        None => return place_in_new(shared, spec).await,
    };
    let is_furnished = match blank.spare.take() {
        Some(spare) => move_in(shared, spec, spare)?,
        None => false,
    };
    let begun = if is_furnished { Vec::new() } else { prepare_workspace(shared, spec).await? };
    limit(blank.group.as_ref(), spec)?;
    let attached = blank.attach(plan(shared, spec, &begun, is_furnished)?).await?;
    open(shared, spec, attached).await
}

async fn place_in_new(shared: &Arc<Shared>, spec: &ClaimSpec) -> Result<Arc<LocalSandbox>> {
    let (unborn, begun) = tokio::join!(shared.stock.begin(), prepare_workspace(shared, spec));
    let unborn = unborn?;
    limit(unborn.group.as_ref(), spec)?;
    let attached = unborn.attach(plan(shared, spec, &begun?, false)?).await?;
    open(shared, spec, attached).await
}

/// Whether the claim begins with an empty workspace over the host's root.
fn can_move_in(spec: &ClaimSpec) -> bool {
    let Workspace { directory, begin_from } = &spec.workspace;
    spec.base == Base::HostRoot && begin_from.is_none() && std::fs::symlink_metadata(directory).is_err()
}

/// Whether the spare is the claim's workspace now.
fn move_in(shared: &Shared, spec: &ClaimSpec, spare: Spare) -> Result<bool> {
    let directory = &spec.workspace.directory;
    if !can_move_in(spec) || spare.become_workspace(directory).is_err() {
        return Ok(false);
    }
    if let Some(bytes) = spec.resources.disk_bytes.filter(|bytes| *bytes != shared.disk) {
        workspace::rebound(directory, bytes, shared.is_user_mode)?;
    }
    Ok(true)
}

async fn open(shared: &Arc<Shared>, spec: &ClaimSpec, attached: Attached) -> Result<Arc<LocalSandbox>> {
    let identity = identity_of(spec);
    let origin = Owner::new(&identity.id, &identity.fence);
    let room = Room::open(attached, origin, Arc::clone(&shared.egress));
    if !spec.egress_ports.is_empty()
        && let Err(error) = room.add_egress(&spec.egress_ports, &shared.egress).await
    {
        room.kill("its egress could not be opened");
        return Err(error);
    }
    LocalSandbox::take(&room, identity, Arc::downgrade(shared))
}

/// A blank has the default limits.
fn limit(group: Option<&Cgroup>, spec: &ClaimSpec) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    if spec.resources == Resources::default() && !spec.is_background {
        return Ok(());
    }
    group.limit(&spec.resources, spec.is_background).map_err(|error| system("limit", "control group", error))
}

/// A new workspace is a few short calls, made here; an old one may have much to clear. Answers the layers to lie directly
/// below the upper.
async fn prepare_workspace(shared: &Shared, spec: &ClaimSpec) -> Result<Vec<PathBuf>> {
    let mut volumes = vec!["root"];
    if spec.base == Base::HostRoot {
        volumes.extend(shared.volumes.iter().map(String::as_str));
    }
    let (is_user_mode, disk) = (shared.is_user_mode, shared.disk);
    let is_new = std::fs::symlink_metadata(spec.workspace.directory.join("upper")).is_err();
    if is_new && spec.workspace.begin_from.is_none() {
        return workspace::prepare(spec, &volumes, disk, is_user_mode);
    }
    let (spec, volumes) = (spec.clone(), volumes.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let prepare = move || {
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        workspace::prepare(&spec, &volumes, disk, is_user_mode)
    };
    tokio::task::spawn_blocking(prepare).await.map_err(|error| Error::Ended { reason: error.to_string() })?
}

fn plan(shared: &Shared, spec: &ClaimSpec, begun: &[PathBuf], is_furnished: bool) -> Result<AttachPlan> {
    let base = match &spec.base {
        Base::HostRoot => PlanBase::HostRoot,
        Base::Directory { path } => PlanBase::Directory { path: text(path)? },
    };
    let bind = |bind: &greenroom_sandbox::ReadOnlyBind| {
        Ok(PlanBind { source: text(&bind.source)?, target: bind.target.clone() })
    };
    let needs_rlimit = !shared.stock.cgroups.has(Controller::Pids);
    Ok(AttachPlan {
        base,
        layers: spec.layers.iter().chain(begun).map(|path| text(path)).collect::<Result<_>>()?,
        workspace: text(&spec.workspace.directory)?,
        is_furnished,
        binds: spec.binds.iter().map(bind).collect::<Result<_>>()?,
        hostname: spec.hostname.clone(),
        nice: if spec.is_background { BACKGROUND_NICE } else { 0 },
        process_rlimit: needs_rlimit.then(|| spec.resources.processes.unwrap_or(DEFAULT_PROCESSES)),
    })
}
