//! What of a long log is still to be shown, against the whole log.

use super::*;
use crate::event::TurnOutcome;
use crate::money::Usage;
use crate::{Author, Delivery, PersonId, TurnId, Via};

fn log(events: Vec<Event>) -> Vec<Entry> {
    (1..).zip(events).map(|(seq, event)| Entry { seq, at_ms: 1, epoch: 1, event }).collect()
}

fn id(n: u128) -> PromptId {
    PromptId::from_parts(1, n)
}

fn turn(n: u128) -> TurnId {
    TurnId::from_parts(1, n)
}

fn accepted(n: u128) -> Event {
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ann".into(),
        email: "ann@example.org".into(),
    };
    Event::PromptAccepted {
        prompt: id(n),
        author,
        text: format!("prompt {n}"),
        delivery: Delivery::Queue,
        attachments: vec![],
    }
}

fn started(n: u128, prompts: &[u128]) -> Event {
    Event::TurnStarted { turn: turn(n), prompts: prompts.iter().map(|n| id(*n)).collect() }
}

fn notice(n: u128) -> Event {
    Event::NoticeGiven { turn: turn(n), text: "changed".into() }
}

fn finished(n: u128) -> Event {
    let outcome = TurnOutcome::Completed;
    Event::TurnFinished { turn: turn(n), outcome, usage: Usage::default(), duration_ms: 1 }
}

fn title(text: &str) -> Event {
    Event::TitleChanged { title: text.into(), by: None }
}

fn standing(events: Vec<Event>) -> Vec<u64> {
    let mut present = Present::default();
    log(events).iter().for_each(|entry| present.step(entry));
    present.entries().iter().map(|entry| entry.seq).collect()
}

#[test]
fn the_newest_of_each_kind_stands() {
    let phase = |state| Event::SandboxChanged { state, image: None, commit: None, problem: None };
    let service = |name: &str| Event::ServiceChanged {
        name: name.into(),
        state: crate::event::ServicePhase::Ready,
        problem: None,
    };
    assert_eq!(
        standing(vec![title("a"), phase(SandboxPhase::Claiming), title("b"), service("db"), service("db")]),
        [2, 3, 5]
    );
    assert_eq!(
        standing(vec![service("db"), phase(SandboxPhase::Stopped)]),
        [2],
        "services end with the sandbox"
    );
}

#[test]
fn a_prompt_stands_until_its_turn_has_ended() {
    let begun = vec![accepted(1), started(1, &[1]), accepted(2), accepted(3)];
    assert_eq!(standing(begun.clone()), [1, 2, 3, 4]);
    let withdrawn = Event::PromptWithdrawn { prompt: id(3), by: PersonId::from_parts(1, 1) };
    let inserted = Event::PromptInserted { turn: turn(1), prompt: id(2) };
    let more = [begun.clone(), vec![withdrawn, inserted]].concat();
    assert_eq!(standing(more.clone()), [1, 2, 3, 6]);
    assert_eq!(standing([more, vec![finished(1)]].concat()), [] as [u64; 0]);
    assert_eq!(standing([begun, vec![finished(1)]].concat()), [3, 4], "those that wait stay");
}

#[test]
fn refused_hosts_are_bounded() {
    let denied = |n: u16| Event::EgressDenied { host: format!("h{n}"), port: 1, reason: None };
    let many = standing((0..500).map(denied).collect());
    assert_eq!(many.len(), DENIED);
}

#[test]
fn a_window_begins_where_nothing_was_going_on() {
    let events = vec![
        title("before"),
        accepted(1),
        started(1, &[1]),
        notice(1),
        accepted(2),
        finished(1),
        started(2, &[2]),
        finished(2),
        accepted(3),
        started(3, &[3]),
        notice(3),
    ];
    let log = log(events);
    assert_eq!(turn_boundary(&log), 1, "the whole log");
    assert_eq!(turn_boundary(&log[1..]), 2);
    // From the fifth on prompt 2 is there, but turn 1 began before.
    assert_eq!(turn_boundary(&log[2..]), 9);
    assert_eq!(turn_boundary(&log[6..]), 9);
    assert_eq!(turn_boundary(&log[9..]), 10, "in the middle of a turn there is none");
}
