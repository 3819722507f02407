//! The directory as a consumer: a session's line, its figures, and what is found of it. What its log says and how far that is known are one transaction.

use super::lane::Letter;
use super::taken::Taken;
use crate::session_list::ListChange;
use crate::{Inner, Result};
use greenroom_directory::{Projected, Projection, SessionRow, SessionStatus};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Consumer, ErrorCode, Problem, SessionId, SessionState};
use greenroom_session::Summary;
use std::sync::Arc;

const PAGE: usize = 500;
/// Of the cursor, for one letter.
const READS: u32 = 4;

impl Inner {
    pub(super) async fn tell_directory(&self, session: SessionId, letter: &Letter) -> Result<()> {
        for _ in 0..READS {
            if self.tell_from_cursor(session, letter).await? {
                return Ok(());
            }
        }
        Err(Problem::new(ErrorCode::Internal, "The directory's cursor moves all the time.")
            .hint("Look whether another process uses this data directory."))
    }

    /// `false`: somebody else moved the cursor meanwhile, an attempt that was given up and arrived late.
    async fn tell_from_cursor(&self, session: SessionId, letter: &Letter) -> Result<bool> {
        let Some(row) = &letter.row else { return Ok(true) };
        let after = self.directory.cursor(session, Consumer::Directory).await?;
        let mut taken = Taken::new(row, after, letter.inherited);
        if after < letter.upto {
            let handle = self.sessions().get(session).await?;
            let mut at = after;
            while at < letter.upto {
                let page = handle.entries_without_text(at, PAGE).await?;
                let Some(last) = page.last().map(|entry| entry.seq) else { break };
                // What is behind it may not be durable yet.
                page.iter().filter(|entry| entry.seq <= letter.upto).for_each(|entry| taken.take(entry));
                at = last;
            }
        }
        let Taken { facts, parts, .. } = taken;
        let unconcerned = if self.telemetry.exports() { vec![] } else { vec![Consumer::Collector] };
        let upto = letter.upto.max(after);
        let projection = Projection { row: (**row).clone(), after, upto, facts, parts, unconcerned };
        #[cfg(test)]
        self.outbox.about_to_tell.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _telling = self.outbox.telling.read().await;
        match self.directory.project(projection).await? {
            Projected::Done => {
                let repository = row.repository;
                let participants = row.participants.iter().map(|(person, _)| *person).collect();
                let session = Arc::new(crate::sessions::view_of_row((**row).clone()));
                self.list_changes.tell(ListChange::Changed { repository, session, participants });
                Ok(true)
            }
            Projected::Moved => Ok(false),
            Projected::Removed => Ok(true),
        }
    }
}

pub(super) fn row_of(summary: &Summary) -> Option<SessionRow> {
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
        model: state.choice.model.clone(),
        queued_prompts: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
        usage: state.usage,
        change: state.change.as_ref().map(|change| (change.change, change.number, change.is_merged)),
        head_seq: state.head_seq,
        news_seq: state.news_seq,
        created_at_ms: origin.created_at_ms,
        updated_at_ms: state.updated_at_ms,
        team_access: state.access.team,
        participants: state.access.participants.iter().map(|of| (of.person, of.role())).collect(),
        is_archived: state.is_archived,
        open_asks: open_asks(state),
        parent: state.parent_session(),
    })
}

pub(crate) fn open_asks(state: &SessionState) -> u32 {
    u32::try_from(state.open_asks().count()).unwrap_or(u32::MAX)
}

pub(crate) fn status_of(state: &SessionState) -> SessionStatus {
    match (&state.running, &state.last_outcome) {
        (Some(_), _) => SessionStatus::Running,
        (None, Some(TurnOutcome::Failed { .. } | TurnOutcome::BudgetReached { .. })) => SessionStatus::Failed,
        _ => SessionStatus::Idle,
    }
}
