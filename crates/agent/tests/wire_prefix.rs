//! Sixty turns over each wire protocol, with outputs that give way, summaries, one that a person asks for and an overflow:
//! request N+1 begins with the bytes of request N, except where the log says why not.

mod support;

use greenroom_agent::{Material, Transcript, run};
use greenroom_domain::command::Delivery;
use greenroom_domain::event::{CompactionReason, Entry, Event, TurnOutcome};
use greenroom_domain::money::Usage;
use greenroom_domain::person::Via;
use greenroom_domain::{Author, PersonId, PromptId, TurnId};
use greenroom_model::testing::{Fault, Recorded, Tokens, Turn, WireServer, WireServerOptions};
use greenroom_model::{ModelConfig, ProviderKind, Secret, connect_with};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

const TURNS: u128 = 60;
const ASKED_TURN: u128 = 31;
const OVERFLOW_PROMPT: &str = "Prompt 45.";
const WINDOW: u64 = 40_000;

fn author() -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    }
}

/// A call, then words, in each turn; now and then many words. Counts about as a provider would.
fn answer(request: &Recorded, calls: &AtomicUsize, has_overflowed: &AtomicUsize) -> Turn {
    let body = String::from_utf8_lossy(&request.body);
    let tokens = Tokens { input: body.len() as u64 / 4, output: 50, cache_read: 0, cache_write: 0 };
    let list = list(&body);
    let last = &list[list.floor_char_boundary(list.len().saturating_sub(200))..];
    let turn = if body.contains("Stop working for a moment") {
        Turn::text("## Goal\nGreen tests.")
    } else if last.contains(OVERFLOW_PROMPT) && has_overflowed.fetch_add(1, Ordering::Relaxed) == 0 {
        Turn::fault(Fault::context_overflow())
    } else {
        let n = calls.fetch_add(1, Ordering::Relaxed);
        match n % 2 {
            0 => Turn::default()
                .and_thinking(format!("thought {n}"), format!("sealed-{n}"))
                .and_text("I look.")
                .and_call(&format!("call_{n}"), "bash", &json!({ "command": format!("x{n}") })),
            _ => Turn::text(format!("{n}: {}", "words-".repeat(if n % 3 == 0 { 1_500 } else { 20 }))),
        }
    };
    Turn { tokens, ..turn }
}

/// The text of the list of messages, without its cache breakpoints.
fn list(body: &str) -> String {
    let body = body
        .replace("\"cache_control\":{\"type\":\"ephemeral\"},", "")
        .replace(",\"cache_control\":{\"type\":\"ephemeral\"}", "");
    let begin = ["\"messages\":[", "\"input\":["].iter().find_map(|key| Some(body.find(key)? + key.len()));
    let text = &body[begin.expect("a list of messages")..];
    let (mut depth, mut is_in_text, mut is_escaped) = (1, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            b'[' | b'{' if !is_in_text => depth += 1,
            b']' | b'}' if !is_in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[..at].to_owned();
        }
    }
    panic!("a list without an end")
}

/// Everything else of a request.
fn rest(request: &Recorded) -> Value {
    let mut body = request.json();
    body["messages"] = Value::Null;
    body["input"] = Value::Null;
    body
}

struct Run {
    log: Vec<Event>,
    requests: Vec<Recorded>,
}

async fn sixty_turns(kind: ProviderKind) -> Run {
    let server = WireServer::start(WireServerOptions::default()).await.unwrap();
    let (calls, overflows) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let overflowed = Arc::clone(&overflows);
    server.respond_with(move |request| answer(request, &calls, &overflows));
    let config = ModelConfig { context_window: Some(WINDOW), ..server.config(kind) };
    let provider = connect_with(&config, Some(Secret::new("key")), server.endpoint_options()).unwrap();
    let stand = Stand::new(vec![]);
    for n in 0..500 {
        stand.sandbox.prints(&format!("x{n}"), &format!("{n}: {}", "output ".repeat(1_500)), 0);
    }
    let mut log = Vec::new();
    for n in 0..TURNS {
        let (turn, prompt) = (TurnId::from_parts(1, n), PromptId::from_parts(1, n));
        if n == ASKED_TURN {
            log.push(Event::TurnStarted { turn, prompts: vec![] });
            log.push(Event::CompactionRequested { turn, author: author() });
        } else {
            log.push(Event::PromptAccepted {
                prompt,
                author: author(),
                text: format!("Prompt {n}."),
                delivery: Delivery::Queue,
                attachments: vec![],
            });
            log.push(Event::TurnStarted { turn, prompts: vec![prompt] });
            log.push(Event::ModelRequested { turn, model: "m".to_owned(), attempt: 1 });
        }
        let entries = entries(&log);
        let mut context = stand.context();
        context.provider = provider.clone();
        context.history = Transcript::of(entries.iter(), &Material::default());
        context.is_compaction = n == ASKED_TURN;
        let finished = run(turn, context).await.unwrap();
        assert_eq!(finished.outcome, TurnOutcome::Completed, "turn {n} over {kind:?}");
        log.extend(stand.log.events());
        stand.log.commits.lock().unwrap().clear();
        log.push(Event::TurnFinished {
            turn,
            outcome: finished.outcome,
            usage: Usage::default(),
            duration_ms: 1,
        });
    }
    assert!(overflowed.load(Ordering::Relaxed) > 1, "the request that was too long was made again");
    Run { log, requests: server.requests() }
}

fn entries(log: &[Event]) -> Vec<Entry> {
    log.iter().cloned().map(|event| Entry { seq: 1, at_ms: 0, epoch: 1, event }).collect()
}

/// For each request but the first: why it need not begin with the one before it.
fn reasons(log: &[Event]) -> Vec<Vec<&'static str>> {
    let mut reasons = Vec::new();
    let mut open = Vec::new();
    for event in log {
        match event {
            Event::ContextPruned { .. } => open.push("outputs gave way"),
            Event::ContextCompacted { reason: CompactionReason::WindowFull, .. } => {
                open.push("summarised: the window was full");
            }
            Event::ContextCompacted { reason: CompactionReason::Overflow, .. } => {
                open.push("summarised: the provider said too long");
            }
            Event::ContextCompacted { reason: CompactionReason::Asked, .. } => {
                open.push("summarised: a person asked");
            }
            Event::CompactionStarted { reason, .. } => {
                if *reason == CompactionReason::Overflow {
                    open.push("a shorter question after too long a request");
                }
                reasons.push(std::mem::take(&mut open));
            }
            Event::ModelRequested { .. } => reasons.push(std::mem::take(&mut open)),
            _ => {}
        }
    }
    reasons.remove(0);
    reasons
}

/// Calls and results come in pairs, and nothing sealed is left without what it belongs to.
fn assert_whole(request: &Recorded) {
    fn walk(value: &Value, calls: &mut Vec<String>, results: &mut Vec<String>) {
        if let Value::Object(object) = value {
            let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
            match object.get("type").and_then(Value::as_str) {
                Some("tool_use" | "function") => calls.extend(text("id")),
                Some("function_call") => calls.extend(text("call_id")),
                Some("tool_result") => results.extend(text("tool_use_id")),
                Some("function_call_output") => results.extend(text("call_id")),
                _ => results.extend(text("tool_call_id")),
            }
        }
        match value {
            Value::Object(object) => object.values().for_each(|value| walk(value, calls, results)),
            Value::Array(items) => items.iter().for_each(|value| walk(value, calls, results)),
            _ => {}
        }
    }
    let body = request.json();
    let items = body.get("messages").or(body.get("input")).unwrap();
    let (mut calls, mut results) = (vec![], vec![]);
    walk(items, &mut calls, &mut results);
    assert_eq!(calls, results);
    let items = items.as_array().unwrap();
    for pair in items.windows(2) {
        if pair[0]["type"] == "reasoning" {
            assert_ne!(pair[1]["role"], "user", "reasoning without what followed it");
        }
    }
}

async fn assert_prefix(kind: ProviderKind) -> BTreeMap<&'static str, usize> {
    let Run { log, requests } = sixty_turns(kind).await;
    requests.iter().for_each(assert_whole);
    let reasons = reasons(&log);
    assert_eq!(reasons.len() + 1, requests.len());
    let mut breaks = BTreeMap::new();
    for (at, (pair, reasons)) in requests.windows(2).zip(&reasons).enumerate() {
        assert_eq!(rest(&pair[0]), rest(&pair[1]), "instructions, tools and settings never change");
        let [before, after] = [0, 1].map(|n| list(&String::from_utf8_lossy(&pair[n].body)));
        // A last message of a person may go on in the same message.
        let extends = after.starts_with(&before)
            || before.rfind("\"}").is_some_and(|end| after.starts_with(&before[..end]));
        assert!(extends || !reasons.is_empty(), "request {} over {kind:?} breaks without a reason", at + 1);
        if !extends {
            reasons.iter().for_each(|reason| *breaks.entry(*reason).or_default() += 1);
        }
    }
    breaks
}

/// The documented breaks, and that each of them was there.
fn assert_all_kinds(breaks: &BTreeMap<&'static str, usize>) {
    let kinds: Vec<&str> = breaks.keys().copied().collect();
    let known = [
        "a shorter question after too long a request",
        "outputs gave way",
        "summarised: a person asked",
        "summarised: the provider said too long",
        "summarised: the window was full",
    ];
    for kind in kinds {
        assert!(known.contains(&kind), "{kind}");
    }
    assert_eq!(breaks.get("summarised: a person asked"), Some(&1), "{breaks:?}");
    assert!(breaks["outputs gave way"] >= 2 && breaks["summarised: the window was full"] >= 1, "{breaks:?}");
    assert!(breaks.values().sum::<usize>() < 16, "most requests are read from the cache: {breaks:?}");
}

#[tokio::test]
async fn sixty_turns_of_anthropic_messages_keep_their_prefix() {
    assert_all_kinds(&assert_prefix(ProviderKind::Anthropic).await);
}

#[tokio::test]
async fn sixty_turns_of_openai_responses_keep_their_prefix() {
    assert_all_kinds(&assert_prefix(ProviderKind::Openai).await);
}

#[tokio::test]
async fn sixty_turns_of_chat_completions_keep_their_prefix() {
    assert_all_kinds(&assert_prefix(ProviderKind::OpenaiChat).await);
}
