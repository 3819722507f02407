//! What admins allow each person, and what each has used of it. Used is counted under keys of what it was used for, so
//! that telling it again changes nothing.

use crate::outbox::{is_removed, not_removed};
use crate::row::{all, json, parsed, unsigned};
use crate::{Directory, Result};
use greenroom_domain::quota::Quotas;
use greenroom_domain::{BlobDigest, PersonId, SessionId, TurnId};
use rusqlite::{Connection, params};

/// In place of a person or a session where there is none.
const NOBODY: &str = "";

/// Whether something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    New,
    /// It was counted before.
    Known,
    /// It is not: so much is used already.
    Refused {
        used: u64,
    },
}

impl Directory {
    /// What was set: for everyone (`None`) and for people.
    pub async fn quotas(&self) -> Result<Vec<(Option<PersonId>, Quotas)>> {
        self.read(|db| {
            all(db.prepare("SELECT * FROM quotas ORDER BY person")?, [], |row| {
                let person = match row.get_ref("person")?.as_str()? {
                    NOBODY => None,
                    _ => Some(parsed(row, "person")?),
                };
                Ok((person, json(row, "settings")?))
            })
        })
        .await
    }

    /// In place of what was set before. The default sets nothing.
    pub async fn set_quotas(&self, person: Option<PersonId>, quotas: Quotas) -> Result<()> {
        self.write(move |db| {
            let person = person.map_or_else(|| NOBODY.to_owned(), |person| person.to_string());
            if quotas == Quotas::default() {
                db.execute("DELETE FROM quotas WHERE person = ?", [person])?;
            } else {
                let settings = crate::row::as_json(&quotas)?;
                db.execute("INSERT OR REPLACE INTO quotas VALUES (?, ?)", params![person, settings])?;
            }
            Ok(())
        })
        .await
    }

    /// Counts a prompt, unless there are `most` of this person since `since_ms` already.
    pub async fn count_prompt(
        &self,
        person: PersonId,
        key: String,
        at_ms: i64,
        since_ms: i64,
        most: Option<u64>,
    ) -> Result<Counted> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let id = person.to_string();
            let is_known = transaction
                .prepare_cached("SELECT 1 FROM counted_prompts WHERE person = ? AND key = ?")?
                .exists(params![id, key])?;
            if is_known {
                return Ok(Counted::Known);
            }
            if let Some(most) = most {
                let used = prompts_since(&transaction, person, since_ms)?;
                if used >= most {
                    return Ok(Counted::Refused { used });
                }
            }
            transaction
                .prepare_cached("INSERT INTO counted_prompts VALUES (?, ?, ?)")?
                .execute(params![id, key, at_ms])?;
            transaction.commit()?;
            Ok(Counted::New)
        })
        .await
    }

    /// It was refused after all.
    pub async fn uncount_prompt(&self, person: PersonId, key: String) -> Result<()> {
        self.write(move |db| {
            let sql = "DELETE FROM counted_prompts WHERE person = ? AND key = ?";
            db.execute(sql, params![person.to_string(), key])?;
            Ok(())
        })
        .await
    }

    pub async fn prompts_since(&self, person: PersonId, since_ms: i64) -> Result<u64> {
        self.read(move |db| prompts_since(db, person, since_ms)).await
    }

    /// What a turn that began at `at_ms` has cost up to now; it never falls.
    pub async fn put_cost(
        &self,
        turn: TurnId,
        person: PersonId,
        at_ms: i64,
        cost_microusd: u64,
    ) -> Result<()> {
        self.write(move |db| {
            let sql = "INSERT INTO turn_costs VALUES (?, ?, ?, ?) ON CONFLICT (turn) DO UPDATE \
                SET cost_microusd = max(cost_microusd, excluded.cost_microusd)";
            let cost = crate::row::signed(cost_microusd);
            db.prepare_cached(sql)?.execute(params![turn.to_string(), person.to_string(), at_ms, cost])?;
            Ok(())
        })
        .await
    }

    pub async fn cost_since(&self, person: PersonId, since_ms: i64) -> Result<u64> {
        self.read(move |db| {
            let sql = "SELECT coalesce(sum(cost_microusd), 0) AS n FROM turn_costs \
                WHERE person = ? AND at_ms >= ?";
            Ok(db.query_row(sql, params![person.to_string(), since_ms], |row| unsigned(row, "n"))?)
        })
        .await
    }

    /// Counts a file of this person, unless it does not fit into `most` bytes. `None`: it waits for its session. Refused for a
    /// deleted session.
    pub async fn count_file(
        &self,
        person: PersonId,
        session: Option<SessionId>,
        digest: BlobDigest,
        bytes: u64,
        at_ms: i64,
        most: Option<u64>,
    ) -> Result<Counted> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            if let Some(session) = session {
                not_removed(&transaction, session)?;
            }
            let (id, place) = (person.to_string(), place_of(session));
            let is_known = transaction
                .prepare("SELECT 1 FROM stored_files WHERE person = ? AND session = ? AND digest = ?")?
                .exists(params![id, place, digest.as_str()])?;
            if is_known {
                return Ok(Counted::Known);
            }
            let used = stored_bytes(&transaction, person)?;
            if most.is_some_and(|most| used.saturating_add(bytes) > most) {
                return Ok(Counted::Refused { used });
            }
            transaction.execute(
                "INSERT INTO stored_files VALUES (?, ?, ?, ?, ?)",
                params![id, place, digest.as_str(), crate::row::signed(bytes), at_ms],
            )?;
            transaction.commit()?;
            Ok(Counted::New)
        })
        .await
    }

    pub async fn uncount_file(
        &self,
        person: PersonId,
        session: Option<SessionId>,
        digest: BlobDigest,
    ) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "DELETE FROM stored_files WHERE person = ? AND session = ? AND digest = ?",
                params![person.to_string(), place_of(session), digest.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Files that waited are their session's now; of one that was deleted meanwhile, nobody's.
    pub async fn files_taken(
        &self,
        person: PersonId,
        session: SessionId,
        digests: Vec<BlobDigest>,
    ) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let sql = match is_removed(&transaction, session)? {
                true => "DELETE FROM stored_files WHERE ?1 != '' AND person = ?2 AND session = ?3 AND digest = ?4",
                false => "UPDATE OR REPLACE stored_files SET session = ?1 WHERE person = ?2 AND session = ?3 AND digest = ?4",
            };
            for digest in digests {
                let values = params![session.to_string(), person.to_string(), NOBODY, digest.as_str()];
                transaction.execute(sql, values)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    pub async fn stored_bytes(&self, person: PersonId) -> Result<u64> {
        self.read(move |db| stored_bytes(db, person)).await
    }

    /// Forgets prompts and costs of before `used_before_ms`, and uploads that came before `uploads_before_ms` and that no
    /// session took.
    pub async fn forget_usage(&self, used_before_ms: i64, uploads_before_ms: i64) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            transaction.execute("DELETE FROM counted_prompts WHERE at_ms < ?", [used_before_ms])?;
            transaction.execute("DELETE FROM turn_costs WHERE at_ms < ?", [used_before_ms])?;
            let uploads = "DELETE FROM stored_files WHERE session = ? AND at_ms < ?";
            transaction.execute(uploads, params![NOBODY, uploads_before_ms])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Sessions that this person made and that are neither deleted nor archived.
    pub async fn open_sessions_of(&self, person: PersonId) -> Result<Vec<SessionId>> {
        self.read(move |db| {
            let sql = "SELECT id FROM sessions WHERE created_by = ? AND NOT is_archived";
            all(db.prepare(sql)?, [person.to_string()], |row| parsed(row, "id"))
        })
        .await
    }
}

fn prompts_since(db: &Connection, person: PersonId, since_ms: i64) -> Result<u64> {
    let sql = "SELECT count(*) AS n FROM counted_prompts WHERE person = ? AND at_ms >= ?";
    Ok(db.prepare_cached(sql)?.query_row(params![person.to_string(), since_ms], |row| unsigned(row, "n"))?)
}

fn stored_bytes(db: &Connection, person: PersonId) -> Result<u64> {
    let sql = "SELECT coalesce(sum(bytes), 0) AS n FROM stored_files WHERE person = ?";
    Ok(db.query_row(sql, [person.to_string()], |row| unsigned(row, "n"))?)
}

fn place_of(session: Option<SessionId>) -> String {
    session.map_or_else(|| NOBODY.to_owned(), |session| session.to_string())
}
