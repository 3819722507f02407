//! What people typed and did not send: one text for each person and place, with revisions.
//!
//! A write says the revision that it was typed on. When that is not the newest one it is refused, and the writer is told
//! the newest: of two clients that type at once, one keeps its text to itself, and none is lost without a word.

use crate::outbox::not_removed;
use crate::row::{first, unsigned};
use crate::{Directory, Error, Result};
use greenroom_domain::{PersonId, RepositoryId, SessionId};
use rusqlite::{Connection, Row, Transaction, params};
use std::fmt;

/// Drafts that one person can have.
pub const DRAFTS: u32 = 200;
/// Rows without text that are kept of one person, for their revisions.
const EMPTY: u32 = 200;

/// What a draft is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DraftPlace {
    Session(SessionId),
    /// The next session of this repository.
    Repository(RepositoryId),
    /// The next session.
    New,
}

impl fmt::Display for DraftPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => id.fmt(f),
            Self::Repository(id) => id.fmt(f),
            Self::New => f.write_str("new"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftRow {
    /// Empty: there is none.
    pub text: String,
    /// Grows with every change of any draft; 0: nothing was ever there, or it is long gone.
    pub revision: u64,
    pub updated_at_ms: i64,
}

/// What became of a write. Either way `now` is what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenDraft {
    pub now: DraftRow,
    /// The write was made from another revision, and of another text than what is kept.
    pub is_refused: bool,
    /// There is a new revision.
    pub is_changed: bool,
}

impl Directory {
    pub async fn draft(&self, person: PersonId, place: DraftPlace) -> Result<DraftRow> {
        Ok(self.read(move |db| kept(db, person, place)).await?.unwrap_or_default())
    }

    /// Takes the text when it was typed on what is kept, or when nothing is kept. Refused for a deleted session.
    pub async fn write_draft(
        &self,
        person: PersonId,
        place: DraftPlace,
        text: String,
        typed_on: u64,
        now_ms: i64,
    ) -> Result<WrittenDraft> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            if let DraftPlace::Session(session) = place {
                not_removed(&transaction, session)?;
            }
            let before = kept(&transaction, person, place)?;
            let is_stale = before.as_ref().is_some_and(|before| before.revision != typed_on);
            let before = before.unwrap_or_default();
            if before.text == text {
                return Ok(WrittenDraft { now: before, is_refused: false, is_changed: false });
            }
            if is_stale {
                return Ok(WrittenDraft { now: before, is_refused: true, is_changed: false });
            }
            if before.text.is_empty() {
                check_count(&transaction, person)?;
            }
            let now = put(&transaction, person, place, text, now_ms)?;
            transaction.commit()?;
            Ok(WrittenDraft { now, is_refused: false, is_changed: true })
        })
        .await
    }

    /// The text was sent: empties the draft if this is what it says. Answers what is kept then.
    pub async fn take_draft(
        &self,
        person: PersonId,
        place: DraftPlace,
        sent: String,
        now_ms: i64,
    ) -> Result<Option<DraftRow>> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let before = kept(&transaction, person, place)?.unwrap_or_default();
            if before.text.is_empty() || before.text.trim() != sent.trim() {
                return Ok(None);
            }
            let now = put(&transaction, person, place, String::new(), now_ms)?;
            transaction.commit()?;
            Ok(Some(now))
        })
        .await
    }
}

fn kept(db: &Connection, person: PersonId, place: DraftPlace) -> Result<Option<DraftRow>> {
    first(
        db.prepare("SELECT * FROM drafts WHERE person = ? AND place = ?")?,
        params![person.to_string(), place.to_string()],
        read_draft,
    )
}

fn put(
    transaction: &Transaction<'_>,
    person: PersonId,
    place: DraftPlace,
    text: String,
    updated_at_ms: i64,
) -> Result<DraftRow> {
    let person = person.to_string();
    transaction.execute(
        "INSERT OR REPLACE INTO drafts (person, place, text, updated_at_ms) VALUES (?, ?, ?, ?)",
        params![person, place.to_string(), text, updated_at_ms],
    )?;
    let revision = transaction.last_insert_rowid().unsigned_abs();
    if text.is_empty() {
        // The oldest of those that only say a revision.
        transaction.execute(
            "DELETE FROM drafts WHERE revision IN (SELECT revision FROM drafts
                 WHERE person = ? AND text = '' ORDER BY revision DESC LIMIT -1 OFFSET ?)",
            params![person, EMPTY],
        )?;
    }
    Ok(DraftRow { text, revision, updated_at_ms })
}

fn check_count(transaction: &Transaction<'_>, person: PersonId) -> Result<()> {
    let count: u32 = transaction.query_row(
        "SELECT count(*) FROM drafts WHERE person = ? AND text <> ''",
        [person.to_string()],
        |row| row.get(0),
    )?;
    if count < DRAFTS { Ok(()) } else { Err(Error::TooManyDrafts) }
}

fn read_draft(row: &Row<'_>) -> rusqlite::Result<DraftRow> {
    Ok(DraftRow {
        text: row.get("text")?,
        revision: unsigned(row, "revision")?,
        updated_at_ms: row.get("updated_at_ms")?,
    })
}
