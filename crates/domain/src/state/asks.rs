//! What a turn asks of people: opened by the turn, closed by the first answer, by time, or by the turn's end.

use super::{Asking, Effect, SessionState};
use crate::event::{Entry, Event};
use crate::{Answer, AskId, Asked, ErrorCode, Grant, PersonId, Problem, TurnId};
use serde::{Deserialize, Serialize};

/// Asks of a turn that are remembered at a time.
pub const ASKS_LIMIT: usize = 64;
/// Grants of a session; the oldest give way.
pub const GRANTS_LIMIT: usize = 200;

/// An ask that is open, or whose call is not over yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandingAsk {
    pub ask: AskId,
    pub call: String,
    pub of: Asked,
    pub opened_at_ms: i64,
    pub expires_at_ms: i64,
    pub end: Option<AskEnd>,
}

/// What became of an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskEnd {
    Answered {
        answer: Answer,
        by: PersonId,
        name: String,
    },
    /// Nobody answered in time.
    Expired,
}

impl SessionState {
    /// Those that wait for people, oldest first.
    pub fn open_asks(&self) -> impl Iterator<Item = &StandingAsk> {
        let asks =
            self.running.iter().filter(|running| !running.is_stopping).flat_map(|running| &running.asks);
        asks.filter(|standing| standing.end.is_none())
    }

    /// What the running turn asked for this call.
    pub fn ask_of_call(&self, call: &str) -> Option<&StandingAsk> {
        self.running.as_ref()?.asks.iter().find(|standing| standing.call == call)
    }

    pub fn ask(&self, ask: AskId) -> Option<&StandingAsk> {
        self.running.as_ref()?.asks.iter().find(|standing| standing.ask == ask)
    }

    /// Nothing more is asked in this turn.
    pub fn asks_too_much(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.asks.len() >= ASKS_LIMIT)
    }

    /// Empty when it is closed already: an answer came first.
    pub fn decide_expiry(&self, turn: TurnId, ask: AskId) -> Vec<Event> {
        let is_open = self.ask(ask).is_some_and(|standing| standing.end.is_none());
        is_open.then_some(Event::AskExpired { turn, ask }).into_iter().collect()
    }

    pub(super) fn decide_answer(
        &self,
        ask: AskId,
        answer: &Answer,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        let open = self.open_asks().find(|standing| standing.ask == ask);
        let (Some(standing), Some(running)) = (open, &self.running) else {
            return Err(self.closed(ask));
        };
        standing.of.takes(answer)?;
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        Ok(vec![Event::AskAnswered { turn: running.turn, ask, answer: answer.clone(), by, name }])
    }

    fn closed(&self, ask: AskId) -> Problem {
        let message = match self.ask(ask).and_then(|standing| standing.end.as_ref()) {
            Some(AskEnd::Answered { name, .. }) => format!("{name} has answered this already."),
            Some(AskEnd::Expired) => "Nobody answered this in time, and the turn went on.".to_owned(),
            None => "This is not asked any more: its turn went on or has ended.".to_owned(),
        };
        Problem::new(ErrorCode::AskClosed, message)
            .hint("Send a prompt that joins the turn to say something else.")
    }

    pub(super) fn step_ask(&mut self, entry: &Entry) -> Vec<Effect> {
        let Some(running) = &mut self.running else { return vec![] };
        match &entry.event {
            Event::AskOpened { ask, call, of, expires_at_ms, .. } => running.asks.push(StandingAsk {
                ask: *ask,
                call: call.clone(),
                of: of.clone(),
                opened_at_ms: entry.at_ms,
                expires_at_ms: *expires_at_ms,
                end: None,
            }),
            Event::AskAnswered { ask, answer, by, name, .. } => {
                let end = AskEnd::Answered { answer: answer.clone(), by: *by, name: name.clone() };
                let closed = running.close(*ask, end, entry.at_ms);
                if let (Some(Asked::Permission { grants, .. }), Answer::Always {}) = (closed, answer) {
                    self.grant(&grants);
                }
            }
            Event::AskExpired { ask, .. } => drop(running.close(*ask, AskEnd::Expired, entry.at_ms)),
            _ => {}
        }
        vec![Effect::PublishSummary]
    }

    fn grant(&mut self, grants: &[Grant]) {
        for grant in grants {
            if !self.grants.contains(grant) {
                self.grants.push(grant.clone());
            }
        }
        let surplus = self.grants.len().saturating_sub(GRANTS_LIMIT);
        self.grants.drain(..surplus);
    }
}

impl super::RunningTurn {
    /// How long it has waited for people until now, in all.
    pub fn waited_until(&self, now_ms: i64) -> u64 {
        let open = self.asks.iter().filter(|standing| standing.end.is_none());
        let open_ms =
            open.map(|standing| u64::try_from(now_ms - standing.opened_at_ms).unwrap_or(0)).sum::<u64>();
        self.waited_ms + open_ms
    }

    /// `None` when it is not open.
    fn close(&mut self, ask: AskId, end: AskEnd, at_ms: i64) -> Option<Asked> {
        let standing = self.asks.iter_mut().find(|standing| standing.ask == ask && standing.end.is_none())?;
        standing.end = Some(end);
        self.waited_ms += u64::try_from(at_ms - standing.opened_at_ms).unwrap_or(0);
        Some(standing.of.clone())
    }
}

#[cfg(test)]
#[path = "asks_tests.rs"]
mod tests;
