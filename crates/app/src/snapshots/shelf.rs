//! Snapshots on the disk: `snapshots/<session>/<snapshot>`, its description beside it, and which session needs which
//! snapshot of another. Owns their names and their deletion; never decides when one is taken. A crash leaves at most a
//! mark (`.open`) on what was being made or dropped: the session's log then says which it is.
//!
//! What a session needs of others is written in its own directory, so that it goes with the session.

use greenroom_domain::{ErrorCode, ImageId, Problem, SessionId, SnapshotId, TurnId};
use greenroom_sandbox::Storage;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const VERSION: u32 = 1;
const DESCRIPTION_LIMIT: u64 = 64 * 1024;
const OPEN: &str = ".open";
const NEEDS: &str = "needs-";

/// Where a snapshot lies: with the session that it was taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) owner: SessionId,
    pub(crate) snapshot: SnapshotId,
}

/// What a snapshot is of: everything that decides whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    version: u32,
    pub(crate) session: SessionId,
    pub(crate) image: ImageId,
    pub(crate) runtime_version: String,
    pub(crate) turn: Option<TurnId>,
    pub(crate) at_ms: i64,
}

impl Description {
    pub(crate) fn new(
        session: SessionId,
        image: ImageId,
        runtime_version: &str,
        turn: Option<TurnId>,
        at_ms: i64,
    ) -> Self {
        Self { version: VERSION, session, image, runtime_version: runtime_version.to_owned(), turn, at_ms }
    }
}

#[derive(Debug)]
pub(crate) struct Shelf {
    storage: Storage,
    /// By the session that needs them: at most one of its own, and what it was forked from.
    needs: Mutex<HashMap<SessionId, Vec<Place>>>,
}

impl Shelf {
    /// Reads which sessions need what. Blocking.
    pub(crate) fn open(storage: Storage) -> io::Result<Self> {
        let mut needs = HashMap::new();
        for session in sessions_in(&storage.root().join("snapshots"))? {
            let places = needs_in(&storage.snapshots(&session.to_string()))?;
            if !places.is_empty() {
                needs.insert(session, places);
            }
        }
        Ok(Self { storage, needs: Mutex::new(needs) })
    }

    pub(crate) fn directory(&self, session: SessionId) -> PathBuf {
        self.storage.snapshots(&session.to_string())
    }

    pub(crate) fn path(&self, place: Place) -> PathBuf {
        self.directory(place.owner).join(place.snapshot.to_string())
    }

    fn beside(&self, place: Place, suffix: &str) -> PathBuf {
        self.directory(place.owner).join(format!("{}{suffix}", place.snapshot))
    }

    /// Marks a snapshot as being made, or being dropped, until the log says so.
    pub(crate) fn open_mark(&self, place: Place) -> io::Result<()> {
        fs::create_dir_all(self.directory(place.owner))?;
        File::create(self.beside(place, OPEN)).map(drop)
    }

    pub(crate) fn close_mark(&self, place: Place) {
        // One that stays is looked at again at the next start.
        let _ = fs::remove_file(self.beside(place, OPEN));
    }

    /// Written before the sync that makes both durable.
    pub(crate) fn describe(&self, place: Place, description: &Description) -> io::Result<()> {
        write_description(&self.beside(place, ".json"), description)
    }

    /// The directory to begin from. A snapshot that is not whole, or not for this version, is refused with the reason.
    pub(crate) fn check(&self, place: Place, runtime_version: &str) -> Result<Description, Problem> {
        let description = read_description(&self.beside(place, ".json"));
        check(&self.path(place), description, runtime_version)
    }

    /// A session's files begin from a snapshot, its own or another's: it stays until the session is deleted, or begins
    /// from another of its own. Synced.
    pub(crate) fn need(&self, session: SessionId, place: Place) -> io::Result<()> {
        let directory = self.directory(session);
        fs::create_dir_all(&directory)?;
        File::create(directory.join(need_name(place)))?;
        for directory in [directory.as_path(), directory.parent().unwrap_or(&directory)] {
            File::open(directory)?.sync_all()?;
        }
        let mut needs = self.lock();
        let places = needs.entry(session).or_default();
        if place.owner == session {
            for earlier in places.iter().filter(|earlier| earlier.owner == session && **earlier != place) {
                remove_file(&directory.join(need_name(*earlier)))?;
            }
            places.retain(|earlier| earlier.owner != session);
        }
        if !places.contains(&place) {
            places.push(place);
        }
        Ok(())
    }

    /// What a session was forked from.
    pub(crate) fn base_of(&self, session: SessionId) -> Option<Place> {
        self.lock().get(&session)?.iter().find(|place| place.owner != session).copied()
    }

    pub(crate) fn is_needed(&self, place: Place) -> bool {
        self.lock().values().flatten().any(|needed| *needed == place)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Vec<Place>>> {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Out of sight when this returns, with all that lies beside it.
    pub(crate) fn discard(&self, place: Place) -> io::Result<()> {
        self.storage.discard(&self.path(place))?;
        for suffix in [".json", OPEN] {
            remove_file(&self.beside(place, suffix))?;
        }
        Ok(())
    }

    /// All of a deleted session, but what others need; and what only it needed of one that is deleted too.
    pub(crate) fn discard_session(
        &self,
        session: SessionId,
        is_alive: impl Fn(SessionId) -> bool,
    ) -> io::Result<()> {
        let needed = self.lock().remove(&session).unwrap_or_default();
        let directory = self.directory(session);
        let mut is_empty = true;
        for entry in entries_of(&directory)? {
            let name = entry.to_string_lossy().into_owned();
            let stem = name.split('.').next().unwrap_or_default();
            let snapshot: Option<SnapshotId> = stem.parse().ok();
            if snapshot.is_some_and(|snapshot| self.is_needed(Place { owner: session, snapshot })) {
                is_empty = false;
            } else {
                self.storage.discard(&directory.join(&name))?;
            }
        }
        if is_empty {
            self.remove_if_empty(session)?;
        }
        for place in needed {
            if place.owner != session && !is_alive(place.owner) && !self.is_needed(place) {
                self.discard(place)?;
                self.remove_if_empty(place.owner)?;
            }
        }
        Ok(())
    }

    fn remove_if_empty(&self, session: SessionId) -> io::Result<()> {
        match fs::remove_dir(self.directory(session)) {
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        }
    }

    /// Sessions with something on the shelf.
    pub(crate) fn sessions(&self) -> io::Result<Vec<SessionId>> {
        sessions_in(&self.storage.root().join("snapshots"))
    }

    /// Snapshots of a session, oldest first, each with whether it was being made or dropped when the server ended.
    pub(crate) fn snapshots(&self, session: SessionId) -> io::Result<Vec<(SnapshotId, bool)>> {
        let names = entries_of(&self.directory(session))?;
        let names: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let is_open = |id: &SnapshotId| names.iter().any(|name| *name == format!("{id}{OPEN}"));
        let mut ids: Vec<SnapshotId> =
            names.iter().filter_map(|name| name.split('.').next()?.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into_iter().map(|id| (id, is_open(&id))).collect())
    }
}

pub(crate) fn write_description(path: &Path, description: &Description) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(description).map_err(io::Error::other)?)
}

pub(crate) fn read_description(path: &Path) -> Option<Description> {
    if fs::metadata(path).ok()?.len() > DESCRIPTION_LIMIT {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// All or nothing.
pub(crate) fn check(
    files: &Path,
    description: Option<Description>,
    runtime_version: &str,
) -> Result<Description, Problem> {
    let damaged = |why: &str| {
        Problem::new(ErrorCode::SnapshotDamaged, format!("A snapshot cannot be used: {why}."))
            .hint("The next older one is used where there is one.")
    };
    if !files.is_dir() {
        return Err(damaged("its files are gone"));
    }
    let description = description.ok_or_else(|| damaged("its description is missing or unreadable"))?;
    if description.version != VERSION {
        return Err(damaged("it was made by another version of this server"));
    }
    if description.runtime_version != runtime_version {
        let made_by = &description.runtime_version;
        return Err(damaged(&format!(
            "it was made for the runtime {made_by}, and this is {runtime_version}"
        )));
    }
    Ok(description)
}

fn need_name(place: Place) -> String {
    format!("{NEEDS}{}-{}", place.owner, place.snapshot)
}

fn needs_in(directory: &Path) -> io::Result<Vec<Place>> {
    let place = |name: &std::ffi::OsString| {
        let (owner, snapshot) = name.to_str()?.strip_prefix(NEEDS)?.split_once('-')?;
        Some(Place { owner: owner.parse().ok()?, snapshot: snapshot.parse().ok()? })
    };
    Ok(entries_of(directory)?.iter().filter_map(place).collect())
}

fn sessions_in(directory: &Path) -> io::Result<Vec<SessionId>> {
    let names = entries_of(directory)?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Names in a directory; none when it is not there.
fn entries_of(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    match directory.read_dir() {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
        Err(error) if is_absent(&error) => Ok(vec![]),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
