//! btrfs, as far as workspaces need it: subvolumes, snapshots, limits. By ioctl, because the programs of many
//! distributions are older than simple quotas, and starting one costs more than the work. Knows no workspace or volume.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) const MAGIC: u64 = 0x9123_683e;

const IOCTL: u64 = 0x94 << 8;
const WRITE: u64 = 1 << 30;
const READ: u64 = 2 << 30;

const fn request<T>(direction: u64, number: u64) -> u64 {
    direction | IOCTL | number | ((size_of::<T>() as u64) << 16)
}

// Shapes and numbers: include/uapi/linux/btrfs.h.

#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct SnapshotArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

#[repr(C)]
struct QuotaArgs {
    command: u64,
    status: u64,
}

#[repr(C)]
#[derive(Default)]
struct LimitArgs {
    qgroup: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved: [u64; 2],
}

#[repr(C)]
struct LookupArgs {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct InfoArgs {
    devices: [u64; 2],
    id: [u8; 16],
    rest: [u8; 992],
}

const RESIZE: u64 = request::<VolumeArgs>(WRITE, 3);
const CREATE: u64 = request::<VolumeArgs>(WRITE, 14);
const DESTROY: u64 = request::<VolumeArgs>(WRITE, 15);
const LOOKUP: u64 = request::<LookupArgs>(READ | WRITE, 18);
const SNAPSHOT: u64 = request::<SnapshotArgs>(WRITE, 23);
const INFO: u64 = request::<InfoArgs>(READ, 31);
const QUOTA: u64 = request::<QuotaArgs>(READ | WRITE, 40);
const LIMIT: u64 = request::<LimitArgs>(READ, 43);

const QUOTA_ENABLE: u64 = 1;
const QUOTA_ENABLE_SIMPLE: u64 = 4;
const LIMIT_REFERENCED: u64 = 1;
/// The root directory of every subvolume has this inode number.
const FIRST_INODE: u64 = 256;

fn call<T>(directory: BorrowedFd<'_>, request: u64, args: &mut T) -> io::Result<()> {
    // SAFETY: every request above names the size of the type it is called with in this file, and the kernel reads and
    // writes at most that much behind the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), request, std::ptr::from_mut(args)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn name_bytes<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 255 || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut array = [0; N];
    array[..bytes.len()].copy_from_slice(bytes);
    Ok(array)
}

/// The directory that holds `path`, opened without following a link at its end, and the last name.
fn split(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let (parent, name) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    Ok((open_directory(parent)?, name))
}

pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

pub(crate) fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == MAGIC)
}

/// A directory that is the root of a subvolume.
pub(crate) fn is_subvolume(path: &Path) -> bool {
    let is_root = |facts: rustix::fs::Stat| {
        facts.st_ino == FIRST_INODE && rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir()
    };
    rustix::fs::lstat(path).is_ok_and(is_root) && is_btrfs(path).unwrap_or(false)
}

/// An empty subvolume, mode 0755 less the umask.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    call(parent.as_fd(), CREATE, &mut VolumeArgs { fd: 0, name: name_bytes(name)? })
}

/// A writable copy of a subvolume at this instant; what is being written is flushed first. Subvolumes inside come out
/// as empty directories.
pub(crate) fn snapshot(source: &Path, target: &Path) -> io::Result<()> {
    snapshot_of(&open_directory(source)?, target)
}

/// As `snapshot`, of the subvolume whose root is open.
pub(crate) fn snapshot_of(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let (parent, name) = split(target)?;
    let mut args = SnapshotArgs {
        fd: source.as_raw_fd().into(),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: name_bytes(name)?,
    };
    call(parent.as_fd(), SNAPSHOT, &mut args)
}

/// Writes what is waiting to be written in a subvolume, so that the next snapshot finds little.
pub(crate) fn flush(subvolume: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open_directory(subvolume)?)?)
}

/// Unlinks a subvolume; its blocks are freed by the kernel afterwards. Subvolumes inside must be gone.
pub(crate) fn destroy(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    call(parent.as_fd(), DESTROY, &mut VolumeArgs { fd: 0, name: name_bytes(name)? })
}

/// Bounds what is charged to a subvolume, metadata included. With simple quotas that is everything first written in
/// it, until nothing refers to it any more, snapshots included. `ENOTCONN` where quotas are off.
pub(crate) fn limit(subvolume: &Path, bytes: u64) -> io::Result<()> {
    let subvolume = open_directory(subvolume)?;
    let mut args = LimitArgs { flags: LIMIT_REFERENCED, max_referenced: bytes, ..LimitArgs::default() };
    call(subvolume.as_fd(), LIMIT, &mut args)
}

/// Counts per subvolume from now on: by owner (kernel 6.7), which costs nothing, or else in full, which slows snapshots.
pub(crate) fn enable_quotas(root: &Path) -> io::Result<()> {
    let root = open_directory(root)?;
    let enable = |command| match call(root.as_fd(), QUOTA, &mut QuotaArgs { command, status: 0 }) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    };
    enable(QUOTA_ENABLE_SIMPLE).or_else(|_| enable(QUOTA_ENABLE))
}

/// Lets the file system have all of its device.
pub(crate) fn grow(root: &Path) -> io::Result<()> {
    let root = open_directory(root)?;
    call(root.as_fd(), RESIZE, &mut VolumeArgs { fd: 0, name: name_bytes(OsStr::new("max"))? })
}

/// The id of the subvolume that a directory belongs to.
pub(crate) fn subvolume_id(directory: &Path) -> io::Result<u64> {
    let directory = open_directory(directory)?;
    let mut args = LookupArgs { tree: 0, object: FIRST_INODE, name: [0; 4080] };
    call(directory.as_fd(), LOOKUP, &mut args)?;
    Ok(args.tree)
}

/// Bytes charged to a subvolume, as of the last commit (30 s at most).
pub(crate) fn charged(subvolume: &Path) -> io::Result<u64> {
    let id = subvolume_id(subvolume)?;
    let mut args = InfoArgs { devices: [0; 2], id: [0; 16], rest: [0; 992] };
    call(open_directory(subvolume)?.as_fd(), INFO, &mut args)?;
    let counter = format!("/sys/fs/btrfs/{}/qgroups/0_{id}/referenced", uuid(args.id));
    std::fs::read_to_string(counter)?.trim().parse().map_err(io::Error::other)
}

/// The same of every subvolume in a tree; `None` where nothing is counted.
pub(crate) fn charged_below(path: &Path) -> Option<u64> {
    let own = is_subvolume(path).then(|| path.to_owned());
    let all = own.map_or_else(|| subvolumes_below(path), |own| vec![own]);
    let counted = all.iter().filter_map(|subvolume| charged(subvolume).ok());
    counted.reduce(|sum, one| sum + one)
}

fn uuid(bytes: [u8; 16]) -> String {
    let part = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)].join("-")
}

/// Removes a file or a tree with the subvolumes in it; one that is not there is fine. Follows no links.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if is_subvolume(path) {
        return remove_subvolume(path);
    }
    for subvolume in subvolumes_below(path) {
        remove_subvolume(&subvolume)?;
    }
    greenroom_sandbox::remove_tree(path)
}

fn remove_subvolume(path: &Path) -> io::Result<()> {
    match destroy(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            for subvolume in subvolumes_below(path) {
                remove_subvolume(&subvolume)?;
            }
            destroy(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Subvolumes lie near the top (`upper`, a snapshot's name): deeper ones nobody makes.
const DEPTH: usize = 3;

fn subvolumes_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![(path.to_owned(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if is_subvolume(&entry.path()) {
                found.push(entry.path());
            } else if depth + 1 < DEPTH {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    found
}
