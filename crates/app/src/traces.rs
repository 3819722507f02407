//! A session's turns as waterfalls, for people and for collectors of traces. Computed from the log each time.

use crate::{App, Inner, Result};
use greenroom_domain::trace::{self, TurnTrace};
use greenroom_domain::{ErrorCode, Person, Problem, Role, SessionId, TurnId};
use greenroom_session::SessionHandle;
use greenroom_telemetry::Traced;
use std::sync::Arc;

/// Turns of one answer: the last ones.
const TURNS: usize = 50;

impl App {
    /// The last 50 turns, oldest first, or the one of this number.
    pub async fn session_trace(
        &self,
        caller: &Person,
        id: SessionId,
        number: Option<u64>,
    ) -> Result<Vec<TurnTrace>> {
        let handle = self.open(caller, Role::Viewer, id).await?;
        let mut turns = trace::turns(&handle.conversation().await?);
        let Some(number) = number else {
            return Ok(turns.split_off(turns.len().saturating_sub(TURNS)));
        };
        let count = turns.len();
        turns.retain(|turn| turn.number == number);
        if turns.is_empty() {
            let message = format!("The session has no turn {number}.");
            let hint = match count {
                0 => "It had no turn yet: send it a prompt.".to_owned(),
                _ => format!("Its turns are 1 to {count}."),
            };
            return Err(Problem::new(ErrorCode::TurnUnknown, message).hint(hint));
        }
        Ok(turns)
    }
}

impl Inner {
    /// Hands a finished turn to the collector, where there is one. Returns at once.
    pub(crate) fn trace_turn(self: &Arc<Self>, session: &SessionHandle, turn: TurnId) {
        if !self.telemetry.exports() {
            return;
        }
        let (app, session) = (Arc::clone(self), session.clone());
        self.drain.endings.spawn(async move {
            // Few at a time: each reads a log.
            let Ok(_place) = app.tracing.acquire().await else { return };
            match app.traced(&session, turn).await {
                Ok(Some(traced)) => app.telemetry.export(traced),
                Ok(None) => {}
                Err(problem) => tracing::warn!(session = %session.id(), %problem, "a turn is not traced"),
            }
        });
    }

    async fn traced(&self, session: &SessionHandle, turn: TurnId) -> Result<Option<Traced>> {
        let turns = trace::turns(&session.conversation().await?);
        let Some(trace) = turns.into_iter().find(|trace| trace.turn == turn) else { return Ok(None) };
        let origin = session.state().await?.origin;
        let repository = origin.map_or_else(String::new, |origin| origin.repository_name.to_string());
        Ok(Some(Traced { trace, session: session.id(), repository }))
    }
}
