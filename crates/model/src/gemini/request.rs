//! A request's body; the model is in the path.

use crate::assembly::replayable_input;
use crate::catalog::Thinking;
use crate::provider::{Request, ToolDefinition};
use greenroom_domain::Effort;
use greenroom_domain::message::{Content, Image, Message, RawItems, ToolCall, ToolResult};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What the API takes in place of a signature on a call that another model made.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

pub(super) fn encode(thinking: Option<Thinking>, request: &Request) -> Value {
    let mut body = json!({
        "contents": contents(&request.messages),
        "generationConfig": { "maxOutputTokens": request.max_output_tokens },
    });
    if !request.system.is_empty() {
        body["systemInstruction"] = json!({ "parts": [{ "text": request.system }] });
    }
    if !request.tools.is_empty() {
        let declarations: Vec<Value> = request.tools.iter().map(tool).collect();
        body["tools"] = json!([{ "functionDeclarations": declarations }]);
    }
    if let Some(config) = thinking_config(thinking, request) {
        body["generationConfig"]["thinkingConfig"] = config;
    }
    body
}

fn tool(tool: &ToolDefinition) -> Value {
    json!({
        "name": tool.name,
        "description": tool.description,
        "parametersJsonSchema": tool.input_schema,
    })
}

/// Models that do not think refuse the whole config: one that nobody knows gets it only with an effort.
fn thinking_config(thinking: Option<Thinking>, request: &Request) -> Option<Value> {
    match (thinking, request.effort) {
        (Some(Thinking::None), _) | (None, None) => None,
        (Some(Thinking::Budget), Some(effort)) => {
            let budget = budget(effort).min(request.max_output_tokens / 2);
            Some(json!({ "includeThoughts": true, "thinkingBudget": budget }))
        }
        (_, Some(effort)) => Some(json!({ "includeThoughts": true, "thinkingLevel": effort })),
        (Some(_), None) => Some(json!({ "includeThoughts": true })),
    }
}

/// Within what both 2.5 models take.
fn budget(effort: Effort) -> u32 {
    match effort {
        Effort::Minimal => 512,
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        Effort::High | Effort::Xhigh | Effort::Max => 24_576,
    }
}

/// A call's name, and its id where the API gave it one: a result names both.
type Calls<'a> = HashMap<&'a str, (&'a str, Option<&'a str>)>;

fn contents(messages: &[Message]) -> Vec<Value> {
    let mut calls = Calls::new();
    messages
        .iter()
        .map(|message| match message {
            Message::User { text, images } => {
                let parts: Vec<Value> = images.iter().map(inline).chain([json!({ "text": text })]).collect();
                json!({ "role": "user", "parts": parts })
            }
            Message::Assistant { content, raw } => {
                note_calls(content, raw.as_ref(), &mut calls);
                json!({ "role": "model", "parts": parts(content, raw.as_ref()) })
            }
            Message::ToolResults { results } => {
                let parts: Vec<Value> = results.iter().map(|result| response(result, &calls)).collect();
                json!({ "role": "user", "parts": parts })
            }
        })
        .collect()
}

fn inline(image: &Image) -> Value {
    json!({ "inlineData": { "mimeType": image.media_type, "data": &*image.data } })
}

fn note_calls<'a>(content: &'a [Content], raw: Option<&'a RawItems>, calls: &mut Calls<'a>) {
    let mut given = raw.into_iter().flat_map(|raw| &raw.items).filter_map(|part| part.get("functionCall"));
    for part in content {
        let Content::ToolCall(call) = part else { continue };
        let id = given.next().and_then(|call| call["id"].as_str());
        calls.insert(&call.id, (&call.name, id));
    }
}

/// Thoughts without a signature are for people.
fn parts(content: &[Content], raw: Option<&RawItems>) -> Vec<Value> {
    let is_kept = |part: &&Value| part["thought"] != true || part.get("thoughtSignature").is_some();
    let mut parts: Vec<Value> = match raw {
        Some(raw) => raw.items.iter().filter(is_kept).cloned().collect(),
        None => normalised(content),
    };
    if parts.is_empty() {
        // An answer that was cut off while thinking; the API takes none without a part.
        parts.push(json!({ "text": "(cut off)" }));
    }
    parts
}

fn normalised(content: &[Content]) -> Vec<Value> {
    let mut is_first = true;
    let mut part_of = |part: &Content| match part {
        Content::Text { text } if text.is_empty() => None,
        Content::Text { text } => Some(json!({ "text": text })),
        Content::Thinking { .. } => None,
        Content::ToolCall(call) => Some(foreign_call(call, std::mem::replace(&mut is_first, false))),
    };
    content.iter().filter_map(&mut part_of).collect()
}

/// Of calls that were made together the first one is signed.
fn foreign_call(call: &ToolCall, is_first: bool) -> Value {
    let mut part = json!({ "functionCall": { "id": call.id, "name": call.name, "args": replayable_input(&call.input) } });
    if is_first {
        part["thoughtSignature"] = json!(FOREIGN_SIGNATURE);
    }
    part
}

fn response(result: &ToolResult, calls: &Calls<'_>) -> Value {
    let (name, id) = calls.get(result.call.as_str()).copied().unwrap_or(("unknown", None));
    let key = if result.is_error { "error" } else { "output" };
    let mut response = json!({ "name": name, "response": { key: result.text } });
    if let Some(id) = id {
        response["id"] = json!(id);
    }
    json!({ "functionResponse": response })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: Vec<Message>, effort: Option<Effort>) -> Request {
        Request {
            system: "be good".into(),
            tools: vec![],
            messages,
            max_output_tokens: 10_000,
            effort,
            cache_key: "s".into(),
        }
    }

    #[test]
    fn a_picture_is_sent_before_the_words_about_it() {
        let image = Image { media_type: "image/png".into(), data: "AAAA".into() };
        let said = Message::User { text: "what is this?".into(), images: vec![image] };
        let body = encode(None, &request(vec![said], None));
        let picture = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
        assert_eq!(body["contents"][0]["parts"], json!([picture, {"text": "what is this?"}]));
        assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "be good"}]}));
    }

    #[test]
    fn thinking_follows_the_model_and_the_effort() {
        let config = |thinking, effort| {
            let body = encode(thinking, &request(vec![], effort));
            body["generationConfig"].get("thinkingConfig").cloned()
        };
        assert_eq!(config(None, None), None);
        assert_eq!(config(Some(Thinking::None), Some(Effort::High)), None);
        assert_eq!(config(Some(Thinking::Always), None), Some(json!({"includeThoughts": true})));
        let level = json!({"includeThoughts": true, "thinkingLevel": "low"});
        assert_eq!(config(Some(Thinking::Always), Some(Effort::Low)), Some(level));
        let tokens = json!({"includeThoughts": true, "thinkingBudget": 5_000});
        assert_eq!(config(Some(Thinking::Budget), Some(Effort::High)), Some(tokens));
    }

    #[test]
    fn signatures_go_back_on_their_parts_and_results_name_their_calls() {
        let call = |id: &str, name: &str| {
            Content::ToolCall(ToolCall { id: id.into(), name: name.into(), input: json!({"a": 1}) })
        };
        let items = vec![
            json!({"text": "hm", "thought": true}),
            json!({"functionCall": {"id": "g1", "name": "bash", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
            json!({"functionCall": {"name": "read", "args": {"a": 1}}}),
        ];
        let raw = RawItems { format: super::super::FORMAT.into(), items: items.clone(), model: None };
        let results = ["g1", "call_x_1", "old"].map(|id| ToolResult {
            call: id.into(),
            text: "out".into(),
            is_error: id == "old",
        });
        let asked = vec![
            Message::Assistant {
                content: vec![call("g1", "bash"), call("call_x_1", "read")],
                raw: Some(raw),
            },
            Message::ToolResults { results: results[..2].to_vec() },
            Message::Assistant { content: vec![call("old", "bash"), call("old2", "bash")], raw: None },
            Message::ToolResults { results: results[2..].to_vec() },
        ];
        let body = encode(None, &request(asked, None));
        let contents = &body["contents"];
        assert_eq!(contents[0], json!({"role": "model", "parts": items[1..]}));
        assert_eq!(
            contents[1]["parts"],
            json!([
                {"functionResponse": {"id": "g1", "name": "bash", "response": {"output": "out"}}},
                {"functionResponse": {"name": "read", "response": {"output": "out"}}},
            ])
        );
        assert_eq!(contents[2]["parts"][0]["thoughtSignature"], FOREIGN_SIGNATURE);
        assert_eq!(contents[2]["parts"][1].get("thoughtSignature"), None);
        assert_eq!(contents[3]["parts"][0]["functionResponse"]["response"], json!({"error": "out"}));
    }
}
