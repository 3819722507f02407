//! A backup as a new data directory.

use crate::manifest::Manifest;
use crate::verify::{Verified, verify};
use crate::{Error, Result, files, io, sql};
use rusqlite::{Connection, params};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const KEY: &str = "vault.key";
/// After the name of a data directory that is being filled.
const RESTORING: &str = ".restoring";

#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// The vault opens only with its key, which neither the backup had nor anybody gave.
    pub lacks_key: bool,
}

/// `data` must be empty, or not there, and no mount of its own. `key`: the vault's, where the backup has none. Whole or not at
/// all: what a crash leaves lies beside it, as `<data>.restoring`, and is removed by the next.
pub fn restore(backup: &Path, data: &Path, key: Option<&Path>) -> Result<Restored> {
    let is_empty = match std::fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(io("reading", data)(error)),
    };
    if !is_empty {
        return Err(Error::NotEmpty { path: data.to_owned() });
    }
    let Verified { manifest, problems } = verify(backup)?;
    if !problems.is_empty() {
        return Err(Error::Damaged { problems });
    }
    // A link to the place that is meant.
    let data = &if data.exists() {
        std::fs::canonicalize(data).map_err(io("reading", data))?
    } else {
        data.to_owned()
    };
    if is_mount(data) {
        return Err(Error::Mounted { path: data.clone() });
    }
    let beside = beside(data)?;
    remove(&beside)?;
    let placed = fill(backup, &beside, key, &manifest).and_then(|()| put_in_place(&beside, data));
    if placed.is_err() {
        let _ = std::fs::remove_dir_all(&beside);
    }
    placed?;
    let lacks_key = !data.join(KEY).exists() && data.join("vault.db").exists();
    Ok(Restored { manifest, lacks_key })
}

/// Where the data directory is filled: until it is whole it has another name, and no server takes it for one.
fn beside(data: &Path) -> Result<PathBuf> {
    let Some(name) = data.file_name() else {
        let source = std::io::Error::new(ErrorKind::InvalidInput, "the path has no name");
        return Err(io("restoring into", data)(source));
    };
    let mut name = name.to_owned();
    name.push(RESTORING);
    Ok(data.with_file_name(name))
}

/// A mount cannot be put in the place of another directory, nor one in its.
fn is_mount(data: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    data.exists() && device(data) != device(parent_of(data))
}

fn parent_of(data: &Path) -> &Path {
    data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a restore left that was cut off.
fn remove(beside: &Path) -> Result<()> {
    match std::fs::remove_dir_all(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("removing", beside)(error)),
        _ => Ok(()),
    }
}

/// Takes the place of a directory that is empty, or not there.
fn put_in_place(beside: &Path, data: &Path) -> Result<()> {
    std::fs::rename(beside, data).map_err(io("putting in place", data))?;
    let parent = parent_of(data);
    let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(io("syncing", parent))
}

fn fill(backup: &Path, data: &Path, key: Option<&Path>, manifest: &Manifest) -> Result<()> {
    files::make_directory(data).map_err(io("making", data))?;
    for file in &manifest.files {
        #[cfg(test)]
        tests::die_where_told();
        let to = data.join(&file.path);
        let directory = to.parent().unwrap_or(data);
        files::make_directory(directory).map_err(io("making", directory))?;
        let (_, sha256) = files::copy(&backup.join(&file.path), &to).map_err(io("copying", &to))?;
        if sha256 != file.sha256 {
            return Err(Error::Damaged {
                problems: vec![format!("{} changed while it was read", file.path)],
            });
        }
    }
    for repository in &manifest.repositories {
        for directory in ["refs", "objects/info", "objects/pack"] {
            let path = data.join("repositories").join(&repository.name).join(directory);
            files::make_directory(&path).map_err(io("making", &path))?;
        }
    }
    if let Some(key) = key {
        let to = data.join(KEY);
        files::copy(key, &to).map_err(io("copying", key))?;
    }
    let directory = data.join("greenroom.db");
    set_back(&directory, manifest).map_err(sql(&directory))?;
    files::sync(data)
}

/// The index knows what the logs say again once they are opened; what it believes to know of a time that is not in the
/// backup goes. So do images: their layers were not kept, and they are built anew.
fn set_back(directory: &Path, manifest: &Manifest) -> rusqlite::Result<()> {
    let mut database = Connection::open(directory)?;
    let transaction = database.transaction()?;
    transaction.execute("DELETE FROM images", [])?;
    let has = |table: &str| {
        transaction.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")?.exists([table])
    };
    if has("settled")? {
        transaction.execute("DELETE FROM settled", [])?;
    }
    let (has_cursors, has_reads) = (has("cursors")?, has("reads")?);
    // What was taken from entries that are not in the logs is nothing's: it is taken anew, from their beginnings.
    let mut derived = vec![];
    for table in ["statistics", "search_parts"] {
        if has(table)? {
            derived.push(format!("DELETE FROM {table} WHERE session = ?"));
        }
    }
    let has_debts = has("owed")?;
    for session in &manifest.sessions {
        let head = i64::try_from(session.head_seq).unwrap_or(i64::MAX);
        let id = session.id.to_string();
        if has_cursors {
            let sql = "UPDATE cursors SET seq = min(seq, ?) WHERE session = ?";
            transaction.execute(sql, params![head, id])?;
            transaction.execute("DELETE FROM cursors WHERE session = ? AND consumer = 'directory'", [&id])?;
        }
        for delete in &derived {
            transaction.execute(delete, [&id])?;
        }
        if has_reads {
            transaction.execute("UPDATE reads SET seq = min(seq, ?) WHERE session = ?", params![head, id])?;
        }
        if has_debts {
            // The forge was copied after the log: it may know more of the session's change.
            let sql = "INSERT OR IGNORE INTO owed (session, consumer) VALUES (?, 'forge')";
            transaction.execute(sql, [&id])?;
        }
        // Older than any file: the start looks into every log.
        let sql = "UPDATE sessions SET updated_at_ms = 0, head_seq = min(head_seq, ?) WHERE id = ?";
        transaction.execute(sql, params![head, id])?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests;
