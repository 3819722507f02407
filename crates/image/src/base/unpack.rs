//! Applies the layers of an image, one after the other, to a directory that becomes a root file system. Every path is
//! resolved by the kernel with that directory as its root (openat2, `RESOLVE_IN_ROOT`), so that neither `..` nor a link of
//! an earlier layer leads out of it. Devices, pipes and sockets are left out; whiteouts (OCI image specification, "Layer
//! Filesystem Changeset") are applied first, because they are about the layers below.

mod metered;

pub(crate) use metered::each as each_metered;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use tar::{Entry, EntryType};

const MOST_ENTRIES: u64 = 2_000_000;
const MOST_BYTES: u64 = 64 << 30;
const MOST_DEPTH: usize = 128;
const HIDES_ALL: &str = ".wh..wh..opq";
const HIDES: &str = ".wh.";

pub(super) struct Root {
    root: OwnedFd,
    is_root: bool,
    entries: u64,
    bytes: u64,
    left_out: u64,
}

impl Root {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
        Ok(Self { root, is_root: rustix::process::geteuid().is_root(), entries: 0, bytes: 0, left_out: 0 })
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// One layer: a tar, plain or compressed by gzip.
    pub(super) fn apply(&mut self, layer: &Path) -> io::Result<()> {
        let mut bytes = 0_u64;
        metered::each(decompressed(layer)?, |entry| {
            self.count()?;
            // Also of what is not a file: it is passed over byte by byte.
            bytes = bytes.saturating_add(entry.size());
            within_bounds(bytes)?;
            match parts(&entry.path()?)? {
                Some(parts) => self.whiteout(&parts),
                None => Ok(()),
            }
        })?;
        metered::each(decompressed(layer)?, |entry| match parts(&entry.path()?)? {
            Some(parts) => self.entry(entry, &parts),
            None => Ok(()),
        })
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        remove(&self.root, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.root, name, flags, Mode::from_raw_mode(0o644))?;
        io::Write::write_all(&mut File::from(file), bytes)
    }

    fn count(&mut self) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MOST_ENTRIES} entries")));
        }
        Ok(())
    }

    fn whiteout(&self, parts: &[String]) -> io::Result<()> {
        let Some((name, parent)) = parts.split_last() else { return Ok(()) };
        let Some(hidden) = name.strip_prefix(HIDES) else { return Ok(()) };
        let Ok(parent) = self.open_directory(parent) else { return Ok(()) };
        if name != HIDES_ALL {
            return remove_checked(&parent, hidden);
        }
        let listed = rustix::fs::Dir::read_from(&parent)?;
        for child in listed {
            let child = child?.file_name().to_string_lossy().into_owned();
            if child != "." && child != ".." {
                remove(&parent, &child)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, parts: &[String]) -> io::Result<()> {
        let Some((name, parent)) = parts.split_last() else { return Ok(()) };
        if name.starts_with(HIDES) {
            return Ok(());
        }
        let kind = entry.header().entry_type();
        let parent = self.make_directory(parent)?;
        match kind {
            EntryType::Directory => self.directory(entry, &parent, name),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &parent, name)
            }
            EntryType::Symlink => {
                let Some(target) = entry.link_name()? else { return Ok(()) };
                remove(&parent, name)?;
                rustix::fs::symlinkat(&*target, &parent, name.as_str())?;
                self.own(entry, &parent, name)
            }
            EntryType::Link => {
                let Some(source) = entry.link_name()?.and_then(|path| self::parts(&path).transpose()) else {
                    return Ok(());
                };
                self.link(&source?, &parent, name)
            }
            _ => {
                self.left_out += 1;
                Ok(())
            }
        }
    }

    fn directory(&self, entry: &Entry<'_, impl Read>, parent: &OwnedFd, name: &str) -> io::Result<()> {
        let is_there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory);
        if !is_there {
            remove(parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        }
        self.own(entry, parent, name)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&made, self.mode(entry, 0o700)?)?;
        Ok(())
    }

    fn file(&mut self, entry: &mut Entry<'_, impl Read>, parent: &OwnedFd, name: &str) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(entry.size());
        within_bounds(self.bytes)?;
        remove(parent, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        let size = entry.size();
        let copied = io::copy(&mut entry.by_ref().take(size), &mut file)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends in the middle of a file",
            ));
        }
        self.own(entry, parent, name)?;
        // After the owner: a change of owner takes the bits of setuid away.
        rustix::fs::fchmod(&file, self.mode(entry, 0)?)?;
        let seconds = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        Ok(())
    }

    /// The source itself is not followed; what lies above it is resolved inside.
    fn link(&self, source: &[String], parent: &OwnedFd, name: &str) -> io::Result<()> {
        let Some((source_name, source_parent)) = source.split_last() else { return Ok(()) };
        let source_parent = self.open_directory(source_parent)?;
        let facts = rustix::fs::statat(&source_parent, source_name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok_and(|there| there.st_ino == facts.st_ino && there.st_dev == facts.st_dev) {
            return Ok(());
        }
        remove(parent, name)?;
        rustix::fs::linkat(&source_parent, source_name.as_str(), parent, name, AtFlags::empty())?;
        Ok(())
    }

    fn mode(&self, entry: &Entry<'_, impl Read>, least: u32) -> io::Result<Mode> {
        // An ordinary user must be able to remove it again, and owns every file of it.
        let least = if self.is_root { 0 } else { least };
        Ok(Mode::from_raw_mode((entry.header().mode()? & 0o7777) | least))
    }

    fn own(&self, entry: &Entry<'_, impl Read>, parent: &OwnedFd, name: &str) -> io::Result<()> {
        if !self.is_root {
            return Ok(());
        }
        let id = |id: io::Result<u64>| -> io::Result<u32> {
            let id = id?;
            // What a sandbox has no name for is nobody's.
            Ok(u32::try_from(id).ok().filter(|id| *id < 65_536).unwrap_or(65_534))
        };
        let (uid, gid) = (Uid::from_raw(id(entry.header().uid())?), Gid::from_raw(id(entry.header().gid())?));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn open_directory(&self, parts: &[String]) -> io::Result<OwnedFd> {
        let path = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    /// Archives may leave parents out.
    fn make_directory(&self, parts: &[String]) -> io::Result<OwnedFd> {
        match self.open_directory(parts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (name, parent) = parts.split_last().expect("the root is there");
        let above = self.make_directory(parent)?;
        match rustix::fs::mkdirat(&above, name.as_str(), Mode::from_raw_mode(0o755)) {
            // A link that leads nowhere: what was meant by it cannot be known.
            Err(rustix::io::Errno::EXIST) => {
                remove(&above, name)?;
                rustix::fs::mkdirat(&above, name.as_str(), Mode::from_raw_mode(0o755))?;
            }
            other => other?,
        }
        self.open_directory(parts)
    }
}

/// A file below a directory, reached over no link at all.
pub(super) fn open_inside(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    Ok(File::from(rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)?))
}

/// The names of a path, without `.` and a leading `/`. `..` is refused: no honest archive has it. `None`: the root itself.
fn parts(path: &Path) -> io::Result<Option<Vec<String>>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                let name = name.to_str().ok_or_else(|| refused(path))?;
                parts.push(name.to_owned());
            }
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused(path)),
        }
    }
    if parts.len() > MOST_DEPTH {
        return Err(refused(path));
    }
    Ok((!parts.is_empty()).then_some(parts))
}

fn refused(path: &Path) -> io::Error {
    io::Error::other(format!("the path {:?} is refused", path.to_string_lossy()))
}

fn remove_checked(parent: &OwnedFd, name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(refused(Path::new(name)));
    }
    remove(parent, name)
}

/// File, link or whole tree; what is not there is gone already. Links in the tree are not followed.
fn remove(parent: &OwnedFd, name: &str) -> io::Result<()> {
    greenroom_sandbox::remove_tree_at(parent, name)
}

fn within_bounds(bytes: u64) -> io::Result<()> {
    if bytes > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {} GiB", MOST_BYTES >> 30)));
    }
    Ok(())
}

pub(super) fn decompressed(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let length = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let file = BufReader::with_capacity(256 * 1024, file);
    match &magic[..length] {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Err(io::Error::other("layers compressed by zstd are not read; use gzip")),
        _ => Ok(Box::new(file)),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
