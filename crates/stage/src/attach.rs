//! What a claim does to a blank, done by its carrier: it opens the host's trees, enters the blank's namespaces, mounts
//! the overlays, and makes them the root; the kernel moves stage's root along. Runs as root of the blank's user namespace,
//! so a mistake here has no power over the host. Paths below the new root are resolved as if it were `/` already, because
//! an earlier run of the same workspace may have left links anywhere.

use crate::base;
use crate::enter::{KERNEL_FILES, WORKSHOP, staged};
use crate::spawn::First;
use crate::sys::{self, At, Outcome, fault};
use crate::zygote::{HostTrees, Zygote, descriptor_path};
use greenroom_stage::protocol::{AttachPlan, Fault, PlanBase};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};
use rustix::process::Pid;
use rustix::thread::ThreadNameSpaceType;
use std::path::Path;

/// Detached mounts of the host that this sandbox is made of.
#[derive(Debug)]
struct Trees {
    base: Option<OwnedFd>,
    layers: Vec<OwnedFd>,
    /// None where the blank was furnished with it.
    workspace: Option<OwnedFd>,
    binds: Vec<OwnedFd>,
}

/// Names of workspaces in the workshop: one that came with the blank, one that came with the claim.
const FURNISHED: &str = "f";
const CLAIMED: &str = "w";

/// Overlay takes its options in one page.
const MAX_OVERLAY_OPTIONS: usize = 4000;

/// The process is of no more use afterwards: it stays in the sandbox's namespaces.
pub(crate) fn attach(zygote: &Zygote, plan: &AttachPlan, stage: &First) -> Outcome<()> {
    set_limits(plan, stage.pid)?;
    let trees = zygote.in_host(|host| open_trees(host, plan))?;
    enter(zygote, stage)?;
    sys::set_hostname(&plan.hostname).at("sethostname", &plan.hostname)?;
    let root = mount_root(zygote, plan, &trees)?;
    stage.wait_until_staged()?;
    move_kernel_files(&root)?;
    mount_binds(&root, plan, &trees.binds)?;
    write_identity(&root, &plan.hostname)?;
    pivot(&root.root)
}

/// What a claim over the host's root would mount of it whatever its image is, done before there is a claim. A claim whose
/// image has a layer of a volume mounts that one again.
pub(crate) fn furnish(zygote: &Zygote, workspace: &str, stage: &First) -> Outcome<()> {
    let tree = zygote.in_host(|host| host.plain(workspace))?;
    enter(zygote, stage)?;
    attach_in_workshop(FURNISHED, &tree)?;
    for volume in &zygote.volumes {
        let path = furnished(&volume.name);
        mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o755)).at("mkdir", &path)?;
        let target = open_path(&path)?;
        mount_overlay(FURNISHED, &volume.name, &volume_lowest(volume.ids, &volume.name), target.as_fd())?;
    }
    Ok(())
}

/// Joins the blank as its root, for good, once there is a workshop. Its first process may still be mounting there, under
/// names of its own.
fn enter(zygote: &Zygote, stage: &First) -> Outcome<()> {
    stage.wait_for_workshop()?;
    let names = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    sys::enter_namespaces(stage.pidfd.as_fd(), names).at("setns", "blank")?;
    sys::become_root_without_groups(!zygote.ids.is_user_mode).at("setuid", "0")
}

/// Where a volume of a furnished blank waits.
fn furnished(volume: &str) -> String {
    format!("{WORKSHOP}/v-{volume}")
}

/// What differs from one sandbox to another; all processes inside inherit it from stage.
fn set_limits(plan: &AttachPlan, stage: i32) -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, prlimit, setpriority_process};
    let stage = Pid::from_raw(stage);
    if let Some(processes) = plan.process_rlimit {
        let bound = Rlimit { current: Some(processes), maximum: Some(processes) };
        prlimit(stage, Resource::Nproc, bound).at("prlimit", "nproc")?;
    }
    if plan.nice > 0 {
        setpriority_process(stage, plan.nice).at("setpriority", "")?;
    }
    Ok(())
}

fn open_trees(host: HostTrees<'_>, plan: &AttachPlan) -> Outcome<Trees> {
    let base = match &plan.base {
        PlanBase::HostRoot => None,
        PlanBase::Directory { path } => Some(host.mapped(path)?),
    };
    let layers = plan.layers.iter().map(|path| host.plain(path)).collect::<Outcome<_>>()?;
    let binds = plan.binds.iter().map(|bind| host.mapped(&bind.source)).collect::<Outcome<_>>()?;
    let workspace = if plan.is_furnished { None } else { Some(host.plain(&plan.workspace)?) };
    Ok(Trees { base, layers, workspace, binds })
}

/// The mounted root of the new sandbox, before it is `/`.
struct NewRoot {
    root: OwnedFd,
}

impl NewRoot {
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// A directory to mount on, made with its parents where it is missing.
    fn directory(&self, path: &str) -> Outcome<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::NOENT) => {}
            other => return other.at("open", path),
        }
        let (parent, name) = split(path);
        mkdirat(self.directory(parent)?, name, Mode::from_raw_mode(0o755)).at("mkdir", path)?;
        self.open(path, flags).at("open", path)
    }

    /// A file to mount on.
    fn file(&self, path: &str) -> Outcome<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.at("open", path),
        }
        let (parent, name) = split(path);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(self.directory(parent)?, name, flags, Mode::from_raw_mode(0o644))
            .at("create", path)?;
        self.open(path, OFlags::PATH).at("open", path)
    }
}

fn split(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or(("/", path))
}

fn mount_root(zygote: &Zygote, plan: &AttachPlan, trees: &Trees) -> Outcome<NewRoot> {
    let workspace = match &trees.workspace {
        Some(tree) => {
            attach_in_workshop(CLAIMED, tree)?;
            CLAIMED
        }
        None => FURNISHED,
    };
    for (index, layer) in trees.layers.iter().enumerate() {
        attach_in_workshop(&index.to_string(), layer)?;
    }
    let lowest = match (&plan.base, &trees.base) {
        (PlanBase::Directory { .. }, Some(base)) => {
            attach_in_workshop("base", base)?;
            vec![format!("{WORKSHOP}/base")]
        }
        _ => vec!["/b/skeleton".to_owned()],
    };
    let path = format!("{WORKSHOP}/root");
    mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o755)).at("mkdir", &path)?;
    let layers = trees.layers.len();
    let target = open_path(&path)?;
    let lower = [layers_of("root", layers), lowest].concat();
    mount_overlay(workspace, "root", &lower, target.as_fd())?;
    let root = NewRoot { root: open_path(&path)? };
    if plan.base == PlanBase::HostRoot {
        for volume in &zygote.volumes {
            let target = root.directory(volume.path)?;
            let above = layers_of(&volume.name, layers);
            if plan.is_furnished {
                if above.is_empty() {
                    move_to(&furnished(&volume.name), &target).at("move_mount", &volume.name)?;
                    continue;
                }
                give_up(&volume.name)?;
            }
            let lower = [above, volume_lowest(volume.ids, &volume.name)].concat();
            mount_overlay(workspace, &volume.name, &lower, target.as_fd())?;
        }
    }
    Ok(root)
}

/// Directories of the image's layers that belong to a volume, uppermost first.
fn layers_of(volume: &str, layers: usize) -> Vec<String> {
    let paths = (0..layers).rev().map(|index| format!("{WORKSHOP}/{index}/{volume}"));
    paths.filter(|path| Path::new(path).is_dir()).collect()
}

/// Frees the upper of a volume that was mounted in advance: nothing has been written to it. Overlay would refuse the mark
/// that a `volatile` mount leaves.
fn give_up(volume: &str) -> Outcome<()> {
    let path = furnished(volume);
    rustix::mount::unmount(path.as_str(), UnmountFlags::empty()).at("umount", &path)?;
    let work = format!("{WORKSHOP}/{FURNISHED}/upper/.work/{volume}/work");
    let (file, directory) = (AtFlags::empty(), AtFlags::REMOVEDIR);
    for (mark, kind) in
        [("incompat/volatile/dirty", file), ("incompat/volatile", directory), ("incompat", directory)]
    {
        let path = format!("{work}/{mark}");
        match rustix::fs::unlinkat(CWD, path.as_str(), kind) {
            Err(Errno::NOENT) => {}
            other => other.at("remove", &path)?,
        }
    }
    Ok(())
}

/// Volumes with foreign ids have a skeleton of directories on top.
fn volume_lowest(ids: base::Ids, name: &str) -> Vec<String> {
    let live = format!("/b/live/{name}");
    if ids == base::Ids::Foreign { vec![format!("/b/directories/{name}"), live] } else { vec![live] }
}

fn attach_in_workshop(name: &str, tree: &OwnedFd) -> Outcome<()> {
    let path = format!("{WORKSHOP}/{name}");
    mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o700)).at("mkdir", &path)?;
    crate::zygote::attach(tree.as_fd(), Path::new(&path))
}

/// `volatile`: nothing syncs the host's disk when a sandbox ends; snapshots are made durable by their owner.
fn mount_overlay(workspace: &str, volume: &str, lower: &[String], target: BorrowedFd<'_>) -> Outcome<()> {
    let upper = format!("{WORKSHOP}/{workspace}/upper");
    let options = format!(
        "lowerdir={},upperdir={upper}/{volume},workdir={upper}/.work/{volume},userxattr,volatile",
        lower.join(":")
    );
    if options.len() > MAX_OVERLAY_OPTIONS {
        return Err(fault("mount overlay: too many layers for", volume, libc::E2BIG));
    }
    crate::enter::mount("overlay", &descriptor_path(target).to_string_lossy(), MountFlags::empty(), &options)
        .map_err(|fault| Fault { path: volume.to_owned(), ..fault })
}

fn open_path(path: &str) -> Outcome<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Those that the blank has mounted already.
fn move_kernel_files(root: &NewRoot) -> Outcome<()> {
    for name in KERNEL_FILES {
        let target = root.directory(name)?;
        match move_to(&staged(name), &target) {
            // Without a /sys of its own there is nothing to move.
            Err(Errno::INVAL) if name == "sys" => {}
            other => other.at("move_mount", name)?,
        }
    }
    root.directory("/workspace")?;
    root.directory("/root").map(drop)
}

fn move_to(path: &str, target: &OwnedFd) -> rustix::io::Result<()> {
    rustix::mount::move_mount(CWD, path, target, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

fn attach_on(tree: &OwnedFd, target: &OwnedFd) -> Outcome<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags).at("move_mount", "")
}

fn mount_binds(root: &NewRoot, plan: &AttachPlan, trees: &[OwnedFd]) -> Outcome<()> {
    for (bind, tree) in plan.binds.iter().zip(trees) {
        let facts = rustix::fs::fstat(tree).at("stat", &bind.source)?;
        let is_directory = rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir();
        let target = if is_directory { root.directory(&bind.target)? } else { root.file(&bind.target)? };
        let flags = sys::MOUNT_READ_ONLY | sys::MOUNT_NOSUID | sys::MOUNT_NODEV;
        sys::set_mount_flags(tree.as_fd(), flags, true).at("mount_setattr", &bind.source)?;
        attach_on(tree, &target)
            .map_err(|fault| Fault { path: format!("{} on {}", bind.source, bind.target), ..fault })?;
    }
    Ok(())
}

/// Written only where it differs, so that an untouched workspace stays empty.
fn write_identity(root: &NewRoot, hostname: &str) -> Outcome<()> {
    let etc = root.directory("/etc")?;
    let files = [
        ("resolv.conf", base::RESOLV_CONF.to_owned()),
        ("hosts", base::hosts(hostname)),
        ("hostname", format!("{hostname}\n")),
    ];
    for (name, text) in files {
        if read_plain(&etc, name).is_none_or(|present| present != text.as_bytes()) {
            // A link (systemd-resolved) would lead elsewhere: replace the name, whatever it is.
            let _ = rustix::fs::unlinkat(&etc, name, AtFlags::empty());
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(&etc, name, flags, Mode::from_raw_mode(0o644)).at("create", name)?;
            rustix::io::write(&file, text.as_bytes()).at("write", name)?;
        }
    }
    Ok(())
}

fn read_plain(directory: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
    let mut buffer = vec![0u8; 4096];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

fn pivot(root: &OwnedFd) -> Outcome<()> {
    rustix::process::fchdir(root).at("chdir", "new root")?;
    sys::pivot_root_here().at("pivot_root", "new root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at("umount", "old root")?;
    rustix::process::chdir("/").at("chdir", "/")
}
