//! What a start goes on with: turns that were cut off, deletions that were, and sessions whose consumers are behind their
//! logs. Sessions at rest with nothing left to tell are not opened: their files look as they did when that was noted.

use crate::{App, Inner, Result};
use greenroom_directory::SettledRow;
use greenroom_domain::{Consumer, SessionId};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl App {
    /// Opens the sessions that have something to go on with.
    pub(crate) async fn continue_sessions(&self) -> Result<()> {
        let inner = &self.inner;
        let removed: HashSet<_> = inner.directory.remembered_deletions().await?.into_iter().collect();
        let (gone, files): (Vec<_>, Vec<_>) =
            inner.session_files().await.into_iter().partition(|(session, _)| removed.contains(session));
        let mut left = vec![];
        for (session, _) in gone {
            tracing::info!(%session, "a deletion that was cut off is finished");
            if let Err(problem) = inner.erase(session).await {
                tracing::warn!(%session, %problem, "a deleted session is still on the disk; the next start tries again");
                left.push(session);
            }
        }
        inner.directory.forget_removed(inner.now_ms(), left).await?;
        let mut open = inner.directory.running_sessions().await?;
        open.extend(inner.behind(files).await?);
        open.sort_unstable();
        open.dedup();
        for session in open {
            if let Err(problem) = inner.sessions().get(session).await {
                tracing::error!(%session, %problem, "the session cannot be continued");
            }
        }
        for (session, consumer) in inner.directory.owed().await? {
            if consumer == Consumer::Forge {
                inner.ask_forge(session);
            }
        }
        Ok(())
    }
}

impl Inner {
    /// How the session's log looks on the disk: its files' times and lengths.
    pub(crate) fn stamp(&self, session: SessionId) -> String {
        stamp(&self.sessions_dir().join(session.to_string()))
    }

    fn sessions_dir(&self) -> PathBuf {
        self.config.data_dir.join("sessions")
    }

    /// Sessions of which not all is known to have been told.
    async fn behind(&self, files: Vec<(SessionId, String)>) -> Result<Vec<SessionId>> {
        let settled = self.directory.settled().await?.into_iter().map(|row| (row.session, row));
        let settled: HashMap<SessionId, SettledRow> = settled.collect();
        let (mut behind, mut as_before) = (vec![], vec![]);
        for (session, stamp) in files {
            match settled.get(&session) {
                Some(row) if row.stamp == stamp => {}
                // Copied, restored, or opened and left alone: the log's own end decides.
                Some(row) if self.sessions().head_seq(session).await.is_ok_and(|head| head == row.seq) => {
                    as_before.push(SettledRow { stamp, ..row.clone() });
                }
                _ => behind.push(session),
            }
        }
        self.directory.settle(as_before).await?;
        Ok(behind)
    }

    /// Every session on disk, and how its log looks.
    async fn session_files(&self) -> Vec<(SessionId, String)> {
        let directory = self.sessions_dir();
        let files = tokio::task::spawn_blocking(move || {
            let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
            let session = |entry: std::fs::DirEntry| {
                let session: SessionId = entry.file_name().to_str()?.parse().ok()?;
                Some((session, stamp(&entry.path())))
            };
            entries.flatten().filter_map(session).collect()
        });
        files.await.unwrap_or_default()
    }
}

fn stamp(directory: &Path) -> String {
    let of = |name: &str| match std::fs::metadata(directory.join(name)) {
        Ok(file) => format!("{}.{:09}/{}", file.mtime(), file.mtime_nsec(), file.len()),
        Err(_) => "-".to_owned(),
    };
    format!("{} {}", of("session.db"), of("session.db-wal"))
}
