//! The queue's rules, one sentence each; over any sequence of commands in `fuzz`.

use super::*;
use crate::event::{Entry, TurnOutcome};
use crate::money::Usage;
use crate::{Author, Command, PersonId, Role, Via};

fn author(n: u128) -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, n),
        via: Via::Person,
        name: format!("Person {n}"),
        email: format!("p{n}@example.org"),
    }
}

fn asking(n: u128) -> Asking {
    let role = if n == ADMIN { Role::Admin } else { Role::Member };
    Asking { author: author(n), role, model: Some("m".into()), attachments: vec![], subject: None }
}

const ADMIN: u128 = 9;

fn prompt_id(n: usize) -> PromptId {
    PromptId::from_parts(1, n as u128)
}

fn command(of: Command, by: u128) -> Act {
    Act::Command { of, by }
}

fn say(delivery: Delivery) -> Command {
    Command::Prompt { text: "do".into(), delivery, attachments: vec![] }
}

#[path = "queue_fuzz.rs"]
mod fuzz;

/// What can happen to a session's queue.
#[derive(Clone, Debug)]
enum Act {
    Command {
        of: Command,
        by: u128,
    },
    /// The running turn comes to its next step.
    Step,
    /// The running turn ends.
    Finish,
}

/// A session with its log; `act` does what the actor in `session` does.
#[derive(Default)]
struct Play {
    state: SessionState,
    log: Vec<Entry>,
    ids: usize,
    /// In the order they were answered.
    answered: Vec<PromptId>,
    withdrawn: Vec<PromptId>,
    accepted: Vec<PromptId>,
}

impl Play {
    fn after(acts: Vec<Act>) -> Self {
        let mut play = Self::default();
        for act in acts {
            play.act(&act).unwrap();
        }
        play
    }

    fn act(&mut self, act: &Act) -> Result<(), Problem> {
        let ids = Ids { prompt: prompt_id(self.ids), turn: TurnId::from_parts(1, self.log.len() as u128) };
        let events = match act {
            Act::Command { of, by } => {
                let events = self.state.decide(of, &asking(*by), ids)?;
                self.ids += usize::from(matches!(of, Command::Prompt { .. }));
                events
            }
            Act::Step => self.state.inserts(),
            Act::Finish => self.finish(ids.turn),
        };
        self.append(events);
        Ok(())
    }

    fn finish(&mut self, next: TurnId) -> Vec<Event> {
        let Some(running) = &self.state.running else { return vec![] };
        let end = Event::TurnFinished {
            turn: running.turn,
            outcome: TurnOutcome::Completed,
            usage: Usage::default(),
            duration_ms: 1,
        };
        self.append(vec![end]);
        self.state.next_turn(next, Some("m"))
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            match &event {
                Event::PromptAccepted { prompt, .. } => self.accepted.push(*prompt),
                Event::PromptWithdrawn { prompt, .. } => self.withdrawn.push(*prompt),
                Event::PromptInserted { prompt, .. } => self.answered.push(*prompt),
                Event::TurnStarted { prompts, .. } => self.answered.extend(prompts),
                _ => {}
            }
            let entry = Entry { seq: self.log.len() as u64 + 1, at_ms: 5, epoch: 1, event };
            let _ = self.state.step(&entry);
            self.log.push(entry);
        }
    }

    fn order(&self) -> Vec<usize> {
        let place = |queued: &QueuedPrompt| (0..self.ids).find(|n| prompt_id(*n) == queued.prompt).unwrap();
        self.state.queue.iter().map(place).collect()
    }

    fn code(&self, of: &Command, by: u128) -> ErrorCode {
        let ids = Ids { prompt: prompt_id(self.ids), turn: TurnId::from_parts(1, 0) };
        self.state.decide(of, &asking(by), ids).unwrap_err().code
    }
}

fn shift(prompt: usize, before: Option<usize>) -> Command {
    Command::MovePrompt { prompt: prompt_id(prompt), before: before.map(prompt_id) }
}

/// Prompt 0 runs; 1 and 3 of Person 1 wait, and 2 of Person 2 between them.
fn three_waiting() -> Play {
    Play::after([1, 1, 2, 1].map(|by| command(say(Delivery::Queue), by)).to_vec())
}

#[test]
fn ones_own_prompts_change_places_and_go_behind_others_but_not_ahead_of_them() {
    let mut play = three_waiting();
    assert_eq!(play.code(&shift(3, Some(1)), 1), ErrorCode::NotAllowed, "2 is in between");
    assert_eq!(play.code(&shift(3, Some(2)), 1), ErrorCode::NotAllowed);
    play.act(&command(shift(1, Some(3)), 1)).unwrap();
    assert_eq!(play.order(), [2, 1, 3]);
    play.act(&command(shift(3, Some(1)), 1)).unwrap();
    assert_eq!(play.order(), [2, 3, 1]);
    play.act(&command(shift(2, None), 2)).unwrap();
    assert_eq!(play.order(), [3, 1, 2]);
}

#[test]
fn an_admin_moves_any_prompt_anywhere_and_nobody_else_moves_anothers() {
    let mut play = three_waiting();
    assert_eq!(play.code(&shift(1, None), 2), ErrorCode::NotAllowed);
    play.act(&command(shift(3, Some(1)), ADMIN)).unwrap();
    assert_eq!(play.order(), [3, 1, 2]);
}

#[test]
fn a_move_to_where_it_is_is_nothing_and_one_before_what_does_not_wait_is_refused() {
    let mut play = three_waiting();
    let before = play.log.len();
    for (prompt, target) in [(1, Some(1)), (1, Some(2)), (3, None)] {
        play.act(&command(shift(prompt, target), 1)).unwrap();
    }
    assert_eq!(play.log.len(), before);
    assert_eq!(play.code(&shift(1, Some(0)), 1), ErrorCode::PromptNotQueued, "0 is answered already");
    assert_eq!(play.code(&shift(0, None), 1), ErrorCode::PromptNotQueued);
}

#[test]
fn the_words_of_a_prompt_are_its_authors_alone_even_before_an_admin() {
    let play = three_waiting();
    let edit = Command::EditPrompt { prompt: prompt_id(1), text: "other".into() };
    assert_eq!(play.code(&edit, ADMIN), ErrorCode::NotAllowed);
    assert_eq!(play.code(&edit, 2), ErrorCode::NotAllowed);
    assert!(
        play.state
            .decide(&edit, &asking(1), Ids { prompt: prompt_id(9), turn: TurnId::from_parts(1, 9) })
            .is_ok()
    );
}

#[test]
fn a_waiting_prompt_joins_the_running_turn_once_its_author_says_so() {
    let mut play = three_waiting();
    let insert = Command::SetDelivery { prompt: prompt_id(2), delivery: Delivery::Insert };
    assert_eq!(play.code(&insert, 1), ErrorCode::NotAllowed);
    play.act(&command(insert, 2)).unwrap();
    assert_eq!(play.order(), [1, 2, 3], "it keeps its place until then");
    play.act(&Act::Step).unwrap();
    assert_eq!(play.order(), [1, 3]);
    assert_eq!(play.answered, [prompt_id(0), prompt_id(2)]);
}

#[test]
fn a_stop_that_holds_the_queue_keeps_all_that_waits_from_being_answered_until_it_is_released() {
    let mut play = three_waiting();
    play.act(&command(Command::Stop { hold_queue: true }, 2)).unwrap();
    play.act(&Act::Finish).unwrap();
    assert!(play.state.running.is_none());
    // What comes later is answered: first the correction, then what was held.
    play.act(&command(say(Delivery::Queue), 2)).unwrap();
    assert_eq!(play.answered.last(), Some(&prompt_id(4)));
    play.act(&Act::Finish).unwrap();
    assert!(play.state.running.is_none());
    assert_eq!(play.order(), [1, 2, 3]);
    play.act(&command(Command::ReleaseQueue {}, 1)).unwrap();
    assert_eq!(play.answered.last(), Some(&prompt_id(1)));
    let before = play.log.len();
    play.act(&command(Command::ReleaseQueue {}, 1)).unwrap();
    assert_eq!(play.log.len(), before, "nothing is held any more");
}

#[test]
fn what_is_held_is_not_inserted_and_a_stop_can_hold_after_it_stopped() {
    let mut play = three_waiting();
    play.act(&command(Command::Stop { hold_queue: false }, 1)).unwrap();
    play.act(&command(Command::SetDelivery { prompt: prompt_id(1), delivery: Delivery::Insert }, 1)).unwrap();
    play.act(&command(Command::Stop { hold_queue: true }, 1)).unwrap();
    let stops = play.log.iter().filter(|entry| matches!(entry.event, Event::StopRequested { .. })).count();
    assert_eq!(stops, 1);
    play.act(&Act::Step).unwrap();
    assert_eq!(play.order(), [1, 2, 3]);
}

#[test]
fn a_session_is_renamed_to_one_line_that_is_not_too_long() {
    let mut play = Play::default();
    let rename = |title: &str| Command::Rename { title: title.into() };
    play.act(&command(rename("  Weigh the pears "), 2)).unwrap();
    assert_eq!(play.state.title, "Weigh the pears");
    play.act(&command(rename("Weigh the pears"), 2)).unwrap();
    assert_eq!(play.log.len(), 1, "the same title is no change");
    assert_eq!(play.code(&rename(" "), 1), ErrorCode::InvalidRequest);
    assert_eq!(play.code(&rename("a\nb"), 1), ErrorCode::InvalidRequest);
    assert_eq!(play.code(&rename(&"ä".repeat(81)), 1), ErrorCode::TooLarge);
    play.act(&command(rename(&"ä".repeat(80)), 1)).unwrap();
}

#[test]
fn a_prompt_that_comes_between_two_turns_goes_behind_what_waited() {
    let mut play = Play::after((0..2).map(|_| command(say(Delivery::Queue), 1)).collect());
    // The turn has ended, and the next one has not begun yet: the disk was full, or the server stopped right then.
    let _ = play.finish(TurnId::from_parts(1, 99));
    play.act(&command(say(Delivery::Queue), 2)).unwrap();
    assert_eq!(play.answered, [prompt_id(0), prompt_id(1)]);
    assert_eq!(play.order(), [2]);
}
