//! Finds the end of the turn that answers one prompt, in a session where others prompt as well. Pure.

use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Entry, Event, PromptId, TurnId};

/// Which prompt is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The session's first one.
    First,
    /// The last one at or before this entry: that of the receipt.
    UpTo(u64),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Finished(TurnOutcome),
    Withdrawn,
}

#[derive(Debug)]
pub(crate) struct TurnWatch {
    awaited: Awaited,
    prompt: Option<PromptId>,
    turn: Option<TurnId>,
}

impl TurnWatch {
    pub(crate) fn new(awaited: Awaited) -> Self {
        Self { awaited, prompt: None, turn: None }
    }

    /// Call with each entry in order; gives the end once.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Option<Answered> {
        match &entry.event {
            Event::PromptAccepted { prompt, .. } if self.is_awaited(entry.seq) => {
                (self.prompt, self.turn) = (Some(*prompt), None);
            }
            Event::PromptWithdrawn { prompt, .. } if self.prompt == Some(*prompt) => {
                return Some(Answered::Withdrawn);
            }
            Event::TurnStarted { turn, prompts } if self.prompt.is_some_and(|own| prompts.contains(&own)) => {
                self.turn = Some(*turn);
            }
            Event::PromptInserted { turn, prompt } if self.prompt == Some(*prompt) => self.turn = Some(*turn),
            Event::TurnFinished { turn, outcome, .. } if self.turn == Some(*turn) => {
                return Some(Answered::Finished(outcome.clone()));
            }
            _ => {}
        }
        None
    }

    fn is_awaited(&self, seq: u64) -> bool {
        match self.awaited {
            Awaited::First => self.prompt.is_none(),
            Awaited::UpTo(last) => seq <= last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::money::Usage;
    use greenroom_domain::person::{Author, Via};
    use greenroom_domain::{Delivery, PersonId};

    fn prompt(id: u128) -> Event {
        let author = Author {
            on_behalf_of: PersonId::from_parts(1, 1),
            via: Via::Person,
            name: "Ann".to_owned(),
            email: "ann@example.org".to_owned(),
        };
        let prompt = PromptId::from_parts(1, id);
        Event::PromptAccepted {
            prompt,
            author,
            text: "go".to_owned(),
            delivery: Delivery::Queue,
            attachments: vec![],
        }
    }

    fn started(turn: u128, prompts: &[u128]) -> Event {
        let prompts = prompts.iter().map(|id| PromptId::from_parts(1, *id)).collect();
        Event::TurnStarted { turn: TurnId::from_parts(1, turn), prompts }
    }

    fn finished(turn: u128, outcome: TurnOutcome) -> Event {
        Event::TurnFinished {
            turn: TurnId::from_parts(1, turn),
            outcome,
            usage: Usage::default(),
            duration_ms: 1,
        }
    }

    fn play(awaited: Awaited, events: Vec<Event>) -> Option<(u64, Answered)> {
        let mut watch = TurnWatch::new(awaited);
        let entries = (1..).zip(events).map(|(seq, event)| Entry { seq, at_ms: 1, epoch: 1, event });
        entries.filter_map(|entry| watch.entry(&entry).map(|end| (entry.seq, end))).next()
    }

    #[test]
    fn the_turn_of_ones_own_prompt_is_waited_for_not_that_of_another() {
        let events = vec![
            prompt(1),
            started(1, &[1]),
            prompt(2),
            prompt(3),
            finished(1, TurnOutcome::Stopped),
            started(2, &[2, 3]),
            finished(2, TurnOutcome::Completed),
        ];
        let end = |outcome| Answered::Finished(outcome);
        assert_eq!(play(Awaited::First, events.clone()), Some((5, end(TurnOutcome::Stopped))));
        assert_eq!(play(Awaited::UpTo(3), events), Some((7, end(TurnOutcome::Completed))));
    }

    #[test]
    fn an_inserted_prompt_ends_with_the_turn_it_joined_and_a_withdrawn_one_at_once() {
        let inserted =
            Event::PromptInserted { turn: TurnId::from_parts(1, 1), prompt: PromptId::from_parts(1, 2) };
        let events =
            vec![prompt(1), started(1, &[1]), prompt(2), inserted, finished(1, TurnOutcome::Completed)];
        assert_eq!(play(Awaited::UpTo(3), events), Some((5, Answered::Finished(TurnOutcome::Completed))));
        let withdrawn =
            Event::PromptWithdrawn { prompt: PromptId::from_parts(1, 2), by: PersonId::from_parts(1, 1) };
        let events = vec![prompt(1), started(1, &[1]), prompt(2), withdrawn];
        assert_eq!(play(Awaited::UpTo(3), events), Some((4, Answered::Withdrawn)));
    }
}
