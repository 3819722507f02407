//! Session files made in advance: making one takes four times as long as moving one into place, and a sync of its own. The
//! first few are open too, which takes as long as moving one and writing its first entries.
//!
//! An open one is moved with its whole directory, so the file, its journal and its index stay beside each other, and whoever
//! opens it by its new name finds the same ones. SQLite goes by its open files from then on; by the name it had it only looks
//! for the directory to sync with a new journal's first sync, and does without where there is none: whoever moves it syncs that.

use crate::log::LogError;
use crate::sqlite_log::{FILE, from_io, is_session, make_empty, open_empty};
use rusqlite::Connection;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Each takes 24 KB.
const KEPT: usize = 64;
/// Made before the server starts; the others soon afterwards.
const FIRST: usize = 8;
/// Of those kept. Each has three open files and 60 KB of memory.
const OPEN: usize = 8;
/// After a session was made, so that its first command does not share the disk with spares.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Spares {
    root: PathBuf,
    ready: Mutex<Ready>,
    next: AtomicU64,
    is_refilling: AtomicBool,
    /// An empty session file's bytes.
    template: Vec<u8>,
    is_closed: AtomicBool,
    /// Held while spares are made in the background.
    filling: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Ready {
    open: Vec<Spare>,
    closed: Vec<PathBuf>,
}

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    connection: Connection,
}

impl Spares {
    /// Beside the sessions of `sessions`, so that moving is a rename. What an earlier process left is removed.
    pub(crate) fn open(sessions: &Path) -> std::io::Result<Self> {
        let root = sessions.join(".spare");
        crate::remove_tree(&root)?;
        std::fs::create_dir(&root)?;
        let first = root.join("template");
        make_empty(&first).map_err(std::io::Error::other)?;
        let template = std::fs::read(first.join(FILE))?;
        let spares = Self {
            root,
            ready: Mutex::default(),
            next: AtomicU64::new(0),
            is_refilling: false.into(),
            is_closed: false.into(),
            filling: Arc::default(),
            template,
        };
        spares.fill(FIRST);
        Ok(spares)
    }

    /// Puts an empty session file where none is, open for its owner. It is durable there once `directory` and its parent are
    /// synced.
    pub(crate) fn move_to(&self, directory: &Path) -> Result<Connection, LogError> {
        let spare = self.take()?;
        match std::fs::rename(&spare.path, directory) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                let refused = match is_session(directory) {
                    Ok(false) => None,
                    Ok(true) => Some(LogError::Exists),
                    Err(error) => Some(error),
                };
                if let Some(error) = refused {
                    self.ready().open.push(spare);
                    return Err(error);
                }
                crate::remove_tree(directory)
                    .and_then(|()| std::fs::rename(&spare.path, directory))
                    .map_err(|error| from_io(&error))?;
            }
            moved => moved.map_err(|error| from_io(&error))?,
        }
        Ok(spare.connection)
    }

    fn take(&self) -> Result<Spare, LogError> {
        let mut ready = self.ready();
        if let Some(spare) = ready.open.pop() {
            return Ok(spare);
        }
        let closed = ready.closed.pop();
        drop(ready);
        match closed {
            Some(path) => open(path),
            None => open(self.make()?),
        }
    }

    /// Makes what is missing, in the background, one call at a time.
    pub(crate) fn refill(spares: &Arc<Self>) {
        if spares.is_refilling.swap(true, Ordering::Relaxed) {
            return;
        }
        // Nobody needs spares of a directory that nobody has any more.
        let spares = Arc::downgrade(spares);
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            let Some(filling) = spares.upgrade().map(|spares| Arc::clone(&spares.filling)) else { return };
            let _filling = filling.lock().await;
            let filled = Weak::clone(&spares);
            // What was not made is made by whoever needs it, who then hears the error.
            let fill = move || while filled.upgrade().is_some_and(|spares| spares.add(KEPT)) {};
            let _ = tokio::task::spawn_blocking(fill).await;
            if let Some(spares) = spares.upgrade() {
                spares.is_refilling.store(false, Ordering::Relaxed);
            }
        });
    }

    fn fill(&self, count: usize) {
        while self.add(count) {}
    }

    /// One more, where there are fewer than these.
    fn add(&self, count: usize) -> bool {
        let mut ready = self.ready();
        let (open_ones, closed_ones) = (ready.open.len(), ready.closed.len());
        if self.is_closed.load(Ordering::Acquire) || open_ones + closed_ones >= count && open_ones >= OPEN {
            return false;
        }
        let from = (open_ones < OPEN).then(|| ready.closed.pop()).flatten();
        drop(ready);
        let Ok(path) = from.map_or_else(|| self.make(), Ok) else { return false };
        if open_ones >= OPEN {
            self.ready().closed.push(path);
            return true;
        }
        let Ok(spare) = open(path) else { return false };
        self.ready().open.push(spare);
        true
    }

    /// Nothing is made in the background once this has returned.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        drop(self.filling.lock().await);
    }

    /// Synced, but not its place, which changes.
    fn make(&self) -> Result<PathBuf, LogError> {
        let path = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let made = std::fs::create_dir(&path)
            .and_then(|()| File::create_new(path.join(FILE)))
            .and_then(|mut file| file.write_all(&self.template).and_then(|()| file.sync_all()));
        made.map(|()| path).map_err(|error| from_io(&error))
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: PathBuf) -> Result<Spare, LogError> {
    let connection = open_empty(&path)?;
    Ok(Spare { path, connection })
}
