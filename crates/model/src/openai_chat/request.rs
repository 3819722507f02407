//! A request's body.

use super::{Dialect, FORMAT};
use crate::assembly::{data_url, replayable_input};
use crate::provider::{Request, ToolDefinition};
use greenroom_domain::message::{Content, Message};
use serde_json::{Value, json};

pub(super) fn encode(model: &str, dialect: Dialect, request: &Request) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    messages.extend(request.messages.iter().flat_map(encode_message));
    let mut body = json!({
        "model": model,
        "stream": true,
        "stream_options": { "include_usage": true },
        "messages": messages,
    });
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(effort) = request.effort {
        match dialect {
            Dialect::Openrouter => body["reasoning"] = json!({ "effort": effort }),
            Dialect::Openai | Dialect::Compatible => body["reasoning_effort"] = json!(effort),
        }
    }
    if dialect == Dialect::Openrouter {
        body["usage"] = json!({ "include": true });
    }
    match dialect {
        Dialect::Openai => {
            body["max_completion_tokens"] = json!(request.max_output_tokens);
            body["prompt_cache_key"] = json!(request.cache_key.chars().take(64).collect::<String>());
        }
        Dialect::Compatible | Dialect::Openrouter => body["max_tokens"] = json!(request.max_output_tokens),
    }
    body
}

fn tool(tool: &ToolDefinition) -> Value {
    let function =
        json!({ "name": tool.name, "description": tool.description, "parameters": tool.input_schema });
    json!({ "type": "function", "function": function })
}

fn encode_message(message: &Message) -> Vec<Value> {
    match message {
        Message::User { text, images } if images.is_empty() => {
            vec![json!({ "role": "user", "content": text })]
        }
        Message::User { text, images } => {
            let shown = |image| json!({ "type": "image_url", "image_url": { "url": data_url(image) } });
            let words = json!({ "type": "text", "text": text });
            let content: Vec<Value> = images.iter().map(shown).chain([words]).collect();
            vec![json!({ "role": "user", "content": content })]
        }
        Message::Assistant { raw: Some(raw), .. } if raw.format == FORMAT => raw.items.clone(),
        Message::Assistant { content, .. } => vec![assistant(content)],
        Message::ToolResults { results } => results
            .iter()
            .map(|result| json!({ "role": "tool", "tool_call_id": result.call, "content": result.text }))
            .collect(),
    }
}

/// The normalised form of an answer, also used where the server's own form is put together from its pieces.
fn assistant(content: &[Content]) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in content {
        match part {
            Content::Text { text: piece } if text.is_empty() => text.push_str(piece),
            Content::Text { text: piece } => {
                text.push('\n');
                text.push_str(piece);
            }
            Content::Thinking { .. } => {}
            Content::ToolCall(call) => {
                let arguments = replayable_input(&call.input).to_string();
                calls.push(json!({
                    "id": call.id,
                    "type": "function",
                    "function": { "name": call.name, "arguments": arguments },
                }));
            }
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::Effort;
    use greenroom_domain::message::{ToolCall, ToolResult};

    #[test]
    fn a_picture_is_sent_before_the_words_about_it() {
        let image = greenroom_domain::message::Image { media_type: "image/png".into(), data: "AAAA".into() };
        let said = Message::User { text: "what is this?".into(), images: vec![image] };
        let sent = encode_message(&said);
        assert_eq!(
            sent[0]["content"],
            json!([
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "what is this?"},
            ])
        );
    }

    #[test]
    fn the_conversation_and_the_limits_are_written_as_the_server_expects() {
        let call = ToolCall { id: "c1".into(), name: "bash".into(), input: json!("{oops") };
        let results = vec![
            ToolResult { call: "c1".into(), text: "one".into(), is_error: true },
            ToolResult { call: "c2".into(), text: "two".into(), is_error: false },
        ];
        let request = Request {
            system: "be good".into(),
            tools: vec![],
            messages: vec![
                Message::user("go"),
                Message::Assistant {
                    content: vec![
                        Content::Thinking { text: "hm".into() },
                        Content::Text { text: "Look".into() },
                        Content::ToolCall(call),
                    ],
                    raw: None,
                },
                Message::ToolResults { results },
            ],
            max_output_tokens: 77,
            effort: Some(Effort::Low),
            cache_key: "s".into(),
        };
        let body = encode("m", Dialect::Compatible, &request);
        assert_eq!(
            body["messages"],
            json!([
                {"role": "system", "content": "be good"},
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": "Look", "tool_calls": [{"id": "c1", "type": "function",
                    "function": {"name": "bash", "arguments": "{\"malformed_json\":\"{oops\"}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "one"},
                {"role": "tool", "tool_call_id": "c2", "content": "two"},
            ])
        );
        assert_eq!((&body["max_tokens"], &body["reasoning_effort"]), (&json!(77), &json!("low")));
        assert_eq!(body.get("prompt_cache_key"), None);
        let body = encode("m", Dialect::Openai, &request);
        assert_eq!((body.get("max_tokens"), &body["max_completion_tokens"]), (None, &json!(77)));
    }
}
