//! The conversation rebuilt from the log: what it holds, and that no log makes an illegal one.

mod support;

use greenroom_agent::{Material, Speakers, transcript};
use greenroom_domain::command::Delivery;
use greenroom_domain::event::{CompactionReason, Entry, Event, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, RawItems, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::person::Via;
use greenroom_domain::{Author, ErrorCode, PersonId, Problem, PromptId};
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashSet;
use support::{call, turn_id};

fn entries(events: Vec<Event>) -> Vec<Entry> {
    let entry = |(at, event)| Entry { seq: at as u64 + 1, at_ms: 0, epoch: 1, event };
    events.into_iter().enumerate().map(entry).collect()
}

fn messages(events: Vec<Event>) -> Vec<Message> {
    transcript(entries(events).iter(), &Material::default())
}

fn prompt(n: u128) -> PromptId {
    PromptId::from_parts(1, n)
}

fn accepted(n: u128, who: u128, text: &str) -> Event {
    let name = if who == 1 { "Ada" } else { "Bob" };
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, who),
        via: Via::Person,
        name: name.to_owned(),
        email: format!("{name}@example.org"),
    };
    Event::PromptAccepted {
        prompt: prompt(n),
        author,
        text: text.to_owned(),
        delivery: Delivery::Queue,
        attachments: vec![],
    }
}

fn started(prompts: &[u128]) -> Event {
    Event::TurnStarted { turn: turn_id(), prompts: prompts.iter().copied().map(prompt).collect() }
}

fn requested() -> Event {
    Event::ModelRequested { turn: turn_id(), model: "m".to_owned(), attempt: 1 }
}

fn said(content: Vec<Content>, stop_reason: StopReason, has_raw: bool) -> Event {
    let raw = has_raw.then(|| RawItems { format: "test".to_owned(), items: vec![json!(1)], model: None });
    Event::AssistantMessage {
        turn: turn_id(),
        content,
        blocks: Vec::new(),
        raw,
        stop_reason,
        usage: Usage::default(),
        model: "m".to_owned(),
    }
}

fn begun(call: &str) -> Event {
    let name = "bash".to_owned();
    Event::ToolStarted { turn: turn_id(), call: call.to_owned(), name, title: "Run".to_owned() }
}

fn finished(call: &str, outcome: ToolOutcome, text: &str) -> Event {
    Event::ToolFinished {
        turn: turn_id(),
        call: call.to_owned(),
        outcome,
        text: text.to_owned(),
        display: None,
        duration_ms: 1,
    }
}

fn ended(outcome: TurnOutcome) -> Event {
    Event::TurnFinished { turn: turn_id(), outcome, usage: Usage::default(), duration_ms: 1 }
}

fn inserted(n: u128) -> Event {
    Event::PromptInserted { turn: turn_id(), prompt: prompt(n) }
}

fn pruned(calls: Vec<u8>) -> Event {
    let calls = calls.into_iter().map(|id| format!("c{id}")).collect();
    Event::ContextPruned { turn: turn_id(), calls, tokens: 1 }
}

fn compacted(kept: u64, carried: u64) -> Event {
    Event::ContextCompacted {
        turn: turn_id(),
        reason: CompactionReason::WindowFull,
        summary: "So far.".to_owned(),
        kept,
        carried,
        tokens_before: 2,
        tokens_after: 1,
        usage: Usage::default(),
        model: "m".to_owned(),
    }
}

fn text(text: &str) -> Content {
    Content::Text { text: text.to_owned() }
}

fn user(text: &str) -> Message {
    Message::user(text)
}

#[test]
fn authors_are_named_from_the_second_person_on() {
    let messages = messages(vec![
        accepted(1, 1, "One"),
        started(&[1]),
        said(vec![text("a")], StopReason::EndTurn, false),
        accepted(2, 2, "Two"),
        accepted(3, 1, "Three"),
        started(&[2, 3]),
    ]);
    assert_eq!(messages[0], user("One"));
    assert_eq!(messages[2], user("[Bob] Two\n\n[Ada] Three"));
}

#[test]
fn an_inserted_prompt_is_worded_as_the_transcript_will_word_it() {
    let bob = accepted(2, 2, "Two");
    let Event::PromptAccepted { author, .. } = bob.clone() else { panic!("not a prompt") };
    let before =
        vec![accepted(1, 1, "One"), started(&[1]), said(vec![text("a")], StopReason::EndTurn, false), bob];
    let worded = Speakers::after(entries(before.clone()).iter(), &Material::default()).say(&author, "Two");
    assert_eq!(messages([before, vec![inserted(2)]].concat()).pop(), Some(user(&worded)));
    assert_eq!(worded, "[Bob] Two");
}

#[test]
fn edited_and_withdrawn_prompts_are_as_they_were_when_the_turn_began() {
    let by = PersonId::from_parts(1, 1);
    let messages = messages(vec![
        accepted(1, 1, "old"),
        accepted(2, 1, "gone"),
        Event::PromptEdited { prompt: prompt(1), text: "new".to_owned(), by },
        Event::PromptWithdrawn { prompt: prompt(2), by },
        started(&[1, 2]),
    ]);
    assert_eq!(messages, [user("new")]);
}

#[test]
fn results_are_in_call_order_and_missing_ones_say_so() {
    let messages = messages(vec![
        accepted(1, 1, "go"),
        started(&[1]),
        said(["a", "b", "c", "d"].map(|id| call(id, "x", json!({}))).to_vec(), StopReason::ToolUse, true),
        begun("b"),
        finished("c", ToolOutcome::Succeeded, "third"),
        finished("a", ToolOutcome::Failed, ""),
        Event::TurnInterrupted { turn: turn_id(), open_calls: vec!["b".to_owned()] },
        requested(),
    ]);
    let Message::ToolResults { results } = &messages[2] else { panic!("{messages:?}") };
    let results: Vec<(&str, &str, bool)> =
        results.iter().map(|result| (result.call.as_str(), result.text.as_str(), result.is_error)).collect();
    assert_eq!(results[0], ("a", "(no output)", true));
    assert!(results[1].0 == "b" && results[1].1.contains("outcome unknown") && results[1].2);
    assert_eq!(results[2], ("c", "third", false));
    assert!(results[3].0 == "d" && results[3].1.contains("was not run") && results[3].2);
}

#[test]
fn an_inserted_prompt_comes_after_the_results_wherever_the_log_has_it() {
    let tool_call = || said(vec![call("a", "x", json!({}))], StopReason::ToolUse, true);
    let begin = || vec![accepted(1, 1, "go"), started(&[1]), tool_call(), accepted(2, 1, "more")];
    let result = || finished("a", ToolOutcome::Succeeded, "r");
    let before = messages([begin(), vec![inserted(2), result(), requested()]].concat());
    let after = messages([begin(), vec![result(), inserted(2), requested()]].concat());
    assert_eq!(before, after);
    assert_eq!(before[3], user("more"));
}

#[test]
fn a_stopped_turn_and_a_failed_one_are_told_with_the_next_prompt() {
    let problem = Problem::new(ErrorCode::ModelUnreachable, "The provider was away.");
    for (outcome, words) in [
        (TurnOutcome::Stopped, "stopped by a person"),
        (TurnOutcome::Failed { problem }, "The provider was away."),
    ] {
        let messages = messages(vec![
            accepted(1, 1, "go"),
            started(&[1]),
            said(vec![text("half")], StopReason::Other, false),
            ended(outcome),
            accepted(2, 1, "again"),
            started(&[2]),
        ]);
        let Message::User { text, .. } = &messages[2] else { panic!("{messages:?}") };
        assert!(text.contains(words) && text.ends_with("\n\nagain"), "{text}");
    }
}

#[test]
fn thinking_without_its_raw_items_is_left_out() {
    let thinking = || vec![Content::Thinking { text: "hm".to_owned() }, text("a")];
    let begin = || vec![accepted(1, 1, "go"), started(&[1])];
    let with = messages([begin(), vec![said(thinking(), StopReason::EndTurn, true)]].concat());
    let without = messages([begin(), vec![said(thinking(), StopReason::EndTurn, false)]].concat());
    assert!(matches!(&with[1], Message::Assistant { content, raw: Some(_) } if content.len() == 2));
    assert!(matches!(&without[1], Message::Assistant { content, raw: None } if content.len() == 1));
}

/// What every model API demands of a conversation.
fn assert_legal(messages: &[Message]) {
    let mut ids = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let previous = at.checked_sub(1).map(|at| &messages[at]);
        match message {
            Message::User { text, .. } => {
                assert!(!text.trim().is_empty(), "an empty prompt: {messages:#?}");
                assert!(!matches!(previous, Some(Message::User { .. })), "two user messages: {messages:#?}");
                assert!(open.is_empty(), "calls without results: {messages:#?}");
            }
            Message::Assistant { content, raw } => {
                assert!(at > 0, "begins with the assistant: {messages:#?}");
                assert!(open.is_empty(), "calls without results: {messages:#?}");
                assert!(!content.is_empty() || raw.is_some(), "an empty answer: {messages:#?}");
                for part in content {
                    match part {
                        Content::Text { text } => {
                            assert!(!text.trim().is_empty(), "an empty text: {messages:#?}");
                        }
                        Content::Thinking { .. } => assert!(raw.is_some(), "thinking alone: {messages:#?}"),
                        Content::ToolCall(call) => {
                            assert!(ids.insert(call.id.clone()), "an id twice: {messages:#?}");
                            open.push(call.id.clone());
                        }
                    }
                }
            }
            Message::ToolResults { results } => {
                let calls: Vec<String> = results.iter().map(|result| result.call.clone()).collect();
                assert!(!open.is_empty() && calls == open, "results that do not fit: {messages:#?}");
                assert!(
                    results.iter().all(|result| !result.text.trim().is_empty()),
                    "an empty result: {messages:#?}"
                );
                open.clear();
            }
        }
    }
    assert!(open.is_empty(), "calls without results at the end: {messages:#?}");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just(" \n".to_owned()), "[a-c]{1,3}"]
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        any_text().prop_map(|text| Content::Text { text }),
        any_text().prop_map(|text| Content::Thinking { text }),
        (0..12u8).prop_map(|id| call(&format!("c{id}"), "bash", json!({}))),
        Just(call("", "bash", json!("broken"))),
    ]
}

fn any_stop() -> impl Strategy<Value = StopReason> {
    use StopReason::*;
    prop::sample::select(vec![EndTurn, ToolUse, MaxTokens, Refusal, Pause, Other])
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome =
        prop::sample::select(vec![ToolOutcome::Succeeded, ToolOutcome::Failed, ToolOutcome::Unknown]);
    let ends = prop::sample::select(vec![TurnOutcome::Completed, TurnOutcome::Stopped]);
    prop_oneof![
        3 => (0..6u128, 1..3u128, any_text()).prop_map(|(n, who, text)| accepted(n, who, &text)),
        2 => prop::collection::vec(0..6u128, 0..3).prop_map(|prompts| started(&prompts)),
        2 => (0..6u128).prop_map(inserted),
        3 => Just(requested()),
        4 => (prop::collection::vec(any_content(), 0..4), any_stop(), any::<bool>())
            .prop_map(|(content, stop, has_raw)| said(content, stop, has_raw)),
        4 => (0..12u8, outcome, any_text())
            .prop_map(|(id, outcome, text)| finished(&format!("c{id}"), outcome, &text)),
        2 => (0..12u8).prop_map(|id| begun(&format!("c{id}"))),
        1 => ends.prop_map(ended),
        1 => prop::collection::vec(0..12u8, 0..4).prop_map(pruned),
        1 => (0..8u64, 0..4u64).prop_map(|(kept, carried)| compacted(kept, carried)),
        1 => Just(Event::TurnInterrupted { turn: turn_id(), open_calls: Vec::new() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_log_makes_a_conversation_that_a_model_refuses(events in prop::collection::vec(any_event(), 0..40)) {
        assert_legal(&messages(events));
    }

    #[test]
    fn a_request_can_always_be_answered(events in prop::collection::vec(any_event(), 0..40)) {
        let messages = messages([events, vec![requested()]].concat());
        let is_pause = |message: &Message| matches!(message, Message::Assistant { raw: Some(_), .. });
        let is_ready = messages.last().is_none_or(|last| !matches!(last, Message::Assistant { .. }) || is_pause(last));
        prop_assert!(is_ready, "{messages:#?}");
    }
}
