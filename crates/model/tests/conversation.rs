//! What goes back to the provider: its own items exactly as they came, and every request as an extension of the last.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use greenroom_domain::message::{Message, StopReason, ToolResult};
use greenroom_model::testing::{Say, Turn, WireServer, WireServerOptions};
use greenroom_model::{Effort, Provider, ProviderKind, Response};
use serde_json::{Value, json};
use support::{ask, provider, request};

/// Asks, and appends the answer to the conversation.
async fn step(provider: &dyn Provider, messages: &mut Vec<Message>) -> Response {
    let response = ask(provider, request(messages.clone())).await.end.unwrap();
    messages.push(Message::Assistant { content: response.content.clone(), raw: response.raw.clone() });
    response
}

fn result(call: &str, text: &str) -> Message {
    let result = ToolResult { call: call.into(), text: text.into(), is_error: false };
    Message::ToolResults { results: vec![result] }
}

fn user(text: &str) -> Message {
    Message::user(text)
}

fn conversation_key(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Openai => "input",
        ProviderKind::Gemini => "contents",
        _ => "messages",
    }
}

/// The conversation of each request, without cache breakpoints.
fn conversations(server: &WireServer, kind: ProviderKind) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for request in server.requests() {
        let mut items = request.json()[conversation_key(kind)].as_array().unwrap().clone();
        for item in &mut items {
            for block in item.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
                block.as_object_mut().unwrap().remove("cache_control");
            }
        }
        all.push(items);
    }
    all
}

fn turns() -> Vec<Turn> {
    let mut thinking = Turn::default()
        .and_thinking("first I look", "c2lnbmF0dXJl")
        .and_text("Looking.")
        .and_call("call_1", "bash", &json!({"command": "ls", "count": 1.5}));
    thinking.says.insert(1, Say::RedactedThinking("b3BhcXVl".into()));
    vec![
        thinking,
        Turn::text("Again.").and_written_call("call_2", "bash", "{\"command\": "),
        Turn::text("Done."),
        Turn::text("Bye."),
    ]
}

#[tokio::test]
async fn each_request_extends_the_one_before() {
    for kind in ProviderKind::ALL {
        let server = support::server(WireServerOptions::default()).await;
        turns().into_iter().for_each(|turn| server.push(turn));
        let provider = provider(&server, kind);
        let mut messages = vec![user("go")];
        step(&*provider, &mut messages).await;
        messages.push(result("call_1", "a\nb"));
        step(&*provider, &mut messages).await;
        messages.push(result("call_2", "your arguments were not valid JSON"));
        assert_eq!(step(&*provider, &mut messages).await.stop_reason, StopReason::EndTurn);
        messages.push(user("thanks"));
        step(&*provider, &mut messages).await;

        let conversations = conversations(&server, kind);
        assert_eq!(conversations.len(), 4);
        for pair in conversations.windows(2) {
            assert!(pair[1].len() > pair[0].len(), "{kind:?}");
            assert_eq!(pair[1][..pair[0].len()], pair[0][..], "{kind:?}");
        }
        let rest = |index: usize| {
            let mut body = server.requests()[index].json();
            body.as_object_mut().unwrap().remove(conversation_key(kind));
            body
        };
        assert_eq!(rest(0), rest(3), "{kind:?}: everything but the conversation stays the same");
    }
}

#[tokio::test]
async fn the_bytes_of_system_and_tools_stay_the_same() {
    for kind in ProviderKind::ALL {
        let server = support::server(WireServerOptions::default()).await;
        server.respond_with(|_| Turn::text("yes"));
        let provider = provider(&server, kind);
        ask(&*provider, request(vec![user("go")])).await.end.unwrap();
        ask(&*provider, request(vec![user("go")])).await.end.unwrap();
        let requests = server.requests();
        assert_eq!(requests[0].body, requests[1].body, "{kind:?}");
    }
}

#[tokio::test]
async fn anthropic_blocks_come_back_with_their_signatures() {
    let server = support::server(WireServerOptions::default()).await;
    turns().into_iter().for_each(|turn| server.push(turn));
    let provider = provider(&server, ProviderKind::Anthropic);
    let mut messages = vec![user("go")];
    step(&*provider, &mut messages).await;
    messages.push(result("call_1", "a"));
    step(&*provider, &mut messages).await;
    let replayed = &conversations(&server, ProviderKind::Anthropic)[1][1];
    assert_eq!(
        *replayed,
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "first I look", "signature": "c2lnbmF0dXJl"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "call_1", "name": "bash", "input": {"command": "ls", "count": 1.5}},
        ]})
    );
}

#[tokio::test]
async fn openai_items_come_back_with_their_encrypted_reasoning() {
    let server = support::server(WireServerOptions::default()).await;
    turns().into_iter().for_each(|turn| server.push(turn));
    let provider = provider(&server, ProviderKind::Openai);
    let mut messages = vec![user("go")];
    step(&*provider, &mut messages).await;
    messages.push(result("call_1", "a"));
    step(&*provider, &mut messages).await;
    let replayed = &conversations(&server, ProviderKind::Openai)[1];
    assert_eq!(replayed[1]["encrypted_content"], "c2lnbmF0dXJl");
    assert_eq!(replayed[1]["id"], "rs_0");
    assert_eq!(replayed[2]["encrypted_content"], "b3BhcXVl");
    assert_eq!(replayed[3]["content"][0]["text"], "Looking.");
    assert_eq!(replayed[4]["arguments"], "{\"command\":\"ls\",\"count\":1.5}");
    assert_eq!(replayed[5], json!({"type": "function_call_output", "call_id": "call_1", "output": "a"}));
}

#[tokio::test]
async fn chat_thinking_comes_back_in_the_servers_field() {
    let server = support::server(WireServerOptions::default()).await;
    turns().into_iter().for_each(|turn| server.push(turn));
    let provider = provider(&server, ProviderKind::OpenaiChat);
    let mut messages = vec![user("go")];
    step(&*provider, &mut messages).await;
    messages.push(result("call_1", "a"));
    step(&*provider, &mut messages).await;
    let replayed = &conversations(&server, ProviderKind::OpenaiChat)[1][2];
    assert_eq!(replayed["reasoning_content"], "first I look");
    assert_eq!(replayed["tool_calls"][0]["function"]["name"], "bash");
}

#[tokio::test]
async fn gemini_parts_come_back_with_their_signatures() {
    let server = support::server(WireServerOptions::default()).await;
    turns().into_iter().for_each(|turn| server.push(turn));
    let provider = provider(&server, ProviderKind::Gemini);
    let mut messages = vec![user("go")];
    step(&*provider, &mut messages).await;
    messages.push(result("call_1", "a"));
    step(&*provider, &mut messages).await;
    let replayed = &conversations(&server, ProviderKind::Gemini)[1];
    assert_eq!(
        replayed[1],
        json!({"role": "model", "parts": [
            {"text": "", "thoughtSignature": "b3BhcXVl"},
            {"text": "Looking."},
            {"functionCall": {"id": "call_1", "name": "bash", "args": {"command": "ls", "count": 1.5}},
             "thoughtSignature": "c2lnbmF0dXJl"},
        ]})
    );
    let answer = json!({"id": "call_1", "name": "bash", "response": {"output": "a"}});
    assert_eq!(replayed[2], json!({"role": "user", "parts": [{"functionResponse": answer}]}));
    assert_eq!(server.requests()[0].path, "/v1beta/models/wire-model:streamGenerateContent");
}

/// What is signed or sealed for one model stays away from every other one; its words and calls do not.
#[tokio::test]
async fn after_a_change_of_model_the_words_are_sent_and_what_was_bound_to_the_other_is_not() {
    for kind in ProviderKind::ALL {
        let server = support::server(WireServerOptions::default()).await;
        turns().into_iter().for_each(|turn| server.push(turn));
        let mut messages = vec![user("go")];
        step(&*provider(&server, kind), &mut messages).await;
        messages.push(result("call_1", "a"));
        let mut other = server.config(kind);
        other.model = "other-model".into();
        let other =
            greenroom_model::connect(&other, Some(greenroom_model::Secret::new(support::KEY))).unwrap();
        step(&*other, &mut messages).await;
        let body = server.requests()[1].json().to_string();
        assert!(body.contains("Looking.") && body.contains("call_1"), "{kind:?}");
        for secret in ["c2lnbmF0dXJl", "b3BhcXVl", "first I look"] {
            assert!(!body.contains(secret), "{kind:?}: {secret}");
        }
    }
}

#[tokio::test]
async fn openrouter_tells_the_cost_and_is_asked_for_thinking_in_its_own_way() {
    let server = support::server(WireServerOptions::default()).await;
    server.push(Turn { cost_usd: Some(0.0125), ..Turn::text("yes") });
    let mut config = server.config(ProviderKind::Openrouter);
    config.effort = Some(Effort::High);
    let provider = greenroom_model::connect(&config, None).unwrap();
    let response = ask(&*provider, request(vec![user("go")])).await.end.unwrap();
    assert_eq!(response.usage.cost_microusd, 12_500);
    let body = server.requests()[0].json();
    assert_eq!((&body["usage"], &body["reasoning"]), (&json!({"include": true}), &json!({"effort": "high"})));
    assert_eq!(body.get("reasoning_effort"), None);
}

#[tokio::test]
async fn a_conversation_can_move_to_another_protocol() {
    for (from, to) in ProviderKind::ALL.into_iter().flat_map(|from| ProviderKind::ALL.map(|to| (from, to))) {
        if from == to {
            continue;
        }
        let server = support::server(WireServerOptions::default()).await;
        turns().into_iter().for_each(|turn| server.push(turn));
        let mut messages = vec![user("go")];
        step(&*provider(&server, from), &mut messages).await;
        messages.push(result("call_1", "a"));
        step(&*provider(&server, to), &mut messages).await;
        let body = server.requests()[1].json().to_string();
        assert!(body.contains("Looking.") && body.contains("call_1"), "{from:?} to {to:?}");
        for secret in ["c2lnbmF0dXJl", "b3BhcXVl", "first I look"] {
            assert!(!body.contains(secret), "{from:?} to {to:?}: {secret}");
        }
    }
}

#[tokio::test]
async fn configured_limits_and_effort_reach_the_request() {
    let server = support::server(WireServerOptions::default()).await;
    server.push(Turn::text("yes"));
    let mut config = server.config(ProviderKind::Openai);
    config.effort = Some(Effort::Low);
    config.max_output_tokens = Some(123);
    config.context_window = Some(9_000);
    let provider = greenroom_model::connect(&config, None).unwrap();
    assert_eq!((provider.context_window(), provider.model()), (9_000, "openai/wire-model"));
    ask(&*provider, request(vec![user("go")])).await.end.unwrap();
    let body = server.requests()[0].json();
    assert_eq!(body["max_output_tokens"], 123);
    assert_eq!(body["reasoning"]["effort"], "low");
    assert!(!server.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn the_test_request_tells_model_time_and_answer() {
    let server = support::server(WireServerOptions::default()).await;
    server.push(Turn::text("ready"));
    let provider = provider(&server, ProviderKind::Anthropic);
    let report = greenroom_model::test(&*provider).await.unwrap();
    assert_eq!((report.model.as_str(), report.answer.as_str()), ("anthropic/wire-model", "ready"));
    server.push(Turn::fault(greenroom_model::testing::Fault::key_refused()));
    let problem = greenroom_model::test(&*provider).await.unwrap_err();
    assert_eq!(problem.code, greenroom_domain::ErrorCode::ModelKeyRefused);
}
