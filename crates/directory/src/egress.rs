//! What an admin declared about a repository's way out: hosts beside the defaults, and secrets without their values.

use crate::row::{all, as_json, json, parsed};
use crate::{Directory, Result};
use greenroom_domain::RepositoryId;
use rusqlite::{Row, params};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRow {
    /// `host`, `host:port` or `*.domain`.
    pub host: String,
    /// Also when its name leads to a private network.
    pub allows_private: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    pub repository: RepositoryId,
    pub name: String,
    pub hosts: Vec<String>,
    /// Opaque here.
    pub injection: serde_json::Value,
    pub added_at_ms: i64,
}

impl Directory {
    /// In the order they were written.
    pub async fn egress(&self, repository: RepositoryId) -> Result<Vec<EgressRow>> {
        self.read(move |db| {
            let select = "SELECT * FROM egress_additions WHERE repository = ? ORDER BY position";
            all(db.prepare(select)?, [repository.to_string()], read_egress)
        })
        .await
    }

    /// Replaces all.
    pub async fn set_egress(&self, repository: RepositoryId, rows: Vec<EgressRow>) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let repository = repository.to_string();
            transaction.execute("DELETE FROM egress_additions WHERE repository = ?", [&repository])?;
            for (position, row) in rows.iter().enumerate() {
                transaction.execute(
                    "INSERT INTO egress_additions VALUES (?, ?, ?, ?)",
                    params![repository, position, row.host, row.allows_private],
                )?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// By name.
    pub async fn secrets(&self, repository: RepositoryId) -> Result<Vec<SecretRow>> {
        self.read(move |db| {
            let select = "SELECT * FROM secrets WHERE repository = ? ORDER BY name";
            all(db.prepare(select)?, [repository.to_string()], read_secret)
        })
        .await
    }

    /// Adds or replaces.
    pub async fn put_secret(&self, row: SecretRow) -> Result<()> {
        self.write(move |db| {
            let hosts = serde_json::to_value(&row.hosts).unwrap_or_default();
            db.execute(
                "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?)",
                params![
                    row.repository.to_string(),
                    row.name,
                    as_json(&hosts)?,
                    as_json(&row.injection)?,
                    row.added_at_ms
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Whether there was one.
    pub async fn remove_secret(&self, repository: RepositoryId, name: String) -> Result<bool> {
        self.write(move |db| {
            let delete = "DELETE FROM secrets WHERE repository = ? AND name = ?";
            Ok(db.execute(delete, params![repository.to_string(), name])? > 0)
        })
        .await
    }
}

fn read_egress(row: &Row<'_>) -> rusqlite::Result<EgressRow> {
    Ok(EgressRow { host: row.get("host")?, allows_private: row.get("allows_private")? })
}

fn read_secret(row: &Row<'_>) -> rusqlite::Result<SecretRow> {
    Ok(SecretRow {
        repository: parsed(row, "repository")?,
        name: row.get("name")?,
        hosts: json(row, "hosts")?,
        injection: json(row, "injection")?,
        added_at_ms: row.get("added_at_ms")?,
    })
}
