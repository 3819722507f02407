//! How far people have read the sessions that they opened. A position never goes back.

use crate::row::{all, first, parsed, signed, unsigned};
use crate::{Directory, Result};
use greenroom_domain::{PersonId, SessionId};
use rusqlite::params;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRow {
    pub person: PersonId,
    pub session: SessionId,
    /// The last entry that the person has seen.
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderRow {
    pub person: PersonId,
    pub name: String,
    pub seq: u64,
}

impl Directory {
    /// All in one transaction; a lower position than the known one changes nothing. People and sessions that are gone are left
    /// out.
    pub async fn put_reads(&self, reads: Vec<ReadRow>) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            for read in reads {
                transaction
                    .prepare_cached(
                        "INSERT INTO reads SELECT id, ?2, ?3 FROM people WHERE id = ?1
                            AND NOT EXISTS (SELECT 1 FROM removed WHERE session = ?2)
                         ON CONFLICT (person, session) DO UPDATE SET seq = max(seq, excluded.seq)",
                    )?
                    .execute(params![read.person.to_string(), read.session.to_string(), signed(read.seq)])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The last entry of the session that the person has seen; `None`: they never opened it.
    pub async fn read_position(&self, person: PersonId, session: SessionId) -> Result<Option<u64>> {
        self.read(move |db| {
            first(
                db.prepare("SELECT seq FROM reads WHERE person = ? AND session = ?")?,
                [person.to_string(), session.to_string()],
                |row| unsigned(row, "seq"),
            )
        })
        .await
    }

    /// Of the newest `limit` sessions that the person opened.
    pub async fn read_positions(&self, person: PersonId, limit: u32) -> Result<Vec<(SessionId, u64)>> {
        self.read(move |db| {
            all(
                db.prepare(
                    "SELECT session, seq FROM reads WHERE person = ?
                     ORDER BY session DESC LIMIT ?",
                )?,
                params![person.to_string(), limit],
                |row| Ok((parsed(row, "session")?, unsigned(row, "seq")?)),
            )
        })
        .await
    }

    /// Furthest first, and how many there are.
    pub async fn readers(&self, session: SessionId, limit: u32) -> Result<(Vec<ReaderRow>, u64)> {
        self.read(move |db| {
            let readers = all(
                db.prepare(
                    "SELECT reads.person, people.name, reads.seq FROM reads
                     JOIN people ON people.id = reads.person
                     WHERE session = ? ORDER BY seq DESC, reads.person LIMIT ?",
                )?,
                params![session.to_string(), limit],
                |row| {
                    Ok(ReaderRow {
                        person: parsed(row, "person")?,
                        name: row.get("name")?,
                        seq: unsigned(row, "seq")?,
                    })
                },
            )?;
            let count = db.query_row(
                "SELECT count(*) AS n FROM reads WHERE session = ?",
                [session.to_string()],
                |row| unsigned(row, "n"),
            )?;
            Ok((readers, count))
        })
        .await
    }
}
