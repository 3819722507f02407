//! Reading all of a backup: every file against its digest, every database as SQLite sees it, every repository as git does.

use crate::manifest::{FILE_NAME, Manifest};
use crate::{Result, create, files, repository};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::path::Path;

/// More of them say nothing new.
const PROBLEMS: usize = 100;

#[derive(Clone, Debug)]
pub struct Verified {
    pub manifest: Manifest,
    /// One sentence each; none: the backup is whole.
    pub problems: Vec<String>,
}

pub fn verify(backup: &Path) -> Result<Verified> {
    let manifest = Manifest::read(backup)?;
    let mut problems = vec![];
    for file in &manifest.files {
        match files::digest(&backup.join(&file.path)) {
            Err(error) => problems.push(format!("{} cannot be read: {error}", file.path)),
            Ok((bytes, sha256)) if bytes != file.bytes || sha256 != file.sha256 => {
                problems.push(format!("{} is not what was stored", file.path));
            }
            Ok(_) => {}
        }
    }
    let named: HashSet<&str> = manifest.by_path().into_keys().collect();
    for path in files::walk(backup, "")? {
        if path != FILE_NAME && !named.contains(path.as_str()) {
            problems.push(format!("{path} is not in the manifest"));
        }
    }
    for path in named.iter().filter(|path| path.ends_with(".db")) {
        if let Some(reason) = damage_of(&backup.join(path)) {
            problems.push(format!("{path}: {reason}"));
        }
    }
    for session in &manifest.sessions {
        let log = format!("sessions/{}/session.db", session.id);
        match create::head_of(&backup.join(&log)) {
            Ok(head) if head == session.head_seq => {}
            Ok(head) => problems.push(format!("{log} ends at {head} instead of {}", session.head_seq)),
            Err(error) => problems.push(format!("{log}: {error}")),
        }
    }
    for one in &manifest.repositories {
        if let Err(error) = repository::check(&backup.join("repositories").join(&one.name)) {
            problems.push(error.to_string());
        }
    }
    problems.truncate(PROBLEMS);
    Ok(Verified { manifest, problems })
}

fn damage_of(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let checked = Connection::open_with_flags(path, flags).and_then(|database| {
        database.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
    });
    match checked {
        Ok(said) if said == "ok" => None,
        Ok(said) => Some(said),
        Err(error) => Some(error.to_string()),
    }
}
