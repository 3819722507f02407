//! What may go: sessions that rest for long, rows that nobody needs any more, in bounded bites; and what passes over
//! them did.

use crate::outbox::REMOVED_KEPT_MS;
use crate::row::{all, as_json, first, json};
use crate::sessions::read_session;
use crate::{Directory, Result, SessionRow};
use greenroom_domain::SessionId;
use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Passes that are remembered.
const PASSES: u32 = 30;

/// Rows that go by their age. `before_ms` is the newest time that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    Statistics,
    /// By when they ended.
    ShareLinks,
    /// By when they expired, as the web sessions.
    SignInLinks,
    WebSessions,
}

impl Expiring {
    /// Its table, the table's key, and which rows go.
    fn sql(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Statistics => ("statistics", "session, seq", "at_ms <= ?1"),
            Self::ShareLinks => {
                ("share_links", "id", "min(expires_at_ms, coalesce(revoked_at_ms, expires_at_ms)) <= ?1")
            }
            Self::SignInLinks => ("sign_in_links", "digest", "expires_at_ms <= ?1"),
            Self::WebSessions => ("web_sessions", "digest", "expires_at_ms <= ?1"),
        }
    }
}

/// Tables in which something of a deleted session can be left, written by who did not know of its end yet.
const OF_SESSIONS: [(&str, &str, &str); 4] = [
    ("reads", "person, session", "session"),
    ("drafts", "revision", "place"),
    ("stored_files", "person, session, digest", "session"),
    ("share_links", "id", "session"),
];

impl Directory {
    /// Sessions in which nothing happened after `before_ms`, longest at rest first, behind the one that is named.
    pub async fn resting_sessions(
        &self,
        is_archived: bool,
        before_ms: i64,
        behind: Option<(i64, SessionId)>,
        limit: u32,
    ) -> Result<Vec<SessionRow>> {
        self.read(move |db| {
            let (at_ms, id) = behind.map_or((i64::MIN, String::new()), |(at, id)| (at, id.to_string()));
            let sql = "SELECT * FROM sessions WHERE is_archived = ?1 AND updated_at_ms <= ?2
                AND (updated_at_ms, id) > (?3, ?4) ORDER BY updated_at_ms, id LIMIT ?5";
            all(db.prepare(sql)?, params![is_archived, before_ms, at_ms, id, limit], read_session)
        })
        .await
    }

    /// When somebody last typed something in the session that they did not send.
    pub async fn newest_draft_ms(&self, session: SessionId) -> Result<Option<i64>> {
        self.read(move |db| {
            let sql = "SELECT max(updated_at_ms) AS at FROM drafts WHERE place = ? AND text <> ''";
            Ok(db.query_row(sql, [session.to_string()], |row| row.get("at"))?)
        })
        .await
    }

    pub async fn count_expired(&self, what: Expiring, before_ms: i64) -> Result<u64> {
        self.read(move |db| {
            let (table, _, condition) = what.sql();
            let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
            Ok(db.query_row(&sql, [before_ms], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
        .await
    }

    /// At most so many in one transaction. Answers how many.
    pub async fn remove_expired(&self, what: Expiring, before_ms: i64, most: u32) -> Result<u64> {
        self.write(move |db| {
            let (table, key, condition) = what.sql();
            let sql = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {condition} LIMIT ?2)"
            );
            Ok(db.execute(&sql, params![before_ms, most])? as u64)
        })
        .await
    }

    /// What is left of deleted sessions, and the memory of those whose deletion is long ago.
    /// Of a deletion whose files are still there (`left`), the memory stays.
    pub async fn count_leftovers(&self, now_ms: i64, left: Vec<SessionId>) -> Result<u64> {
        self.read(move |db| {
            let sql = "SELECT count(*) FROM removed
                WHERE at_ms < ? AND session NOT IN (SELECT value FROM json_each(?))";
            let forgotten = params![now_ms - REMOVED_KEPT_MS, as_json(&left)?];
            let mut count: i64 = db.query_row(sql, forgotten, |row| row.get(0))?;
            for (table, _, session) in OF_SESSIONS {
                let sql =
                    format!("SELECT count(*) FROM {table} WHERE {session} IN (SELECT session FROM removed)");
                count += db.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
            }
            Ok(count.unsigned_abs())
        })
        .await
    }

    /// At most so many of each table in one transaction; a deletion is forgotten when nothing else is left, and never one
    /// of which files are (`left`): without the mark it would be a session again.
    pub async fn remove_leftovers(&self, now_ms: i64, left: Vec<SessionId>, most: u32) -> Result<u64> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let mut count = 0;
            for (table, key, session) in OF_SESSIONS {
                let sql = format!(
                    "DELETE FROM {table} WHERE ({key}) IN
                        (SELECT {key} FROM {table} WHERE {session} IN (SELECT session FROM removed) LIMIT ?)"
                );
                count += transaction.execute(&sql, [most])?;
            }
            if count == 0 {
                let sql = "DELETE FROM removed WHERE session IN (SELECT session FROM removed
                    WHERE at_ms < ? AND session NOT IN (SELECT value FROM json_each(?)) LIMIT ?)";
                count = transaction.execute(sql, params![now_ms - REMOVED_KEPT_MS, as_json(&left)?, most])?;
            }
            transaction.commit()?;
            Ok(count as u64)
        })
        .await
    }

    /// Deleted sessions that are remembered; none is forgotten by it.
    pub async fn remembered_deletions(&self) -> Result<Vec<SessionId>> {
        self.read(|db| {
            all(db.prepare("SELECT session FROM removed")?, [], |row| crate::row::parsed(row, "session"))
        })
        .await
    }

    pub async fn note_retention_pass(&self, at_ms: i64, report: impl Serialize) -> Result<()> {
        let report = as_json(&report)?;
        self.write(move |db| {
            let transaction = db.transaction()?;
            transaction
                .execute("INSERT OR REPLACE INTO retention_passes VALUES (?, ?)", params![at_ms, report])?;
            let sql = "DELETE FROM retention_passes WHERE at_ms IN
                (SELECT at_ms FROM retention_passes ORDER BY at_ms DESC LIMIT -1 OFFSET ?)";
            transaction.execute(sql, [PASSES])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// `None` also for one that another version wrote in another form.
    pub async fn last_retention_pass<T: DeserializeOwned + Send + 'static>(&self) -> Result<Option<T>> {
        self.read(|db| {
            let query = db.prepare("SELECT report FROM retention_passes ORDER BY at_ms DESC LIMIT 1")?;
            Ok(first(query, [], |row| json(row, "report")).ok().flatten())
        })
        .await
    }
}
