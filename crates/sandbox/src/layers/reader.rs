//! Reading a finished layer entry by entry, for whoever writes it down in another form. The same rules as for copies:
//! every name is opened below its layer and through no link.

use super::file::{Opened, XATTR_BYTES, attribute_names};
use super::{WORK, kind, open_below, walk};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A layer that nobody writes to any more.
#[derive(Debug)]
pub struct LayerReader {
    root: OwnedFd,
    /// Paths that `advance` has yet to come to, the next one last.
    pending: Vec<PathBuf>,
}

impl LayerReader {
    pub fn open(layer: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, layer, flags, Mode::empty())?;
        Ok(Self { root, pending: vec![PathBuf::new()] })
    }

    /// The next path with its facts: each directory before what is in it, names in the order of their bytes. The first
    /// is the layer's own directory, an empty path.
    pub fn advance(&mut self) -> io::Result<Option<(PathBuf, Stat)>> {
        let Some(path) = self.pending.pop() else { return Ok(None) };
        let facts = match self.split(&path)? {
            None => rustix::fs::fstat(&self.root)?,
            Some((parent, name)) => rustix::fs::statat(parent.handle(), &name, AtFlags::SYMLINK_NOFOLLOW)?,
        };
        if kind(&facts) == FileType::Directory {
            let mut names = walk::names(self.directory(&path)?.handle())?;
            names.retain(|name| !path.as_os_str().is_empty() || name != WORK);
            names.sort_unstable_by(|a, b| b.cmp(a));
            self.pending.extend(names.into_iter().map(|name| path.join(name)));
        }
        Ok(Some((path, facts)))
    }

    pub fn directory(&self, path: &Path) -> io::Result<Opened> {
        match open_below(&self.root, path) {
            Err(rustix::io::Errno::ACCESS) => Ok(Opened::closed_directory(&self.root, path)?),
            other => Ok(Opened::plain(other?)),
        }
    }

    pub fn file(&self, path: &Path) -> io::Result<Opened> {
        let (parent, name) = self.split(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        Ok(Opened::file(parent.handle(), &name)?)
    }

    /// Where a link leads, byte for byte.
    pub fn link(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (parent, name) = self.split(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        Ok(rustix::fs::readlinkat(parent.handle(), name, Vec::new())?.into_bytes())
    }

    /// Extended attributes in the order of their names. What the file system does not give is not the sandbox's.
    pub fn attributes(&self, of: &Opened) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        use rustix::io::Errno;
        let mut found = Vec::new();
        for name in attribute_names(of.handle())?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = Vec::with_capacity(XATTR_BYTES);
            match rustix::fs::fgetxattr(of.handle(), name, rustix::buffer::spare_capacity(&mut value)) {
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => continue,
                other => other?,
            };
            found.push((OsString::from_vec(name.to_vec()), value));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The open directory that a path lies in, and its name there; `None` of the layer's own directory.
    fn split(&self, path: &Path) -> io::Result<Option<(Opened, OsString)>> {
        let Some(name) = path.file_name() else { return Ok(None) };
        let parent = path.parent().filter(|parent| !parent.as_os_str().as_bytes().is_empty());
        Ok(Some((self.directory(parent.unwrap_or(Path::new("")))?, name.to_owned())))
    }
}
