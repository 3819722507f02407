//! Sign-in links, web sessions and API tokens, each known by the SHA-256 digest of its secret only. What has expired
//! is as unknown as what never was.

use crate::people::read_person;
use crate::row::{all, first, maybe_parsed, parsed};
use crate::{Directory, Result};
use greenroom_domain::{Person, PersonId, TokenId};
use rusqlite::{Row, params};

/// SHA-256 of a secret.
pub type Digest = [u8; 32];

/// Over any web session's life (a year): one that would have ended this long before a new one's end has ended by now.
const LONGEST_WEB_SESSION_MS: i64 = 366 * 24 * 3_600_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: TokenId,
    /// As whom it acts.
    pub person: PersonId,
    /// What it is for.
    pub name: String,
    pub digest: Digest,
    pub created_at_ms: i64,
    /// `None`: it does not end.
    pub expires_at_ms: Option<i64>,
}

impl Directory {
    /// A link without a person makes the first admin.
    pub async fn add_sign_in_link(
        &self,
        digest: Digest,
        person: Option<PersonId>,
        expires_at_ms: i64,
    ) -> Result<()> {
        self.write(move |db| {
            let person = person.map(|id| id.to_string());
            db.execute("INSERT INTO sign_in_links VALUES (?, ?, ?)", params![digest, person, expires_at_ms])?;
            Ok(())
        })
        .await
    }

    /// Looks without using it up: `Some(None)` is a link of the first admin.
    pub async fn sign_in_link(&self, digest: Digest, now_ms: i64) -> Result<Option<Option<PersonId>>> {
        self.read(move |db| {
            first(
                db.prepare("SELECT person FROM sign_in_links WHERE digest = ? AND expires_at_ms > ?")?,
                params![digest, now_ms],
                |row| maybe_parsed(row, "person"),
            )
        })
        .await
    }

    /// Uses it up: of any number of callers one gets it.
    pub async fn take_sign_in_link(&self, digest: Digest, now_ms: i64) -> Result<Option<Option<PersonId>>> {
        self.write(move |db| {
            db.execute("DELETE FROM sign_in_links WHERE expires_at_ms <= ?", [now_ms])?;
            first(
                db.prepare("DELETE FROM sign_in_links WHERE digest = ? RETURNING person")?,
                [digest],
                |row| maybe_parsed(row, "person"),
            )
        })
        .await
    }

    pub async fn remove_first_admin_links(&self) -> Result<()> {
        self.write(|db| {
            db.execute("DELETE FROM sign_in_links WHERE person IS NULL", [])?;
            Ok(())
        })
        .await
    }

    /// Also clears away what expired long before: nobody else does.
    pub async fn add_web_session(&self, digest: Digest, person: PersonId, expires_at_ms: i64) -> Result<()> {
        self.write(move |db| {
            let long_expired = expires_at_ms.saturating_sub(LONGEST_WEB_SESSION_MS);
            db.execute("DELETE FROM web_sessions WHERE expires_at_ms < ?", [long_expired])?;
            db.execute(
                "INSERT INTO web_sessions VALUES (?, ?, ?)",
                params![digest, person.to_string(), expires_at_ms],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn web_session(&self, digest: Digest, now_ms: i64) -> Result<Option<Person>> {
        self.read(move |db| {
            first(
                db.prepare(
                    "SELECT people.* FROM web_sessions JOIN people ON people.id = web_sessions.person
                     WHERE digest = ? AND expires_at_ms > ?",
                )?,
                params![digest, now_ms],
                read_person,
            )
        })
        .await
    }

    /// Signing out.
    pub async fn remove_web_session(&self, digest: Digest) -> Result<()> {
        self.write(move |db| {
            db.execute("DELETE FROM web_sessions WHERE digest = ?", [digest])?;
            Ok(())
        })
        .await
    }

    pub async fn add_token(&self, token: TokenRow) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    token.id.to_string(),
                    token.person.to_string(),
                    token.name,
                    token.digest,
                    token.created_at_ms,
                    token.expires_at_ms
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// As whom the token acts.
    pub async fn token(&self, digest: Digest, now_ms: i64) -> Result<Option<Person>> {
        self.read(move |db| {
            first(
                db.prepare(
                    "SELECT people.* FROM tokens JOIN people ON people.id = tokens.person
                     WHERE digest = ? AND (expires_at_ms IS NULL OR expires_at_ms > ?)",
                )?,
                params![digest, now_ms],
                read_person,
            )
        })
        .await
    }

    /// Oldest first.
    pub async fn tokens(&self, person: PersonId) -> Result<Vec<TokenRow>> {
        self.read(move |db| {
            all(
                db.prepare("SELECT * FROM tokens WHERE person = ? ORDER BY created_at_ms, id")?,
                [person.to_string()],
                read_token,
            )
        })
        .await
    }

    pub async fn remove_token(&self, id: TokenId) -> Result<()> {
        self.write(move |db| {
            db.execute("DELETE FROM tokens WHERE id = ?", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn read_token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: parsed(row, "id")?,
        person: parsed(row, "person")?,
        name: row.get("name")?,
        digest: row.get("digest")?,
        created_at_ms: row.get("created_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}
