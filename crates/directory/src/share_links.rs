//! Links that let people of the installation into a session. The secret itself is kept nowhere; who came by a link is in
//! the session's log.

use crate::credentials::Digest;
use crate::outbox::not_removed;
use crate::row::{all, as_word, first, parsed, word};
use crate::{Directory, Result};
use greenroom_domain::{PersonId, SessionId, ShareKind, ShareLinkId};
use rusqlite::{Row, params};

/// Rows of one session that are kept; beyond them the oldest that do not live any more are removed.
pub const LINK_ROWS: u32 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareLinkRow {
    pub id: ShareLinkId,
    pub session: SessionId,
    pub kind: ShareKind,
    pub made_by: PersonId,
    /// As they are called now.
    pub made_by_name: String,
    pub made_at_ms: i64,
    pub expires_at_ms: i64,
    pub revoked_at_ms: Option<i64>,
}

const SELECT: &str =
    "SELECT share_links.*, people.name FROM share_links JOIN people ON people.id = share_links.made_by";

impl Directory {
    /// `false`: the session has as many links that live as it may have. The row's name of the maker is not written. Refused
    /// for a deleted session.
    pub async fn add_share_link(&self, digest: Digest, row: ShareLinkRow, most: u32) -> Result<bool> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            not_removed(&transaction, row.session)?;
            let (session, now) = (row.session.to_string(), row.made_at_ms);
            let living: u32 = transaction.query_row(
                "SELECT count(*) FROM share_links WHERE session = ? AND revoked_at_ms IS NULL AND expires_at_ms > ?",
                params![session, now],
                |row| row.get(0),
            )?;
            if living >= most {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO share_links VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                params![
                    row.id.to_string(),
                    digest,
                    session,
                    as_word(row.kind)?,
                    row.made_by.to_string(),
                    now,
                    row.expires_at_ms
                ],
            )?;
            transaction.execute(
                "DELETE FROM share_links WHERE (revoked_at_ms IS NOT NULL OR expires_at_ms <= ?2) AND id IN
                    (SELECT id FROM share_links WHERE session = ?1 ORDER BY made_at_ms DESC, id DESC LIMIT -1 OFFSET ?3)",
                params![session, now, LINK_ROWS],
            )?;
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    /// Whatever became of it.
    pub async fn share_link_by_digest(&self, digest: Digest) -> Result<Option<ShareLinkRow>> {
        self.read(move |db| first(db.prepare(&format!("{SELECT} WHERE digest = ?"))?, [digest], read_link))
            .await
    }

    /// Newest first, those that do not live any more included.
    pub async fn share_links(&self, session: SessionId) -> Result<Vec<ShareLinkRow>> {
        self.read(move |db| {
            let sql = format!("{SELECT} WHERE session = ? ORDER BY made_at_ms DESC, share_links.id DESC");
            all(db.prepare(&sql)?, [session.to_string()], read_link)
        })
        .await
    }

    /// A second time says the same.
    pub async fn revoke_share_link(&self, id: ShareLinkId, at_ms: i64) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "UPDATE share_links SET revoked_at_ms = coalesce(revoked_at_ms, ?) WHERE id = ?",
                params![at_ms, id.to_string()],
            )?;
            Ok(())
        })
        .await
    }
}

fn read_link(row: &Row<'_>) -> rusqlite::Result<ShareLinkRow> {
    Ok(ShareLinkRow {
        id: parsed(row, "id")?,
        session: parsed(row, "session")?,
        kind: word(row, "kind")?,
        made_by: parsed(row, "made_by")?,
        made_by_name: row.get("name")?,
        made_at_ms: row.get("made_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
        revoked_at_ms: row.get("revoked_at_ms")?,
    })
}
