//! Logs as sessions write them, and what their turns look like.

use super::*;
use crate::event::{BlockKind, SnapshotReason};
use crate::message::StopReason;
use crate::{BlockId, ErrorCode, Problem, PromptId, SnapshotId};

fn turn(number: u64) -> TurnId {
    TurnId::from_parts(number, 1)
}

/// Entries of one log, each at its time in milliseconds.
fn log(events: Vec<(i64, Event)>) -> Vec<Entry> {
    let entry =
        |(at, (at_ms, event)): (usize, (i64, Event))| Entry { seq: at as u64 + 1, at_ms, epoch: 1, event };
    events.into_iter().enumerate().map(entry).collect()
}

fn started(number: u64) -> Event {
    Event::TurnStarted { turn: turn(number), prompts: vec![PromptId::from_parts(1, 1)] }
}

fn requested(number: u64, attempt: u32) -> Event {
    Event::ModelRequested { turn: turn(number), model: "m".into(), attempt }
}

fn said(number: u64, output_tokens: u64) -> Event {
    Event::AssistantMessage {
        turn: turn(number),
        content: vec![],
        blocks: vec![],
        raw: None,
        stop_reason: StopReason::EndTurn,
        usage: Usage { output_tokens, requests: 1, ..Usage::default() },
        model: "m".into(),
    }
}

fn finished(number: u64) -> Event {
    let (outcome, usage) = (TurnOutcome::Completed, Usage::default());
    Event::TurnFinished { turn: turn(number), outcome, usage, duration_ms: 1 }
}

fn timeline(number: u64, marks: &[(StartStage, u64)]) -> Event {
    let marks = marks.iter().map(|(stage, at_us)| TimelineMark { stage: *stage, at_us: *at_us }).collect();
    let request = Some(RequestId::from_parts(1, 1));
    Event::StartTimeline { turn: turn(number), marks, sandbox: Some(SandboxStart::Warm), request }
}

fn tool(number: u64, call: &str) -> Event {
    Event::ToolStarted {
        turn: turn(number),
        call: call.into(),
        name: "bash".into(),
        title: "Run `ls`".into(),
    }
}

fn ran(number: u64, call: &str, outcome: ToolOutcome, duration_ms: u64) -> Event {
    let (call, text) = (call.to_owned(), "no such file\nmore".to_owned());
    Event::ToolFinished { turn: turn(number), call, outcome, text, display: None, duration_ms }
}

fn of_kind(trace: &TurnTrace, kind: SpanKind) -> Vec<&TraceSpan> {
    trace.spans.iter().filter(|span| span.kind == kind).collect()
}

#[test]
fn a_turn_is_its_stages_its_requests_its_tools_and_its_snapshot() {
    use StartStage::*;
    let block = Event::BlockOpened { turn: turn(1), block: BlockId::from_parts(1, 1), kind: BlockKind::Text };
    let snapshot = Event::SnapshotTaken {
        snapshot: SnapshotId::from_parts(1, 1),
        reason: SnapshotReason::Turn,
        turn: Some(turn(1)),
        freeze_us: 10,
        duration_ms: 40,
    };
    let marks = [
        (Queued, 0),
        (Committed, 2_000),
        (ModelCalled, 3_000),
        (Claimed, 5_000),
        (Synced, 9_000),
        (FirstToken, 80_000),
    ];
    let traces = turns(&log(vec![
        (1_000, started(1)),
        (1_000, requested(1, 1)),
        (1_090, timeline(1, &marks)),
        (1_100, said(1, 7)),
        (1_100, tool(1, "a")),
        (1_160, ran(1, "a", ToolOutcome::Failed, 50)),
        (1_160, requested(1, 1)),
        (1_190, block),
        (1_250, said(1, 9)),
        (1_260, finished(1)),
        (1_300, snapshot),
    ]));
    let [trace] = &traces[..] else { panic!("{traces:?}") };
    assert_eq!((trace.began_at_us, trace.duration_us), (998_000, Some(262_000)));
    assert_eq!(
        (trace.number, trace.sandbox, trace.request),
        (1, Some(SandboxStart::Warm), Some(RequestId::from_parts(1, 1)))
    );
    let stages: Vec<_> = of_kind(trace, SpanKind::Stage)
        .into_iter()
        .map(|span| (span.name.as_str(), span.start_us, span.duration_us.unwrap()))
        .collect();
    assert_eq!(
        stages,
        [
            ("queued", 0, 0),
            ("committed", 0, 2_000),
            ("model_called", 2_000, 1_000),
            ("claimed", 2_000, 3_000),
            ("first_token", 3_000, 77_000),
            ("synced", 5_000, 4_000),
        ]
    );
    let models = of_kind(trace, SpanKind::Model);
    let first = models[0].model.as_ref().unwrap();
    assert_eq!((models[0].start_us, models[0].duration_us), (3_000, Some(99_000)));
    assert_eq!((first.attempt, first.first_token_us, first.usage.output_tokens), (1, Some(77_000), 7));
    let second = models[1].model.as_ref().unwrap();
    assert_eq!(
        (models[1].start_us, models[1].duration_us, second.first_token_us),
        (162_000, Some(90_000), Some(30_000))
    );
    let tools = of_kind(trace, SpanKind::Tool);
    assert_eq!(
        (tools[0].start_us, tools[0].duration_us, tools[0].status),
        (102_000, Some(50_000), SpanStatus::Failed)
    );
    assert_eq!(tools[0].problem.as_deref(), Some("no such file"));
    let snapshots = of_kind(trace, SpanKind::Snapshot);
    assert_eq!((snapshots[0].start_us, snapshots[0].duration_us), (262_000, Some(40_000)));
}

#[test]
fn a_retry_ends_its_attempt_and_a_restart_what_was_open() {
    let retry = Event::ModelRetry {
        turn: turn(1),
        attempt: 1,
        wait_ms: 5,
        problem: Problem::new(ErrorCode::ModelOverloaded, "Busy."),
    };
    let interrupted = Event::TurnInterrupted { turn: turn(1), open_calls: vec!["a".into()] };
    let traces = turns(&log(vec![
        (0, started(1)),
        (0, requested(1, 1)),
        (10, retry),
        (15, requested(1, 2)),
        (20, said(1, 1)),
        (20, tool(1, "a")),
        (500, ran(1, "a", ToolOutcome::Unknown, 0)),
        (500, interrupted),
        (510, requested(1, 1)),
    ]));
    let models = of_kind(&traces[0], SpanKind::Model);
    let seen: Vec<_> = models
        .iter()
        .map(|span| (span.model.as_ref().unwrap().attempt, span.status, span.duration_us))
        .collect();
    assert_eq!(
        seen,
        [
            (1, SpanStatus::Failed, Some(10_000)),
            (2, SpanStatus::Ok, Some(5_000)),
            (1, SpanStatus::Running, None)
        ]
    );
    assert_eq!(models[0].problem.as_deref(), Some("Busy."));
    let tools = of_kind(&traces[0], SpanKind::Tool);
    assert_eq!((tools[0].status, tools[0].duration_us), (SpanStatus::Interrupted, Some(480_000)));
    assert_eq!((traces[0].interruptions, traces[0].duration_us, &traces[0].outcome), (1, None, &None));
}

#[test]
fn turns_are_told_apart_and_one_without_a_timeline_still_shows() {
    let traces = turns(&log(vec![
        (0, started(1)),
        (0, requested(1, 1)),
        (5, said(1, 1)),
        (6, finished(1)),
        (100, started(2)),
        (100, requested(2, 1)),
        (107, finished(2)),
    ]));
    assert_eq!(traces.iter().map(|trace| trace.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(traces.iter().map(|trace| trace.duration_us.unwrap()).collect::<Vec<_>>(), [6_000, 7_000]);
    assert_eq!(of_kind(&traces[1], SpanKind::Model)[0].duration_us, Some(7_000));
}

#[test]
fn a_fork_counts_the_turns_that_it_took_over_and_shows_its_own() {
    let created = Event::SessionCreated {
        repository: crate::RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().unwrap(),
        title: "t".into(),
        author: crate::Author {
            on_behalf_of: crate::PersonId::from_parts(1, 1),
            name: "Ada".into(),
            email: "ada@test.invalid".into(),
            via: crate::Via::Person,
        },
        branch: "b".parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        model: None,
        effort: None,
        budget: crate::money::Budget::default(),
        image: None,
        imported_from: None,
        parent: None,
        forked_from: Some(crate::event::ForkPoint {
            session: crate::SessionId::from_parts(1, 1),
            turn: turn(2),
            snapshot: None,
        }),
        team_access: Default::default(),
    };
    let traces = turns(&log(vec![
        (0, created),
        (0, started(1)),
        (0, finished(1)),
        (0, started(2)),
        (0, finished(2)),
        (50, started(3)),
        (60, finished(3)),
    ]));
    assert_eq!(traces.iter().map(|trace| (trace.number, trace.turn)).collect::<Vec<_>>(), [(3, turn(3))]);
}
