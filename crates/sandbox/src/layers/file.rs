//! Copying one entry, by descriptor.

use super::{BELOW, is_whiteout, kind};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// Bytes of one call, so that a large file does not block the thread's end for long.
const PIECE: usize = 64 << 20;
/// Of a list of attribute names, and of one value: the kernel's own bounds.
pub(super) const XATTR_BYTES: usize = 64 << 10;

/// False when it is gone, or nothing that a layer holds.
pub(super) fn copy_entry(source: &OwnedFd, target: &OwnedFd, name: &OsStr, facts: &Stat) -> io::Result<bool> {
    match kind(facts) {
        FileType::RegularFile => return copy_file(source, target, name),
        FileType::Symlink => {
            let Some(link) = super::walk::unless_gone(rustix::fs::readlinkat(source, name, Vec::new()))?
            else {
                return Ok(false);
            };
            rustix::fs::symlinkat(link, target, name)?;
        }
        FileType::CharacterDevice if is_whiteout(facts) => {
            rustix::fs::mknodat(target, name, FileType::CharacterDevice, Mode::empty(), 0)?;
        }
        FileType::Fifo => {
            rustix::fs::mknodat(target, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        // A socket's name is of no use without its process; other devices cannot be made in a sandbox.
        _ => return Ok(false),
    }
    if is_foreign(facts) {
        let (owner, group) = owner(facts);
        rustix::fs::chownat(target, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if kind(facts) == FileType::Fifo {
        // Nobody else writes in the copy, so the name is still the fifo.
        rustix::fs::chmodat(target, name, mode(facts), AtFlags::empty())?;
    }
    rustix::fs::utimensat(target, name, &times(facts), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(true)
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let Some(from) = super::walk::unless_gone(Opened::file(source, name))? else {
        return Ok(false);
    };
    let mut facts = rustix::fs::fstat(from.handle())?;
    if let Some(before) = from.mode_before {
        facts.st_mode = facts.st_mode & !0o7777 | before.as_raw_mode();
    }
    let from = from.handle();
    if kind(&facts) != FileType::RegularFile {
        return Ok(false);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    copy_bytes(from, &to, facts.st_size as u64)?;
    // A change of owner takes capabilities away, so they come after.
    set_owner(&to, &facts)?;
    copy_attributes(from, &to)?;
    set_mode(&to, &facts)?;
    set_times(&to, &facts)?;
    Ok(true)
}

/// A source's file or directory. An ordinary user opens what they own and closed to themselves (inside, root reads it
/// anyway) by changing its mode as long as it is read.
#[derive(Debug)]
pub struct Opened {
    handle: OwnedFd,
    mode_before: Option<Mode>,
}

impl Opened {
    pub(super) fn plain(handle: OwnedFd) -> Self {
        Self { handle, mode_before: None }
    }

    pub fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    pub(super) fn closed_directory(root: &OwnedFd, path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(root, path, flags, Mode::empty(), BELOW)?;
        Self::closed(&found, Mode::RUSR | Mode::XUSR, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC)
    }

    /// Not blocking on a fifo that took the file's place.
    pub(super) fn file(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = rustix::fs::openat(directory, name, path, Mode::empty())?;
                Self::closed(&found, Mode::RUSR, flags)
            }
            other => other.map(Self::plain),
        }
    }

    fn closed(found: &OwnedFd, needed: Mode, flags: OFlags) -> rustix::io::Result<Self> {
        let facts = rustix::fs::fstat(found)?;
        if !matches!(kind(&facts), FileType::RegularFile | FileType::Directory) {
            return Err(Errno::NXIO);
        }
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        rustix::fs::chmod(&path, mode(&facts) | needed)?;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, mode_before: Some(mode(&facts)) }),
            Err(errno) => {
                rustix::fs::chmod(&path, mode(&facts))?;
                Err(errno)
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.mode_before {
            // It is ours, or it could not have been opened.
            let _ = rustix::fs::fchmod(&self.handle, mode);
        }
    }
}

/// Shares the blocks where the file system can, and keeps holes where it cannot.
fn copy_bytes(from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
            // No data up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => offset,
            other => other?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        copy_range(from, to, start, end)?;
        offset = end.max(start + 1);
    }
    Ok(rustix::fs::ftruncate(to, size)?)
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        let length = usize::try_from(end - input).unwrap_or(PIECE).min(PIECE);
        match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), length) {
            // It shrank.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return read_and_write(from, to, input, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn read_and_write(from: &OwnedFd, to: &OwnedFd, mut offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0u8; 256 << 10];
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(buffer.len()).min(buffer.len());
        let read = rustix::io::pread(from, &mut buffer[..wanted], offset)?;
        if read == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < read {
            written += rustix::io::pwrite(to, &buffer[written..read], offset + written as u64)?;
        }
        offset += read as u64;
    }
    Ok(())
}

/// All that the target's file system takes; what it does not (labels of a security module) is not the sandbox's.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut value = Vec::with_capacity(XATTR_BYTES);
    for name in attribute_names(from)?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.clear();
        match rustix::fs::fgetxattr(from, name, rustix::buffer::spare_capacity(&mut value)) {
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => continue,
            other => other?,
        };
        match rustix::fs::fsetxattr(to.as_fd(), name, &value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::PERM) if !name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}

/// For a target that may have attributes of an earlier source.
pub(super) fn replace_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for name in attribute_names(to)?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // What cannot be removed is not the sandbox's.
        let _ = rustix::fs::fremovexattr(to, name);
    }
    copy_attributes(from, to)
}

/// Each with a NUL behind it.
pub(super) fn attribute_names(of: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut names = Vec::with_capacity(256);
    let listed = match rustix::fs::flistxattr(of, rustix::buffer::spare_capacity(&mut names)) {
        Err(Errno::RANGE) => {
            names.reserve(XATTR_BYTES);
            rustix::fs::flistxattr(of, rustix::buffer::spare_capacity(&mut names))
        }
        other => other,
    };
    match listed {
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        other => Ok(other.map(|_| names)?),
    }
}

fn mode(facts: &Stat) -> Mode {
    Mode::from_raw_mode(facts.st_mode & 0o7777)
}

fn owner(facts: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(facts.st_uid), Gid::from_raw(facts.st_gid))
}

/// Not what a new file of this process is.
fn is_foreign(facts: &Stat) -> bool {
    facts.st_uid != rustix::process::geteuid().as_raw() || facts.st_gid != rustix::process::getegid().as_raw()
}

pub(super) fn set_owner(target: &OwnedFd, facts: &Stat) -> io::Result<()> {
    if is_foreign(facts) {
        let (owner, group) = owner(facts);
        rustix::fs::fchown(target, Some(owner), Some(group))?;
    }
    Ok(())
}

pub(super) fn set_mode(target: &OwnedFd, facts: &Stat) -> io::Result<()> {
    Ok(rustix::fs::fchmod(target, mode(facts))?)
}

fn times(facts: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(facts.st_atime, facts.st_atime_nsec),
        last_modification: time(facts.st_mtime, facts.st_mtime_nsec),
    }
}

pub(super) fn set_times(target: &OwnedFd, facts: &Stat) -> io::Result<()> {
    Ok(rustix::fs::futimens(target, &times(facts))?)
}
