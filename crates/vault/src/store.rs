//! Where sealed secrets lie: one table. Sees no plaintext.

use crate::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::{path::Path, time::Duration};

const MIGRATIONS: &[&str] = &["CREATE TABLE secret (
        name TEXT PRIMARY KEY,
        nonce BLOB NOT NULL,
        text BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;"];

#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) nonce: Vec<u8>,
    pub(crate) text: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Where one begins SQLite waits for the lock; where one that has read begins to write it does not.
        connection.set_transaction_behavior(rusqlite::TransactionBehavior::Immediate);
        // What is removed is overwritten, not only unlinked.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        let transaction = connection.transaction()?;
        let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > MIGRATIONS.len() {
            return Err(Error::Database(format!(
                "vault.db is of a newer version ({version}) than this program"
            )));
        }
        for step in &MIGRATIONS[version..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
        transaction.commit()?;
        Ok(Self { connection })
    }

    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(self.connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM secret)", [], |row| row.get(0))?)
    }

    pub(crate) fn put(&self, name: &str, sealed: &Sealed) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO secret (name, nonce, text) VALUES (?1, ?2, ?3)";
        self.connection.execute(insert, params![name, sealed.nonce, sealed.text])?;
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Result<Option<Sealed>> {
        let select = "SELECT nonce, text FROM secret WHERE name = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok(Sealed { nonce: row.get(0)?, text: row.get(1)? });
        Ok(self.connection.query_row(select, [name], read).optional()?)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.connection.execute("DELETE FROM secret WHERE name = ?1", [name])? > 0)
    }

    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare_cached("SELECT name FROM secret ORDER BY name")?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }
}
