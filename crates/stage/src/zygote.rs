//! The zygote: a small process in a nearly empty mount namespace whose copies, the carriers, make sandboxes. It holds the
//! prepared base trees and a handle on the namespace the host's paths are resolved in. Ends when its socket closes;
//! every sandbox dies with it.

use crate::attach;
use crate::base::{self, IdRange, Ids, Volume};
use crate::link::{Link, Received};
use crate::spawn::{self, First};
use crate::sys::{self, At, Forked, Outcome, fault};
use greenroom_stage::protocol::{Gap, ZygoteReply, ZygoteRequest};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, unshare_unsafe};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the new root is put together before it becomes `/`.
const WORKSHOP: &str = "/tmp";

pub(crate) fn main() -> i32 {
    let Ok(socket) = sys::take_stdin() else { return 71 };
    let mut link = Link::new(socket);
    let Received::Message(message, _) = link.receive() else { return 0 };
    let Ok(ZygoteRequest::Prepare { user_mode, id_base, id_count }) = message.header() else { return 65 };
    let ids = IdRange { base: id_base, count: id_count, is_user_mode: user_mode };
    match Zygote::prepare(ids) {
        Ok(mut zygote) => {
            let volumes = zygote.volumes.iter().map(|volume| volume.name.clone()).collect();
            let ready = ZygoteReply::Ready { gaps: std::mem::take(&mut zygote.gaps), volumes };
            if link.send(&ready, &[], &[]).is_err() {
                return 0;
            }
            zygote.serve(&mut link)
        }
        Err(fault) => {
            // Whether or not anybody still listens, there is nothing else to do.
            let _ = link.send(&ZygoteReply::Failed(fault), &[], &[]);
            1
        }
    }
}

#[derive(Debug)]
pub(crate) struct Zygote {
    pub(crate) ids: IdRange,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) image: OwnedFd,
    /// A /proc of our own process id namespace, reachable after the pivot.
    pub(crate) proc: OwnedFd,
    /// A user namespace with the sandboxes' id map, for idmapped mounts. None where ids stay as they are.
    idmap: Option<OwnedFd>,
    host_namespace: OwnedFd,
    gaps: Vec<Gap>,
}

impl Zygote {
    fn prepare(ids: IdRange) -> Outcome<Self> {
        sys::take_default_signals();
        sys::ignore_child_exits();
        sys::leave_session_keyring();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let image = sys::own_image().at("open", "/proc/self/exe")?;
        if ids.is_user_mode {
            become_namespace_root()?;
        }
        let host_namespace = namespace_handle()?;
        let proc = open_directory("/proc")?;
        let mut gaps = Vec::new();
        let idmap = if ids.is_user_mode { None } else { Some(map_template(ids, proc.as_fd())?) };
        enter_private_namespace()?;
        let mut volumes = base::volumes();
        build_root(ids, idmap.as_ref(), &mut volumes, &mut gaps)?;
        pivot_into_workshop()?;
        Ok(Self { ids, volumes, image, proc, idmap, host_namespace, gaps })
    }

    fn serve(&self, link: &mut Link) -> i32 {
        loop {
            let Received::Message(message, mut descriptors) = link.receive() else { return 0 };
            let Ok(request) = message.header() else { return 65 };
            let made = match (request, descriptors.pop()) {
                (ZygoteRequest::Carrier, Some(socket)) => self.start_carrier(link, socket),
                (ZygoteRequest::Rename { hostname }, Some(stage)) => {
                    match rename(link, &hostname, &stage) {
                        // The child answers.
                        Ok(()) => continue,
                        Err(fault) => Err(fault),
                    }
                }
                _ => Err(fault("zygote", "request", libc::EINVAL)),
            };
            if answer(link, &made).is_err() {
                return 0;
            }
        }
    }

    fn start_carrier(&self, link: &mut Link, socket: OwnedFd) -> Outcome<(i32, OwnedFd)> {
        match sys::fork_into(0).at("clone3", "carrier")? {
            Forked::Child => {
                // The server must see the zygote's socket close when the zygote ends.
                *link = Link::new(socket);
                std::process::exit(self.carry(link))
            }
            Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    }

    /// Waits for its requests, in whatever control groups the server has moved this process to.
    fn carry(&self, link: &mut Link) -> i32 {
        let death = Some(rustix::process::Signal::KILL);
        if rustix::process::set_parent_process_death_signal(death).is_err() {
            return 71;
        }
        let Received::Message(message, mut descriptors) = link.receive() else { return 0 };
        let made = match (message.header(), descriptors.pop()) {
            (Ok(ZygoteRequest::Blank { tmp_bytes }), Some(socket)) => spawn::spawn(self, tmp_bytes, socket),
            _ => Err(fault("carrier", "request", libc::EINVAL)),
        };
        let told = match &made {
            Ok(first) => link.send(&ZygoteReply::Spawned { pid: first.pid }, &[], &[first.pidfd.as_fd()]),
            Err(fault) => link.send(&ZygoteReply::Failed(fault.clone()), &[], &[]),
        };
        // The server may be gone; then the sandbox ends by its own socket.
        let (Ok(()), Ok(stage)) = (told, made) else { return 0 };
        loop {
            let Received::Message(message, _) = link.receive() else { return 0 };
            let done = match message.header() {
                Ok(ZygoteRequest::Attach(plan)) => attach::attach(self, &plan, &stage),
                Ok(ZygoteRequest::Furnish { workspace }) => {
                    match self.furnish(link, &workspace, &stage) {
                        // The child answers.
                        Ok(()) => continue,
                        Err(fault) => Err(fault),
                    }
                }
                _ => Err(fault("carrier", "request", libc::EINVAL)),
            };
            let reply = done.map_or_else(ZygoteReply::Failed, |()| ZygoteReply::Attached);
            let _ = link.send(&reply, &[], &[]);
            return 0;
        }
    }

    /// By a child, because nobody returns from a sandbox's namespaces.
    fn furnish(&self, link: &mut Link, workspace: &str, stage: &First) -> Outcome<()> {
        match sys::fork_into(0).at("clone3", "furnish")? {
            Forked::Parent { .. } => Ok(()),
            Forked::Child => {
                let furnished = attach::furnish(self, workspace, stage);
                let reply = furnished.map_or_else(ZygoteReply::Failed, |()| ZygoteReply::Attached);
                // Nobody else would hear of a failure to send.
                let _ = link.send(&reply, &[], &[]);
                std::process::exit(0)
            }
        }
    }

    /// Works where the host's paths mean what the server meant, and stays there.
    pub(crate) fn in_host<T>(&self, work: impl FnOnce(HostTrees<'_>) -> Outcome<T>) -> Outcome<T> {
        let mount = Some(LinkNameSpaceType::Mount);
        rustix::thread::move_into_link_name_space(self.host_namespace.as_fd(), mount)
            .at("setns", "host mounts")?;
        work(HostTrees { idmap: self.idmap.as_ref() })
    }
}

/// Opens host trees for a sandbox.
#[derive(Clone, Copy)]
pub(crate) struct HostTrees<'a> {
    idmap: Option<&'a OwnedFd>,
}

impl HostTrees<'_> {
    /// As it is on the host: layers and workspaces already belong to the sandbox's ids.
    pub(crate) fn plain(self, path: &str) -> Outcome<OwnedFd> {
        clone_tree(Path::new(path), false)
    }

    /// Host root's files become the sandbox root's, where the file system can do that.
    pub(crate) fn mapped(self, path: &str) -> Outcome<OwnedFd> {
        let tree = clone_tree(Path::new(path), false)?;
        if let Some(idmap) = self.idmap {
            // Without idmapped mounts (old overlay, nfs) owners stay unknown inside: less works, nothing leaks.
            let _ = sys::set_idmap(tree.as_fd(), idmap.as_fd());
        }
        Ok(tree)
    }
}

fn answer(link: &mut Link, made: &Outcome<(i32, OwnedFd)>) -> rustix::io::Result<()> {
    match made {
        Ok((pid, pidfd)) => link.send(&ZygoteReply::Spawned { pid: *pid }, &[], &[pidfd.as_fd()]),
        Err(fault) => link.send(&ZygoteReply::Failed(fault.clone()), &[], &[]),
    }
}

/// Gives a sandbox another host name: by a child, because nobody returns from a sandbox's namespaces.
fn rename(link: &mut Link, hostname: &str, stage: &OwnedFd) -> Outcome<()> {
    match sys::fork_into(0).at("clone3", "rename")? {
        Forked::Parent { .. } => Ok(()),
        Forked::Child => {
            let names = ThreadNameSpaceType::USER | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
            let named = sys::enter_namespaces(stage.as_fd(), names)
                .at("setns", "sandbox")
                .and_then(|()| sys::set_hostname(hostname).at("sethostname", hostname));
            // Nobody else would hear of a failure to send.
            let _ = link.send(&named.map_or_else(ZygoteReply::Failed, |()| ZygoteReply::Attached), &[], &[]);
            std::process::exit(0)
        }
    }
}

fn become_namespace_root() -> Outcome<()> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    // SAFETY: the program has one thread and keeps no descriptor or file system state across that this could confuse.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }.at("unshare", "user namespace")?;
    write_now("/proc/self/setgroups", "deny")?;
    write_now("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_now("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write_now(path: &str, text: &str) -> Outcome<()> {
    fs::write(path, text).at("write", path)
}

fn namespace_handle() -> Outcome<OwnedFd> {
    let path = "/proc/self/ns/mnt";
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

fn open_directory(path: &str) -> Outcome<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at("open", path)
}

/// Keeps a user namespace with the map alive through its handle; the process that carried it ends.
fn map_template(ids: IdRange, proc: BorrowedFd<'_>) -> Outcome<OwnedFd> {
    match sys::fork_into(libc::CLONE_NEWUSER).at("clone3", "user namespace")? {
        Forked::Child => loop {
            rustix::thread::set_name(c"idmap").ok();
            // SAFETY: waits for a signal; the parent kills this process.
            unsafe { libc::pause() };
        },
        Forked::Parent { pid, pidfd } => {
            let template = write_maps(proc, pid, ids).and_then(|()| {
                rustix::fs::openat(
                    proc,
                    format!("{pid}/ns/user"),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .at("open", "user namespace of the template")
            });
            rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)
                .at("kill", "template")?;
            template
        }
    }
}

/// Gives a child that waits in its new user namespace its ids.
pub(crate) fn write_maps(proc: BorrowedFd<'_>, pid: i32, ids: IdRange) -> Outcome<()> {
    let map = if ids.is_user_mode { "0 0 1".to_owned() } else { format!("0 {} {}", ids.base, ids.count) };
    for name in ["uid_map", "gid_map"] {
        let path = format!("{pid}/{name}");
        let file = rustix::fs::openat(proc, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .at("open", &path)?;
        rustix::io::write(&file, map.as_bytes()).at("write", &path)?;
    }
    Ok(())
}

fn enter_private_namespace() -> Outcome<()> {
    // SAFETY: one thread, see above.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.at("unshare", "mount namespace")?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at("mount private", "/")
}

/// Puts the zygote's root together: `b/` holds what sandboxes share, `s/` is where each of them works.
fn build_root(
    ids: IdRange,
    idmap: Option<&OwnedFd>,
    volumes: &mut Vec<Volume>,
    gaps: &mut Vec<Gap>,
) -> Outcome<()> {
    // The sources first: the workshop hides /tmp.
    let trees = HostTrees { idmap };
    let mut live = Vec::new();
    volumes.retain(|volume| match host_tree(trees, volume) {
        Ok(tree) => {
            live.push((volume.clone(), tree));
            true
        }
        Err(fault) => {
            gaps.push(Gap { name: format!("base_{}", volume.name), detail: fault.to_string() });
            false
        }
    });
    let shared =
        [("proc", clone_tree(Path::new("/proc"), true)), ("sys", clone_tree(Path::new("/sys"), true))];
    let devices = device_trees();
    mount_tmpfs(WORKSHOP, "mode=755,size=64m,nr_inodes=200k")?;
    for (name, tree) in shared {
        attach(tree?.as_fd(), &make(name)?)?;
    }
    make("s")?;
    base::write_skeleton(&make("b/skeleton")?, ids)?;
    for (volume, tree) in &live {
        if volume.ids == Ids::Foreign {
            let skeleton = make(&format!("b/directories/{}", volume.name))?;
            base::write_directories(Path::new(volume.path), &skeleton, ids)?;
        }
        attach(tree.as_fd(), &make(&format!("b/live/{}", volume.name))?)?;
    }
    build_dev(&devices)?;
    build_empty()
}

fn host_tree(trees: HostTrees<'_>, volume: &Volume) -> Outcome<OwnedFd> {
    match volume.ids {
        Ids::Mapped => trees.mapped(volume.path),
        Ids::Foreign => trees.plain(volume.path),
    }
}

fn make(name: &str) -> Outcome<PathBuf> {
    let path = Path::new(WORKSHOP).join(name);
    fs::create_dir_all(&path).at("mkdir", &path)?;
    Ok(path)
}

fn mount_tmpfs(target: &str, options: &str) -> Outcome<()> {
    let options = sys::c_string(options).at("mount", target)?;
    rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::NOSUID, Some(options.as_c_str()))
        .at("mount tmpfs", target)
}

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn device_trees() -> Vec<(&'static str, OwnedFd)> {
    let tree = |name| clone_tree(&Path::new("/dev").join(name), false).ok().map(|tree| (name, tree));
    DEVICES.into_iter().filter_map(tree).collect()
}

/// A read-only /dev shared by every sandbox; each adds its own pts and shm.
fn build_dev(devices: &[(&str, OwnedFd)]) -> Outcome<()> {
    let dev = make("b/dev")?;
    mount_tmpfs(&dev.to_string_lossy(), "mode=755,size=64k,nr_inodes=64")?;
    for name in ["pts", "shm"] {
        make(&format!("b/dev/{name}"))?;
    }
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (target, name) in links {
        std::os::unix::fs::symlink(target, dev.join(name)).at("symlink", dev.join(name))?;
    }
    for (name, tree) in devices {
        let path = dev.join(name);
        fs::write(&path, b"").at("write", &path)?;
        attach(tree.as_fd(), &path)?;
    }
    let dev_tree = rustix::fs::open(&dev, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open", &dev)?;
    sys::set_mount_flags(dev_tree.as_fd(), sys::MOUNT_READ_ONLY | sys::MOUNT_NOEXEC, false)
        .at("mount_setattr", &dev)
}

/// What hides a directory in every sandbox: one file system for all of them, because making and ending one each would
/// cost every start.
fn build_empty() -> Outcome<()> {
    let empty = make("b/empty")?;
    mount_tmpfs(&empty.to_string_lossy(), "mode=555,size=4k,nr_inodes=1")?;
    let tree = rustix::fs::open(&empty, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open", &empty)?;
    let flags = sys::MOUNT_READ_ONLY | sys::MOUNT_NOSUID | sys::MOUNT_NODEV | sys::MOUNT_NOEXEC;
    sys::set_mount_flags(tree.as_fd(), flags, false).at("mount_setattr", &empty)
}

/// A detached copy of the mount at `path`. A mount below it makes the plain copy fail for ordinary users; then take all.
pub(crate) fn clone_tree(path: &Path, is_recursive: bool) -> Outcome<OwnedFd> {
    let plain = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let all = plain | OpenTreeFlags::AT_RECURSIVE;
    let first = if is_recursive { all } else { plain };
    rustix::mount::open_tree(CWD, path, first)
        .or_else(|_| rustix::mount::open_tree(CWD, path, all))
        .at("open_tree", path)
}

pub(crate) fn attach(tree: BorrowedFd<'_>, target: &Path) -> Outcome<()> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at("move_mount", target)
}

fn pivot_into_workshop() -> Outcome<()> {
    rustix::process::chdir(WORKSHOP).at("chdir", WORKSHOP)?;
    sys::pivot_root_here().at("pivot_root", WORKSHOP)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at("umount", "old root")?;
    rustix::process::chdir("/").at("chdir", "/")
}

/// The path of a descriptor, for calls that take only paths.
pub(crate) fn descriptor_path(descriptor: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}
