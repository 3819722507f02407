//! A session's turns as waterfalls, for people. Computed from the log each time; collectors are told by the outbox.

use crate::{App, Result};
use greenroom_domain::trace::{self, TurnTrace};
use greenroom_domain::{ErrorCode, Person, Problem, Right, SessionId};

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
        let handle = self.open(caller, Right::View, id).await?;
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
