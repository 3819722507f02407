//! The child's way from the zygote's copy to PID 1 of a blank: a sandbox without an image. What no image changes is
//! mounted in its workshop, `/s/k/…`, and stage starts; `attach` moves all that under an image's root at the claim. Runs
//! as root of its own user namespace, so a mistake here has no power over the host. Nothing but our own program runs
//! before `attach` has taken the zygote's tree away.

use crate::sys::{self, At, Outcome};
use crate::zygote::{Zygote, clone_tree};
use greenroom_stage::protocol::{Fault, StageReply, StageResult};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags};
use std::path::Path;

/// Where a sandbox is put together.
pub(crate) const WORKSHOP: &str = "/s";
/// What `attach` moves from the workshop under the new root, by name.
pub(crate) const KERNEL_FILES: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

pub(crate) fn enter(zygote: &Zygote, tmp_bytes: u64, socket: OwnedFd, go: &OwnedFd, staged: &OwnedFd) -> ! {
    let mut byte = [0u8; 1];
    if !matches!(rustix::io::read(go, &mut byte), Ok(1)) {
        std::process::exit(0);
    }
    let fault = match become_stage(zygote, tmp_bytes, &socket, staged) {
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

fn become_stage(zygote: &Zygote, tmp_bytes: u64, socket: &OwnedFd, staged: &OwnedFd) -> Outcome<Never> {
    sys::become_root_without_groups(!zygote.ids.is_user_mode).at("setuid", "0")?;
    let death = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(death).at("prctl", "parent death signal")?;
    rustix::process::setsid().at("setsid", "")?;
    mount("tmpfs", WORKSHOP, MountFlags::NOSUID | MountFlags::NODEV, "mode=700,size=1m")?;
    rustix::io::write(staged, b"w").at("write", "staged")?;
    mount_kernel_files(tmp_bytes, zygote.ids.is_user_mode)?;
    set_limits()?;
    rustix::stdio::dup2_stdin(socket).at("dup2", "socket")?;
    let env = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    Err(sys::exec_image(zygote.image.as_fd(), &[c"greenroom-stage", c"stage"], &env)).at("execveat", "stage")
}

pub(crate) fn mount(kind: &str, target: &str, flags: MountFlags, options: &str) -> Outcome<()> {
    let options = sys::c_string(options).at("mount", target)?;
    rustix::mount::mount(kind, target, kind, flags, Some(options.as_c_str()))
        .at(&format!("mount {kind}"), target)
}

const HIDDEN_FILES: [&str; 6] =
    ["proc/kcore", "proc/keys", "proc/timer_list", "proc/sysrq-trigger", "proc/latency_stats", "proc/kmsg"];
const HIDDEN_DIRECTORIES: [&str; 4] = ["proc/scsi", "proc/acpi", "sys/firmware", "sys/kernel/debug"];

/// Where a name of the future root lies for now. All names are ours: nothing here was written by a sandbox.
pub(crate) fn staged(name: &str) -> String {
    format!("{WORKSHOP}/k/{name}")
}

const MAX_TERMINALS: u32 = 128;
/// Bounds of this user namespace, below those that all sandboxes share: watches are counted for their common owner, and
/// no user namespace is ever nested. Nobody inside has the capability to raise them again.
const NAMESPACE_BOUNDS: [(&str, &str); 5] = [
    ("max_inotify_instances", "32"),
    ("max_inotify_watches", "65536"),
    ("max_fanotify_groups", "16"),
    ("max_fanotify_marks", "16384"),
    ("max_user_namespaces", "0"),
];

fn bound_namespace() {
    for (name, bound) in NAMESPACE_BOUNDS {
        // A kernel without one of them has nothing to bound.
        let _ = std::fs::write(staged(&format!("proc/sys/user/{name}")), bound);
    }
}

fn mount_kernel_files(tmp_bytes: u64, is_user_mode: bool) -> Outcome<()> {
    let directory = |path: &str, mode| mkdirat(CWD, path, Mode::from_raw_mode(mode)).at("mkdir", path);
    directory(&format!("{WORKSHOP}/k"), 0o700)?;
    for name in KERNEL_FILES {
        directory(&staged(name), 0o755)?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", &staged("proc"), quiet, "")?;
    bound_namespace();
    // A host whose own /sys is partly hidden gives none; nothing essential reads it.
    let _ = mount("sysfs", &staged("sys"), quiet | MountFlags::RDONLY, "");
    mount_dev(is_user_mode)?;
    let scratch = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &staged("run"), scratch, "mode=755,size=64m")?;
    directory(&staged("run/lock"), 0o1777)?;
    mount("tmpfs", &staged("tmp"), scratch, &format!("mode=1777,size={tmp_bytes}"))?;
    hide()
}

fn mount_dev(is_user_mode: bool) -> Outcome<()> {
    let dev = staged("dev");
    crate::zygote::attach(clone_tree(Path::new("/b/dev"), true)?.as_fd(), Path::new(&dev))?;
    let group = if is_user_mode { "" } else { ",gid=5" };
    // Terminals are counted for the whole machine (kernel.pty.max): one sandbox may not take them all.
    let options = format!("newinstance,ptmxmode=0666,mode=620,max={MAX_TERMINALS}{group}");
    mount("devpts", &format!("{dev}/pts"), MountFlags::NOSUID | MountFlags::NOEXEC, &options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &format!("{dev}/shm"), flags, "mode=1777,size=256m")
}

/// The user namespace already denies these; hiding them is the second lock. What this kernel does not have is asked
/// first: a cover that is cloned and not attached costs a grace period of the kernel when it is closed.
fn hide() -> Outcome<()> {
    let hidden_files = HIDDEN_FILES.map(|name| (name, "/b/dev/null"));
    let hidden_directories = HIDDEN_DIRECTORIES.map(|name| (name, "/b/empty"));
    for (name, cover) in hidden_files.into_iter().chain(hidden_directories) {
        let target = staged(name);
        match rustix::fs::access(target.as_str(), rustix::fs::Access::EXISTS) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.at("access", &target)?,
        }
        let cover = clone_tree(Path::new(cover), false)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&cover, "", CWD, target.as_str(), flags).at("move_mount", &target)?;
    }
    Ok(())
}

const OPEN_FILES: u64 = 65_536;

fn set_limits() -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Nofile, bound(hard)).at("setrlimit", "nofile")?;
    setrlimit(Resource::Core, bound(0)).at("setrlimit", "core")
}
