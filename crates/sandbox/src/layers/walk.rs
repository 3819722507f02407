//! Reading one directory of several layers as overlay would show it.

use super::file::Opened;
use super::{Entry, OPAQUE, WORK, is_whiteout, kind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A tree that lives may lose an entry between two calls.
pub(super) fn unless_gone<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    // Not opened anew, because it may be closed to us by now.
    let copy = directory.try_clone()?;
    rustix::fs::seek(&copy, SeekFrom::Start(0))?;
    for entry in Dir::new(copy)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(found)
}

/// `sources` topmost first: one directory of each layer that has it.
pub(super) fn merged_entries(
    sources: &[(usize, Opened)],
    is_root: bool,
) -> io::Result<BTreeMap<OsString, Entry>> {
    let mut entries: BTreeMap<OsString, Entry> = BTreeMap::new();
    // A single layer's directories keep the mark with their other attributes.
    let is_merge = sources.len() > 1;
    for (source, opened) in sources {
        let directory = opened.handle();
        for name in names(directory)? {
            if is_root && name == WORK {
                continue;
            }
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(facts) = unless_gone(stat)? else { continue };
            let is_directory = kind(&facts) == FileType::Directory;
            let is_opaque = is_directory && is_merge && is_opaque(directory, &name);
            match entries.get_mut(&name) {
                None => {
                    let merged = if is_directory { vec![*source] } else { Vec::new() };
                    let is_closed = is_opaque || !is_directory;
                    entries.insert(name, Entry { source: *source, facts, merged, is_closed });
                }
                Some(entry) if entry.is_closed => {}
                Some(entry) if is_directory => {
                    entry.merged.push(*source);
                    entry.is_closed = is_opaque;
                }
                // A directory was made where this layer has something else or nothing.
                Some(entry) => entry.is_closed = true,
            }
        }
    }
    // `is_closed` of what is no directory only ended the search.
    for entry in entries.values_mut() {
        entry.is_closed &= !entry.merged.is_empty() && !is_whiteout(&entry.facts);
    }
    Ok(entries)
}

fn is_opaque(parent: &OwnedFd, name: &OsStr) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => Opened::closed_directory(parent, Path::new(name)),
        other => other.map(Opened::plain),
    };
    let Ok(directory) = directory else { return false };
    let mut value = [0u8; 1];
    matches!(rustix::fs::fgetxattr(directory.handle().as_fd(), OPAQUE, &mut value), Ok(1)) && value == *b"y"
}
