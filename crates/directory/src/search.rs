//! Search over what was asked and answered in sessions: SQLite's full-text index over parts of them. A session is found
//! when each word is somewhere in it.

use crate::row::{all, as_word, signed, word};
use crate::sessions::{SEEN, read_session};
use crate::{Directory, Onlooker, Result, SessionRow};
use greenroom_domain::RepositoryId;
use rusqlite::types::Value;
use rusqlite::{Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Of one part, in bytes; what follows is not found.
const PART_BYTES: usize = 16 * 1024;
/// Parts of one session; the oldest go first.
const PARTS: i64 = 500;
/// Words of one search.
pub const WORDS: usize = 12;
/// Parts that are looked at for one answer, the best first.
const LOOKED_AT: u32 = 1000;
/// Around what was found in a snippet. They are in no stored text.
pub const MARK_BEGIN: char = '\u{2}';
pub const MARK_END: char = '\u{3}';

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    Title,
    Repository,
    Branch,
    Prompt,
    Answer,
}

/// A change of what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Replaces what was there of this kind and subject.
    Put {
        kind: PartKind,
        subject: String,
        seq: u64,
        text: String,
    },
    Remove {
        kind: PartKind,
        subject: String,
    },
}

#[derive(Clone, Debug)]
pub struct SearchQuery {
    /// Who must be allowed to see what is found.
    pub onlooker: Onlooker,
    /// Not empty, at most [`WORDS`]. The last one may be the beginning of a word.
    pub words: Vec<String>,
    pub repository: Option<RepositoryId>,
}

/// A part of a session that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRow {
    pub session: SessionRow,
    pub kind: PartKind,
    pub seq: u64,
    /// With [`MARK_BEGIN`] and [`MARK_END`] around what was found.
    pub snippet: String,
}

pub(crate) fn put_part(db: &Transaction<'_>, session: &str, part: &Part) -> Result<()> {
    match part {
        Part::Put { kind, subject, seq, text } => {
            let sql = "INSERT INTO search_parts (session, kind, subject, seq, text) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (session, kind, subject) DO UPDATE SET seq = excluded.seq, text = excluded.text
                WHERE text != excluded.text";
            let text = searchable(text);
            db.prepare_cached(sql)?.execute(params![
                session,
                as_word(*kind)?,
                subject,
                signed(*seq),
                text
            ])?;
        }
        Part::Remove { kind, subject } => {
            let sql = "DELETE FROM search_parts WHERE session = ? AND kind = ? AND subject = ?";
            db.prepare_cached(sql)?.execute(params![session, as_word(*kind)?, subject])?;
        }
    }
    Ok(())
}

pub(crate) fn bound_parts(db: &Transaction<'_>, session: &str) -> Result<()> {
    let sql = "DELETE FROM search_parts WHERE id IN (
        SELECT id FROM search_parts WHERE session = ? ORDER BY seq DESC, id DESC LIMIT -1 OFFSET ?)";
    db.prepare_cached(sql)?.execute(params![session, PARTS])?;
    Ok(())
}

/// At most [`PART_BYTES`], and without the characters that mark what was found.
fn searchable(text: &str) -> String {
    let mut end = text.len().min(PART_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

impl Directory {
    /// The best first; the same session may be there several times.
    pub async fn search(&self, search: SearchQuery) -> Result<Vec<SearchRow>> {
        self.read(move |db| {
            let (sql, values) = statement(&search);
            all(db.prepare(&sql)?, params_from_iter(values), |row| {
                Ok(SearchRow {
                    session: read_session(row)?,
                    kind: word(row, "part_kind")?,
                    seq: row.get::<_, i64>("part_seq")?.unsigned_abs(),
                    snippet: row.get("snippet")?,
                })
            })
        })
        .await
    }
}

fn statement(search: &SearchQuery) -> (String, Vec<Value>) {
    let mut sql = "WITH found (session) AS (".to_owned();
    // `?1` is in `SEEN`.
    let mut values: Vec<Value> = vec![search.onlooker.parameter().into()];
    let words = matches_of(&search.words);
    for (at, one) in words.iter().enumerate() {
        let and = if at == 0 { "" } else { " INTERSECT " };
        let _ = write!(
            sql,
            "{and}SELECT search_parts.session FROM search_index JOIN search_parts ON search_parts.id = search_index.rowid
            WHERE search_index MATCH ?{}",
            at + 2
        );
        values.push(one.clone().into());
    }
    let _ = write!(
        sql,
        ") SELECT sessions.*, search_parts.kind AS part_kind, search_parts.seq AS part_seq,
            snippet(search_index, 0, char(2), char(3), '…', 20) AS snippet
        FROM search_index JOIN search_parts ON search_parts.id = search_index.rowid
            JOIN sessions ON sessions.id = search_parts.session
        WHERE search_index MATCH ?{} AND search_parts.session IN found AND {SEEN}",
        words.len() + 2
    );
    values.push(words.join(" OR ").into());
    if let Some(repository) = search.repository {
        let _ = write!(sql, " AND sessions.repository = ?{}", words.len() + 3);
        values.push(repository.to_string().into());
    }
    let _ = write!(
        sql,
        " ORDER BY bm25(search_index) * CASE search_parts.kind WHEN 'title' THEN 4.0 WHEN 'prompt' THEN 1.5
            WHEN 'answer' THEN 1.0 ELSE 2.0 END, sessions.updated_at_ms DESC LIMIT {LOOKED_AT}"
    );
    (sql, values)
}

/// Each as a string of the query language, so that nothing in it means anything.
fn matches_of(words: &[String]) -> Vec<String> {
    let last = words.len().saturating_sub(1);
    let quoted = |(at, word): (usize, &String)| {
        let star = if at == last { "*" } else { "" };
        let word: String = word.chars().map(|c| if c == '\0' { ' ' } else { c }).collect();
        format!("\"{}\"{star}", word.replace('"', "\"\""))
    };
    words.iter().enumerate().map(quoted).collect()
}
