//! Copies of what sandboxes wrote, as one overlay layer: a single layer, or a chain of them merged so that the result
//! over anything is what the chain over it was. Knows overlay's format with `userxattr` (whiteouts are character devices
//! 0/0, `user.overlay.opaque` closes a directory); owns no snapshot or store.
//!
//! The sources are hostile, and may be written to while they are read: every name is opened relative to a descriptor,
//! below its layer and through no link, and what is not a file, directory, link, fifo or whiteout is left out. Kept:
//! modes, owners, times, extended attributes, holes, hard links within one layer.

mod file;
mod reader;
mod walk;

pub use file::Opened;
pub use reader::LayerReader;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a server that runs as root keeps the ids of sandboxes: the first stands for root inside.
pub const ID_BASE: u32 = 100_000;
pub const ID_COUNT: u32 = 65_536;

/// At the top of a workspace's upper; holds overlay's temporary files.
const WORK: &str = ".work";
const OPAQUE: &str = "user.overlay.opaque";
/// A file that changed this shortly before it was copied is copied again: clocks of files tick in milliseconds.
const TICK: Duration = Duration::from_millis(20);

/// A copy in the making: `update`, perhaps once more to bring it up to what the sources are by then, and `finish`. On an
/// error the target is for the caller to remove. All of it blocks.
#[derive(Debug)]
pub struct LayerCopy {
    /// Topmost first.
    sources: Vec<OwnedFd>,
    target: OwnedFd,
    target_path: PathBuf,
    /// What each copied entry was when it was copied; None where a single `update` is enough.
    done: Option<HashMap<PathBuf, Stamp>>,
    /// Where the first name of a file with several lies in the copy.
    links: HashMap<(usize, u64), PathBuf>,
    /// Directories, parents first, whose owner, mode and times are set when nothing is made in them any more.
    directories: Vec<(PathBuf, Stat)>,
}

/// Changes when the entry does.
type Stamp = (usize, u64, i64, i64, u64, i64, u64);

fn stamp(source: usize, facts: &Stat) -> Stamp {
    let (mtime_ns, ctime_ns) = (facts.st_mtime_nsec, facts.st_ctime_nsec);
    (source, facts.st_ino, facts.st_size, facts.st_mtime, mtime_ns, facts.st_ctime, ctime_ns)
}

/// One name of a merged directory.
#[derive(Debug)]
struct Entry {
    source: usize,
    facts: Stat,
    /// Of a directory: the layers it is merged from, topmost first.
    merged: Vec<usize>,
    /// Nothing lower shows through.
    is_closed: bool,
}

fn kind(facts: &Stat) -> FileType {
    FileType::from_raw_mode(facts.st_mode)
}

fn is_whiteout(facts: &Stat) -> bool {
    kind(facts) == FileType::CharacterDevice && facts.st_rdev == 0
}

impl LayerCopy {
    /// `layers` lowest first. Makes `target`, which must not exist.
    pub fn new(layers: &[&Path], target: &Path) -> io::Result<Self> {
        let open = |path: &Path| {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty())
        };
        let sources = layers.iter().rev().map(|path| open(path)).collect::<Result<_, _>>()?;
        std::fs::DirBuilder::new().create(target)?;
        Ok(Self {
            sources,
            target: open(target)?,
            target_path: target.to_owned(),
            done: None,
            links: HashMap::new(),
            directories: Vec::new(),
        })
    }

    /// Remembers what it copies, for a second and last `update`.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.done = Some(HashMap::new());
        self
    }

    /// Copies what is missing or has changed, removes what is gone.
    pub fn update(&mut self) -> io::Result<()> {
        self.links.clear();
        self.directories.clear();
        let all: Vec<usize> = (0..self.sources.len()).collect();
        let root = self.facts_of_root()?;
        let top = Entry { source: 0, facts: root, merged: all, is_closed: false };
        let mut pending = vec![(PathBuf::new(), top)];
        while let Some((path, entry)) = pending.pop() {
            self.directory(path, &entry, &mut pending)?;
        }
        Ok(())
    }

    /// Closes directories that are closed in the sources.
    pub fn finish(self) -> io::Result<()> {
        for (path, facts) in self.directories.iter().rev() {
            let directory = self.open_target(path)?;
            file::set_owner(&directory, facts)?;
            file::set_mode(&directory, facts)?;
            file::set_times(&directory, facts)?;
        }
        Ok(())
    }

    fn facts_of_root(&self) -> io::Result<Stat> {
        let top = self.sources.first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(rustix::fs::fstat(top)?)
    }

    /// One directory: its own facts, its entries, its subdirectories onto the heap.
    fn directory(
        &mut self,
        path: PathBuf,
        entry: &Entry,
        pending: &mut Vec<(PathBuf, Entry)>,
    ) -> io::Result<()> {
        let target = self.open_target(&path)?;
        let sources = self.open_sources(&entry.merged, &path)?;
        if self.is_due(&path, stamp(entry.source, &entry.facts)) {
            let Some(source) = of(&sources, entry.source) else { return Ok(()) };
            file::replace_attributes(source, &target)?;
            if entry.is_closed {
                rustix::fs::fsetxattr(&target, OPAQUE, b"y", rustix::fs::XattrFlags::empty())?;
            }
        }
        let entries = walk::merged_entries(&sources, path.as_os_str().is_empty())?;
        if self.done.is_some() {
            self.remove_what_is_gone(&target, &path, &entries)?;
        }
        for (name, child) in entries {
            let child_path = path.join(&name);
            if kind(&child.facts) == FileType::Directory {
                self.make_directory(&target, &name, &child_path)?;
                pending.push((child_path, child));
            } else {
                let source = of(&sources, child.source).expect("the entry was read from it");
                self.entry(source, &target, &name, child_path, &child)?;
            }
        }
        self.directories.push((path, entry.facts));
        Ok(())
    }

    /// Whether an entry has to be copied, now or again; notes that it is being copied.
    fn is_due(&mut self, path: &Path, stamp: Stamp) -> bool {
        let Some(done) = &mut self.done else { return true };
        if done.get(path) == Some(&stamp) {
            return false;
        }
        let changed = UNIX_EPOCH + Duration::new(u64::try_from(stamp.5).unwrap_or(0), stamp.6 as u32);
        if changed + TICK < SystemTime::now() {
            done.insert(path.to_owned(), stamp);
        } else {
            done.remove(path);
        }
        true
    }

    fn make_directory(&self, target: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<()> {
        let made = rustix::fs::mkdirat(target, name, Mode::RWXU);
        if made != Err(Errno::EXIST) {
            return Ok(made?);
        }
        let facts = rustix::fs::statat(target, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        if kind(&facts) == FileType::Directory {
            return Ok(());
        }
        self.remove(path)?;
        Ok(rustix::fs::mkdirat(target, name, Mode::RWXU)?)
    }

    /// A name that is no directory.
    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        entry: &Entry,
    ) -> io::Result<()> {
        let facts = &entry.facts;
        let has_names = facts.st_nlink > 1 && !is_whiteout(facts);
        let first = has_names.then(|| self.links.get(&(entry.source, facts.st_ino)).cloned()).flatten();
        if !self.is_due(&path, stamp(entry.source, facts)) {
            if has_names {
                self.links.entry((entry.source, facts.st_ino)).or_insert(path);
            }
            return Ok(());
        }
        if self.done.is_some() {
            self.remove(&path)?;
        }
        if let Some(first) = first {
            let linked =
                rustix::fs::linkat(self.target.as_fd(), &first, target, name, rustix::fs::AtFlags::empty());
            if linked.is_ok() {
                return Ok(());
            }
        }
        let is_made = file::copy_entry(source, target, name, facts)?;
        if is_made && has_names {
            self.links.insert((entry.source, facts.st_ino), path);
        }
        Ok(())
    }

    fn remove_what_is_gone(
        &mut self,
        target: &OwnedFd,
        path: &Path,
        entries: &BTreeMap<OsString, Entry>,
    ) -> io::Result<()> {
        for name in walk::names(target)? {
            if !entries.contains_key(&name) {
                self.remove(&path.join(name))?;
            }
        }
        Ok(())
    }

    /// In the copy, whose directories are all ours.
    fn remove(&self, path: &Path) -> io::Result<()> {
        crate::remove_tree(&self.target_path.join(path))
    }

    fn open_target(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(open_below(&self.target, path)?)
    }

    /// A directory of some layers; without those where it is gone, or something else by now.
    fn open_sources(&self, layers: &[usize], path: &Path) -> io::Result<Vec<(usize, Opened)>> {
        let mut opened = Vec::with_capacity(layers.len());
        for layer in layers {
            let directory = match open_below(&self.sources[*layer], path) {
                Err(Errno::ACCESS) => Opened::closed_directory(&self.sources[*layer], path),
                other => other.map(Opened::plain),
            };
            opened.extend(walk::unless_gone(directory)?.map(|directory| (*layer, directory)));
        }
        Ok(opened)
    }
}

fn of(sources: &[(usize, Opened)], layer: usize) -> Option<&OwnedFd> {
    sources.iter().find(|(source, _)| *source == layer).map(|(_, opened)| opened.handle())
}

const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

fn open_below(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().as_bytes().is_empty() { Path::new(".") } else { path };
    openat2(root, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), BELOW)
}

#[cfg(test)]
mod tests;
