//! The events of one streamed message. Pure.

use super::FORMAT;
use crate::assembly::{Assembly, Place, input_of, is_complete, replayable_input};
use crate::exchange::{Decoder, json};
use crate::provider::{Delta, Error, Response};
use crate::refusal::Refusal;
use crate::sse::Event;
use greenroom_domain::message::{RawItems, StopReason};
use greenroom_domain::money::Usage;
use serde_json::Value;

#[derive(Default)]
pub(crate) struct MessageDecoder {
    has_started: bool,
    blocks: Vec<Block>,
    assembly: Assembly,
    usage: Usage,
    stop_reason: Option<String>,
    /// Why the model refused, where the provider says so.
    explanation: Option<String>,
}

struct Block {
    /// The block as it will be sent back.
    raw: Value,
    place: Place,
}

impl Decoder for MessageDecoder {
    fn accept(&mut self, event: &Event, deltas: &mut Vec<Delta>) -> Result<Option<Response>, Error> {
        let data = json(event)?;
        match data["type"].as_str().unwrap_or(event.name.as_str()) {
            "message_start" => self.start(&data)?,
            "content_block_start" => self.start_block(&data, deltas)?,
            "content_block_delta" => self.extend_block(&data, deltas)?,
            "message_delta" => self.update(&data),
            "message_stop" => return self.finish(deltas).map(Some),
            "error" => return Err(Refusal::from_value(&data).into_stream_error()),
            // `ping`, `content_block_stop` and what may be invented later.
            _ => {}
        }
        Ok(None)
    }
}

fn broken(reason: &str) -> Error {
    Error::Broken { reason: reason.to_owned() }
}

impl MessageDecoder {
    fn start(&mut self, data: &Value) -> Result<(), Error> {
        if std::mem::replace(&mut self.has_started, true) {
            return Err(broken("it began twice"));
        }
        self.count(&data["message"]["usage"]);
        Ok(())
    }

    fn start_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        if !self.has_started || data["index"].as_u64() != Some(self.blocks.len() as u64) {
            return Err(broken("its parts are out of order"));
        }
        let raw = data["content_block"].clone();
        let mut place = None;
        match raw["type"].as_str() {
            Some("text") => {
                self.assembly.text(&mut place, raw["text"].as_str().unwrap_or_default(), deltas);
            }
            Some("thinking") => {
                self.assembly.thinking(&mut place, raw["thinking"].as_str().unwrap_or_default(), deltas);
            }
            Some("tool_use") => {
                let (Some(id), Some(name)) = (raw["id"].as_str(), raw["name"].as_str()) else {
                    return Err(broken("a tool call has no id or name"));
                };
                let index = self.assembly.call(id, name, deltas);
                if raw["input"].as_object().is_some_and(|input| !input.is_empty()) {
                    self.assembly.set_call_json(index, &raw["input"].to_string());
                }
                place = Some(index);
            }
            // Redacted thinking and other blocks are only carried along.
            Some(_) => {}
            None => return Err(broken("a part has no type")),
        }
        self.blocks.push(Block { raw, place });
        Ok(())
    }

    fn extend_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        let block = data["index"]
            .as_u64()
            .and_then(|index| self.blocks.get_mut(usize::try_from(index).ok()?))
            .ok_or_else(|| broken("its parts are out of order"))?;
        let delta = &data["delta"];
        let piece = |key: &str| delta[key].as_str().unwrap_or_default();
        match delta["type"].as_str() {
            Some("text_delta") => {
                append(&mut block.raw, "text", piece("text"));
                self.assembly.text(&mut block.place, piece("text"), deltas);
            }
            Some("thinking_delta") => {
                append(&mut block.raw, "thinking", piece("thinking"));
                self.assembly.thinking(&mut block.place, piece("thinking"), deltas);
            }
            Some("signature_delta") => append(&mut block.raw, "signature", piece("signature")),
            Some("input_json_delta") => {
                if let Some(index) = block.place {
                    self.assembly.call_json(index, piece("partial_json"));
                }
            }
            Some("citations_delta") => append_item(&mut block.raw, "citations", &delta["citation"]),
            _ => {}
        }
        Ok(())
    }

    fn update(&mut self, data: &Value) {
        self.count(&data["usage"]);
        let delta = &data["delta"];
        if let Some(reason) = delta["stop_reason"].as_str() {
            self.stop_reason = Some(reason.to_owned());
        }
        if let Some(text) = delta["stop_details"]["explanation"].as_str() {
            self.explanation = Some(text.to_owned());
        }
    }

    /// Counts are totals; later ones replace earlier ones.
    fn count(&mut self, usage: &Value) {
        let read = |key: &str, into: &mut u64| {
            if let Some(tokens) = usage[key].as_u64() {
                *into = tokens;
            }
        };
        read("input_tokens", &mut self.usage.input_tokens);
        read("output_tokens", &mut self.usage.output_tokens);
        read("cache_read_input_tokens", &mut self.usage.cache_read_tokens);
        read("cache_creation_input_tokens", &mut self.usage.cache_write_tokens);
    }

    fn finish(&mut self, deltas: &mut Vec<Delta>) -> Result<Response, Error> {
        let reason = self.stop_reason.take().ok_or_else(|| broken("it has no stop reason"))?;
        let stop_reason = match reason.as_str() {
            "end_turn" | "stop_sequence" => StopReason::EndTurn,
            "tool_use" => StopReason::ToolUse,
            "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
            "refusal" => StopReason::Refusal,
            "pause_turn" => StopReason::Pause,
            _ => StopReason::Other,
        };
        if stop_reason == StopReason::MaxTokens {
            self.drop_cut_off_call();
        }
        if let (StopReason::Refusal, false, Some(text)) =
            (stop_reason, self.assembly.has_text(), self.explanation.take())
        {
            self.assembly.text(&mut None, &text, deltas);
        }
        let items = self.raw_items();
        Ok(Response {
            content: std::mem::take(&mut self.assembly).into_content(),
            raw: Some(RawItems { format: FORMAT.to_owned(), items, model: None }),
            stop_reason,
            usage: self.usage,
        })
    }

    /// The last block is the one that the limit hit.
    fn drop_cut_off_call(&mut self) {
        let Some(Block { raw, place: Some(index) }) = self.blocks.last() else { return };
        if raw["type"] == "tool_use" && !is_complete(self.assembly.written_json(*index)) {
            self.assembly.drop_call(*index);
            self.blocks.pop();
        }
    }

    fn raw_items(&mut self) -> Vec<Value> {
        let assembly = &self.assembly;
        let finished = std::mem::take(&mut self.blocks).into_iter().map(|mut block| {
            if let (true, Some(index)) = (block.raw["type"] == "tool_use", block.place) {
                block.raw["input"] = replayable_input(&input_of(assembly.written_json(index)));
            }
            block.raw
        });
        // The API refuses empty texts when they come back.
        finished.filter(|raw| !(raw["type"] == "text" && raw["text"] == "")).collect()
    }
}

fn append(raw: &mut Value, key: &str, piece: &str) {
    match &mut raw[key] {
        Value::String(text) => text.push_str(piece),
        missing => *missing = Value::String(piece.to_owned()),
    }
}

fn append_item(raw: &mut Value, key: &str, item: &Value) {
    match &mut raw[key] {
        Value::Array(items) => items.push(item.clone()),
        missing => *missing = Value::Array(vec![item.clone()]),
    }
}
