//! Every fault in every protocol gives exactly the right error, words and stop reason.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use greenroom_domain::ErrorCode;
use greenroom_domain::message::{Content, StopReason, ToolCall};
use greenroom_model::testing::{Fault, Say, Turn, WireServerOptions};
use greenroom_model::{Delta, EndpointOptions, Error, ProviderKind, Response};
use serde_json::{Value, json};
use std::time::Duration;
use support::{Answer, KEY, answer_to, ask, prompt, provider};

const WORDS: &str = "one two three four";

fn options() -> EndpointOptions {
    EndpointOptions { answer_limit: 64 * 1024, ..EndpointOptions::default() }
}

fn impatient() -> EndpointOptions {
    let limit = Duration::from_secs(1);
    EndpointOptions { silence_timeout: limit, headers_timeout: limit, ..options() }
}

async fn in_each_protocol(turn: Turn, check: impl Fn(ProviderKind, Answer)) {
    for kind in ProviderKind::ALL {
        check(kind, answer_to(kind, turn.clone(), options()).await);
    }
}

async fn fails(turn: Turn, expected: Error) {
    in_each_protocol(turn, |kind, answer| {
        assert_eq!(answer.end.unwrap_err(), expected, "{kind:?}");
    })
    .await;
}

/// Broken off, for a reason that begins so.
async fn breaks(turn: Turn, because: &str) {
    in_each_protocol(turn, |kind, answer| match answer.end {
        Err(Error::Broken { reason }) => assert!(reason.contains(because), "{kind:?}: {reason}"),
        other => panic!("{kind:?}: {other:?}"),
    })
    .await;
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into() }
}

fn call(id: &str, input: Value) -> Content {
    Content::ToolCall(ToolCall { id: id.into(), name: "bash".into(), input })
}

fn streamed_text(deltas: &[Delta], wanted: usize) -> String {
    let of_wanted = deltas.iter().filter_map(|delta| match delta {
        Delta::Text { index, text } if *index == wanted => Some(text.as_str()),
        _ => None,
    });
    of_wanted.collect()
}

fn done(kind: ProviderKind, answer: Answer) -> Response {
    answer.end.unwrap_or_else(|error| panic!("{kind:?}: {error}"))
}

#[tokio::test]
async fn text_thinking_and_calls_arrive_in_order_with_their_usage() {
    let turn = Turn::default()
        .and_thinking("let me see", "c2lnbmVk")
        .and_text(WORDS)
        .and_call("call_a", "bash", &json!({"command": "echo \"ü\" | cat"}))
        .and_call("call_b", "bash", &json!({}));
    in_each_protocol(turn, |kind, answer| {
        assert_eq!(streamed_text(&answer.deltas, 1), WORDS, "{kind:?}");
        let begun: Vec<_> =
            answer.deltas.iter().filter(|delta| matches!(delta, Delta::ToolCallStarted { .. })).collect();
        let expected = |index, id: &str| Delta::ToolCallStarted { index, id: id.into(), name: "bash".into() };
        assert_eq!(begun, [&expected(2, "call_a"), &expected(3, "call_b")]);
        let response = done(kind, answer);
        assert_eq!(
            response.content,
            [
                Content::Thinking { text: "let me see".into() },
                text(WORDS),
                call("call_a", json!({"command": "echo \"ü\" | cat"})),
                call("call_b", json!({})),
            ]
        );
        assert_eq!(response.stop_reason, StopReason::ToolUse);
        let usage = response.usage;
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.requests), (100, 20, 1), "{kind:?}");
        let written = if kind == ProviderKind::Gemini { 0 } else { 10 };
        assert_eq!((usage.cache_read_tokens, usage.cache_write_tokens), (50, written), "{kind:?}");
    })
    .await;
}

#[tokio::test]
async fn http_errors_are_told_apart() {
    let second = Some(Duration::from_secs(7));
    fails(Turn::fault(Fault::rate_limited("7")), Error::RateLimited { retry_after: second }).await;
    let soon = Fault::rate_limited("7").with_header("retry-after-ms", "1500");
    fails(Turn::fault(soon), Error::RateLimited { retry_after: Some(Duration::from_millis(1500)) }).await;
    let overloaded = |status| Error::Overloaded { status, retry_after: None };
    fails(Turn::fault(Fault::overloaded()), overloaded(529)).await;
    fails(Turn::fault(Fault::internal()), overloaded(500)).await;
    fails(Turn::fault(Fault::key_refused()), Error::KeyRefused { status: 401 }).await;
    let message = "prompt is too long: 208310 tokens > 200000 maximum".to_owned();
    fails(Turn::fault(Fault::context_overflow()), Error::ContextOverflow { message }).await;
    let unknown = Fault::status(404, "not_found_error", "model: nothing-1");
    let message = "model: nothing-1".to_owned();
    fails(Turn::fault(unknown), Error::Invalid { status: 404, message }).await;
}

#[tokio::test]
async fn error_events_inside_a_stream_are_told_apart() {
    let event = |kind| Turn::text(WORDS).with_fault(Fault::error_event(kind, "Overloaded"));
    fails(event("overloaded_error"), Error::Overloaded { status: 529, retry_after: None }).await;
    fails(event("rate_limit_error"), Error::RateLimited { retry_after: None }).await;
    fails(event("server_error"), Error::Overloaded { status: 500, retry_after: None }).await;
    fails(event("context_length_exceeded"), Error::ContextOverflow { message: "Overloaded".into() }).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_is_broken_and_what_was_said_before_was_delivered() {
    let turn = Turn::text(WORDS).with_fault(Fault::CutInText);
    in_each_protocol(turn, |kind, answer| {
        assert_eq!(streamed_text(&answer.deltas, 0), "one two ", "{kind:?}");
        assert!(matches!(answer.end, Err(Error::Broken { .. })), "{kind:?}: {:?}", answer.end);
    })
    .await;
    let call = Turn::text(WORDS).and_call("c1", "bash", &json!({"command": "rm -rf build"}));
    in_each_protocol(call.with_fault(Fault::CutInCall), |kind, answer| {
        assert!(matches!(answer.end, Err(Error::Broken { .. })), "{kind:?}: {:?}", answer.end);
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_its_final_event_is_broken() {
    breaks(Turn::text(WORDS).with_fault(Fault::NoFinalEvent), "ended before it was complete").await;
    breaks(Turn::text(WORDS).with_fault(Fault::NotEvents), "ended before it was complete").await;
}

#[tokio::test]
async fn an_event_that_is_no_json_is_broken() {
    breaks(Turn::text(WORDS).with_fault(Fault::BrokenEventJson), "not valid JSON").await;
}

#[tokio::test]
async fn an_answer_that_begins_twice_is_broken_where_the_protocol_has_a_beginning() {
    let turn = Turn::text(WORDS).with_fault(Fault::DuplicateStart);
    in_each_protocol(turn, |kind, answer| match kind {
        ProviderKind::Anthropic | ProviderKind::Openai => {
            assert_eq!(answer.end.unwrap_err(), Error::Broken { reason: "it began twice".into() });
        }
        // Many servers repeat the role in every chunk, Gemini always does.
        _ => assert_eq!(done(kind, answer).content, [text(WORDS)]),
    })
    .await;
}

#[tokio::test]
async fn broken_tool_json_is_handed_on_as_it_was_written() {
    let turn = Turn::text(WORDS).and_written_call("c1", "bash", "{\"command\": \"ls\",,}");
    in_each_protocol(turn, |kind, answer| {
        let response = done(kind, answer);
        assert_eq!(response.content, [text(WORDS), call("c1", json!("{\"command\": \"ls\",,}"))], "{kind:?}");
        assert_eq!(response.stop_reason, StopReason::ToolUse);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_the_output_limit_cut_is_not_in_the_answer() {
    let turn = Turn::text(WORDS)
        .and_call("whole", "bash", &json!({"command": "ls"}))
        .and_call("cut", "bash", &json!({"command": "rm -rf build/old"}))
        .with_fault(Fault::MaxTokensInCall);
    in_each_protocol(turn, |kind, answer| {
        let response = done(kind, answer);
        assert_eq!(response.stop_reason, StopReason::MaxTokens, "{kind:?}");
        assert_eq!(response.content, [text(WORDS), call("whole", json!({"command": "ls"}))], "{kind:?}");
        let raw = serde_json::to_string(&response.raw).unwrap();
        assert!(raw.contains("whole") && !raw.contains("\"cut\""), "{kind:?}: {raw}");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_keeps_its_words() {
    in_each_protocol(Turn::text("I will not.").with_stop(StopReason::Refusal), |kind, answer| {
        assert_eq!(streamed_text(&answer.deltas, 0), "I will not.", "{kind:?}");
        let response = done(kind, answer);
        assert_eq!(
            (response.stop_reason, response.content),
            (StopReason::Refusal, vec![text("I will not.")])
        );
    })
    .await;
}

#[tokio::test]
async fn a_pause_asks_to_be_called_again() {
    let turn = Turn::text(WORDS).with_stop(StopReason::Pause);
    let answer = answer_to(ProviderKind::Anthropic, turn, options()).await;
    assert_eq!(answer.end.unwrap().stop_reason, StopReason::Pause);
}

#[tokio::test]
async fn silence_ends_after_its_deadline_before_and_inside_an_answer() {
    for fault in [Fault::Silence, Fault::SilenceBeforeHeaders] {
        let asking = ProviderKind::ALL.map(|kind| answer_to(kind, Turn::fault(fault.clone()), impatient()));
        for answer in futures::future::join_all(asking).await {
            assert_eq!(answer.end.unwrap_err(), Error::Silent { seconds: 1 }, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn slow_words_are_not_silence() {
    let turn = Turn::text(WORDS).with_pace(Duration::from_millis(200));
    let asking = ProviderKind::ALL.map(|kind| answer_to(kind, turn.clone(), impatient()));
    for (kind, answer) in ProviderKind::ALL.into_iter().zip(futures::future::join_all(asking).await) {
        assert_eq!(done(kind, answer).content, [text(WORDS)]);
    }
}

#[tokio::test]
async fn an_endless_answer_is_stopped_at_its_limit() {
    fails(Turn::text(WORDS).with_fault(Fault::Endless), Error::TooLarge { limit: 64 * 1024 }).await;
}

#[tokio::test]
async fn redacted_thinking_has_no_words_and_is_kept() {
    let mut turn = Turn::text(WORDS);
    turn.says.insert(0, Say::RedactedThinking("b3BhcXVl".into()));
    let answer = answer_to(ProviderKind::Anthropic, turn, options()).await;
    assert_eq!(streamed_text(&answer.deltas, 0), WORDS);
    let response = answer.end.unwrap();
    assert_eq!(response.content, [text(WORDS)]);
    let redacted = json!({"type": "redacted_thinking", "data": "b3BhcXVl"});
    assert_eq!(response.raw.unwrap().items[0], redacted);
}

#[tokio::test]
async fn nobody_listening_is_unreachable_in_words() {
    let address = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap()
    };
    let mut config = greenroom_model::ModelConfig::new("x", ProviderKind::OpenaiChat, "m");
    config.base_url = Some(format!("http://{address}/v1"));
    let provider = greenroom_model::connect(&config, None).unwrap();
    let error = ask(&*provider, prompt("go")).await.end.unwrap_err();
    let Error::Unreachable { reason } = &error else { panic!("{error:?}") };
    assert_eq!(*reason, format!("{address}: nothing listens there (connection refused)"));
    assert_eq!(error.problem().code, ErrorCode::ModelUnreachable);
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let server = support::server(WireServerOptions { tls: true, ..Default::default() }).await;
    let provider = support::provider_with(&server, ProviderKind::Anthropic, EndpointOptions::default());
    let error = ask(&*provider, prompt("go")).await.end.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason } if reason.contains("TLS")), "{error:?}");
}

#[tokio::test]
async fn keys_are_sent_as_each_protocol_wants_and_shown_nowhere() {
    for kind in ProviderKind::ALL {
        let server = support::server(WireServerOptions::default()).await;
        let provider = provider(&server, kind);
        let echo = format!("the key {KEY} is not allowed to do this");
        server.push(Turn::fault(Fault::status(400, "invalid_request_error", &echo)));
        let error = ask(&*provider, prompt("go")).await.end.unwrap_err();
        let said = format!("{provider:?} {error:?} {error} {:?}", error.problem());
        assert!(!said.contains(KEY), "{kind:?}: {said}");
        assert!(said.contains("the key [key] is not allowed"), "{kind:?}: {said}");
        let headers = &server.requests()[0].headers;
        match kind {
            ProviderKind::Anthropic => {
                assert_eq!(headers["x-api-key"], KEY);
                assert_eq!(headers["anthropic-version"], "2023-06-01");
            }
            ProviderKind::Gemini => assert_eq!(headers["x-goog-api-key"], KEY),
            ProviderKind::Openai
            | ProviderKind::OpenaiChat
            | ProviderKind::Openrouter
            | ProviderKind::Ollama => {
                assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
            }
        }
    }
}
