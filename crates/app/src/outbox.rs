//! Feeds the directory's session index, and whoever follows it. A summary is derived from the log, so a lost one is made again when the
//! session is next opened; per session the newest one wins, and the queue holds at most one of each.

use crate::session_list::ListChange;
use crate::{App, Inner, Result};
use greenroom_directory::{SessionRow, SessionStatus};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{SessionId, SessionState};
use greenroom_session::Summary;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

const RETRY: Duration = Duration::from_secs(1);
/// What the end of the server waits for the directory.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// Summaries that wait for the directory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<HashMap<SessionId, Summary>>,
    arrived: Notify,
    /// Held while summaries are on their way.
    delivering: tokio::sync::Mutex<()>,
}

impl Outbox {
    pub(crate) fn put(&self, summary: Summary) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(summary.session, summary);
        self.arrived.notify_one();
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Vec<Summary> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().map(|(_, summary)| summary).collect()
    }

    /// Delivers until the app is gone.
    pub(crate) async fn run(self: Arc<Self>, app: Weak<Inner>) {
        loop {
            self.arrived.notified().await;
            let Some(inner) = app.upgrade() else { return };
            let _delivering = self.delivering.lock().await;
            for summary in self.take() {
                if let Err(error) = inner.put_summary(&summary).await {
                    tracing::warn!(session = %summary.session, %error, "the session index is behind");
                    self.put_back(summary);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn put_back(&self, summary: Summary) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(summary.session).or_insert(summary);
        self.arrived.notify_one();
    }
}

impl Inner {
    /// Writes what waits, for the end of the server. What cannot be written is derived from the logs at the next start.
    pub(crate) async fn flush_index(&self) {
        let flushed = async {
            let _delivering = self.outbox.delivering.lock().await;
            for summary in self.outbox.take() {
                if let Err(error) = self.put_summary(&summary).await {
                    tracing::warn!(session = %summary.session, %error, "the session index is behind");
                }
            }
        };
        if tokio::time::timeout(FLUSH_DEADLINE, flushed).await.is_err() {
            tracing::warn!("the session index is behind; the next start catches up");
        }
    }

    pub(crate) async fn put_summary(&self, summary: &Summary) -> Result<()> {
        match row_of(summary) {
            Some(row) => {
                let session = Arc::new(crate::sessions::view_of_row(row.clone()));
                let repository = row.repository;
                self.directory.put_session(row).await?;
                self.list_changes.tell(ListChange::Changed { repository, session });
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl App {
    /// Opens the sessions whose turn was cut off, so that they go on. After a crash the index may be behind the logs:
    /// sessions whose files are younger than their line are opened too.
    pub(crate) async fn continue_sessions(&self) -> Result<()> {
        let mut sessions = self.inner.directory.running_sessions().await?;
        sessions.extend(self.sessions_behind().await?);
        sessions.sort_unstable();
        sessions.dedup();
        for session in sessions {
            if let Err(problem) = self.inner.sessions().get(session).await {
                tracing::error!(%session, %problem, "the session cannot be continued");
            }
        }
        Ok(())
    }

    async fn sessions_behind(&self) -> Result<Vec<SessionId>> {
        let mut behind = vec![];
        for (session, modified_ms) in self.inner.session_files() {
            let row = self.inner.directory.session(session).await?;
            if row.is_none_or(|row| row.updated_at_ms < modified_ms) {
                behind.push(session);
            }
        }
        Ok(behind)
    }
}

impl Inner {
    /// Every session on disk with the time its log was last written.
    fn session_files(&self) -> Vec<(SessionId, i64)> {
        let Ok(entries) = std::fs::read_dir(self.config.data_dir.join("sessions")) else { return vec![] };
        entries
            .flatten()
            .filter_map(|entry| {
                let session: SessionId = entry.file_name().to_str()?.parse().ok()?;
                let written = ["session.db-wal", "session.db"]
                    .iter()
                    .filter_map(|name| std::fs::metadata(entry.path().join(name)).ok()?.modified().ok())
                    .max()?;
                let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
                Some((session, i64::try_from(since.as_millis()).ok()?))
            })
            .collect()
    }
}

fn row_of(summary: &Summary) -> Option<SessionRow> {
    let state = &summary.state;
    let origin = state.origin.as_ref()?;
    Some(SessionRow {
        id: summary.session,
        repository: origin.repository,
        repository_name: origin.repository_name.clone(),
        title: state.title.clone(),
        status: status_of(state),
        created_by: origin.author.on_behalf_of,
        created_by_name: origin.author.name.clone(),
        branch: origin.branch.clone(),
        model: origin.model.clone(),
        queued_prompts: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
        usage: state.usage,
        change: state.change.as_ref().map(|change| (change.change, change.number, change.is_merged)),
        head_seq: state.head_seq,
        news_seq: state.news_seq,
        created_at_ms: origin.created_at_ms,
        updated_at_ms: state.updated_at_ms,
    })
}

pub(crate) fn status_of(state: &SessionState) -> SessionStatus {
    match (&state.running, &state.last_outcome) {
        (Some(_), _) => SessionStatus::Running,
        (None, Some(TurnOutcome::Failed { .. } | TurnOutcome::BudgetReached { .. })) => SessionStatus::Failed,
        _ => SessionStatus::Idle,
    }
}
