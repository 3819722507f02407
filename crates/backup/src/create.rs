//! Making a backup. The order is the crate's: see there.

use crate::files::{self, Kind, Target};
use crate::manifest::{FORMAT, Manifest, RepositoryCut, SessionCut};
use crate::{Error, Result, io, place, repository, sql};
use greenroom_domain::SessionId;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const PARTIAL: &str = ".partial-";
const DIRECTORY: &str = "greenroom.db";
const SETTINGS: &str = "greenroom.toml";

#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// A data directory, with or without a running server.
    pub data: &'a Path,
    /// Where backups lie; made when missing.
    pub to: &'a Path,
    /// With the vault's key, and so with every secret of the installation.
    pub with_key: bool,
    pub version: &'a str,
}

#[derive(Clone, Debug)]
pub struct Made {
    pub path: PathBuf,
    pub manifest: Manifest,
}

/// Whole or not at all: what a crash leaves is removed by the next.
pub fn create(wanted: &Wanted<'_>) -> Result<Made> {
    let Wanted { data, to, .. } = *wanted;
    if !data.join(DIRECTORY).exists() {
        return Err(Error::NoData { path: data.to_owned() });
    }
    files::make_directory(to).map_err(io("making", to))?;
    let _lock = lock(to)?;
    place::remove_partial(to)?;
    let began_at_ms = now_ms();
    let name = place::name_of(began_at_ms);
    let partial = to.join(format!("{PARTIAL}{name}"));
    files::make_directory(&partial).map_err(io("making", &partial))?;
    let before =
        place::list(to)?.into_iter().rev().find_map(|known| Some((known.path, known.manifest.ok()?)));
    let before = before.as_ref().map(|(path, manifest)| (path.clone(), manifest));
    let mut target = Target { root: &partial, before, files: vec![] };
    let parts = copy_parts(&mut target, wanted)?;
    let mut stored = target.files;
    stored.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = Manifest {
        format: FORMAT,
        version: wanted.version.to_owned(),
        began_at_ms,
        ended_at_ms: now_ms(),
        has_key: wanted.with_key,
        sessions: parts.sessions,
        repositories: parts.repositories,
        files: stored,
    };
    files::sync(&partial)?;
    manifest.write(&partial)?;
    let path = place::free_name(to, &name);
    std::fs::rename(&partial, &path).map_err(io("naming", &path))?;
    File::open(to).and_then(|directory| directory.sync_all()).map_err(io("syncing", to))?;
    Ok(Made { path, manifest })
}

struct Parts {
    sessions: Vec<SessionCut>,
    repositories: Vec<RepositoryCut>,
}

fn copy_parts(target: &mut Target<'_>, wanted: &Wanted<'_>) -> Result<Parts> {
    let data = wanted.data;
    let mut sessions = vec![];
    for id in sessions_of(data)? {
        sessions.extend(copy_session(target, data, id)?);
    }
    if !target.copy_database(data, DIRECTORY)? {
        return Err(Error::NoData { path: data.to_owned() });
    }
    let kept: HashSet<SessionId> = sessions.iter().map(|session| session.id).collect();
    keep_lines_of(&target.root.join(DIRECTORY), &kept)?;
    target.record(DIRECTORY)?;
    if target.copy_database(data, "forge.db")? {
        target.record("forge.db")?;
    }
    let mut repositories = vec![];
    for name in repositories_of(data)? {
        repositories.extend(repository::copy(target, data, &name)?);
    }
    if target.copy_database(data, "vault.db")? {
        target.record("vault.db")?;
    }
    if wanted.with_key {
        target.copy(data, "vault.key", Kind::Changing)?;
    }
    target.copy(data, SETTINGS, Kind::Changing)?;
    Ok(Parts { sessions, repositories })
}

fn sessions_of(data: &Path) -> Result<Vec<SessionId>> {
    let mut sessions: Vec<SessionId> =
        names(&data.join("sessions"))?.iter().filter_map(|name| name.parse().ok()).collect();
    sessions.sort_unstable();
    Ok(sessions)
}

fn repositories_of(data: &Path) -> Result<Vec<String>> {
    let mut names = names(&data.join("repositories"))?;
    names.retain(|name| !name.starts_with("unfinished-") && !name.starts_with('.'));
    names.sort();
    Ok(names)
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io("reading", directory)(error)),
    };
    let names = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// `None`: it was deleted meanwhile, or only begun.
fn copy_session(target: &mut Target<'_>, data: &Path, id: SessionId) -> Result<Option<SessionCut>> {
    let below = format!("sessions/{id}");
    let log = format!("{below}/session.db");
    let stamp = files::stamp(&[data.join(&log), data.join(format!("{log}-wal"))]);
    let known = target.before.as_ref().and_then(|(_, before)| {
        before.sessions.iter().find(|known| known.id == id && known.stamp == stamp).cloned()
    });
    let cut = match known {
        Some(known) if target.take_from_before(&log, |_| true)? => known,
        _ => {
            let head_seq = match copy_log(target, data, &log) {
                Ok(Some(head_seq)) => head_seq,
                Ok(None) => return Ok(None),
                Err(_) if !data.join(&log).exists() => {
                    forget(target, &below);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            target.record(&log)?;
            SessionCut { id, head_seq, stamp }
        }
    };
    for path in files::walk(data, &below)? {
        if path.starts_with(&log) {
            continue;
        }
        let kind = if path.contains("/blobs/") { Kind::Immutable } else { Kind::Changing };
        target.copy(data, &path, kind)?;
    }
    if !data.join(&log).exists() {
        forget(target, &below);
        return Ok(None);
    }
    Ok(Some(cut))
}

fn copy_log(target: &mut Target<'_>, data: &Path, log: &str) -> Result<Option<u64>> {
    if !target.copy_database(data, log)? {
        return Ok(None);
    }
    let copy = target.root.join(log);
    if has_log(&copy)? {
        let head = head_of(&copy)?;
        if head > 0 {
            return Ok(Some(head));
        }
    }
    std::fs::remove_file(&copy).map_err(io("removing", &copy))?;
    Ok(None)
}

/// A file that was only begun has no table yet. One that cannot be read is another matter.
pub(crate) fn has_log(log: &Path) -> Result<bool> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let find = || -> rusqlite::Result<bool> {
        let file = Connection::open_with_flags(log, flags)?;
        file.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'entries'")?.exists([])
    };
    find().map_err(sql(log))
}

/// The last entry of a log's copy; an error where there is no log in the file.
pub(crate) fn head_of(log: &Path) -> Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let log_file = Connection::open_with_flags(log, flags).map_err(sql(log))?;
    let select = "SELECT coalesce(max(seq), 0) FROM entries";
    let head: i64 = log_file.query_row(select, [], |row| row.get(0)).map_err(sql(log))?;
    Ok(head.max(0).unsigned_abs())
}

/// What was copied of a session that is gone.
fn forget(target: &mut Target<'_>, below: &str) {
    let prefix = format!("{below}/");
    target.files.retain(|file| !file.path.starts_with(&prefix));
    // Left behind it would be found by `verify` as what the manifest does not name.
    let _ = std::fs::remove_dir_all(target.root.join(below));
}

/// Takes the other sessions' lines out of the directory's copy.
fn keep_lines_of(directory: &Path, kept: &HashSet<SessionId>) -> Result<()> {
    let wrong = sql(directory);
    let prune = || -> rusqlite::Result<()> {
        let mut copy = Connection::open(directory)?;
        let transaction = copy.transaction()?;
        let listed: Vec<String> = {
            let mut select = transaction.prepare("SELECT id FROM sessions")?;
            let ids = select.query_map([], |row| row.get(0))?;
            ids.collect::<rusqlite::Result<_>>()?
        };
        for id in listed {
            if !id.parse().is_ok_and(|id: SessionId| kept.contains(&id)) {
                transaction.execute("DELETE FROM sessions WHERE id = ?", [id])?;
            }
        }
        transaction.commit()?;
        // One file, whatever it was made from.
        copy.execute_batch("PRAGMA journal_mode = DELETE")
    };
    prune().map_err(wrong)
}

fn lock(to: &Path) -> Result<File> {
    let path = to.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy { path: to.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(io("locking", &path)(error)),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
