//! Reading one directory of several layers as overlay would show it.

use super::{Entry, LayerCopy, OPAQUE, WORK, is_whiteout, kind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
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
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(found)
}

impl LayerCopy {
    /// `layers` topmost first, each with a directory at `path`.
    pub(super) fn merged_entries(
        &self,
        path: &Path,
        layers: &[usize],
    ) -> io::Result<BTreeMap<OsString, Entry>> {
        let mut entries: BTreeMap<OsString, Entry> = BTreeMap::new();
        for (position, source) in layers.iter().enumerate() {
            let has_lower = position + 1 < layers.len();
            let Some(directory) = self.open_source(*source, path)? else { continue };
            for name in names(&directory)? {
                if path.as_os_str().is_empty() && name == WORK {
                    continue;
                }
                let stat = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW);
                let Some(facts) = unless_gone(stat)? else { continue };
                let is_directory = kind(&facts) == FileType::Directory;
                let is_opaque = is_directory && has_lower && is_opaque(&directory, &name);
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
}

fn is_opaque(parent: &OwnedFd, name: &OsStr) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(parent, name, flags, Mode::empty()) else { return false };
    let mut value = [0u8; 1];
    matches!(rustix::fs::fgetxattr(directory.as_fd(), OPAQUE, &mut value), Ok(1)) && value == *b"y"
}
