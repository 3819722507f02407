//! The chunks of one streamed answer. Pure. Calls come whole; an answer is complete with its finish reason, and ends with
//! its bytes.

use super::FORMAT;
use crate::assembly::{Assembly, CallIds, Place, replayable_input};
use crate::exchange::{Decoder, json};
use crate::provider::{Delta, Error, Response};
use crate::refusal::Refusal;
use crate::sse::Event;
use greenroom_domain::message::{RawItems, StopReason};
use greenroom_domain::money::Usage;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

#[derive(Default)]
pub(crate) struct PartDecoder {
    ids: CallIds,
    /// The answer's id, which makes ids for calls that have none.
    id: String,
    assembly: Assembly,
    /// The place of the text or thought that is being said.
    place: Place,
    is_thinking: bool,
    parts: Vec<Value>,
    finish_reason: Option<String>,
    usage: Usage,
}

impl PartDecoder {
    pub(super) fn new(used_ids: HashSet<String>) -> Self {
        Self { ids: CallIds::after(used_ids), ..Self::default() }
    }
}

impl Decoder for PartDecoder {
    fn accept(&mut self, event: &Event, deltas: &mut Vec<Delta>) -> Result<Option<Response>, Error> {
        let data = json(event)?;
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Refusal::from_value(&data).into_stream_error());
        }
        if let (true, Some(id)) = (self.id.is_empty(), data["responseId"].as_str()) {
            id.clone_into(&mut self.id);
        }
        if data["usageMetadata"].is_object() {
            self.usage = usage(&data["usageMetadata"]);
        }
        if let Some(reason) = data["promptFeedback"]["blockReason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
            let words = format!("The provider refused the prompt ({reason}).");
            self.assembly.text(&mut None, &words, deltas);
        }
        let candidate = &data["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.add(part, deltas)?;
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Response, Error> {
        let broken = |reason: &str| Error::Broken { reason: reason.to_owned() };
        let reason = self.finish_reason.take().ok_or_else(|| broken("it ended before it was complete"))?;
        let stop_reason = match reason.as_str() {
            "MAX_TOKENS" => StopReason::MaxTokens,
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => {
                return Err(broken("the model wrote a tool call that cannot be read"));
            }
            "STOP" if self.assembly.has_calls() => StopReason::ToolUse,
            "STOP" => StopReason::EndTurn,
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY"
            | "LANGUAGE" => StopReason::Refusal,
            // Of a prompt.
            "OTHER" if self.parts.is_empty() => StopReason::Refusal,
            _ => StopReason::Other,
        };
        let items = std::mem::take(&mut self.parts);
        Ok(Response {
            content: std::mem::take(&mut self.assembly).into_content(),
            raw: Some(RawItems { format: FORMAT.to_owned(), items, model: None }),
            stop_reason,
            usage: self.usage,
        })
    }
}

impl PartDecoder {
    fn add(&mut self, part: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        let Some(fields) = part.as_object() else {
            return Err(Error::Broken { reason: "a part is no object".to_owned() });
        };
        if let Some(call) = fields.get("functionCall") {
            self.add_call(call, deltas)?;
        } else if let Some(text) = part["text"].as_str() {
            let is_thinking = part["thought"] == true;
            if is_thinking != std::mem::replace(&mut self.is_thinking, is_thinking) {
                self.place = None;
            }
            if is_thinking {
                self.assembly.thinking(&mut self.place, text, deltas);
            } else {
                self.assembly.text(&mut self.place, text, deltas);
            }
        }
        self.keep(part, fields);
        Ok(())
    }

    fn add_call(&mut self, call: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        let Some(name) = call["name"].as_str().filter(|name| !name.is_empty()) else {
            return Err(Error::Broken { reason: "a tool call has no name".to_owned() });
        };
        let id = self.ids.unique(call["id"].as_str().unwrap_or_default(), &self.id);
        let index = self.assembly.call(&id, name, deltas);
        let arguments = match call.get("args") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(written)) => written.clone(),
            Some(args) => args.to_string(),
        };
        self.assembly.set_call_json(index, &arguments);
        self.place = None;
        Ok(())
    }

    /// Pieces of one text become one part again; whatever is signed stays as it came.
    fn keep(&mut self, part: &Value, fields: &Map<String, Value>) {
        let is_plain = |fields: &Map<String, Value>| {
            fields.keys().all(|key| key == "text" || key == "thought") && fields.contains_key("text")
        };
        let last = self.parts.last_mut().and_then(Value::as_object_mut);
        if let Some(last) = last.filter(|last| is_plain(last) && is_plain(fields))
            && last.get("thought") == fields.get("thought")
            && let (Some(Value::String(text)), Some(more)) = (last.get_mut("text"), part["text"].as_str())
        {
            text.push_str(more);
            return;
        }
        // Empty and unsigned: nothing to send back.
        if !(is_plain(fields) && part["text"] == json!("")) {
            let mut part = part.clone();
            if let Some(args) = part.pointer_mut("/functionCall/args").filter(|args| !args.is_null()) {
                *args = replayable_input(args);
            }
            self.parts.push(part);
        }
    }
}

/// `promptTokenCount` counts cached ones too; ours do not. Thoughts are paid as output.
fn usage(usage: &Value) -> Usage {
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    let read = count("cachedContentTokenCount");
    let prompt = count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount"));
    Usage {
        input_tokens: prompt.saturating_sub(read),
        output_tokens: count("candidatesTokenCount").saturating_add(count("thoughtsTokenCount")),
        cache_read_tokens: read,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::message::{Content, ToolCall};

    fn decode(chunks: &[Value]) -> Result<Response, Error> {
        let mut decoder = PartDecoder::new(HashSet::from(["g1".to_owned()]));
        for chunk in chunks {
            let event = Event { name: String::new(), data: chunk.to_string() };
            assert_eq!(decoder.accept(&event, &mut Vec::new())?, None);
        }
        decoder.end()
    }

    fn chunk(parts: &Value) -> Value {
        json!({"candidates": [{"content": {"role": "model", "parts": parts}}], "responseId": "r"})
    }

    fn finish(reason: &str) -> Value {
        json!({"candidates": [{"finishReason": reason}], "usageMetadata": {"promptTokenCount": 10,
            "cachedContentTokenCount": 4, "candidatesTokenCount": 3, "thoughtsTokenCount": 5}})
    }

    #[test]
    fn thoughts_words_and_signed_calls_keep_their_parts() {
        let signed = json!({"functionCall": {"name": "bash", "args": {"x": 1}}, "thoughtSignature": "c2ln"});
        let again = json!({"functionCall": {"id": "g1", "name": "read"}});
        let response = decode(&[
            chunk(&json!([{"text": "let ", "thought": true}])),
            chunk(&json!([{"text": "me see", "thought": true}, {"text": "Look"}])),
            chunk(&json!([{"text": "ing"}, {"text": ""}, {"text": "", "thoughtSignature": "ZW5k"}])),
            chunk(&json!([signed, again])),
            finish("STOP"),
        ])
        .unwrap();
        let call = |id: &str, name: &str, input: Value| {
            Content::ToolCall(ToolCall { id: id.into(), name: name.into(), input })
        };
        assert_eq!(
            response.content,
            [
                Content::Thinking { text: "let me see".into() },
                Content::Text { text: "Looking".into() },
                call("call_r_1", "bash", json!({"x": 1})),
                call("g1_1", "read", json!({})),
            ]
        );
        assert_eq!(
            response.raw.unwrap().items,
            [
                json!({"text": "let me see", "thought": true}),
                json!({"text": "Looking"}),
                json!({"text": "", "thoughtSignature": "ZW5k"}),
                signed,
                again,
            ]
        );
        assert_eq!(response.stop_reason, StopReason::ToolUse);
        let usage = response.usage;
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (6, 8, 4));
    }

    #[test]
    fn a_blocked_prompt_is_a_refusal_with_words_and_a_malformed_call_is_broken() {
        let blocked = decode(&[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})]).unwrap();
        assert_eq!(blocked.stop_reason, StopReason::Refusal);
        assert!(matches!(&blocked.content[0], Content::Text { text } if text.contains("PROHIBITED_CONTENT")));
        let malformed = decode(&[chunk(&json!([])), finish("MALFORMED_FUNCTION_CALL")]).unwrap_err();
        assert!(matches!(malformed, Error::Broken { .. }));
    }
}
