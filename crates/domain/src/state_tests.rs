//! The state machine's rules, one sentence each.

use super::*;
use crate::LoginName;
use crate::PersonId;
use crate::event::ToolOutcome;
use crate::message::{Content, StopReason, ToolCall};
use crate::person::{Person, Role};

/// A log in memory: decides, appends, steps.
struct Log {
    state: SessionState,
    seq: u64,
}

fn person(n: u128) -> Person {
    Person {
        id: PersonId::from_parts(1, n),
        login: format!("p{n}").parse::<LoginName>().unwrap(),
        name: format!("Person {n}"),
        email: format!("p{n}@example.org"),
        role: Role::Member,
    }
}

fn asking(n: u128) -> Asking {
    Asking {
        author: person(n).as_author(),
        role: Role::Member,
        model: Some("m".into()),
        attachments: vec![],
        subject: None,
    }
}

fn ids(n: u128) -> Ids {
    Ids { prompt: PromptId::from_parts(1, n), turn: TurnId::from_parts(1, n) }
}

fn prompt(text: &str) -> Command {
    Command::Prompt { text: text.into(), delivery: Delivery::Queue, attachments: vec![] }
}

impl Log {
    fn new() -> Self {
        Self { state: SessionState::default(), seq: 0 }
    }

    fn append(&mut self, events: Vec<Event>) -> Vec<Effect> {
        let mut effects = vec![];
        for event in events {
            self.seq += 1;
            effects.extend(self.state.step(&Entry { seq: self.seq, at_ms: 5, epoch: 1, event }));
        }
        effects
    }

    fn command(&mut self, command: &Command, who: u128, id: u128) -> Result<Vec<Effect>, Problem> {
        let events = self.state.decide(command, &asking(who), ids(id))?;
        Ok(self.append(events))
    }
}

fn finished(turn: TurnId) -> Event {
    Event::TurnFinished { turn, outcome: TurnOutcome::Completed, usage: Usage::default(), duration_ms: 1 }
}

fn answer_with_calls(turn: TurnId, calls: &[&str]) -> Event {
    let content = calls.iter().map(|id| {
        Content::ToolCall(ToolCall { id: (*id).into(), name: "bash".into(), input: serde_json::json!({}) })
    });
    Event::AssistantMessage {
        turn,
        content: content.collect(),
        blocks: vec![],
        raw: None,
        stop_reason: StopReason::ToolUse,
        usage: Usage { output_tokens: 3, ..Usage::default() },
        model: "m".into(),
    }
}

#[test]
fn a_prompt_to_an_idle_session_starts_a_turn_and_requests_the_model_in_one_commit() {
    let log = Log::new();
    let events = log.state.decide(&prompt("hi"), &asking(1), ids(1)).unwrap();
    assert!(matches!(
        events.as_slice(),
        [Event::PromptAccepted { .. }, Event::TurnStarted { .. }, Event::ModelRequested { attempt: 1, .. }]
    ));
}

#[test]
fn a_prompt_during_a_turn_waits_and_becomes_the_next_turn() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    let effects = log.command(&prompt("two"), 2, 2).unwrap();
    assert_eq!(effects, vec![Effect::PublishSummary]);
    assert!(log.state.next_turn(ids(3).turn, Some("m")).is_empty(), "a turn is still running");
    log.append(vec![finished(ids(1).turn)]);
    let next = log.state.next_turn(ids(3).turn, Some("m"));
    let effects = log.append(next);
    assert!(effects.contains(&Effect::RunTurn { turn: ids(3).turn }));
    assert!(log.state.queue.is_empty());
    assert_eq!(log.state.prompters.len(), 2);
}

#[test]
fn who_runs_a_command_is_named_once_and_only_when_no_prompt_of_theirs_did() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    assert_eq!(log.state.decide_run(&asking(1)), Ok(vec![]));
    let events = log.state.decide_run(&asking(2)).unwrap();
    assert!(matches!(events.as_slice(), [Event::CommandsBegun { by }] if *by == asking(2).author));
    log.append(events);
    assert_eq!(log.state.decide_run(&asking(2)), Ok(vec![]));
    let people: Vec<_> = log.state.contributors().map(|author| author.on_behalf_of).collect();
    assert_eq!(people, [asking(1).author.on_behalf_of, asking(2).author.on_behalf_of]);
    // Who prompts later is one person still.
    log.append(vec![finished(ids(1).turn)]);
    log.command(&prompt("two"), 2, 2).unwrap();
    assert_eq!(log.state.contributors().count(), 2);
}

#[test]
fn only_its_author_or_an_admin_changes_a_waiting_prompt() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    log.command(&prompt("two"), 2, 2).unwrap();
    let withdraw = Command::WithdrawPrompt { prompt: ids(2).prompt };
    assert_eq!(log.command(&withdraw, 1, 9).unwrap_err().code, ErrorCode::NotAllowed);
    let admin = Asking { role: Role::Admin, ..asking(1) };
    assert!(log.state.decide(&withdraw, &admin, ids(9)).is_ok());
    log.command(&withdraw, 2, 9).unwrap();
    assert!(log.state.queue.is_empty());
    assert_eq!(log.command(&withdraw, 2, 9).unwrap_err().code, ErrorCode::PromptNotQueued);
}

#[test]
fn stop_cancels_once_and_says_so_when_nothing_runs() {
    let mut log = Log::new();
    assert_eq!(
        log.command(&Command::Stop { hold_queue: false }, 1, 1).unwrap_err().code,
        ErrorCode::NotRunning
    );
    log.command(&prompt("one"), 1, 1).unwrap();
    let effects = log.command(&Command::Stop { hold_queue: false }, 2, 2).unwrap();
    assert_eq!(effects, vec![Effect::CancelTurn { turn: ids(1).turn }]);
    assert_eq!(log.command(&Command::Stop { hold_queue: false }, 2, 3).unwrap(), vec![]);
}

#[test]
fn work_of_a_turn_that_ended_is_refused() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    let late = finished(ids(1).turn);
    assert!(log.state.accepts(ids(1).turn, &late));
    log.append(vec![late.clone()]);
    assert!(!log.state.accepts(ids(1).turn, &late));
}

#[test]
fn an_interruption_names_open_calls_and_withdraws_open_text() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    let turn = ids(1).turn;
    let block = BlockId::from_parts(1, 7);
    log.append(vec![
        answer_with_calls(turn, &["a", "b"]),
        Event::ToolStarted { turn, call: "a".into(), name: "bash".into(), title: "Run".into() },
        Event::BlockOpened { turn, block, kind: crate::event::BlockKind::Text },
    ]);
    let events = log.state.interruption();
    assert!(matches!(&events[0], Event::TurnInterrupted { open_calls, .. } if open_calls == &["a"]));
    assert!(events.contains(&Event::BlockReset { block }));
    assert!(events.iter().any(
        |event| matches!(event, Event::ToolFinished { call, outcome: ToolOutcome::Unknown, .. } if call == "a")
    ));
    log.append(events);
    let running = log.state.running.as_ref().unwrap();
    assert!(running.open_calls.is_empty() && running.open_blocks.is_empty());
    assert_eq!(running.pending_calls, ["b"]);
}

#[test]
fn prompts_out_of_bounds_are_refused() {
    let mut log = Log::new();
    assert_eq!(log.command(&prompt("  "), 1, 1).unwrap_err().code, ErrorCode::InvalidRequest);
    let long = "x".repeat(PROMPT_LIMIT + 1);
    assert_eq!(log.command(&prompt(&long), 1, 1).unwrap_err().code, ErrorCode::TooLarge);
    for n in 0..=QUEUE_LIMIT as u128 {
        log.command(&prompt("x"), 1, n + 1).unwrap();
    }
    assert_eq!(log.command(&prompt("x"), 1, 99).unwrap_err().code, ErrorCode::QueueFull);
}

#[test]
fn inserts_join_the_running_turn_and_the_rest_keeps_waiting() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    log.command(&prompt("later"), 1, 2).unwrap();
    log.command(
        &Command::Prompt { text: "now".into(), delivery: Delivery::Insert, attachments: vec![] },
        2,
        3,
    )
    .unwrap();
    let inserts = log.state.inserts();
    assert_eq!(inserts, vec![Event::PromptInserted { turn: ids(1).turn, prompt: ids(3).prompt }]);
    log.append(inserts);
    assert_eq!(log.state.queue.len(), 1);
    assert_eq!(log.state.running.as_ref().unwrap().prompts.len(), 2);
}

#[test]
fn files_that_are_gone_are_remembered_until_a_sandbox_is_ready_and_a_stop_in_order_ends_their_use() {
    let mut log = Log::new();
    let phase = |state, problem| Event::SandboxChanged { state, image: None, commit: None, problem };
    let commit: CommitHash = "a".repeat(40).parse().unwrap();
    log.append(vec![Event::SandboxChanged {
        state: SandboxPhase::Ready,
        image: None,
        commit: Some(commit),
        problem: None,
    }]);
    assert_eq!(log.state.workspace.in_use_since_ms, Some(5));
    let damaged = Problem::new(ErrorCode::SnapshotDamaged, "Gone.");
    log.append(vec![phase(SandboxPhase::Failed, Some(damaged))]);
    assert!(log.state.workspace.is_gone && log.state.workspace.base_commit.is_none());
    log.append(vec![phase(SandboxPhase::Claiming, None), phase(SandboxPhase::Ready, None)]);
    assert!(!log.state.workspace.is_gone);
    log.append(vec![phase(SandboxPhase::Stopped, None)]);
    assert_eq!(log.state.workspace.in_use_since_ms, None);
}

#[test]
fn a_summary_is_a_turn_without_a_prompt_that_others_wait_behind() {
    let mut log = Log::new();
    let refused = log.command(&Command::Compact {}, 1, 1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest, "nothing was said yet");
    log.command(&prompt("one"), 1, 1).unwrap();
    assert_eq!(log.command(&Command::Compact {}, 1, 2).unwrap_err().code, ErrorCode::SessionBusy);
    log.append(vec![finished(ids(1).turn)]);
    let without_model = Asking { model: None, ..asking(1) };
    let refused = log.state.decide(&Command::Compact {}, &without_model, ids(2)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ModelNotConfigured);

    let effects = log.command(&Command::Compact {}, 2, 2).unwrap();
    assert!(effects.contains(&Effect::RunTurn { turn: ids(2).turn }));
    let running = log.state.running.as_ref().unwrap();
    assert!(running.prompts.is_empty() && running.compaction == Some(asking(2).author));
    log.command(&prompt("two"), 1, 3).unwrap();
    assert_eq!(log.state.queue.len(), 1);
    let usage = Usage { output_tokens: 7, requests: 1, ..Usage::default() };
    log.append(vec![Event::ContextCompacted {
        turn: ids(2).turn,
        reason: crate::event::CompactionReason::Asked,
        summary: "So far.".into(),
        kept: 0,
        carried: 1,
        tokens_before: 2,
        tokens_after: 1,
        usage,
        model: "m".into(),
    }]);
    let running = log.state.running.as_ref().unwrap();
    assert_eq!((running.compaction.as_ref(), running.usage, log.state.usage), (None, usage, usage));
    log.append(vec![finished(ids(2).turn)]);
    assert!(!log.state.next_turn(ids(4).turn, Some("m")).is_empty(), "what waited is answered");
}

#[test]
fn an_archived_session_is_brought_back_to_be_summarised() {
    let mut log = Log::new();
    log.command(&prompt("one"), 1, 1).unwrap();
    log.append(vec![finished(ids(1).turn)]);
    log.command(&Command::Archive {}, 1, 2).unwrap();
    log.command(&Command::Compact {}, 1, 3).unwrap();
    assert!(!log.state.is_archived && log.state.running.is_some());
}

#[test]
fn another_model_answers_from_the_next_turn_on() {
    let mut log = Log::new();
    log.command(&prompt("first"), 1, 1).unwrap();
    let choice = ModelChoice { model: Some("fast".into()), effort: Some(Effort::High) };
    let choose = Command::ChooseModel { model: choice.model.clone(), effort: choice.effort };
    log.command(&choose, 1, 2).unwrap();
    assert_eq!(log.state.running.as_ref().unwrap().choice, ModelChoice::default());
    assert_eq!(log.state.choice, choice);
    // A second time changes nothing.
    let head = log.seq;
    log.command(&choose, 1, 3).unwrap();
    assert_eq!(log.seq, head);
    let (turn, outcome) = (ids(1).turn, TurnOutcome::Completed);
    log.append(vec![Event::TurnFinished { turn, outcome, usage: Usage::default(), duration_ms: 1 }]);
    log.command(&prompt("second"), 1, 4).unwrap();
    assert_eq!(log.state.running.as_ref().unwrap().choice, choice);
}

#[test]
fn a_small_job_counts_for_its_session_and_for_no_turn() {
    let mut log = Log::new();
    log.command(&prompt("first"), 1, 1).unwrap();
    let usage = Usage { input_tokens: 7, requests: 1, ..Usage::default() };
    log.append(vec![Event::SmallJobDone { job: crate::event::SmallJob::Title, model: "s".into(), usage }]);
    assert_eq!(log.state.usage, usage);
    assert_eq!(log.state.running.as_ref().unwrap().usage, Usage::default());
}
