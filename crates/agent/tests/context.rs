//! A conversation that outgrows its model: old outputs give way, a summary takes the place of the beginning, and the log says
//! the same as the loop had.

mod support;

use greenroom_agent::tools::Editing;
use greenroom_agent::{Material, Transcript, Used, context, run, transcript};
use greenroom_domain::command::Delivery;
use greenroom_domain::event::{CompactionReason, Entry, Event, TodoItem, TodoStatus, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::person::Via;
use greenroom_domain::{Attachment, Author, ErrorCode, PersonId, PromptId};
use greenroom_model::{Error, Request};
use serde_json::json;
use std::sync::atomic::Ordering;
use support::*;

const WINDOW: u64 = 40_000;
const TASK: &str = "Make the tests pass.";

fn accepted(n: u128, text: &str, attachments: Vec<Attachment>) -> Event {
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    };
    let prompt = PromptId::from_parts(1, n);
    Event::PromptAccepted { prompt, author, text: text.to_owned(), delivery: Delivery::Queue, attachments }
}

fn begun(n: u128) -> [Event; 2] {
    [
        Event::TurnStarted { turn: turn_id(), prompts: vec![PromptId::from_parts(1, n)] },
        Event::ModelRequested { turn: turn_id(), model: "test/model".to_owned(), attempt: 1 },
    ]
}

/// The log up to where the loop begins.
fn first_prompt() -> Vec<Event> {
    let file = Attachment {
        digest: "ab".repeat(32).parse().unwrap(),
        name: "data.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        bytes: 100_000,
        width: None,
        height: None,
    };
    [vec![accepted(1, TASK, vec![file])], begun(1).to_vec()].concat()
}

fn entries(events: Vec<Event>) -> Vec<Entry> {
    events.into_iter().map(|event| Entry { seq: 1, at_ms: 0, epoch: 1, event }).collect()
}

struct Story {
    before: Vec<Event>,
    stand: Stand,
}

impl Story {
    fn new(before: Vec<Event>, steps: Vec<Step>) -> Self {
        let mut stand = Stand::new(steps);
        stand.model.window.store(WINDOW, Ordering::Relaxed);
        stand.history = Transcript::of(entries(before.clone()).iter(), &Material::default());
        for n in 0..600 {
            stand.sandbox.prints(&format!("x{n}"), &format!("{n}: {}", "output ".repeat(1_500)), 0);
        }
        Self { before, stand }
    }

    fn summaries(self, steps: Vec<Step>) -> Self {
        self.stand.model.summaries.lock().unwrap().extend(steps);
        self
    }

    fn log(&self) -> Vec<Event> {
        [self.before.clone(), self.stand.log.events()].concat()
    }

    /// What a restart would make of the log: the last request, and what was said since.
    fn assert_log_agrees(&self) {
        let requests = self.stand.requests();
        let sent = &requests.iter().rev().find(|request| !asks_for_summary(request)).unwrap().messages;
        let rebuilt = transcript(entries(self.log()).iter(), &Material::default());
        assert_eq!(rebuilt[..sent.len()], sent[..]);
    }

    fn count(&self, name: &str) -> usize {
        self.stand.log.names().iter().filter(|other| *other == name).count()
    }
}

/// A call whose output has 2,600 tokens.
fn output(n: usize) -> Step {
    uncounted(calls(vec![bash(&format!("c{n}"), &format!("x{n}"))]))
}

/// A call with 2,600 tokens of words before it, and a short output.
fn words(n: usize) -> Step {
    let text = format!("{n}: {}", "thoughts-".repeat(1_160));
    let call = call(&format!("w{n}"), "glob", json!({"pattern": format!("*{n}")}));
    uncounted(Step::Answer(response(vec![Content::Text { text }, call], StopReason::ToolUse)))
}

/// A provider that does not say what it counted.
fn uncounted(step: Step) -> Step {
    match step {
        Step::Answer(mut response) => {
            response.usage = Usage { requests: 1, ..Usage::default() };
            Step::Answer(response)
        }
        other => other,
    }
}

fn results(request: &Request) -> Vec<(String, String)> {
    let results = request.messages.iter().filter_map(|message| match message {
        Message::ToolResults { results } => Some(results.clone()),
        _ => None,
    });
    results.flatten().map(|result| (result.call, result.text)).collect()
}

fn first_text(request: &Request) -> &str {
    match &request.messages[0] {
        Message::User { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

/// Every call has its result right behind it, and every result its call.
fn assert_pairs(request: &Request) {
    let mut open: Vec<String> = Vec::new();
    for message in &request.messages {
        match message {
            Message::Assistant { content, .. } => {
                assert!(open.is_empty());
                let calls = content.iter().filter_map(|part| match part {
                    Content::ToolCall(call) => Some(call.id.clone()),
                    _ => None,
                });
                open = calls.collect();
            }
            Message::ToolResults { results } => {
                let of: Vec<String> = results.iter().map(|result| result.call.clone()).collect();
                assert_eq!(std::mem::take(&mut open), of);
            }
            Message::User { .. } => assert!(open.is_empty()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn old_outputs_give_way_before_anything_is_summarised() {
    let steps = (0..12).map(output).chain([say("Done.")]).collect();
    let story = Story::new(first_prompt(), steps);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!((story.count("context_pruned"), story.count("compaction_started")), (1, 0));
    let requests = story.stand.requests();
    let broken = requests.windows(2).filter(|pair| !pair[1].messages.starts_with(&pair[0].messages)).count();
    assert_eq!(broken, 1, "a break for each entry that says so");
    let last = results(requests.last().unwrap());
    assert_eq!(last.len(), 12);
    assert!(last[0].1.contains("Removed to make room: 10") && last[11].1.contains("output output"));
    requests.iter().for_each(assert_pairs);
    story.assert_log_agrees();
    let in_log = story.stand.log.results();
    assert!(in_log.iter().all(|(_, _, text)| text.contains("output output")), "the log keeps everything");
}

#[tokio::test(start_paused = true)]
async fn a_summary_takes_the_place_of_the_beginning() {
    let todo = call("t", "todo", json!({"items": [{"text": "Fix parse", "status": "in_progress"}]}));
    let steps = [uncounted(calls(vec![todo]))].into_iter().chain((0..13).map(words)).chain([say("Done.")]);
    let story = Story::new(first_prompt(), steps.collect()).summaries(vec![say("## Goal\nGreen tests.")]);
    let finished = story.stand.run().await;
    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert_eq!((story.count("compaction_started"), story.count("context_compacted")), (1, 1));
    assert_eq!(
        finished.used.usage.input_tokens, 200,
        "the summary's tokens and the last answer's are counted"
    );

    let requests = story.stand.requests();
    let asked = requests.iter().position(asks_for_summary).unwrap();
    assert!(requests[asked].messages.starts_with(&requests[asked - 1].messages), "read from the cache");
    assert_eq!((&requests[asked].system, &requests[asked].tools), (&requests[0].system, &requests[0].tools));
    let after = &requests[asked + 1];
    let text = first_text(after);
    for part in [
        "<summary>\n## Goal\nGreen tests.",
        "- [in progress] Fix parse",
        TASK,
        "/attachments/abababab/data.csv",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(after.messages.len() < 10 && after.messages.len() > 2, "the newest messages stay");
    assert_eq!(
        after.messages[1..],
        requests[asked].messages[requests[asked].messages.len() - after.messages.len()..]
            [..after.messages.len() - 1]
    );
    requests.iter().for_each(assert_pairs);
    story.assert_log_agrees();
    let (before, tokens_after) = story
        .log()
        .iter()
        .find_map(|event| match event {
            Event::ContextCompacted {
                tokens_before,
                tokens_after,
                reason: CompactionReason::WindowFull,
                ..
            } => Some((*tokens_before, *tokens_after)),
            _ => None,
        })
        .unwrap();
    assert!(before > 30_000 && tokens_after < 20_000, "{before} {tokens_after}");
}

#[tokio::test(start_paused = true)]
async fn what_people_asked_survives_every_further_summary() {
    let steps = (0..40).map(words).chain([say("Done.")]).collect();
    let summaries = (0..9).map(|n| say(&format!("Summary {n}."))).collect();
    let story = Story::new(first_prompt(), steps).summaries(summaries);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    let count = story.count("context_compacted");
    assert!(count >= 3, "{count}");
    let requests = story.stand.requests();
    let text = first_text(requests.last().unwrap());
    assert_eq!(text.matches(TASK).count(), 1);
    assert_eq!(text.matches("<summary>").count(), 1, "a summary of summaries");
    assert!(text.contains("data.csv"));
    story.assert_log_agrees();
}

#[tokio::test(start_paused = true)]
async fn an_overflow_makes_room_once_and_the_turn_goes_on() {
    let overflow = || Step::Refuse(Error::ContextOverflow { message: "too long".to_owned() });
    let steps = (0..4).map(words).chain([overflow(), say("Done.")]).collect();
    let story = Story::new(first_prompt(), steps).summaries(vec![say("Short.")]);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    let is_overflow =
        |event: &Event| matches!(event, Event::ContextCompacted { reason: CompactionReason::Overflow, .. });
    assert!(story.log().iter().any(is_overflow));
    story.assert_log_agrees();

    let steps = (0..4).map(words).chain([overflow(), overflow()]).collect();
    let story = Story::new(first_prompt(), steps).summaries(vec![say("Short.")]);
    let TurnOutcome::Failed { problem } = story.stand.run().await.outcome else { panic!("not failed") };
    assert_eq!(problem.code, ErrorCode::ContextOverflow);
    assert!(problem.message.contains("after room was made"), "{}", problem.message);

    let steps = (0..4).map(words).chain([overflow()]).collect();
    let story = Story::new(first_prompt(), steps).summaries(vec![overflow()]);
    let TurnOutcome::Failed { problem } = story.stand.run().await.outcome else { panic!("not failed") };
    assert_eq!(problem.code, ErrorCode::ContextOverflow);
    assert!(problem.message.contains("could not summarise"), "{}", problem.message);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_of_outputs_needs_no_summary() {
    let overflow = Step::Refuse(Error::ContextOverflow { message: "too long".to_owned() });
    let steps = (0..8).map(output).chain([overflow, say("Done.")]).collect();
    let story = Story::new(first_prompt(), steps);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!((story.count("context_pruned"), story.count("compaction_started")), (1, 0));
    story.assert_log_agrees();
}

#[tokio::test(start_paused = true)]
async fn a_summary_can_be_stopped_and_one_without_words_is_asked_for_again() {
    let steps = || (0..13).map(words).chain([say("Done.")]).collect();
    let story = Story::new(first_prompt(), steps()).summaries(vec![Step::Hang(vec![])]);
    let running = story.stand.start();
    story.stand.log.wait_until(|log| log.names().contains(&"compaction_started".to_owned())).await;
    story.stand.cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap().outcome, TurnOutcome::Stopped);
    assert_eq!(story.count("context_compacted"), 0);

    let silent = || calls(vec![bash("s", "x1")]);
    let story = Story::new(first_prompt(), steps()).summaries(vec![silent(), say("Now.")]);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    assert!(first_text(story.stand.requests().last().unwrap()).contains("Now."));
    assert!(!story.log().iter().any(|event| matches!(event, Event::ToolStarted { call, .. } if call == "s")));

    let story = Story::new(first_prompt(), steps()).summaries((0..3).map(|_| silent()).collect());
    let TurnOutcome::Failed { problem } = story.stand.run().await.outcome else { panic!("not failed") };
    assert!(problem.message.contains("could not summarise") && problem.hint.is_some(), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_it_is_summarised_loses_nothing_and_it_is_done_once() {
    let story = Story::new(first_prompt(), (0..13).map(words).collect()).summaries(vec![say("Lost.")]);
    let is_started = |log: &MemoryLog| log.names().contains(&"compaction_started".to_owned());
    // The commit behind `CompactionStarted` is refused, as after a crash.
    let commits = {
        let twin = Story::new(first_prompt(), (0..13).map(words).chain([say("x")]).collect())
            .summaries(vec![say("Lost.")]);
        twin.stand.run().await;
        let commits = twin.stand.log.commits.lock().unwrap();
        let at = commits
            .iter()
            .position(|(events, _)| events.iter().any(|event| name(event) == "compaction_started"));
        at.unwrap() as u64 + 1
    };
    story.stand.log.fenced_after.store(commits, Ordering::Relaxed);
    assert!(story.stand.try_run().await.is_err());
    assert!(is_started(&story.stand.log) && story.count("context_compacted") == 0);

    let again = Story::new(story.log(), vec![say("Done.")]).summaries(vec![say("Kept.")]);
    assert_eq!(again.stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(again.count("context_compacted"), 1);
    again.assert_log_agrees();

    // And once it is in the log, a restart finds it there.
    let third = Story::new(again.log(), vec![say("Still done.")]);
    assert_eq!(third.stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(third.count("compaction_started"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_person_has_it_summarised() {
    let story = Story::new(first_prompt(), (0..6).map(words).chain([say("Done.")]).collect());
    story.stand.run().await;
    let author = match &story.before[0] {
        Event::PromptAccepted { author, .. } => author.clone(),
        other => panic!("{other:?}"),
    };
    let start = [
        Event::TurnStarted { turn: turn_id(), prompts: vec![] },
        Event::CompactionRequested { turn: turn_id(), author },
    ];
    let before = [story.log(), start.to_vec()].concat();
    let asked = Story::new(before.clone(), vec![]).summaries(vec![say("All of it.")]);
    let mut context = asked.stand.context();
    context.is_compaction = true;
    let finished = run(turn_id(), context).await.unwrap();
    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert_eq!(finished.used, Used { usage: finished.used.usage, ..Used::default() });
    assert_eq!(finished.used.usage.requests, 1);
    let next = Story::new(
        [asked.log(), vec![accepted(2, "And now?", vec![])], begun(2).to_vec()].concat(),
        vec![say("Yes.")],
    );
    assert_eq!(next.stand.run().await.outcome, TurnOutcome::Completed);
    let requests = next.stand.requests();
    assert!(first_text(&requests[0]).contains("All of it."));
    let last = requests[0].messages.last().unwrap();
    assert!(matches!(last, Message::User { text, .. } if text.ends_with("And now?")), "{last:?}");
    next.assert_log_agrees();
}

#[tokio::test(start_paused = true)]
async fn a_hundred_large_outputs_at_once_fit() {
    let many = (0..100).map(|n| bash(&format!("c{n}"), &format!("x{n}"))).collect();
    let story = Story::new(first_prompt(), vec![uncounted(calls(many)), say("Done.")]);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    let told = results(story.stand.requests().last().unwrap());
    assert_eq!(told.len(), 100);
    let shown = told.iter().filter(|(_, text)| text.contains("output output")).count();
    assert!((2..5).contains(&shown), "{shown}");
    assert!(told[99].1.contains("output output"));
    story.assert_log_agrees();
}

#[tokio::test(start_paused = true)]
async fn a_conversation_of_hundreds_of_messages_is_summarised_in_what_fits() {
    let mut before = Vec::new();
    for n in 0..250 {
        before.push(accepted(n, &format!("Prompt {n}."), vec![]));
        before.extend(begun(n));
        before.push(Event::AssistantMessage {
            turn: turn_id(),
            content: vec![Content::Text { text: format!("{n}: {}", "answer ".repeat(300)) }],
            blocks: vec![],
            raw: None,
            stop_reason: StopReason::EndTurn,
            usage: Usage::default(),
            model: "m".to_owned(),
        });
    }
    before.push(accepted(999, "The last one.", vec![]));
    before.extend(begun(999));
    let story = Story::new(before, vec![say("Done.")]).summaries(vec![say("Long ago.")]);
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    let requests = story.stand.requests();
    assert_eq!(requests.len(), 2);
    let bytes = |request: &Request| serde_json::to_string(&request.messages).unwrap().len() as u64;
    assert!(bytes(&requests[0]) / 4 < WINDOW, "the question fits: {}", bytes(&requests[0]));
    assert!(bytes(&requests[1]) / 4 < WINDOW - 10_000);
    let last = requests[1].messages.last().unwrap();
    assert!(matches!(last, Message::User { text, .. } if text.ends_with("The last one.")));
    story.assert_log_agrees();
}

#[tokio::test(start_paused = true)]
async fn what_is_fixed_fills_the_window_and_is_not_summarised_again_and_again() {
    let mut story = Story::new(first_prompt(), (0..5).map(output).chain([say("Done.")]).collect());
    story.stand.model.window.store(5_000, Ordering::Relaxed);
    story = story.summaries((0..20).map(|_| say("Short.")).collect());
    assert_eq!(story.stand.run().await.outcome, TurnOutcome::Completed);
    assert!(story.count("context_compacted") <= 5, "at most one for each step");
}

#[test]
fn the_parts_of_what_the_model_sees_add_up() {
    let mut log = first_prompt();
    log.push(Event::TodoChanged {
        turn: turn_id(),
        items: vec![TodoItem { text: "a".to_owned(), status: TodoStatus::Done }],
    });
    let shown = context::describe(
        &Transcript::of(entries(log.clone()).iter(), &Material::default()),
        &greenroom_agent::Instructions { agents_md: Some("x".repeat(4_000)), ..Default::default() },
        Editing::Replace,
    );
    let sum: u64 = shown.parts.iter().map(|part| part.tokens).sum();
    assert_eq!((sum, shown.counted), (shown.tokens, 0));
    let of = |kind| shown.parts.iter().find(|part| part.kind == kind).map(|part| part.tokens);
    assert!(of(context::PartKind::Instructions).unwrap() >= 1_000);
    assert_eq!(of(context::PartKind::Summary), None);
    log.push(Event::AssistantMessage {
        turn: turn_id(),
        content: vec![Content::Text { text: "Yes.".to_owned() }],
        blocks: vec![],
        raw: None,
        stop_reason: StopReason::EndTurn,
        usage: Usage { input_tokens: 3_000, cache_read_tokens: 1_000, output_tokens: 5, ..Usage::default() },
        model: "m".to_owned(),
    });
    let shown = context::describe(
        &Transcript::of(entries(log).iter(), &Material::default()),
        &greenroom_agent::Instructions::default(),
        Editing::Replace,
    );
    assert_eq!((shown.tokens, shown.counted), (4_005, 4_005), "as the provider counted");
}
