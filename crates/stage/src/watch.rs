//! Watches: one inotify instance for all of a sandbox, opened when it is first needed. Trees are walked a few directories
//! at a time between other work, because PID 1 has one thread. A directory is watched before it is read, so that nothing
//! made meanwhile is missed. Paths are those of the sandbox; a failed walk is told, never guessed around.

mod changes;

use crate::files;
use crate::sys::{At, Outcome, fault};
use changes::Changes;
use greenroom_stage::protocol::{Fault, StageResult, UNWATCHED, WATCHED_DIRECTORIES, WATCHES};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changes are gathered this long before they are told.
const GATHER: Duration = Duration::from_millis(20);
/// A turn of the loop gives walks this much time.
const WALK: Duration = Duration::from_millis(1);
const EVENT_BYTES: usize = 64 * 1024;
/// Directories of this name hold what can be made again (https://bford.info/cachedir/).
const CACHE_TAG: &str = "CACHEDIR.TAG";

#[derive(Debug, Default)]
pub(crate) struct Watches {
    inotify: Option<OwnedFd>,
    /// Watched directories, by the kernel's number and by path.
    by_number: HashMap<i32, PathBuf>,
    by_path: BTreeMap<PathBuf, i32>,
    watches: BTreeMap<u64, Watch>,
    walks: VecDeque<Walk>,
    answers: Vec<(u64, StageResult)>,
}

#[derive(Debug)]
struct Watch {
    /// Without links, and as it was asked for.
    root: PathBuf,
    asked: String,
    device: u64,
    /// Directories of its first walk that are not visited yet, and the request that waits for them.
    walking: usize,
    beginning: Option<u64>,
    changes: Changes,
    since: Option<Instant>,
    waiting: Option<u64>,
    is_over: bool,
}

/// A directory to be watched and read.
#[derive(Debug)]
struct Walk {
    path: PathBuf,
    device: u64,
    /// The watch whose first walk this is; else whatever is found is news.
    first_of: Option<u64>,
    is_news: bool,
}

impl Watches {
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Answered by `take_answers` once everything is watched.
    pub(crate) fn begin(&mut self, id: u64, number: u64, asked: &str) {
        match self.try_begin(id, number, asked) {
            Ok(()) => {}
            Err(fault) => self.answers.push((id, StageResult::Failed(fault))),
        }
    }

    fn try_begin(&mut self, id: u64, number: u64, asked: &str) -> Outcome<()> {
        if self.watches.len() >= WATCHES || self.watches.contains_key(&number) {
            return Err(fault("watch", asked, libc::EMFILE));
        }
        let root = std::fs::canonicalize(asked).at("stat", asked)?;
        let facts = rustix::fs::stat(&root).at("stat", asked)?;
        if !FileType::from_raw_mode(facts.st_mode).is_dir() {
            return Err(fault("watch", asked, libc::ENOTDIR));
        }
        if self.inotify.is_none() {
            let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
            self.inotify = Some(inotify::init(flags).at("inotify_init1", asked)?);
        }
        let watch = Watch {
            root: root.clone(),
            asked: asked.trim_end_matches('/').to_owned(),
            device: facts.st_dev,
            walking: 1,
            beginning: Some(id),
            changes: Changes::default(),
            since: None,
            waiting: None,
            is_over: false,
        };
        self.watches.insert(number, watch);
        let walk = Walk { path: root, device: facts.st_dev, first_of: Some(number), is_news: false };
        self.walks.push_back(walk);
        Ok(())
    }

    pub(crate) fn next(&mut self, id: u64, number: u64) {
        match self.watches.get_mut(&number) {
            Some(watch) => watch.waiting = Some(id),
            None => {
                let reason = "no such watch".to_owned();
                self.answers.push((id, StageResult::Invalid { reason }));
            }
        }
    }

    pub(crate) fn end(&mut self, number: u64) {
        if self.watches.remove(&number).is_none() {
            return;
        }
        self.walks.retain(|walk| walk.first_of != Some(number));
        if self.watches.is_empty() {
            *self = Self { answers: std::mem::take(&mut self.answers), ..Self::default() };
            return;
        }
        let unneeded = |path: &PathBuf| !self.watches.values().any(|watch| path.starts_with(&watch.root));
        let unneeded: Vec<PathBuf> = self.by_path.keys().filter(|path| unneeded(path)).cloned().collect();
        unneeded.iter().for_each(|path| self.forget(path));
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.walks.is_empty() {
            return Some(now);
        }
        self.watches.values().filter(|watch| watch.waiting.is_some()).filter_map(Watch::ready_at).min()
    }

    pub(crate) fn take_answers(&mut self, now: Instant) -> Vec<(u64, StageResult)> {
        let mut over = Vec::new();
        for (number, watch) in &mut self.watches {
            if watch.walking == 0
                && let Some(id) = watch.beginning.take()
            {
                self.answers.push((id, StageResult::Done));
            }
            if watch.ready_at().is_some_and(|at| at <= now)
                && let Some(id) = watch.waiting.take()
            {
                let (changes, is_overflow) = watch.changes.take();
                watch.since = None;
                let is_over = watch.is_over;
                self.answers.push((id, StageResult::Changes { changes, is_overflow, is_over }));
                over.extend(is_over.then_some(*number));
            }
        }
        over.into_iter().for_each(|number| self.end(number));
        std::mem::take(&mut self.answers)
    }

    /// Visits directories until this turn's time is up.
    pub(crate) fn step(&mut self, now: Instant) {
        while let Some(walk) = self.walks.pop_front() {
            let first_of = walk.first_of;
            let visited = self.visit(&walk);
            match (visited, first_of) {
                (Ok(()), _) => {}
                (Err(fault), Some(number)) => self.fail(number, fault),
                (Err(_), None) => self.give_up(&walk.path),
            }
            if let Some(watch) = first_of.and_then(|number| self.watches.get_mut(&number)) {
                watch.walking = watch.walking.saturating_sub(1);
            }
            if now.elapsed() >= WALK {
                return;
            }
        }
    }

    /// A watch that could not begin leaves nothing.
    fn fail(&mut self, number: u64, fault: Fault) {
        if let Some(id) = self.watches.get_mut(&number).and_then(|watch| watch.beginning.take()) {
            self.answers.push((id, StageResult::Failed(fault)));
        }
        self.end(number);
    }

    /// There is more to watch than a sandbox may: whoever relies on this path is told, and starts again or does not.
    fn give_up(&mut self, path: &Path) {
        for watch in self.watches.values_mut().filter(|watch| path.starts_with(&watch.root)) {
            watch.changes.is_overflow = true;
            watch.is_over = true;
            watch.since.get_or_insert_with(Instant::now);
        }
    }

    fn is_root(&self, path: &Path) -> bool {
        self.watches.values().any(|watch| watch.root == path)
    }

    fn visit(&mut self, walk: &Walk) -> Outcome<()> {
        let Some(events) = &self.inotify else { return Ok(()) };
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let is_root = walk.first_of.is_some() && self.is_root(&walk.path);
        let directory = match rustix::fs::openat(CWD, &walk.path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(errno) if is_root => return Err(errno).at("open", &walk.path),
            // Gone again, or nobody's business: its parent says so.
            Err(_) => return Ok(()),
        };
        let is_elsewhere = rustix::fs::fstat(&directory).is_ok_and(|facts| facts.st_dev != walk.device);
        let is_cache = || rustix::fs::statat(&directory, CACHE_TAG, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !self.is_root(&walk.path) && (is_elsewhere || is_cache()) {
            return Ok(());
        }
        if self.by_number.len() >= WATCHED_DIRECTORIES && !self.by_path.contains_key(&walk.path) {
            return Err(fault("watch", &walk.path, libc::E2BIG));
        }
        match inotify::add_watch(events, &walk.path, mask()) {
            Ok(number) => self.remember(number, &walk.path),
            Err(Errno::NOSPC) => return Err(fault("inotify_add_watch", &walk.path, libc::ENOSPC)),
            Err(errno) if is_root => return Err(errno).at("inotify_add_watch", &walk.path),
            Err(_) => return Ok(()),
        }
        self.read_directory(&directory, walk);
        Ok(())
    }

    fn read_directory(&mut self, directory: &OwnedFd, walk: &Walk) {
        let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || files::is_upload(name) {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => is_directory_at(directory, entry.file_name()),
                _ => false,
            };
            let path = walk.path.join(OsStr::from_bytes(name));
            if walk.is_news {
                self.tell(&path, false);
            }
            if is_directory && is_followed(name) {
                let below = Walk { path, ..*walk };
                self.enqueue(below);
            }
        }
    }

    fn enqueue(&mut self, walk: Walk) {
        if let Some(watch) = walk.first_of.and_then(|number| self.watches.get_mut(&number)) {
            watch.walking += 1;
        }
        // The bound is checked by `visit`, which knows whom to tell.
        if self.walks.len() <= WATCHED_DIRECTORIES {
            self.walks.push_back(walk);
        } else {
            self.give_up(&walk.path);
        }
    }

    fn remember(&mut self, number: i32, path: &Path) {
        if let Some(former) = self.by_number.insert(number, path.to_owned())
            && former != path
        {
            self.by_path.remove(&former);
        }
        if let Some(former) = self.by_path.insert(path.to_owned(), number)
            && former != number
        {
            self.by_number.remove(&former);
        }
    }

    /// Stops watching a directory and everything below it.
    fn forget(&mut self, path: &Path) {
        let below = self.by_path.range(path.to_owned()..).take_while(|(one, _)| one.starts_with(path));
        let below: Vec<(PathBuf, i32)> = below.map(|(path, number)| (path.clone(), *number)).collect();
        for (path, number) in below {
            self.by_path.remove(&path);
            self.by_number.remove(&number);
            if let Some(events) = &self.inotify {
                // The kernel forgot it already where the directory is gone.
                let _ = inotify::remove_watch(events, number);
            }
        }
    }

    fn tell(&mut self, path: &Path, is_removed: bool) {
        for watch in self.watches.values_mut() {
            let Ok(below) = path.strip_prefix(&watch.root) else { continue };
            let text = if below.as_os_str().is_empty() {
                watch.asked.clone()
            } else {
                format!("{}/{}", watch.asked, below.to_string_lossy())
            };
            watch.changes.note(&text, is_removed);
            watch.since.get_or_insert_with(Instant::now);
        }
    }

    /// Takes what the kernel has to say, a bounded piece of it.
    pub(crate) fn read(&mut self) {
        let Some(events) = self.inotify.as_ref().and_then(|events| events.try_clone().ok()) else { return };
        let mut buffer = vec![MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        loop {
            let Ok(event) = reader.next() else { return };
            let name = event.file_name().map(|name| name.to_bytes().to_owned());
            let (number, flags) = (event.wd(), event.events());
            self.event(number, flags, name);
            if reader.is_buffer_empty() {
                return;
            }
        }
    }

    fn event(&mut self, number: i32, flags: ReadFlags, name: Option<Vec<u8>>) {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.lost();
        }
        let Some(directory) = self.by_number.get(&number).cloned() else { return };
        let Some(name) = name else { return self.itself(&directory, flags) };
        if files::is_upload(&name) {
            return;
        }
        let path = directory.join(OsStr::from_bytes(&name));
        let is_directory = flags.contains(ReadFlags::ISDIR);
        let is_removed = flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
        self.tell(&path, is_removed);
        if is_directory && is_removed {
            self.forget(&path);
        }
        let is_new = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        if is_directory && is_new && is_followed(&name) {
            let device = self.device_of(&path);
            self.enqueue(Walk { path, device, first_of: None, is_news: true });
        } else if is_new && name == CACHE_TAG.as_bytes() && !self.is_root(&directory) {
            self.forget(&directory);
        }
    }

    /// Of the watch that the path belongs to.
    fn device_of(&self, path: &Path) -> u64 {
        let mut watches = self.watches.values().filter(|watch| path.starts_with(&watch.root));
        watches.next().map_or(0, |watch| watch.device)
    }

    /// A watched directory itself is gone. What lay below it was told by its own events, and it by its parent's, except
    /// where a watch begins.
    fn itself(&mut self, directory: &Path, flags: ReadFlags) {
        if !flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
            return;
        }
        if self.is_root(directory) {
            self.tell(directory, true);
            for watch in self.watches.values_mut().filter(|watch| watch.root == directory) {
                watch.is_over = true;
            }
        }
        if !flags.contains(ReadFlags::MOVE_SELF) {
            self.forget(directory);
        }
    }

    /// The kernel dropped events: everybody is told, and directories made meanwhile are looked for.
    fn lost(&mut self) {
        for watch in self.watches.values_mut() {
            watch.changes.is_overflow = true;
            watch.since.get_or_insert_with(Instant::now);
            let walk =
                Walk { path: watch.root.clone(), device: watch.device, first_of: None, is_news: false };
            self.walks.push_back(walk);
        }
    }
}

impl Watch {
    fn ready_at(&self) -> Option<Instant> {
        if self.changes.is_empty() && !self.is_over {
            return None;
        }
        self.since.map(|since| since + GATHER)
    }
}

fn mask() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW
        | WatchFlags::EXCL_UNLINK
}

fn is_followed(name: &[u8]) -> bool {
    !UNWATCHED.iter().any(|unwatched| unwatched.as_bytes() == name)
}

fn is_directory_at(directory: &OwnedFd, name: &std::ffi::CStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode).is_dir())
}
