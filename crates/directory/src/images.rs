//! Environment images and the builds that make them.

use crate::row::{all, as_json, as_word, first, json, maybe_json, maybe_parsed, parsed, word};
use crate::{Directory, Result};
use greenroom_domain::{CommitHash, ImageId, Problem, RepositoryId};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    Building,
    Ready,
    Failed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ImageRow {
    pub id: ImageId,
    pub repository: RepositoryId,
    pub state: ImageState,
    pub commit: Option<CommitHash>,
    /// Opaque here.
    pub steps: serde_json::Value,
    pub problem: Option<Problem>,
    pub started_at_ms: i64,
    pub finished_at_ms: Option<i64>,
}

impl Directory {
    /// Adds or replaces.
    pub async fn put_image(&self, row: ImageRow) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET
                     repository = excluded.repository, state = excluded.state,
                     commit_hash = excluded.commit_hash, steps = excluded.steps, problem = excluded.problem,
                     started_at_ms = excluded.started_at_ms, finished_at_ms = excluded.finished_at_ms",
                params![
                    row.id.to_string(),
                    row.repository.to_string(),
                    as_word(row.state)?,
                    row.commit.as_ref().map(CommitHash::as_str),
                    as_json(&row.steps)?,
                    row.problem.as_ref().map(as_json).transpose()?,
                    row.started_at_ms,
                    row.finished_at_ms
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn image(&self, id: ImageId) -> Result<Option<ImageRow>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM images WHERE id = ?")?, [id.to_string()], read_image)
        })
        .await
    }

    /// Newest first.
    pub async fn images(&self, repository: RepositoryId, limit: u32) -> Result<Vec<ImageRow>> {
        self.read(move |db| {
            all(
                db.prepare(
                    "SELECT * FROM images WHERE repository = ? ORDER BY started_at_ms DESC, id DESC LIMIT ?",
                )?,
                params![repository.to_string(), limit],
                read_image,
            )
        })
        .await
    }

    pub async fn newest_ready_image(&self, repository: RepositoryId) -> Result<Option<ImageRow>> {
        self.read(move |db| {
            first(
                db.prepare(
                    "SELECT * FROM images WHERE repository = ? AND state = 'ready'
                     ORDER BY started_at_ms DESC, id DESC LIMIT 1",
                )?,
                [repository.to_string()],
                read_image,
            )
        })
        .await
    }

    pub async fn remove_image(&self, id: ImageId) -> Result<()> {
        self.write(move |db| {
            db.execute("DELETE FROM images WHERE id = ?", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// For the start of the server: builds that a crash cut off. Answers how many there were.
    pub async fn fail_unfinished_images(&self, problem: Problem, at_ms: i64) -> Result<u64> {
        self.write(move |db| {
            let failed = db.execute(
                "UPDATE images SET state = 'failed', problem = ?, finished_at_ms = ? WHERE state = 'building'",
                params![as_json(&problem)?, at_ms],
            )?;
            Ok(failed as u64)
        })
        .await
    }
}

fn read_image(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: parsed(row, "id")?,
        repository: parsed(row, "repository")?,
        state: word(row, "state")?,
        commit: maybe_parsed(row, "commit_hash")?,
        steps: json(row, "steps")?,
        problem: maybe_json(row, "problem")?,
        started_at_ms: row.get("started_at_ms")?,
        finished_at_ms: row.get("finished_at_ms")?,
    })
}
