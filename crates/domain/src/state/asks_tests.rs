//! The rules of asks, one sentence each.

use super::*;
use crate::access::TeamAccess;
use crate::event::{ToolOutcome, TurnOutcome};
use crate::money::Usage;
use crate::state::Ids;
use crate::{
    Author, Command, Delivery, Present, PromptId, Question, QuestionAnswer, Role, Via,
    ask::{QUESTIONS_LIMIT, QuestionOption, REPLY_LIMIT},
};

#[derive(Default)]
struct Play {
    state: SessionState,
    present: Present,
    seq: u64,
    now_ms: i64,
}

fn turn() -> TurnId {
    TurnId::from_parts(1, 1)
}

fn ask(n: u128) -> AskId {
    AskId::from_parts(1, n)
}

fn asking(n: u128, role: Role) -> Asking {
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, n),
        via: Via::Person,
        name: format!("Person {n}"),
        email: format!("p{n}@example.org"),
    };
    Asking { author, role, model: Some("m".into()), attachments: vec![], subject: None }
}

fn grant(pattern: &str) -> Grant {
    Grant { permission: "bash".into(), pattern: pattern.into() }
}

fn leave(grants: Vec<Grant>) -> Asked {
    Asked::Permission {
        permission: "bash".into(),
        title: "Run `git push`".into(),
        subjects: vec!["git push".into()],
        grants,
    }
}

fn question(header: &str) -> Question {
    let option = |label: &str| QuestionOption { label: label.into(), description: None };
    Question {
        header: header.into(),
        text: "Which one?".into(),
        options: vec![option("red"), option("blue")],
        is_multiple: false,
        takes_text: false,
    }
}

fn chosen(labels: &[&str]) -> Answer {
    let chosen = labels.iter().map(|label| (*label).to_owned()).collect();
    Answer::Chosen { answers: vec![QuestionAnswer { chosen, text: None }] }
}

impl Play {
    /// A turn runs.
    fn start() -> Self {
        let mut play = Self::default();
        let prompt = Command::Prompt { text: "do".into(), delivery: Delivery::Queue, attachments: vec![] };
        play.command(prompt, &asking(1, Role::Member)).unwrap();
        play
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            self.seq += 1;
            let entry = Entry { seq: self.seq, at_ms: self.now_ms, epoch: 1, event };
            self.state.step(&entry);
            self.present.step(&entry);
        }
    }

    fn command(&mut self, command: Command, asking: &Asking) -> Result<(), Problem> {
        let ids = Ids { prompt: PromptId::from_parts(1, 1), turn: turn() };
        let events = self.state.decide(&command, asking, ids)?;
        self.append(events);
        Ok(())
    }

    fn open(&mut self, n: u128, call: &str, of: Asked) {
        let (ask, call) = (ask(n), call.to_owned());
        self.append(vec![Event::AskOpened { turn: turn(), ask, call, of, expires_at_ms: 1000 }]);
    }

    fn answer(&mut self, n: u128, answer: Answer, by: u128) -> Result<(), Problem> {
        self.command(Command::Answer { ask: ask(n), answer }, &asking(by, Role::Member))
    }

    fn standing(&self) -> usize {
        self.present.entries().iter().filter(|entry| matches!(entry.event, Event::AskOpened { .. })).count()
    }
}

#[test]
fn the_first_answer_counts_and_a_second_is_told_whose_it_was() {
    let mut play = Play::start();
    play.open(1, "c", Asked::Questions { questions: vec![question("Colour")] });
    assert_eq!((play.state.open_asks().count(), play.standing()), (1, 1));
    play.answer(1, chosen(&["red"]), 2).unwrap();
    let refused = play.answer(1, chosen(&["blue"]), 3).unwrap_err();
    assert_eq!(refused.code, ErrorCode::AskClosed);
    assert_eq!(refused.message, "Person 2 has answered this already.");
    let end = play.state.ask_of_call("c").unwrap().end.clone();
    assert!(matches!(end, Some(AskEnd::Answered { answer, .. }) if answer == chosen(&["red"])));
    assert_eq!((play.state.open_asks().count(), play.standing()), (0, 0));
}

#[test]
fn who_may_only_look_answers_nothing() {
    let mut play = Play::start();
    play.open(1, "c", leave(vec![]));
    let once = Command::Answer { ask: ask(1), answer: Answer::Once {} };
    let viewer = asking(2, Role::Viewer);
    assert_eq!(play.command(once.clone(), &viewer).unwrap_err().code, ErrorCode::NotAllowed);
    play.state.access.team = TeamAccess::View;
    let member = asking(3, Role::Member);
    assert_eq!(play.command(once.clone(), &member).unwrap_err().code, ErrorCode::NotAllowed);
    play.command(once, &asking(1, Role::Member)).unwrap();
}

#[test]
fn nothing_is_answered_after_time_a_stop_or_the_turns_end() {
    let mut play = Play::start();
    play.open(1, "c", leave(vec![]));
    let expiry = play.state.decide_expiry(turn(), ask(1));
    play.append(expiry);
    assert_eq!(play.answer(1, Answer::Once {}, 1).unwrap_err().code, ErrorCode::AskClosed);
    assert_eq!(play.state.decide_expiry(turn(), ask(1)), vec![], "it is closed once");

    play.open(2, "d", leave(vec![]));
    play.command(Command::Stop { hold_queue: false }, &asking(1, Role::Member)).unwrap();
    assert_eq!(play.state.open_asks().count(), 0);
    assert_eq!(play.answer(2, Answer::Once {}, 1).unwrap_err().code, ErrorCode::AskClosed);
    assert_eq!(play.standing(), 1, "it stands until the turn has ended");

    let outcome = TurnOutcome::Stopped;
    let ended = Event::TurnFinished { turn: turn(), outcome, usage: Usage::default(), duration_ms: 1 };
    play.append(vec![ended]);
    assert_eq!(play.standing(), 0);
    assert_eq!(play.answer(2, Answer::Once {}, 1).unwrap_err().code, ErrorCode::AskClosed);
}

#[test]
fn always_grants_for_the_session_and_once_does_not() {
    let mut play = Play::start();
    play.open(1, "c", leave(vec![grant("git push *")]));
    play.answer(1, Answer::Once {}, 1).unwrap();
    assert_eq!(play.state.grants, vec![]);
    for n in 2..4 {
        play.open(n, "d", leave(vec![grant("git push *")]));
        play.answer(n, Answer::Always {}, 1).unwrap();
    }
    assert_eq!(play.state.grants, vec![grant("git push *")]);
    play.open(9, "e", leave(vec![]));
    assert_eq!(play.answer(9, Answer::Always {}, 1).unwrap_err().code, ErrorCode::InvalidRequest);
    let many = (0..GRANTS_LIMIT + 5).map(|n| grant(&n.to_string())).collect::<Vec<_>>();
    play.state.grant(&many);
    assert_eq!(play.state.grants.len(), GRANTS_LIMIT);
    assert_eq!(play.state.grants.last(), many.last());
}

#[test]
fn an_ask_is_remembered_until_its_call_is_over_and_waiting_is_counted() {
    let mut play = Play::start();
    play.open(1, "c", leave(vec![]));
    play.now_ms = 250;
    play.answer(1, Answer::Once {}, 1).unwrap();
    assert!(play.state.ask_of_call("c").is_some());
    assert_eq!(play.state.running.as_ref().unwrap().waited_ms, 250);
    play.append(vec![Event::ToolFinished {
        turn: turn(),
        call: "c".into(),
        outcome: ToolOutcome::Succeeded,
        text: String::new(),
        display: None,
        duration_ms: 1,
    }]);
    assert!(play.state.ask_of_call("c").is_none());
}

#[test]
fn an_answer_that_does_not_fit_is_refused_and_the_ask_stays_open() {
    let mut open = question("Free");
    (open.is_multiple, open.takes_text) = (true, true);
    let text = |text: &str| QuestionAnswer { chosen: vec![], text: Some(text.into()) };
    let both =
        |first: QuestionAnswer, second: QuestionAnswer| Answer::Chosen { answers: vec![first, second] };
    let red = || QuestionAnswer { chosen: vec!["red".into()], text: None };
    let several =
        |labels: &[&str]| QuestionAnswer { chosen: labels.iter().map(|l| (*l).into()).collect(), text: None };
    let mut play = Play::start();
    play.open(1, "c", Asked::Questions { questions: vec![question("Colour"), open] });
    let wrong = [
        chosen(&["red"]),
        Answer::Once {},
        Answer::Deny { feedback: None },
        both(text("green"), red()),
        both(QuestionAnswer::default(), red()),
        both(several(&["red", "blue"]), red()),
        both(several(&["green"]), red()),
        both(red(), several(&["red", "red"])),
        both(red(), text(" ")),
        both(red(), text(&"x".repeat(REPLY_LIMIT + 1))),
    ];
    for answer in wrong {
        let refused = play.answer(1, answer.clone(), 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{answer:?}");
    }
    let mixed = QuestionAnswer { text: Some("and green".into()), ..several(&["red", "blue"]) };
    play.answer(1, both(red(), mixed), 1).unwrap();
}

#[test]
fn questions_have_bounds() {
    let check = |questions: Vec<Question>| Asked::Questions { questions }.check();
    let with = |change: &dyn Fn(&mut Question)| {
        let mut question = question("Colour");
        change(&mut question);
        check(vec![question])
    };
    let option = |label: String| QuestionOption { label, description: None };
    assert_eq!(check(vec![question("a"); QUESTIONS_LIMIT]), Ok(()));
    assert!(check(vec![]).is_err());
    assert!(check(vec![question("a"); QUESTIONS_LIMIT + 1]).is_err());
    assert!(with(&|q| q.header = "x".repeat(41)).is_err());
    assert!(with(&|q| q.header = "two\nlines".into()).is_err());
    assert!(with(&|q| q.text = "x".repeat(2001)).is_err());
    assert!(with(&|q| q.text = "  ".into()).is_err());
    assert!(with(&|q| q.options = vec![]).is_err(), "nothing could answer it");
    assert!(with(&|q| q.options = (0..9).map(|n| option(n.to_string())).collect()).is_err());
    assert!(with(&|q| q.options[1].label = "red".into()).is_err());
    assert!(with(&|q| q.options[1].label = "x".repeat(121)).is_err());
    assert!(with(&|q| q.options[1].description = Some("x".repeat(501))).is_err());
    assert_eq!(with(&|q| (q.options, q.takes_text) = (vec![], true)), Ok(()));
}
