//! How repositories follow the places that they were mirrored from.

use crate::row::{as_json, first, maybe_json};
use crate::{Directory, Result};
use greenroom_domain::{Problem, RepositoryId};
use rusqlite::{Row, params};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorRow {
    /// The last look at the source that ended well.
    pub refreshed_at_ms: Option<i64>,
    /// Of the last look.
    pub problem: Option<Problem>,
    /// `None`: nobody may say that something was pushed there.
    pub hook_made_at_ms: Option<i64>,
}

impl Directory {
    /// Nothing in it for a repository that was never looked after.
    pub async fn mirror(&self, repository: RepositoryId) -> Result<MirrorRow> {
        let found = self.read(move |db| {
            let select = "SELECT * FROM mirrors WHERE repository = ?";
            first(db.prepare(select)?, [repository.to_string()], read_mirror)
        });
        Ok(found.await?.unwrap_or_default())
    }

    /// A look that failed leaves the time of the last good one.
    pub async fn put_refresh(
        &self,
        repository: RepositoryId,
        refreshed_at_ms: Option<i64>,
        problem: Option<Problem>,
    ) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO mirrors (repository, refreshed_at_ms, problem) VALUES (?, ?, ?)
                 ON CONFLICT (repository) DO UPDATE SET
                     refreshed_at_ms = coalesce(excluded.refreshed_at_ms, refreshed_at_ms),
                     problem = excluded.problem",
                params![repository.to_string(), refreshed_at_ms, problem.as_ref().map(as_json).transpose()?],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn set_hook(&self, repository: RepositoryId, made_at_ms: Option<i64>) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO mirrors (repository, hook_made_at_ms) VALUES (?, ?)
                 ON CONFLICT (repository) DO UPDATE SET hook_made_at_ms = excluded.hook_made_at_ms",
                params![repository.to_string(), made_at_ms],
            )?;
            Ok(())
        })
        .await
    }
}

fn read_mirror(row: &Row<'_>) -> rusqlite::Result<MirrorRow> {
    Ok(MirrorRow {
        refreshed_at_ms: row.get("refreshed_at_ms")?,
        problem: maybe_json(row, "problem")?,
        hook_made_at_ms: row.get("hook_made_at_ms")?,
    })
}
