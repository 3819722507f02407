//! Opening the database file, and its schema by `user_version`.

use crate::{Error, Result};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const BUSY: Duration = Duration::from_secs(5);

/// Migration `n` brings version `n` to `n + 1`. A released one is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
    include_str!("schema/004.sql"),
    include_str!("schema/005.sql"),
    include_str!("schema/006.sql"),
    include_str!("schema/007.sql"),
    include_str!("schema/008.sql"),
    include_str!("schema/009.sql"),
    include_str!("schema/010.sql"),
    include_str!("schema/011.sql"),
];

pub(crate) fn open_for_writing(path: &Path) -> Result<Connection> {
    create_private(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The writer's thread syncs the journal, after as many commits as are at hand.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    wait_for_locks(&mut connection);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Every transaction asks for the lock at its beginning, where SQLite waits for it: one that had read first would fail at
/// once. A reader holds the lock for a moment when it meets a header that is just being written.
fn wait_for_locks(connection: &mut Connection) {
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
}

/// The file that committed transactions are in; it stays the same as long as the database is open. What the schema's
/// own transaction wrote to it is durable when this returns.
pub(crate) fn open_journal(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let place = path.parent().unwrap_or(Path::new("."));
    let opened = File::open(&name).and_then(|journal| {
        journal.sync_all()?;
        File::open(place)?.sync_all()?;
        Ok(journal)
    });
    opened.map_err(|error| Error::Database(format!("opening {}: {error}", Path::new(&name).display())))
}

pub(crate) fn open_for_reading(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// SQLite gives its journal files the mode of the database, so that one mode protects the password hashes in all.
fn create_private(path: &Path) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| Error::Database(format!("creating {}: {error}", path.display())))
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let newest = MIGRATIONS.len() as u32;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > newest {
        return Err(Error::Database(format!(
            "the directory has schema {version}, made by a newer Greenroom; this one knows {newest}"
        )));
    }
    for migration in &MIGRATIONS[version as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", newest)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_newer_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greenroom.db");
        open_for_writing(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open_for_writing(&path), Err(Error::Database(text)) if text.contains("newer")));
    }

    #[test]
    fn a_transaction_asks_for_the_lock_before_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greenroom.db");
        let mut writer = open_for_writing(&path).unwrap();
        let other = open_for_writing(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        let refused = writer.transaction().map(drop).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        other.execute_batch("ROLLBACK").unwrap();
        writer.transaction().unwrap();
    }

    #[test]
    fn the_database_and_its_journal_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greenroom.db");
        let _open = open_for_writing(&path).unwrap();
        for name in ["greenroom.db", "greenroom.db-wal"] {
            let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
