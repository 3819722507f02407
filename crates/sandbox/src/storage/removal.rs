//! Removes trees that sandboxes wrote: of any depth, with neither a deep stack nor a descriptor for each level, and with
//! directories that their owner closed. Follows no link. Nobody else writes to the tree meanwhile.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, chmodat, fchmod, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

/// Directories below are moved up to the top first, and removed from there.
const DEEP: usize = 64;
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a file or a directory with everything in it; one that is not there is fine. Trees hold directories without
/// permissions (overlay's work directory, package caches made read-only): those of this user are opened.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(CWD, path)
}

/// The same of what has this name in an open directory.
pub fn remove_tree_at(parent: impl AsFd, name: impl AsRef<Path>) -> io::Result<()> {
    let (parent, name) = (parent.as_fd(), name.as_ref());
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // A directory, by Linux and by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = Top { directory: &opened(parent, name)?, moved: 0 };
    top.remove_all()?;
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

struct Top<'a> {
    directory: &'a OwnedFd,
    /// Names given so far.
    moved: u64,
}

impl Top<'_> {
    fn remove_all(mut self) -> rustix::io::Result<()> {
        loop {
            let before = self.moved;
            self.clear(self.directory, 0)?;
            if self.moved == before {
                return Ok(());
            }
        }
    }

    /// Removes what is in a directory. Stops where it is too deep: that lies at the top then.
    fn clear(&mut self, directory: &OwnedFd, depth: usize) -> rustix::io::Result<()> {
        let mut entries = Dir::read_from(directory)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if !is_directory(directory, name, entry.file_type())? {
                unlinkat(directory, name, AtFlags::empty())?;
            } else if depth == DEEP {
                self.move_up(directory, name)?;
            } else {
                self.clear(&opened(directory.as_fd(), name)?, depth + 1)?;
                unlinkat(directory, name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, directory: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
        // Moving a directory writes to it: its parent changes.
        drop(opened(directory.as_fd(), name)?);
        loop {
            self.moved += 1;
            let free = CString::new(format!(".deep-{}", self.moved)).expect("no NUL in it");
            match renameat_with(directory, name, self.directory, &free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }
}

fn is_directory(parent: &OwnedFd, name: &CStr, kind: FileType) -> rustix::io::Result<bool> {
    if kind != FileType::Unknown {
        return Ok(kind == FileType::Directory);
    }
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Opened so that what is in it can be listed and removed.
fn opened<P: rustix::path::Arg + Copy>(parent: BorrowedFd<'_>, name: P) -> rustix::io::Result<OwnedFd> {
    let directory = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, DIRECTORY, Mode::empty())?
        }
        other => other?,
    };
    if !rustix::process::geteuid().is_root() {
        // Of another user: what follows says that it cannot be removed.
        let _ = fchmod(&directory, Mode::RWXU);
    }
    Ok(directory)
}
