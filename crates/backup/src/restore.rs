//! A backup as a new data directory.

use crate::manifest::Manifest;
use crate::verify::{Verified, verify};
use crate::{Error, Result, files, io, sql};
use rusqlite::{Connection, params};
use std::io::ErrorKind;
use std::path::Path;

const KEY: &str = "vault.key";

#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// The vault opens only with its key, which neither the backup had nor anybody gave.
    pub lacks_key: bool,
}

/// `data` must be empty, or not there. `key`: the vault's, where the backup has none. Nothing is left when it fails.
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
    let filled = fill(backup, data, key, &manifest);
    if filled.is_err() {
        // It was empty before.
        let _ = std::fs::remove_dir_all(data);
    }
    filled?;
    let lacks_key = !data.join(KEY).exists() && data.join("vault.db").exists();
    Ok(Restored { manifest, lacks_key })
}

fn fill(backup: &Path, data: &Path, key: Option<&Path>, manifest: &Manifest) -> Result<()> {
    files::make_directory(data).map_err(io("making", data))?;
    for file in &manifest.files {
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
    for session in &manifest.sessions {
        let head = i64::try_from(session.head_seq).unwrap_or(i64::MAX);
        if has("cursors")? {
            let sql = "UPDATE cursors SET seq = min(seq, ?) WHERE session = ?";
            transaction.execute(sql, params![head, session.id.to_string()])?;
        }
        // Older than any file: the start looks into every log.
        let sql = "UPDATE sessions SET updated_at_ms = 0, head_seq = min(head_seq, ?) WHERE id = ?";
        transaction.execute(sql, params![head, session.id.to_string()])?;
    }
    transaction.commit()
}
