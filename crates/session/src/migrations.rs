//! Versions of a session's file. Each step is one transaction that also raises `user_version`: a kill leaves the version
//! before or the one after, nothing between.

use crate::log::LogError;
use crate::sqlite_log::from_sql;
use rusqlite::{Connection, TransactionBehavior};

/// The first version, which new files are begun with before they are migrated like any other.
const FIRST: &str = "
    create table meta (name text primary key, value integer not null) without rowid;
    insert into meta values ('epoch', 1);
    create table entries (
        seq integer primary key, at_ms integer not null, epoch integer not null,
        is_text integer not null, body text not null);
    create table receipts (
        number integer primary key autoincrement, key text not null unique,
        digest blob not null, seq integer, problem text);";

/// `STEPS[n]` leads from version n to n + 1.
const STEPS: &[&str] = &[
    FIRST,
    "create table checkpoint (
        id integer primary key check (id = 1), seq integer not null, version text not null,
        state text not null, digest blob not null);",
];

pub(crate) const VERSION: i64 = STEPS.len() as i64;

pub(crate) fn version_of(connection: &Connection) -> Result<i64, LogError> {
    connection.query_row("pragma user_version", [], |row| row.get(0)).map_err(from_sql)
}

/// Brings the file to this version. Version 0 is an empty file.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), LogError> {
    loop {
        let version = version_of(connection)?;
        let Some(step) = usize::try_from(version).ok().and_then(|version| STEPS.get(version)) else {
            return match version {
                VERSION => Ok(()),
                found => Err(LogError::Newer { found, known: VERSION }),
            };
        };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(from_sql)?;
        // Another process of this directory cannot be; another connection of a test can.
        if version_of(&transaction)? == version {
            transaction
                .execute_batch(step)
                .and_then(|()| transaction.pragma_update(None, "user_version", version + 1))
                .map_err(from_sql)?;
        }
        transaction.commit().map_err(from_sql)?;
    }
}
