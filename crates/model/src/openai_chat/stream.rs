//! The chunks of one streamed completion, in the many ways servers write them. Pure.

use super::FORMAT;
use crate::assembly::{Assembly, CallIds, Place, input_of, is_complete, replayable_input};
use crate::exchange::{Decoder, json};
use crate::provider::{Delta, Error, Response};
use crate::refusal::Refusal;
use crate::sse::Event;
use greenroom_domain::message::{RawItems, StopReason};
use greenroom_domain::money::Usage;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Where servers put thinking: DeepSeek and older vLLM, then OpenRouter, Ollama and newer vLLM.
const THINKING_KEYS: [&str; 2] = ["reasoning_content", "reasoning"];

#[derive(Default)]
pub(crate) struct ChatDecoder {
    ids: CallIds,
    /// The completion's id, which makes ids for calls that have none.
    id: String,
    assembly: Assembly,
    text_place: Place,
    thinking_place: Place,
    text: String,
    thinking: Option<(&'static str, String)>,
    /// OpenRouter's thinking, which it wants back as it was.
    details: Vec<Value>,
    calls: Vec<Call>,
    finish_reason: Option<String>,
    has_refused: bool,
    usage: Usage,
}

struct Call {
    /// The server's `index`.
    number: u64,
    /// As the server wrote it; ours can differ.
    given_id: String,
    id: String,
    name: String,
    index: usize,
}

impl ChatDecoder {
    /// Some servers repeat ids of calls; `used_ids` are those of the conversation so far.
    pub(super) fn new(used_ids: HashSet<String>) -> Self {
        Self { ids: CallIds::after(used_ids), ..Self::default() }
    }
}

impl Decoder for ChatDecoder {
    fn accept(&mut self, event: &Event, deltas: &mut Vec<Delta>) -> Result<Option<Response>, Error> {
        if event.data.trim() == "[DONE]" {
            return self.end().map(Some);
        }
        let data = json(event)?;
        if data.get("error").is_some_and(|error| !error.is_null()) || event.name == "error" {
            return Err(Refusal::from_value(&data).into_stream_error());
        }
        if let (true, Some(id)) = (self.id.is_empty(), data["id"].as_str()) {
            id.clone_into(&mut self.id);
        }
        if data["usage"].is_object() {
            self.usage = usage(&data["usage"]);
        }
        let choice = &data["choices"][0];
        self.add(&choice["delta"], deltas)?;
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(None)
    }

    /// Servers that leave out `[DONE]` are complete with their finish reason.
    fn end(&mut self) -> Result<Response, Error> {
        let reason = self
            .finish_reason
            .take()
            .ok_or_else(|| Error::Broken { reason: "it ended before it was complete".to_owned() })?;
        if reason == "length" {
            self.drop_cut_off_call();
        }
        let stop_reason = match reason.as_str() {
            "length" => StopReason::MaxTokens,
            "content_filter" => StopReason::Refusal,
            _ if self.has_refused => StopReason::Refusal,
            _ if self.assembly.has_calls() => StopReason::ToolUse,
            "stop" | "eos" | "tool_calls" | "function_call" => StopReason::EndTurn,
            _ => StopReason::Other,
        };
        let items = vec![self.raw_message()];
        Ok(Response {
            content: std::mem::take(&mut self.assembly).into_content(),
            raw: Some(RawItems { format: FORMAT.to_owned(), items, model: None }),
            stop_reason,
            usage: self.usage,
        })
    }
}

impl ChatDecoder {
    fn add(&mut self, delta: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        for key in THINKING_KEYS {
            let Some(piece) = delta[key].as_str().filter(|piece| !piece.is_empty()) else { continue };
            let (kept, text) = self.thinking.get_or_insert_with(|| (key, String::new()));
            // Servers that fill in both fields say the same twice.
            if *kept == key {
                text.push_str(piece);
                self.assembly.thinking(&mut self.thinking_place, piece, deltas);
            }
        }
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            add_detail(&mut self.details, detail);
        }
        let text = text_of(&delta["content"]);
        self.text.push_str(&text);
        self.assembly.text(&mut self.text_place, &text, deltas);
        if let Some(piece) = delta["refusal"].as_str().filter(|piece| !piece.is_empty()) {
            self.has_refused = true;
            self.text.push_str(piece);
            self.assembly.text(&mut self.text_place, piece, deltas);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.add_call(call, deltas)?;
        }
        Ok(())
    }

    fn add_call(&mut self, piece: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        let given_id = piece["id"].as_str().unwrap_or_default();
        let name = piece["function"]["name"].as_str().unwrap_or_default();
        let number = piece["index"].as_u64();
        let known = self.calls.iter().rposition(|call| {
            number.is_none_or(|number| call.number == number)
                && (given_id.is_empty() || call.given_id == given_id || call.given_id.is_empty())
                && (number.is_some() || name.is_empty())
        });
        let position = match known {
            Some(position) => position,
            None if name.is_empty() => {
                return Err(Error::Broken { reason: "a tool call has no name".to_owned() });
            }
            None => self.begin_call(number, given_id, name, deltas),
        };
        let index = self.calls[position].index;
        match &piece["function"]["arguments"] {
            Value::String(text) => self.assembly.call_json(index, text),
            Value::Object(object) => {
                self.assembly.set_call_json(index, &Value::Object(object.clone()).to_string());
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_call(
        &mut self,
        number: Option<u64>,
        given_id: &str,
        name: &str,
        deltas: &mut Vec<Delta>,
    ) -> usize {
        let id = self.ids.unique(given_id, &self.id);
        let index = self.assembly.call(&id, name, deltas);
        let number = number.unwrap_or(self.calls.len() as u64);
        self.calls.push(Call { number, given_id: given_id.to_owned(), id, name: name.to_owned(), index });
        self.calls.len() - 1
    }

    fn drop_cut_off_call(&mut self) {
        if let Some(last) = self.calls.last()
            && !is_complete(self.assembly.written_json(last.index))
        {
            self.assembly.drop_call(last.index);
            self.calls.pop();
        }
    }

    /// The message as the server would write it unstreamed. Arguments that are no JSON are wrapped: many servers parse
    /// them when they come back.
    fn raw_message(&self) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.text });
        if let Some((key, text)) = &self.thinking {
            message[*key] = json!(text);
        }
        if !self.details.is_empty() {
            message["reasoning_details"] = json!(self.details);
        }
        let calls: Vec<Value> = self.calls.iter().map(|call| self.raw_call(call)).collect();
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        message
    }

    fn raw_call(&self, call: &Call) -> Value {
        let written = self.assembly.written_json(call.index);
        let arguments = if is_complete(written) {
            written.to_owned()
        } else {
            replayable_input(&input_of(written)).to_string()
        };
        let function = json!({ "name": call.name, "arguments": arguments });
        json!({ "id": call.id, "type": "function", "function": function })
    }
}

/// A detail comes in pieces of the same `index` and type; its signature comes with the last one.
fn add_detail(details: &mut Vec<Value>, piece: &Value) {
    let is_same = |known: &&mut Value| known["index"] == piece["index"] && known["type"] == piece["type"];
    let Some(known) = details.last_mut().filter(is_same) else { return details.push(piece.clone()) };
    let (Some(known), Some(piece)) = (known.as_object_mut(), piece.as_object()) else { return };
    for (key, value) in piece {
        match (known.get_mut(key), value) {
            (Some(Value::String(text)), Value::String(more))
                if matches!(key.as_str(), "text" | "summary" | "data") =>
            {
                text.push_str(more);
            }
            (_, Value::Null) => {}
            _ => drop(known.insert(key.clone(), value.clone())),
        }
    }
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// `prompt_tokens` counts cached ones too; ours do not.
fn usage(usage: &Value) -> Usage {
    let details = &usage["prompt_tokens_details"];
    let read = details["cached_tokens"].as_u64().or(usage["prompt_cache_hit_tokens"].as_u64()).unwrap_or(0);
    let written = details["cache_write_tokens"].as_u64().unwrap_or(0);
    Usage {
        input_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0).saturating_sub(read + written),
        output_tokens: usage["completion_tokens"].as_u64().unwrap_or(0),
        cache_read_tokens: read,
        cache_write_tokens: written,
        // Where the server says it (OpenRouter), in US dollars.
        cost_microusd: usage["cost"].as_f64().map_or(0, |cost| (cost * 1e6).ceil().clamp(0.0, 1e12) as u64),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::message::{Content, ToolCall};

    fn decode(chunks: &[Value]) -> Response {
        let mut decoder = ChatDecoder::new(HashSet::from(["old".to_owned()]));
        for chunk in chunks {
            let event = Event { name: String::new(), data: chunk.to_string() };
            assert_eq!(decoder.accept(&event, &mut Vec::new()).unwrap(), None);
        }
        decoder.end().unwrap()
    }

    fn chunk(delta: &Value) -> Value {
        json!({"id": "x1", "choices": [{"index": 0, "delta": delta}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"delta": {}, "finish_reason": reason}]})
    }

    fn call(id: &str, name: &str, input: Value) -> Content {
        Content::ToolCall(ToolCall { id: id.into(), name: name.into(), input })
    }

    #[test]
    fn interleaved_calls_are_put_together_by_index() {
        let response = decode(&[
            chunk(
                &json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
            ),
            chunk(
                &json!({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
            ),
            chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":1}"}}]})),
            finish("tool_calls"),
        ]);
        assert_eq!(response.content, [call("a", "f", json!({"x": 1})), call("b", "g", json!({}))]);
        assert_eq!(response.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn ids_that_are_missing_or_were_used_are_replaced() {
        let response = decode(&[
            chunk(
                &json!({"tool_calls": [{"index": 0, "id": "old", "function": {"name": "f", "arguments": "{}"}}]}),
            ),
            chunk(
                &json!({"tool_calls": [{"index": 0, "id": "new", "function": {"name": "g", "arguments": {"y": 2}}}]}),
            ),
            chunk(&json!({"tool_calls": [{"function": {"name": "h", "arguments": "{}"}}]})),
            finish("stop"),
        ]);
        assert_eq!(
            response.content,
            [
                call("old_1", "f", json!({})),
                call("new", "g", json!({"y": 2})),
                call("call_x1_1", "h", json!({}))
            ]
        );
        let raw = &response.raw.unwrap().items[0];
        assert_eq!(raw["tool_calls"][0]["id"], "old_1");
        assert_eq!(response.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn thinking_fields_usage_and_part_lists_of_compatible_servers_are_understood() {
        let response = decode(&[
            chunk(&json!({"role": "assistant", "reasoning_content": "hm", "reasoning": "hm"})),
            chunk(&json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})),
            finish("stop"),
            json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4}}}),
        ]);
        assert_eq!(
            response.content,
            [Content::Thinking { text: "hm".into() }, Content::Text { text: "ab".into() }]
        );
        let raw = response.raw.unwrap();
        assert_eq!(raw.items, [json!({"role": "assistant", "content": "ab", "reasoning_content": "hm"})]);
        assert_eq!((response.usage.input_tokens, response.usage.cache_read_tokens), (6, 4));
    }
}
