//! What the sessions' outboxes keep here: how far each consumer is, which sessions are at rest with nothing left to tell,
//! what is still owed to one, and which were deleted.

use crate::row::{all, as_word, first, parsed, signed, unsigned, word};
use crate::search::{bound_parts, put_part};
use crate::sessions::insert_session;
use crate::statistics::insert_fact;
use crate::{Directory, Error, Fact, Part, Result, SessionRow};
use greenroom_domain::{Consumer, SessionId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// How long it is remembered at least that a session was deleted: far longer than anything of it can be on its way.
pub(crate) const REMOVED_KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// What one stretch of a session's log says to the directory.
#[derive(Clone, Debug)]
pub struct Projection {
    pub row: SessionRow,
    /// The directory's cursor before it; where that is another, nothing is done.
    pub after: u64,
    /// And afterwards.
    pub upto: u64,
    /// What counts, in the order of its entries.
    pub facts: Vec<Fact>,
    /// What is found.
    pub parts: Vec<Part>,
    /// Consumers that have nothing to do for it: their cursors are moved along.
    pub unconcerned: Vec<Consumer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projected {
    Done,
    /// Somebody else did it: read the cursor again.
    Moved,
    /// The session was deleted.
    Removed,
}

/// A session at rest with nothing left to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRow {
    pub session: SessionId,
    /// The last entry of its log.
    pub seq: u64,
    pub stamp: String,
}

impl Directory {
    /// All of it, once, or nothing.
    pub async fn project(&self, projection: Projection) -> Result<Projected> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let session = projection.row.id;
            if is_removed(&transaction, session)? {
                return Ok(Projected::Removed);
            }
            if cursor_of(&transaction, session, Consumer::Directory)? != projection.after {
                return Ok(Projected::Moved);
            }
            insert_session(&transaction, &projection.row)?;
            for fact in &projection.facts {
                insert_fact(&transaction, &projection.row, fact)?;
            }
            for part in &projection.parts {
                put_part(&transaction, &session.to_string(), part)?;
            }
            if !projection.parts.is_empty() {
                bound_parts(&transaction, &session.to_string())?;
            }
            for consumer in projection.unconcerned.iter().chain([&Consumer::Directory]) {
                set_cursor(&transaction, session, *consumer, projection.upto)?;
            }
            transaction.commit()?;
            Ok(Projected::Done)
        })
        .await
    }

    /// The last entry that this consumer is done with; 0: none.
    pub async fn cursor(&self, session: SessionId, consumer: Consumer) -> Result<u64> {
        self.read(move |db| cursor_of(db, session, consumer)).await
    }

    /// Every consumer's, in no order.
    pub async fn cursors(&self, session: SessionId) -> Result<Vec<(Consumer, u64)>> {
        self.read(move |db| {
            let query = db.prepare("SELECT consumer, seq FROM cursors WHERE session = ?")?;
            all(query, [session.to_string()], |row| Ok((word(row, "consumer")?, unsigned(row, "seq")?)))
        })
        .await
    }

    /// Never back, and not of a deleted session.
    pub async fn move_cursor(&self, session: SessionId, consumer: Consumer, seq: u64) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            if !is_removed(&transaction, session)? {
                set_cursor(&transaction, session, consumer, seq)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Durable: from now on a start sees to it that the session is told. `mark` is any number that no other debt has. A
    /// deleted session is owed nothing.
    pub async fn owe(&self, session: SessionId, consumer: Consumer, mark: i64) -> Result<()> {
        self.write(move |db| {
            let sql = "INSERT INTO owed (session, consumer, mark) VALUES (?, ?, ?)
                ON CONFLICT (session, consumer) DO UPDATE SET mark = excluded.mark";
            let transaction = db.transaction()?;
            if !is_removed(&transaction, session)? {
                transaction.prepare_cached(sql)?.execute(params![
                    session.to_string(),
                    as_word(consumer)?,
                    mark
                ])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The last debt's mark.
    pub async fn mark_of_debt(&self, session: SessionId, consumer: Consumer) -> Result<Option<i64>> {
        self.read(move |db| {
            let query = db.prepare("SELECT mark FROM owed WHERE session = ? AND consumer = ?")?;
            first(query, params![session.to_string(), as_word(consumer)?], |row| row.get("mark"))
        })
        .await
    }

    /// A later debt stays.
    pub async fn owe_no_more(&self, session: SessionId, consumer: Consumer, mark: i64) -> Result<()> {
        self.write(move |db| {
            db.prepare_cached("DELETE FROM owed WHERE session = ? AND consumer = ? AND mark = ?")?
                .execute(params![session.to_string(), as_word(consumer)?, mark])?;
            Ok(())
        })
        .await
    }

    pub async fn owed(&self) -> Result<Vec<(SessionId, Consumer)>> {
        self.read(|db| {
            all(db.prepare("SELECT session, consumer FROM owed ORDER BY session, consumer")?, [], |row| {
                Ok((parsed(row, "session")?, word(row, "consumer")?))
            })
        })
        .await
    }

    pub async fn settle(&self, rows: Vec<SettledRow>) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            for row in rows {
                if !is_removed(&transaction, row.session)? {
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO settled VALUES (?, ?, ?)")?
                        .execute(params![row.session.to_string(), signed(row.seq), row.stamp])?;
                }
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    pub async fn settled(&self) -> Result<Vec<SettledRow>> {
        self.read(|db| {
            all(db.prepare("SELECT * FROM settled")?, [], |row| {
                Ok(SettledRow {
                    session: parsed(row, "session")?,
                    seq: unsigned(row, "seq")?,
                    stamp: row.get("stamp")?,
                })
            })
        })
        .await
    }

    /// With what people typed there, how far they read it, and what is found of it; figures stay. What still arrives of it is not taken.
    pub async fn remove_session(&self, id: SessionId, at_ms: i64) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            transaction
                .execute("INSERT OR IGNORE INTO removed VALUES (?, ?)", params![id.to_string(), at_ms])?;
            for delete in [
                "DELETE FROM sessions WHERE id = ?",
                "DELETE FROM drafts WHERE place = ?",
                "DELETE FROM reads WHERE session = ?",
                "DELETE FROM share_links WHERE session = ?",
                "DELETE FROM cursors WHERE session = ?",
                "DELETE FROM settled WHERE session = ?",
                "DELETE FROM owed WHERE session = ?",
                "DELETE FROM stored_files WHERE session = ?",
                "DELETE FROM search_parts WHERE session = ?",
            ] {
                transaction.execute(delete, [id.to_string()])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Whether it was deleted, as far as that is remembered.
    pub async fn is_removed(&self, session: SessionId) -> Result<bool> {
        self.read(move |db| is_removed(db, session)).await
    }

    /// Forgets old deletions, except of those that something is left of: without the mark they would be sessions again.
    pub async fn forget_removed(&self, now_ms: i64, left: Vec<SessionId>) -> Result<()> {
        self.write(move |db| {
            let left: Vec<_> = left.iter().map(SessionId::to_string).collect();
            let sql =
                "DELETE FROM removed WHERE at_ms < ? AND session NOT IN (SELECT value FROM json_each(?))";
            db.execute(sql, params![now_ms - REMOVED_KEPT_MS, crate::row::as_json(&left)?])?;
            Ok(())
        })
        .await
    }
}

/// Refuses what would be written of a deleted session.
pub(crate) fn not_removed(db: &Transaction<'_>, session: SessionId) -> Result<()> {
    if is_removed(db, session)? { Err(Error::SessionRemoved) } else { Ok(()) }
}

pub(crate) fn is_removed(db: &Connection, session: SessionId) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM removed WHERE session = ?")?;
    Ok(query.exists([session.to_string()])?)
}

fn cursor_of(db: &Connection, session: SessionId, consumer: Consumer) -> Result<u64> {
    let mut query = db.prepare_cached("SELECT seq FROM cursors WHERE session = ? AND consumer = ?")?;
    let seq = query
        .query_row(params![session.to_string(), as_word(consumer)?], |row| unsigned(row, "seq"))
        .optional()?;
    Ok(seq.unwrap_or(0))
}

fn set_cursor(db: &Transaction<'_>, session: SessionId, consumer: Consumer, seq: u64) -> Result<()> {
    let sql = "INSERT INTO cursors VALUES (?, ?, ?)
        ON CONFLICT (session, consumer) DO UPDATE SET seq = max(seq, excluded.seq)";
    db.prepare_cached(sql)?.execute(params![session.to_string(), as_word(consumer)?, signed(seq)])?;
    Ok(())
}
