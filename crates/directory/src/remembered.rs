//! Idempotency keys outside sessions: what a key led to, under a scope, with the digest of the body it came with.

use crate::row::{first, signed};
use crate::{Directory, Result};
use rusqlite::{Transaction, params};

/// How many keys are kept; the oldest are forgotten first.
pub const REMEMBERED_LIMIT: u64 = 100_000;
/// Of one scope, which is one person's: nobody makes the keys of others be forgotten.
pub const SCOPE_LIMIT: u64 = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The key was not known: now it is, with the given result.
    New,
    /// The key and the body are known: this was the result.
    Same(String),
    /// The key is known with another body.
    Different,
}

impl Directory {
    /// Whether the key is known, without remembering it.
    pub async fn is_remembered(&self, scope: String, key: String) -> Result<bool> {
        self.read(move |db| {
            let sql = "SELECT 1 FROM remembered WHERE scope = ? AND key = ?";
            Ok(db.prepare_cached(sql)?.exists([scope, key])?)
        })
        .await
    }

    /// Looks and remembers in one step: of any number of callers one gets `New`.
    pub async fn remember(
        &self,
        scope: String,
        key: String,
        body_digest: [u8; 32],
        result: String,
        at_ms: i64,
    ) -> Result<Remembered> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            if let Some((known_digest, known_result)) = known(&transaction, &scope, &key)? {
                let is_same = known_digest == body_digest;
                return Ok(if is_same { Remembered::Same(known_result) } else { Remembered::Different });
            }
            transaction.execute(
                "INSERT INTO remembered (scope, key, body_digest, result, at_ms) VALUES (?, ?, ?, ?, ?)",
                params![scope, key, body_digest, result, at_ms],
            )?;
            let forgotten = transaction.last_insert_rowid().saturating_sub(signed(REMEMBERED_LIMIT));
            transaction.execute("DELETE FROM remembered WHERE position <= ?", [forgotten])?;
            let beyond = "DELETE FROM remembered WHERE scope = ?1 AND position <= (SELECT position FROM remembered \
                WHERE scope = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)";
            transaction.execute(beyond, params![scope, signed(SCOPE_LIMIT)])?;
            transaction.commit()?;
            Ok(Remembered::New)
        })
        .await
    }
}

fn known(transaction: &Transaction<'_>, scope: &str, key: &str) -> Result<Option<([u8; 32], String)>> {
    first(
        transaction.prepare("SELECT body_digest, result FROM remembered WHERE scope = ? AND key = ?")?,
        [scope, key],
        |row| Ok((row.get("body_digest")?, row.get("result")?)),
    )
}
