//! What people read of a session, from lists of frames.

use super::Transcript;
use greenroom_domain::event::{
    BlockKind, StartStage, TimelineMark, TodoItem, TodoStatus, ToolDisplay, ToolOutcome, TurnOutcome,
};
use greenroom_domain::message::{Content, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::person::{Author, Via};
use greenroom_domain::{
    BlockId, ChangeId, Delivery, Entry, ErrorCode, Event, PersonId, Problem, PromptId, TurnId,
};
use greenroom_wire::Frame;

const DIFF: &str =
    "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n";

fn entry(event: Event) -> Frame {
    Frame::Entry { entry: Entry { seq: 1, at_ms: 1, epoch: 1, event } }
}

fn turn() -> TurnId {
    TurnId::from_parts(1, 1)
}

fn block(number: u128) -> BlockId {
    BlockId::from_parts(1, number)
}

fn ann() -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ann".to_owned(),
        email: "ann@example.org".to_owned(),
    }
}

fn prompted(text: &str) -> Frame {
    let prompt = PromptId::from_parts(1, 1);
    entry(Event::PromptAccepted {
        prompt,
        author: ann(),
        text: text.to_owned(),
        delivery: Delivery::Queue,
        attachments: vec![],
    })
}

fn opened(number: u128, kind: BlockKind) -> Frame {
    entry(Event::BlockOpened { turn: turn(), block: block(number), kind })
}

fn delta(number: u128, offset: u64, text: &str) -> Frame {
    Frame::Delta { block: block(number), offset, text: text.to_owned() }
}

fn said(number: u128, text: &str) -> Frame {
    entry(Event::AssistantMessage {
        turn: turn(),
        content: vec![Content::Text { text: text.to_owned() }],
        blocks: vec![block(number)],
        raw: None,
        stop_reason: StopReason::EndTurn,
        usage: Usage::default(),
        model: "scripted".to_owned(),
    })
}

fn started(call: &str, title: &str) -> Frame {
    let (call, name, title) = (call.to_owned(), "tool".to_owned(), title.to_owned());
    entry(Event::ToolStarted { turn: turn(), call, name, title })
}

fn output(call: &str, offset: u64, text: &str) -> Frame {
    Frame::Output { call: call.to_owned(), offset, text: text.to_owned() }
}

fn ended(call: &str, outcome: ToolOutcome, text: &str, display: Option<ToolDisplay>) -> Frame {
    let (call, text) = (call.to_owned(), text.to_owned());
    entry(Event::ToolFinished { turn: turn(), call, outcome, text, display, duration_ms: 1234 })
}

fn command(output: &str, exit_code: i32) -> Option<ToolDisplay> {
    Some(ToolDisplay::Command {
        command: "x".to_owned(),
        exit_code: Some(exit_code),
        output: output.to_owned(),
        is_truncated: false,
    })
}

fn finished(outcome: TurnOutcome) -> Frame {
    let usage = Usage {
        input_tokens: 1200,
        output_tokens: 345,
        cache_read_tokens: 10_000,
        cache_write_tokens: 0,
        cost_microusd: 12_300,
        requests: 4,
    };
    entry(Event::TurnFinished { turn: turn(), outcome, usage, duration_ms: 12_345 })
}

fn coloured(frames: &[Frame]) -> String {
    let mut transcript = Transcript::new();
    let mut text: String = frames.iter().map(|frame| transcript.frame(frame)).collect();
    text.push_str(&transcript.finish());
    text
}

fn plain(frames: &[Frame]) -> String {
    anstream::adapter::strip_str(&coloured(frames)).to_string()
}

fn whole_turn() -> Vec<Frame> {
    let mark = |stage, at_us| TimelineMark { stage, at_us };
    let todo = |text: &str, status| TodoItem { text: text.to_owned(), status };
    let change = ChangeId::from_parts(1, 1);
    vec![
        Frame::Hello { protocol: 1, head_seq: 0, epoch: 1 },
        prompted("make the failing test\npass"),
        Frame::CaughtUp { seq: 3 },
        opened(1, BlockKind::Thinking),
        delta(1, 0, "The test first."),
        opened(2, BlockKind::Text),
        delta(2, 0, "I run "),
        delta(2, 6, "the tests."),
        entry(Event::BlockText { block: block(2), offset: 0, text: "I run the tests.".to_owned() }),
        said(2, "I run the tests."),
        entry(Event::TodoChanged {
            turn: turn(),
            items: vec![todo("run the tests", TodoStatus::InProgress), todo("mend", TodoStatus::Pending)],
        }),
        started("a", "Run python3 -m unittest"),
        output("a", 0, "FAIL: test_add\nAsser"),
        output("a", 20, "tionError: -1 != 3\n"),
        ended("a", ToolOutcome::Failed, "…", command("FAIL: test_add\nAssertionError: -1 != 3\n", 1)),
        started("b", "Read calc.py"),
        ended("b", ToolOutcome::Succeeded, "def add…", None),
        started("c", "Edit calc.py"),
        ended(
            "c",
            ToolOutcome::Succeeded,
            "done",
            Some(ToolDisplay::Diff { path: "calc.py".to_owned(), diff: DIFF.to_owned() }),
        ),
        said(3, "It was a wrong sign. "),
        entry(Event::ChangeOpened {
            change,
            number: 1,
            title: "Correct the sign".to_owned(),
            branch: "greenroom/sign".parse().unwrap(),
            commit: "0123456789".repeat(4).parse().unwrap(),
            author: ann(),
        }),
        entry(Event::StartTimeline {
            sandbox: None,
            request: None,
            turn: turn(),
            marks: vec![
                mark(StartStage::Queued, 0),
                mark(StartStage::Committed, 812),
                mark(StartStage::ModelCalled, 1_204),
                mark(StartStage::Claimed, 15_440),
                mark(StartStage::FirstToken, 412_000),
            ],
        }),
        finished(TurnOutcome::Completed),
    ]
}

#[test]
fn a_whole_turn_reads_well() {
    insta::assert_snapshot!(plain(&whole_turn()));
}

#[test]
fn a_whole_turn_in_colour() {
    insta::assert_snapshot!(coloured(&whole_turn()).replace('\u{1b}', "␛"));
}

#[test]
fn deltas_that_overlap_or_come_too_early_show_every_byte_once() {
    let frames = [
        opened(1, BlockKind::Text),
        delta(1, 0, "one "),
        delta(1, 2, "e two "),
        delta(1, 40, "lost"),
        entry(Event::BlockText { block: block(1), offset: 4, text: "two three".to_owned() }),
        said(1, "one two three four"),
    ];
    assert_eq!(plain(&frames), "one two three four\n");
}

#[test]
fn text_that_was_withdrawn_is_said_and_written_anew() {
    let frames = [
        opened(1, BlockKind::Text),
        delta(1, 0, "half a sen"),
        entry(Event::BlockReset { block: block(1) }),
        said(2, "A whole sentence."),
    ];
    insta::assert_snapshot!(plain(&frames));
}

#[test]
fn calls_beside_each_other_keep_their_output_apart() {
    let frames = [
        started("a", "Run one"),
        started("b", "Run two"),
        output("a", 0, "first\n"),
        output("b", 0, "second\n"),
        ended("a", ToolOutcome::Succeeded, "", command("first\n", 0)),
        ended("b", ToolOutcome::Succeeded, "", command("second\n", 0)),
    ];
    insta::assert_snapshot!(plain(&frames));
}

#[test]
fn long_output_keeps_its_beginning_and_its_end() {
    let long: String = (1..=100).map(|number| format!("line {number}\n")).collect();
    let frames = [
        started("a", "Run seq"),
        output("a", 0, &long),
        ended("a", ToolOutcome::Succeeded, "", command(&long, 0)),
    ];
    insta::assert_snapshot!(plain(&frames));
}

#[test]
fn a_failed_turn_says_why_and_what_to_do() {
    let problem = Problem::new(ErrorCode::ModelNotConfigured, "No model is configured.")
        .hint("greenroom model add NAME --provider anthropic --model MODEL --default");
    insta::assert_snapshot!(plain(&[prompted("x"), finished(TurnOutcome::Failed { problem })]));
}

#[test]
fn an_interrupted_call_is_named() {
    let frames = [
        started("a", "Run make deploy"),
        entry(Event::TurnInterrupted { turn: turn(), open_calls: vec!["a".to_owned()] }),
    ];
    insta::assert_snapshot!(plain(&frames));
}

#[test]
fn nothing_of_a_session_can_steer_the_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let frames = [
        prompted(evil),
        said(1, evil),
        started("a", evil),
        ended("a", ToolOutcome::Failed, evil, command(evil, 1)),
    ];
    let text = plain(&frames);
    assert!(!coloured(&frames).contains(evil));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn who_is_here_is_said_when_others_come_and_go() {
    use greenroom_wire::{ClientKind, Presence, PresentPerson};
    let person = |n, name: &str, clients: &[ClientKind], is_typing| PresentPerson {
        person: PersonId::from_parts(1, n),
        name: name.to_owned(),
        clients: clients.to_vec(),
        since_ms: 1,
        is_typing,
    };
    let ann = || person(1, "Ann", &[ClientKind::Cli], false);
    let ben = |is_typing| person(2, "Ben\u{1b}[2J", &[ClientKind::Web, ClientKind::Vscode], is_typing);
    let here = |people, more| Frame::Presence(Presence { people, more });
    let frames = [
        here(vec![ann()], 0),
        here(vec![ann(), ben(false)], 0),
        here(vec![ann(), ben(true)], 0),
        here(vec![ann(), ben(false)], 3),
        here(vec![ann()], 0),
    ];
    let text = plain(&frames);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("Here: Ann (cli), Ben") && lines[0].ends_with("(web, vscode)"), "{text}");
    assert!(lines[1].ends_with("and 3 more"), "{text}");
    assert_eq!(lines[2], "Nobody else is here any more.");
    assert!(!text.contains('\u{1b}'), "{text}");
}
