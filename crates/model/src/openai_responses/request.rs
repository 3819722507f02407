//! A request's body: instructions, tools and the conversation as a list of items that only grows.

use super::FORMAT;
use crate::assembly::{data_url, replayable_input};
use crate::catalog::Thinking;
use crate::provider::{Request, ToolDefinition};
use greenroom_domain::message::{Content, Message, RawItems, ToolCall};
use serde_json::{Value, json};

/// What the API allows for `prompt_cache_key`.
const CACHE_KEY_LIMIT: usize = 64;

pub(super) fn encode(model: &str, thinking: Option<Thinking>, request: &Request) -> Value {
    let mut body = json!({
        "model": model,
        "stream": true,
        "store": false,
        "max_output_tokens": request.max_output_tokens,
        "prompt_cache_key": request.cache_key.chars().take(CACHE_KEY_LIMIT).collect::<String>(),
        "input": request.messages.iter().flat_map(items).collect::<Vec<_>>(),
    });
    if !request.system.is_empty() {
        body["instructions"] = json!(request.system);
    }
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
        body["parallel_tool_calls"] = json!(true);
    }
    // Models that do not reason refuse both.
    if thinking != Some(Thinking::None) {
        body["include"] = json!(["reasoning.encrypted_content"]);
        if let Some(effort) = request.effort {
            body["reasoning"] = json!({ "effort": effort, "summary": "auto" });
        }
    }
    body
}

fn tool(tool: &ToolDefinition) -> Value {
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        "strict": false,
    })
}

fn items(message: &Message) -> Vec<Value> {
    match message {
        Message::User { text, images } => {
            let words = json!({ "type": "input_text", "text": text });
            let images =
                images.iter().map(|image| json!({ "type": "input_image", "image_url": data_url(image) }));
            let content: Vec<Value> = images.chain([words]).collect();
            vec![json!({ "type": "message", "role": "user", "content": content })]
        }
        Message::Assistant { raw: Some(raw), .. } if raw.format == FORMAT => replayed(raw),
        Message::Assistant { content, .. } => content.iter().filter_map(normalised_item).collect(),
        Message::ToolResults { results } => results
            .iter()
            .map(|result| {
                json!({ "type": "function_call_output", "call_id": result.call, "output": result.text })
            })
            .collect(),
    }
}

/// Reasoning that was cut off before anything followed it is refused by the API.
fn replayed(raw: &RawItems) -> Vec<Value> {
    let is_kept = |item: &Value| item["type"] != "reasoning";
    let end = raw.items.iter().rposition(is_kept).map_or(0, |last| last + 1);
    raw.items[..end].to_vec()
}

fn normalised_item(content: &Content) -> Option<Value> {
    match content {
        Content::Text { text } if text.is_empty() => None,
        Content::Text { text } => {
            let content = json!([{ "type": "output_text", "text": text }]);
            Some(json!({ "type": "message", "role": "assistant", "content": content }))
        }
        Content::Thinking { .. } => None,
        Content::ToolCall(call) => Some(json!({
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments(call),
        })),
    }
}

fn arguments(call: &ToolCall) -> String {
    replayable_input(&call.input).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::Effort;
    use greenroom_domain::message::ToolResult;

    fn request(messages: Vec<Message>) -> Request {
        Request {
            system: "be good".into(),
            tools: vec![],
            messages,
            max_output_tokens: 100,
            effort: Some(Effort::High),
            cache_key: "k".repeat(80),
        }
    }

    #[test]
    fn a_picture_is_sent_before_the_words_about_it() {
        let image = greenroom_domain::message::Image { media_type: "image/png".into(), data: "AAAA".into() };
        let said = Message::User { text: "what is this?".into(), images: vec![image] };
        let body = encode("m", None, &request(vec![said]));
        assert_eq!(
            body["input"][0]["content"],
            json!([
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_text", "text": "what is this?"},
            ])
        );
    }

    #[test]
    fn the_conversation_becomes_a_flat_list_of_items() {
        let call = ToolCall { id: "c1".into(), name: "bash".into(), input: json!({"command": "ls"}) };
        let content = vec![
            Content::Thinking { text: "hm".into() },
            Content::Text { text: "Look".into() },
            Content::ToolCall(call),
        ];
        let results = vec![ToolResult { call: "c1".into(), text: "a".into(), is_error: false }];
        let body = encode(
            "m",
            None,
            &request(vec![
                Message::user("go"),
                Message::Assistant { content, raw: None },
                Message::ToolResults { results },
            ]),
        );
        assert_eq!(
            body["input"],
            json!([
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look"}]},
                {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{\"command\":\"ls\"}"},
                {"type": "function_call_output", "call_id": "c1", "output": "a"},
            ])
        );
        assert_eq!(body["store"], json!(false));
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!(body["reasoning"]["effort"], "high");
        assert_eq!(body["prompt_cache_key"].as_str().unwrap().len(), CACHE_KEY_LIMIT);
    }

    #[test]
    fn reasoning_that_nothing_follows_is_not_sent_back() {
        let items = vec![json!({"type": "message"}), json!({"type": "reasoning"})];
        let raw = RawItems { format: FORMAT.into(), items, model: None };
        assert_eq!(replayed(&raw), [json!({"type": "message"})]);
    }

    #[test]
    fn a_model_that_does_not_reason_is_not_asked_to() {
        let body = encode("gpt-4.1", Some(Thinking::None), &request(vec![]));
        assert_eq!((body.get("include"), body.get("reasoning")), (None, None));
    }
}
