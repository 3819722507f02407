//! A turn that whoever ran it gave up, without a word of its end: it is begun again, a few times. One whose runner died of
//! it has failed.

use super::{Flow, SessionActor};
use crate::log::LogError;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Durability, Effect, ErrorCode, Problem, TurnId};

/// Then it has failed.
const BEGUN_AGAIN: u32 = 3;

/// The turn that was last given up, and how often.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    last: Option<(TurnId, u32)>,
}

impl GivenUp {
    fn count(&mut self, turn: TurnId) -> u32 {
        let before = self.last.filter(|(of, _)| *of == turn).map_or(0, |(_, count)| count);
        self.last = Some((turn, before + 1));
        before + 1
    }
}

impl SessionActor {
    /// As after a crash: what the turn left open is named, and it runs from the log.
    pub(super) async fn given_up(&mut self, turn: TurnId, problem: Option<Problem>) -> Flow {
        let Some(running) = self.state.running.as_ref().filter(|running| running.turn == turn) else {
            return Flow::Continue;
        };
        if self.starved.turn == Some(turn) {
            // It is ended when there is space.
            return Flow::Continue;
        }
        let gone_on = if running.is_stopping {
            self.end_turn(turn, TurnOutcome::Stopped).await
        } else if let Some(problem) = problem {
            self.end_turn(turn, TurnOutcome::Failed { problem }).await
        } else if self.given_up.count(turn) > BEGUN_AGAIN {
            tracing::error!(session = %self.room.id, %turn, "a turn that nobody could run to its end has failed");
            let problem = Problem::new(ErrorCode::Internal, "The turn was begun again too often.")
                .hint("Send the prompt again; the server's log says what went wrong.");
            self.end_turn(turn, TurnOutcome::Failed { problem }).await
        } else {
            tracing::warn!(session = %self.room.id, %turn, "a turn that nobody runs any more is begun again");
            self.begin_again(turn).await
        };
        if matches!(gone_on, Err(LogError::Full)) {
            self.starved.turn = Some(turn);
        }
        self.flow_after_log(gone_on)
    }

    async fn begin_again(&mut self, turn: TurnId) -> Result<(), LogError> {
        self.commit(self.state.interruption(), Durability::Synced, None).await?;
        self.perform(vec![Effect::RunTurn { turn }]);
        Ok(())
    }
}
