//! The collector of traces as a consumer. A turn that is sent twice is one trace: its ids follow from the turn's.

use super::Own;
use super::lane::Letter;
use crate::{Inner, Result};
use greenroom_domain::trace;
use greenroom_domain::{Consumer, ErrorCode, Event, Problem, SessionId, TurnId};
use greenroom_session::SessionHandle;
use greenroom_telemetry::Traced;

const PAGE: usize = 500;

impl Inner {
    pub(super) async fn tell_collector(&self, session: SessionId, letter: &Letter) -> Result<()> {
        let after = self.directory.cursor(session, Consumer::Collector).await?;
        let handle = self.sessions().get(session).await?;
        let ended = ended_turns(&handle, after, letter).await?;
        if !ended.is_empty() {
            let turns = trace::turns(&handle.conversation().await?);
            let origin = handle.state().await?.origin;
            let repository = origin.map_or_else(String::new, |origin| origin.repository_name.to_string());
            for trace in turns.into_iter().filter(|trace| ended.contains(&trace.turn)) {
                let traced = Traced { trace, session, repository: repository.clone() };
                self.telemetry.export(traced).await.map_err(unreachable)?;
            }
        }
        Ok(self.directory.move_cursor(session, Consumer::Collector, letter.upto).await?)
    }
}

async fn ended_turns(handle: &SessionHandle, after: u64, letter: &Letter) -> Result<Vec<TurnId>> {
    let (mut at, mut ended, mut own) = (after, vec![], Own::after(after, letter.inherited));
    while at < letter.upto {
        let mut page = handle.entries_without_text(at, PAGE).await?;
        let Some(last) = page.last().map(|entry| entry.seq) else { break };
        page.retain(|entry| entry.seq <= letter.upto);
        page.retain(|entry| own.has(entry));
        ended.extend(page.iter().filter_map(|entry| match &entry.event {
            Event::TurnFinished { turn, .. } => Some(*turn),
            _ => None,
        }));
        at = last;
    }
    Ok(ended)
}

fn unreachable(said: String) -> Problem {
    Problem::new(ErrorCode::CollectorUnreachable, "The collector did not take this session's traces.")
        .hint("See that it runs and that its address in the settings is right, then try again.")
        .detail(said)
}
