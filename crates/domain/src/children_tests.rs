//! The bounds of what a session's agent may begin, one sentence each.

use super::*;
use crate::event::{Entry, TurnOutcome};
use crate::person::Via;
use crate::{CommandId, ErrorCode, PromptId, TurnId};

const LIMITS: SpawnLimits = SpawnLimits { depth: 1, at_once: 2, in_all: 3 };
const BUDGET: Budget =
    Budget { tokens: 1_000_000, cost_microusd: 1_000_000, wall_ms: 60_000, tool_calls: 50 };

struct Log {
    state: SessionState,
    seq: u64,
}

fn author() -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".into(),
        email: "ada@example.org".into(),
    }
}

fn id(n: u128) -> SessionId {
    SessionId::from_parts(1, n)
}

fn turn(n: u128) -> TurnId {
    TurnId::from_parts(1, n)
}

fn request(prompt: &str) -> ChildRequest {
    ChildRequest {
        repository: "sample".parse().unwrap(),
        prompt: prompt.into(),
        title: "part".into(),
        base_branch: None,
        model: None,
        effort: None,
        author: author(),
        budget: BUDGET,
        notify: false,
    }
}

fn end(child: u128, of: Option<TurnId>, tokens: u64) -> Event {
    let usage = Usage { input_tokens: tokens, ..Usage::default() };
    let end = ChildEnd {
        turn: of,
        outcome: ChildOutcome::Completed,
        problem: None,
        words: "w".into(),
        change: None,
        usage,
    };
    Event::ChildEnded { child: id(child), end, notifies: false }
}

impl Log {
    /// In its first turn.
    fn new() -> Self {
        let mut log = Self { state: SessionState::default(), seq: 0 };
        log.append(vec![Event::TurnStarted { turn: turn(1), prompts: vec![PromptId::from_parts(1, 1)] }]);
        log
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            self.seq += 1;
            self.state.step(&Entry { seq: self.seq, at_ms: 1, epoch: 1, event });
        }
    }

    fn spawn(&mut self, n: u128, share: u64) -> Result<Budget, Problem> {
        let call = format!("c{n}");
        let at = (turn(1), call.as_str());
        let events = self.state.decide_spawn(at, id(n), request("do it"), (BUDGET, share), LIMITS)?;
        self.append(events);
        Ok(self.state.child(id(n)).unwrap().request.budget)
    }

    fn message(&self, n: u128) -> Result<Vec<Event>, Problem> {
        self.state.decide_message((turn(1), "m"), id(n), BUDGET, LIMITS)
    }
}

fn code<T: std::fmt::Debug>(refused: Result<T, Problem>) -> ErrorCode {
    refused.unwrap_err().code
}

#[test]
fn so_many_at_once_and_so_many_in_all() {
    let mut log = Log::new();
    log.spawn(1, 10).unwrap();
    log.spawn(2, 10).unwrap();
    let problem = log.spawn(3, 10).unwrap_err();
    assert_eq!(problem.code, ErrorCode::QuotaReached);
    assert!(problem.hint.unwrap().contains("wait_session"));
    log.append(vec![end(1, Some(turn(9)), 5)]);
    log.spawn(3, 10).unwrap();
    log.append(vec![end(2, Some(turn(9)), 5), end(3, Some(turn(9)), 5)]);
    let problem = log.spawn(4, 10).unwrap_err();
    assert_eq!(problem.code, ErrorCode::QuotaReached);
    assert!(problem.message.contains("has begun 3 others"), "{problem}");
}

#[test]
fn a_call_begins_one_session_however_often_it_is_told() {
    let mut log = Log::new();
    log.spawn(1, 10).unwrap();
    let again = log.state.decide_spawn((turn(1), "c1"), id(7), request("do it"), (BUDGET, 10), LIMITS);
    assert_eq!(again.unwrap(), []);
}

#[test]
fn nothing_is_begun_below_the_depth_nor_by_a_turn_that_is_over() {
    let log = Log::new();
    let none = SpawnLimits { depth: 0, ..LIMITS };
    let refused = log.state.decide_spawn((turn(1), "c"), id(1), request("do it"), (BUDGET, 10), none);
    assert_eq!(code(refused), ErrorCode::QuotaReached);
    let refused = log.state.decide_spawn((turn(2), "c"), id(1), request("do it"), (BUDGET, 10), LIMITS);
    assert_eq!(code(refused), ErrorCode::NotRunning);
    for prompt in ["  ".to_owned(), "x".repeat(CHILD_PROMPT_LIMIT + 1)] {
        let refused = log.state.decide_spawn((turn(1), "c"), id(1), request(&prompt), (BUDGET, 10), LIMITS);
        assert_eq!(code(refused), ErrorCode::InvalidRequest);
    }
}

#[test]
fn all_that_children_may_use_together_is_what_the_turn_had_left() {
    let mut log = Log::new();
    assert_eq!(log.spawn(1, 50).unwrap().tokens, 500_000);
    assert_eq!(log.spawn(2, 50).unwrap().tokens, 250_000);
    assert_eq!(log.state.promised(), (750_000, 750_000));
    // What the first did not use comes back.
    log.append(vec![end(1, Some(turn(9)), 100_000)]);
    assert_eq!(log.state.promised().0, 350_000);
    assert_eq!(log.spawn(3, 90).unwrap().tokens, 585_000);
    log.append(vec![end(2, Some(turn(9)), 250_000), end(3, Some(turn(9)), 585_000)]);
    assert_eq!(log.state.promised().0, 935_000);
    // Enough for no session.
    log.state.children.truncate(2);
    log.append(vec![end(2, Some(turn(8)), 2_000_000)]);
    assert_eq!(log.state.promised().0, 350_000, "never more than was given");
    let refused = log.state.decide_spawn(
        (turn(1), "c"),
        id(5),
        request("do it"),
        (Budget { tokens: 359_000, ..BUDGET }, 90),
        LIMITS,
    );
    assert_eq!(code(refused), ErrorCode::BudgetReached);
}

#[test]
fn a_message_takes_back_what_the_child_left_and_is_refused_where_nothing_is() {
    let mut log = Log::new();
    log.spawn(1, 50).unwrap();
    log.append(vec![end(1, Some(turn(9)), 100_000)]);
    let events = log.message(1).unwrap();
    log.append(events.clone());
    assert!(log.state.child(id(1)).unwrap().is_at_work());
    assert_eq!(log.state.promised().0, 500_000);
    // The answer came before the note of the message: the child is at rest.
    log.append(vec![end(1, Some(turn(10)), 200_000)]);
    log.append(events);
    assert!(!log.state.child(id(1)).unwrap().is_at_work());
    log.append(vec![end(1, Some(turn(11)), 500_000)]);
    assert_eq!(code(log.message(1)), ErrorCode::BudgetReached);
    assert_eq!(code(log.message(2)), ErrorCode::SessionUnknown);
}

#[test]
fn a_childs_later_turns_have_what_its_earlier_ones_left() {
    let mut state = SessionState::default();
    state.usage.input_tokens = 300_000;
    assert_eq!(state.granted(BUDGET).tokens, 700_000);
    state.usage.input_tokens = 2_000_000;
    assert_eq!(state.granted(BUDGET).tokens, 0);
}

#[test]
fn a_session_is_put_away_when_it_is_said_what_becomes_of_its_children() {
    for settle in [SessionState::decide_stop_children, SessionState::decide_release_children] {
        let mut log = Log::new();
        assert_eq!(settle(&log.state, &author()), []);
        log.spawn(1, 10).unwrap();
        assert_eq!(code(log.state.require_children_settled()), ErrorCode::SessionBusy);
        let events = settle(&log.state, &author());
        log.append(events);
        log.state.require_children_settled().unwrap();
        assert_eq!(settle(&log.state, &author()), [], "it is said once");
    }
}

#[test]
fn a_call_that_was_cut_off_after_its_intent_has_done_what_it_should() {
    let mut log = Log::new();
    let started = |call: &str| Event::ToolStarted {
        turn: turn(1),
        call: call.into(),
        name: "x".into(),
        title: "x".into(),
    };
    log.append(vec![started("c1"), started("c2")]);
    log.spawn(1, 10).unwrap();
    let told: Vec<(String, String)> = log
        .state
        .interruption()
        .into_iter()
        .filter_map(|event| match event {
            Event::ToolFinished { call, outcome, .. } => Some((call, format!("{outcome:?}"))),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("c1".into(), "Succeeded".into()), ("c2".into(), "Unknown".into())]);
}

#[test]
fn a_child_has_ended_when_nothing_waits_in_it() {
    let mut log = Log::new();
    assert_eq!(log.state.child_end("words"), None, "it works");
    log.append(vec![Event::TurnFinished {
        turn: turn(1),
        outcome: TurnOutcome::Completed,
        usage: Usage::default(),
        duration_ms: 1,
    }]);
    let end = log.state.child_end(&"é".repeat(CHILD_WORDS_LIMIT)).unwrap();
    assert_eq!((end.turn, end.outcome), (Some(turn(1)), ChildOutcome::Completed));
    assert_eq!(end.words.len(), CHILD_WORDS_LIMIT);
    let _: CommandId = format!("stop/{}/{}", id(1), u64::MAX).parse().expect("our keys are short enough");
}
