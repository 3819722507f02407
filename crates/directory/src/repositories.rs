//! Configured repositories.

use crate::row::{all, first, parsed};
use crate::{Directory, Result};
use greenroom_domain::{BranchName, RepositoryId, RepositoryName};
use rusqlite::{Row, params};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    pub id: RepositoryId,
    pub name: RepositoryName,
    /// Where it was mirrored from, without credentials.
    pub source: String,
    pub default_branch: BranchName,
    pub required_approvals: u32,
    pub added_at_ms: i64,
}

impl Directory {
    /// `NameTaken` when the name exists.
    pub async fn add_repository(&self, row: RepositoryRow) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO repositories VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    row.id.to_string(),
                    row.name.as_str(),
                    row.source,
                    row.default_branch.as_str(),
                    row.required_approvals,
                    row.added_at_ms
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn repository(&self, id: RepositoryId) -> Result<Option<RepositoryRow>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM repositories WHERE id = ?")?, [id.to_string()], read_repository)
        })
        .await
    }

    pub async fn repository_by_name(&self, name: RepositoryName) -> Result<Option<RepositoryRow>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM repositories WHERE name = ?")?, [name.as_str()], read_repository)
        })
        .await
    }

    /// By name.
    pub async fn repositories(&self) -> Result<Vec<RepositoryRow>> {
        self.read(|db| all(db.prepare("SELECT * FROM repositories ORDER BY name")?, [], read_repository))
            .await
    }

    /// Its images are forgotten with it; its sessions stay in the index.
    pub async fn remove_repository(&self, id: RepositoryId) -> Result<()> {
        self.write(move |db| {
            db.execute("DELETE FROM repositories WHERE id = ?", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn read_repository(row: &Row<'_>) -> rusqlite::Result<RepositoryRow> {
    Ok(RepositoryRow {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        source: row.get("source")?,
        default_branch: parsed(row, "default_branch")?,
        required_approvals: row.get("required_approvals")?,
        added_at_ms: row.get("added_at_ms")?,
    })
}
