//! Configured models. While there is any model, exactly one is the default.

use crate::row::{all, as_json, first, json};
use crate::{Directory, Result};
use rusqlite::{Row, Transaction, params};

#[derive(Clone, Debug, PartialEq)]
pub struct ModelRow {
    /// The name people choose it by; unique.
    pub name: String,
    /// Opaque here.
    pub config: serde_json::Value,
    pub is_default: bool,
    /// Whether the vault holds a key for it.
    pub has_key: bool,
}

impl Directory {
    /// Adds or replaces. A new default clears the old one; the first model becomes the default.
    pub async fn put_model(&self, row: ModelRow) -> Result<()> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            if row.is_default {
                transaction.execute("UPDATE models SET is_default = 0", [])?;
            }
            transaction.execute(
                "INSERT INTO models (name, config, is_default, has_key) VALUES (?, ?, ?, ?)
                 ON CONFLICT (name) DO UPDATE SET
                     config = excluded.config, has_key = excluded.has_key,
                     is_default = models.is_default OR excluded.is_default",
                params![row.name, as_json(&row.config)?, row.is_default, row.has_key],
            )?;
            choose_default(&transaction)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// `None`: the default.
    pub async fn model(&self, name: Option<String>) -> Result<Option<ModelRow>> {
        self.read(move |db| match name {
            Some(name) => first(db.prepare("SELECT * FROM models WHERE name = ?")?, [name], read_model),
            None => first(db.prepare("SELECT * FROM models WHERE is_default")?, [], read_model),
        })
        .await
    }

    /// In the order they were added.
    pub async fn models(&self) -> Result<Vec<ModelRow>> {
        self.read(|db| all(db.prepare("SELECT * FROM models ORDER BY position")?, [], read_model)).await
    }

    /// Whether it was there. When it was the default, the oldest that is left becomes it.
    pub async fn remove_model(&self, name: String) -> Result<bool> {
        self.write(move |db| {
            let transaction = db.transaction()?;
            let removed = transaction.execute("DELETE FROM models WHERE name = ?", [name])?;
            choose_default(&transaction)?;
            transaction.commit()?;
            Ok(removed > 0)
        })
        .await
    }
}

fn choose_default(transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute(
        "UPDATE models SET is_default = 1
         WHERE position = (SELECT min(position) FROM models) AND NOT EXISTS (SELECT 1 FROM models WHERE is_default)",
        [],
    )?;
    Ok(())
}

fn read_model(row: &Row<'_>) -> rusqlite::Result<ModelRow> {
    Ok(ModelRow {
        name: row.get("name")?,
        config: json(row, "config")?,
        is_default: row.get("is_default")?,
        has_key: row.get("has_key")?,
    })
}
