//! The child's way from the zygote's copy to PID 1 of a sandbox: mounts, pivot, exec of stage. Runs as root of its own
//! user namespace, so a mistake here has no power over the host. Paths below the new root are resolved as if it were `/`
//! already, because an earlier run of the same workspace may have left links anywhere.

use crate::base;
use crate::sys::{self, At, Outcome, fault};
use crate::zygote::{Zygote, clone_tree, descriptor_path};
use greenroom_stage::protocol::{Fault, PlanBase, SpawnPlan, StageReply, StageResult};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};
use std::path::Path;

/// Detached mounts of the host that this sandbox is made of.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(crate) base: Option<OwnedFd>,
    pub(crate) layers: Vec<OwnedFd>,
    pub(crate) workspace: OwnedFd,
    pub(crate) binds: Vec<OwnedFd>,
}

/// Overlay takes its options in one page.
const MAX_OVERLAY_OPTIONS: usize = 4000;

pub(crate) fn enter(zygote: &Zygote, plan: &SpawnPlan, trees: &Trees, socket: OwnedFd, go: &OwnedFd) -> ! {
    let mut byte = [0u8; 1];
    if !matches!(rustix::io::read(go, &mut byte), Ok(1)) {
        std::process::exit(0);
    }
    let fault = match become_stage(zygote, plan, trees, &socket) {
        Ok(never) => match never {},
        Err(fault) => fault,
    };
    refuse(socket, fault)
}

/// Says on the stage's own socket why there will be no stage.
pub(crate) fn refuse(socket: OwnedFd, fault: Fault) -> ! {
    let reply = StageReply { id: 0, result: StageResult::Refused(fault) };
    // The server reads the closed socket as an end in any case.
    let _ = crate::link::Link::new(socket).send(&reply, &[], &[]);
    std::process::exit(1);
}

enum Never {}

fn become_stage(zygote: &Zygote, plan: &SpawnPlan, trees: &Trees, socket: &OwnedFd) -> Outcome<Never> {
    sys::become_root_without_groups(!zygote.ids.is_user_mode).at("setuid", "0")?;
    let death = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(death).at("prctl", "parent death signal")?;
    rustix::process::setsid().at("setsid", "")?;
    sys::set_hostname(&plan.hostname).at("sethostname", &plan.hostname)?;
    let root = mount_root(zygote, plan, trees)?;
    mount_kernel_files(&root, plan, zygote.ids.is_user_mode)?;
    mount_binds(&root, plan, &trees.binds)?;
    write_identity(&root, &plan.hostname)?;
    pivot(&root.root)?;
    set_limits(plan)?;
    rustix::stdio::dup2_stdin(socket).at("dup2", "socket")?;
    let env = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    Err(sys::exec_image(zygote.image.as_fd(), &[c"greenroom-stage", c"stage"], &env)).at("execveat", "stage")
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

fn mount_root(zygote: &Zygote, plan: &SpawnPlan, trees: &Trees) -> Outcome<NewRoot> {
    mount_at("tmpfs", CWD_S, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=700,size=1m")?;
    attach_in_workshop("w", &trees.workspace)?;
    for (index, layer) in trees.layers.iter().enumerate() {
        attach_in_workshop(&index.to_string(), layer)?;
    }
    let lowest = match (&plan.base, &trees.base) {
        (PlanBase::Directory { .. }, Some(base)) => {
            attach_in_workshop("base", base)?;
            vec!["/s/base".to_owned()]
        }
        _ => vec!["/b/skeleton".to_owned()],
    };
    mkdirat(CWD, "/s/root", Mode::from_raw_mode(0o755)).at("mkdir", "/s/root")?;
    let layers = trees.layers.len();
    let target = open_path("/s/root")?;
    mount_overlay("root", layers, &lowest, target.as_fd())?;
    let root = NewRoot { root: open_path("/s/root")? };
    if plan.base == PlanBase::HostRoot {
        for volume in &zygote.volumes {
            let lowest = volume_lowest(&volume.name);
            let target = root.directory(volume.path)?;
            mount_overlay(&volume.name, layers, &lowest, target.as_fd())?;
        }
    }
    Ok(root)
}

fn volume_lowest(name: &str) -> Vec<String> {
    let skeleton = format!("/b/directories/{name}");
    let live = format!("/b/live/{name}");
    if Path::new(&skeleton).is_dir() { vec![skeleton, live] } else { vec![live] }
}

const CWD_S: &str = "/s";

fn attach_in_workshop(name: &str, tree: &OwnedFd) -> Outcome<()> {
    let path = format!("{CWD_S}/{name}");
    mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o700)).at("mkdir", &path)?;
    crate::zygote::attach(tree.as_fd(), Path::new(&path))
}

/// `volatile`: nothing syncs the host's disk when a sandbox ends; snapshots are made durable by their owner.
fn mount_overlay(volume: &str, layers: usize, lowest: &[String], target: BorrowedFd<'_>) -> Outcome<()> {
    let upper_layers = (0..layers).rev().map(|index| format!("{CWD_S}/{index}/{volume}"));
    let mut lower: Vec<String> = upper_layers.filter(|path| Path::new(path).is_dir()).collect();
    lower.extend_from_slice(lowest);
    let options = format!(
        "lowerdir={},upperdir=/s/w/upper/{volume},workdir=/s/w/upper/.work/{volume},userxattr,volatile",
        lower.join(":")
    );
    if options.len() > MAX_OVERLAY_OPTIONS {
        return Err(fault("mount overlay: too many layers for", volume, libc::E2BIG));
    }
    mount_on("overlay", target, "overlay", MountFlags::empty(), &options)
        .map_err(|fault| Fault { path: volume.to_owned(), ..fault })
}

fn mount_at(source: &str, target: &str, kind: &str, flags: MountFlags, options: &str) -> Outcome<()> {
    let options = sys::c_string(options).at("mount", target)?;
    rustix::mount::mount(source, target, kind, flags, Some(options.as_c_str()))
        .at(&format!("mount {kind}"), target)
}

fn mount_on(
    source: &str,
    target: BorrowedFd<'_>,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Outcome<()> {
    mount_at(source, &descriptor_path(target).to_string_lossy(), kind, flags, options)
}

fn open_path(path: &str) -> Outcome<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

const HIDDEN_FILES: [&str; 6] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
    "/proc/latency_stats",
    "/proc/kmsg",
];
const HIDDEN_DIRECTORIES: [&str; 4] = ["/proc/scsi", "/proc/acpi", "/sys/firmware", "/sys/kernel/debug"];

fn mount_kernel_files(root: &NewRoot, plan: &SpawnPlan, is_user_mode: bool) -> Outcome<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_on("proc", root.directory("/proc")?.as_fd(), "proc", quiet, "")?;
    // A host whose own /sys is partly hidden gives none; nothing essential reads it.
    let _ = mount_on("sysfs", root.directory("/sys")?.as_fd(), "sysfs", quiet | MountFlags::RDONLY, "");
    mount_dev(root, is_user_mode)?;
    let scratch = MountFlags::NOSUID | MountFlags::NODEV;
    mount_on("tmpfs", root.directory("/run")?.as_fd(), "tmpfs", scratch, "mode=755,size=64m")?;
    mkdirat(root.open("/run", OFlags::PATH).at("open", "/run")?, "lock", Mode::from_raw_mode(0o1777))
        .at("mkdir", "/run/lock")?;
    let size = format!("mode=1777,size={}", plan.tmp_bytes);
    mount_on("tmpfs", root.directory("/tmp")?.as_fd(), "tmpfs", scratch, &size)?;
    root.directory("/workspace")?;
    root.directory("/root")?;
    hide(root)
}

fn mount_dev(root: &NewRoot, is_user_mode: bool) -> Outcome<()> {
    let shared = clone_tree(Path::new("/b/dev"), true)?;
    attach_on(&shared, &root.directory("/dev")?)?;
    let devpts = if is_user_mode {
        "newinstance,ptmxmode=0666,mode=620"
    } else {
        "newinstance,ptmxmode=0666,mode=620,gid=5"
    };
    mount_on(
        "devpts",
        root.directory("/dev/pts")?.as_fd(),
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        devpts,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_on("shm", root.directory("/dev/shm")?.as_fd(), "tmpfs", flags, "mode=1777,size=256m")
}

/// The user namespace already denies these; hiding them is the second lock.
fn hide(root: &NewRoot) -> Outcome<()> {
    for path in HIDDEN_FILES {
        if let Ok(target) = root.open(path, OFlags::PATH) {
            let null = clone_tree(Path::new("/b/dev/null"), false)?;
            attach_on(&null, &target)?;
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    for path in HIDDEN_DIRECTORIES {
        if let Ok(target) = root.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            mount_on("tmpfs", target.as_fd(), "tmpfs", flags, "size=0,nr_inodes=1,mode=555")?;
        }
    }
    Ok(())
}

fn attach_on(tree: &OwnedFd, target: &OwnedFd) -> Outcome<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags).at("move_mount", "")
}

fn mount_binds(root: &NewRoot, plan: &SpawnPlan, trees: &[OwnedFd]) -> Outcome<()> {
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
            let _ = rustix::fs::unlinkat(&etc, name, rustix::fs::AtFlags::empty());
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

const OPEN_FILES: u64 = 65_536;

fn set_limits(plan: &SpawnPlan) -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Nofile, bound(hard)).at("setrlimit", "nofile")?;
    setrlimit(Resource::Core, bound(0)).at("setrlimit", "core")?;
    if let Some(processes) = plan.process_rlimit {
        setrlimit(Resource::Nproc, bound(processes)).at("setrlimit", "nproc")?;
    }
    if plan.nice > 0 {
        rustix::process::nice(plan.nice).at("nice", "")?;
    }
    Ok(())
}
