//! A request's body. The order of everything is stable, so that request N+1 extends request N and the prompt cache
//! holds; only the cache breakpoints move along.

use super::FORMAT;
use crate::assembly::replayable_input;
use crate::catalog::{ModelFacts, Thinking};
use crate::provider::{Request, ToolDefinition};
use greenroom_domain::Effort;
use greenroom_domain::message::{Content, Image, Message, RawItems, ToolResult};
use serde_json::{Value, json};

/// Cache breakpoints on messages; with tools and system that makes the four that a request may have.
const MESSAGE_BREAKPOINTS: usize = 2;
const BUDGET_MINIMUM: u32 = 1024;

pub(super) fn encode(model: &str, facts: &ModelFacts, request: &Request) -> Value {
    let mut body = json!({
        "model": model,
        "max_tokens": request.max_output_tokens,
        "stream": true,
        "messages": request.messages.iter().map(message).collect::<Vec<_>>(),
    });
    if !request.system.is_empty() {
        body["system"] = json!([{ "type": "text", "text": request.system }]);
    }
    if !request.tools.is_empty() {
        body["tools"] = tools(&request.tools);
    }
    if facts.cache {
        set_breakpoints(&mut body);
    }
    set_thinking(&mut body, facts.thinking, request);
    body
}

/// On the last tool, the system, and our last messages: blocks of the model stay as they came.
fn set_breakpoints(body: &mut Value) {
    let last_of = |list: &mut Value| {
        if let Some(last) = list.as_array_mut().and_then(|list| list.last_mut()) {
            last["cache_control"] = breakpoint();
        }
    };
    for part in ["tools", "system"] {
        body.get_mut(part).map(last_of);
    }
    let messages = body["messages"].as_array_mut().into_iter().flatten().rev();
    messages
        .filter(|message| message["role"] == "user")
        .take(MESSAGE_BREAKPOINTS)
        .for_each(|message| last_of(&mut message["content"]));
}

fn breakpoint() -> Value {
    json!({ "type": "ephemeral" })
}

fn tools(tools: &[ToolDefinition]) -> Value {
    tools
        .iter()
        .map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input_schema,
            })
        })
        .collect()
}

/// Thinking is asked for only with an effort, except from models that think in any case: they would otherwise hide
/// even what they say between tool calls.
fn set_thinking(body: &mut Value, thinking: Option<Thinking>, request: &Request) {
    let adaptive = json!({ "type": "adaptive", "display": "summarized" });
    match (thinking.unwrap_or(Thinking::Adaptive), request.effort) {
        (Thinking::Always, effort) => {
            body["thinking"] = adaptive;
            if let Some(effort) = effort {
                body["output_config"] = json!({ "effort": effort });
            }
        }
        (Thinking::Adaptive, Some(effort)) => {
            body["thinking"] = adaptive;
            body["output_config"] = json!({ "effort": effort });
        }
        // The API refuses it where the open tool calls were made without thinking, by another model.
        (Thinking::Budget, Some(_)) if has_calls_without_thinking(&request.messages) => {}
        (Thinking::Budget, Some(effort)) => {
            if let Some(budget) = budget(effort, request.max_output_tokens) {
                body["thinking"] = json!({ "type": "enabled", "budget_tokens": budget });
            }
        }
        (Thinking::Adaptive | Thinking::Budget, None) | (Thinking::None, _) => {}
    }
}

fn has_calls_without_thinking(messages: &[Message]) -> bool {
    let open = messages.iter().rev().take_while(|message| !matches!(message, Message::User { .. }));
    let answers = open.filter_map(|message| match message {
        Message::Assistant { raw, .. } => Some(raw),
        Message::User { .. } | Message::ToolResults { .. } => None,
    });
    let is_thought = |item: &Value| matches!(item["type"].as_str(), Some("thinking" | "redacted_thinking"));
    answers.into_iter().any(|raw| raw.as_ref().is_none_or(|raw| !raw.items.iter().any(is_thought)))
}

/// At most half of the output, since the answer comes out of the same limit.
fn budget(effort: Effort, max_output_tokens: u32) -> Option<u32> {
    let wanted = match effort {
        Effort::Minimal => 1_024,
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        Effort::High => 24_576,
        Effort::Xhigh | Effort::Max => 49_152,
    };
    let budget = wanted.min(max_output_tokens / 2);
    (budget >= BUDGET_MINIMUM).then_some(budget)
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text, images } => {
            // The provider's advice: pictures before the words about them.
            let blocks: Vec<Value> = images.iter().map(image).chain([text_block(text)]).collect();
            json!({ "role": "user", "content": blocks })
        }
        Message::Assistant { content, raw } => {
            json!({ "role": "assistant", "content": assistant_blocks(content, raw.as_ref()) })
        }
        Message::ToolResults { results } => {
            let blocks: Vec<Value> = results.iter().map(tool_result).collect();
            json!({ "role": "user", "content": blocks })
        }
    }
}

fn image(image: &Image) -> Value {
    let source = json!({ "type": "base64", "media_type": image.media_type, "data": &*image.data });
    json!({ "type": "image", "source": source })
}

/// The API refuses empty texts.
fn text_block(text: &str) -> Value {
    let text = if text.trim().is_empty() { "(empty)" } else { text };
    json!({ "type": "text", "text": text })
}

fn assistant_blocks(content: &[Content], raw: Option<&RawItems>) -> Vec<Value> {
    let mut blocks: Vec<Value> = match raw {
        Some(raw) if raw.format == FORMAT => raw.items.clone(),
        _ => content.iter().filter_map(normalised_block).collect(),
    };
    let ends_badly = blocks
        .last()
        .is_none_or(|block| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")));
    if ends_badly {
        // An answer that was cut off while thinking; the API takes neither none nor thinking as the last block.
        blocks.push(json!({ "type": "text", "text": "(cut off)" }));
    }
    blocks
}

/// Thinking of other providers has no signature and is left out.
fn normalised_block(content: &Content) -> Option<Value> {
    match content {
        Content::Text { text } if text.trim().is_empty() => None,
        Content::Text { text } => Some(text_block(text)),
        Content::Thinking { .. } => None,
        Content::ToolCall(call) => Some(json!({
            "type": "tool_use",
            "id": id(&call.id),
            "name": call.name,
            "input": replayable_input(&call.input),
        })),
    }
}

fn tool_result(result: &ToolResult) -> Value {
    let mut block = json!({ "type": "tool_result", "tool_use_id": id(&result.call), "content": result.text });
    if result.is_error {
        block["is_error"] = json!(true);
    }
    block
}

/// Ids of other providers may hold characters that this API refuses; its own ids pass unchanged.
fn id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::message::ToolCall;

    fn facts(thinking: Option<Thinking>) -> ModelFacts {
        ModelFacts { thinking, ..ModelFacts::unknown(crate::ProviderKind::Anthropic) }
    }

    fn request(messages: Vec<Message>, effort: Option<Effort>) -> Request {
        Request {
            system: "be good".into(),
            tools: ["read", "bash"]
                .map(|name| ToolDefinition {
                    name: name.into(),
                    description: "does".into(),
                    input_schema: json!({"type": "object"}),
                })
                .to_vec(),
            messages,
            max_output_tokens: 8_000,
            effort,
            cache_key: "s1".into(),
        }
    }

    fn user(text: &str) -> Message {
        Message::user(text)
    }

    #[test]
    fn breakpoints_are_on_the_last_tool_the_system_and_our_last_two_messages() {
        let call = ToolCall { id: "a:1".into(), name: "bash".into(), input: json!("{bad") };
        let results = vec![ToolResult { call: "a:1".into(), text: "no".into(), is_error: true }];
        let body = encode(
            "m",
            &facts(Some(Thinking::None)),
            &request(
                vec![
                    user("one"),
                    user("two"),
                    Message::Assistant { content: vec![Content::ToolCall(call)], raw: None },
                    Message::ToolResults { results },
                ],
                None,
            ),
        );
        assert_eq!(body["tools"][0].get("cache_control"), None);
        assert_eq!(body["tools"][1]["cache_control"], breakpoint());
        assert_eq!(body["system"][0]["cache_control"], breakpoint());
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": [{"type": "text", "text": "one"}]},
                {"role": "user", "content": [{"type": "text", "text": "two", "cache_control": breakpoint()}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "a_1", "name": "bash", "input": {"malformed_json": "{bad"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a_1", "content": "no", "is_error": true,
                     "cache_control": breakpoint()}]},
            ])
        );
        assert_eq!(body.get("thinking"), None);
    }

    #[test]
    fn a_picture_is_sent_before_the_words_about_it() {
        let image = greenroom_domain::message::Image { media_type: "image/png".into(), data: "AAAA".into() };
        let said = Message::User { text: "what is this?".into(), images: vec![image] };
        let body = encode("m", &facts(Some(Thinking::None)), &request(vec![said], None));
        let source = json!({"type": "base64", "media_type": "image/png", "data": "AAAA"});
        assert_eq!(
            body["messages"][0]["content"],
            json!([
                {"type": "image", "source": source},
                {"type": "text", "text": "what is this?", "cache_control": breakpoint()},
            ])
        );
    }

    #[test]
    fn thinking_follows_the_model_and_the_effort() {
        let body = |thinking, effort| encode("m", &facts(thinking), &request(vec![user("x")], effort));
        let adaptive = json!({"type": "adaptive", "display": "summarized"});
        let always = body(Some(Thinking::Always), None);
        assert_eq!((&always["thinking"], always.get("output_config")), (&adaptive, None));
        let some = body(Some(Thinking::Adaptive), Some(Effort::Low));
        assert_eq!((&some["thinking"], &some["output_config"]), (&adaptive, &json!({"effort": "low"})));
        assert_eq!(body(None, None).get("thinking"), None);
        let budget = body(Some(Thinking::Budget), Some(Effort::High));
        assert_eq!(budget["thinking"], json!({"type": "enabled", "budget_tokens": 4_000}));
    }

    #[test]
    fn a_model_that_does_not_cache_gets_no_breakpoints() {
        let facts = ModelFacts { cache: false, ..facts(None) };
        let body = encode("m", &facts, &request(vec![user("x")], None)).to_string();
        assert!(!body.contains("cache_control"), "{body}");
    }

    #[test]
    fn a_budget_is_not_given_in_the_middle_of_calls_that_another_model_made() {
        let call = ToolCall { id: "a".into(), name: "bash".into(), input: json!({}) };
        let results = vec![ToolResult { call: "a".into(), text: "ok".into(), is_error: false }];
        let body = |raw: Option<RawItems>| {
            let asked = vec![
                user("x"),
                Message::Assistant { content: vec![Content::ToolCall(call.clone())], raw },
                Message::ToolResults { results: results.clone() },
            ];
            encode("m", &facts(Some(Thinking::Budget)), &request(asked, Some(Effort::High)))
        };
        assert_eq!(body(None).get("thinking"), None);
        let items = vec![json!({"type": "thinking", "signature": "s"}), json!({"type": "tool_use"})];
        let own = RawItems { format: FORMAT.into(), items, model: None };
        assert!(body(Some(own)).get("thinking").is_some());
    }

    #[test]
    fn an_answer_cut_off_while_thinking_can_be_sent_back() {
        let items = vec![json!({"type": "thinking", "thinking": "h", "signature": "s"})];
        let raw = RawItems { format: FORMAT.into(), items: items.clone(), model: None };
        let blocks = assistant_blocks(&[], Some(&raw));
        assert_eq!(blocks[0], items[0]);
        assert_eq!(blocks[1]["text"], "(cut off)");
        let foreign = RawItems { format: "openai_chat".into(), items, model: None };
        let text = Content::Text { text: "hello".into() };
        assert_eq!(assistant_blocks(&[text], Some(&foreign)), [json!({"type": "text", "text": "hello"})]);
    }
}
