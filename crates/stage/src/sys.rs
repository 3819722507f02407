//! System calls that `rustix` lacks, and the one error type of this program.

use greenroom_stage::protocol::Fault;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::path::Path;

pub(crate) type Outcome<T> = Result<T, Fault>;

/// Names what failed, and where.
pub(crate) trait At<T> {
    fn at(self, operation: &str, path: impl AsRef<Path>) -> Outcome<T>;
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, operation: &str, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|errno| fault(operation, path, errno.raw_os_error()))
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, operation: &str, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|error| fault(operation, path, error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

pub(crate) fn fault(operation: &str, path: impl AsRef<Path>, errno: i32) -> Fault {
    Fault { operation: operation.to_owned(), path: path.as_ref().to_string_lossy().into_owned(), errno }
}

fn check(result: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

pub(crate) enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `clone3` without a shared address space: a fork into new namespaces.
pub(crate) fn fork_into(namespaces: libc::c_int) -> rustix::io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    // A sibling's end is told as its parent's would be.
    let exit_signal = if namespaces & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    let mut args = CloneArgs {
        flags: namespaces as u64 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a valid clone_args of the size given, and outlives the call. No stack and no CLONE_VM: the child
    // continues on a copy of this address space. This program has one thread, so no lock can be held by another.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
    Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

pub(crate) const MOUNT_READ_ONLY: u64 = 1;
pub(crate) const MOUNT_NOSUID: u64 = 2;
pub(crate) const MOUNT_NODEV: u64 = 4;
pub(crate) const MOUNT_NOEXEC: u64 = 8;
const MOUNT_IDMAP: u64 = 0x0010_0000;

/// `mount_setattr` on the mount that `mount` is the root of.
pub(crate) fn set_mount_flags(mount: BorrowedFd<'_>, set: u64, is_recursive: bool) -> rustix::io::Result<()> {
    set_attributes(mount, &MountAttr { set, ..MountAttr::default() }, is_recursive)
}

/// Shows the files of a detached mount with the ids that `userns` maps them to.
pub(crate) fn set_idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let userns = userns.as_raw_fd() as u64;
    set_attributes(mount, &MountAttr { set: MOUNT_IDMAP, userns, ..MountAttr::default() }, false)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &MountAttr,
    is_recursive: bool,
) -> rustix::io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if is_recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal, the attributes a valid mount_attr of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

pub(crate) fn pivot_root_here() -> rustix::io::Result<()> {
    // SAFETY: both arguments are NUL-terminated literals.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    Ok(())
}

pub(crate) fn set_hostname(name: &str) -> rustix::io::Result<()> {
    // SAFETY: pointer and length describe the same live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// Joins namespaces of the process behind a pidfd, all or none.
pub(crate) fn enter_namespaces(
    process: BorrowedFd<'_>,
    names: rustix::thread::ThreadNameSpaceType,
) -> rustix::io::Result<()> {
    // SAFETY: plain integers; the program has one thread, and its caller expects its root and ids to change.
    check(unsafe { libc::setns(process.as_raw_fd(), names.bits() as libc::c_int) }.into())?;
    Ok(())
}

/// Leaves the caller's session keyring for a new, empty one.
pub(crate) fn leave_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read through it. Failure leaves the old keyring,
    // which the sandbox cannot name because its filter refuses every key call.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Whatever whoever started the server ignored or blocked (`nohup` ignores SIGHUP, a shell's `&` SIGINT) would be
/// inherited by every program of every sandbox.
pub(crate) fn take_default_signals() {
    const LAST_SIGNAL: libc::c_int = 64;
    // Handler, flags, restorer and mask as the kernel reads them: all zero is the default action. Not through the C
    // library, which keeps a few numbers to itself.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the structure has the size that the kernel reads, and outlives the call; no handler is installed.
        // SIGKILL and SIGSTOP are refused, and are never ignored.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8)
        };
    }
    // SAFETY: `none` is initialised by sigemptyset before use, and outlives the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

pub(crate) fn ignore_child_exits() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

pub(crate) fn become_root_without_groups(may_set_groups: bool) -> rustix::io::Result<()> {
    if may_set_groups {
        // SAFETY: a count of zero reads nothing through the pointer.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    }
    // SAFETY: plain integers; the program has one thread.
    check(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })?;
    Ok(())
}

/// Replaces this process by the program open at `image`. Returns only on failure.
pub(crate) fn exec_image(image: BorrowedFd<'_>, arguments: &[&CStr], env: &[&CStr]) -> Errno {
    let arguments = pointers(arguments);
    let env = pointers(env);
    // SAFETY: both arrays end with null and point to live NUL-terminated strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            image.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::IO)
}

fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

pub(crate) fn own_image() -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Takes standard input as a socket of ours: closed on exec, and descriptor 0 becomes /dev/null where that exists.
pub(crate) fn take_stdin() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // The second is the zygote's own tree, in which a blank starts; it may get its own root between two looks.
    let null = ["/dev/null", "/b/dev/null", "/dev/null"]
        .into_iter()
        .find_map(|path| rustix::fs::open(path, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).ok());
    if let Some(null) = null {
        rustix::stdio::dup2_stdin(null)?;
    }
    Ok(socket)
}

/// Whoever started this program may have left descriptors open; none of them is meant for a sandbox.
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in `main`, when this program has opened nothing of its own beyond 0, 1 and 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

pub(crate) fn c_string(text: &str) -> rustix::io::Result<CString> {
    CString::new(text).map_err(|_| Errno::INVAL)
}
