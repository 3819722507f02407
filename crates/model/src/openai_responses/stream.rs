//! The events of one streamed response. Pure. Finished output items are taken from `response.output_item.done`; what
//! was begun and never finished is not kept.

use super::FORMAT;
use crate::assembly::{Assembly, Place, is_complete};
use crate::exchange::{Decoder, json};
use crate::provider::{Delta, Error, Response};
use crate::refusal::Refusal;
use crate::sse::Event;
use greenroom_domain::message::{RawItems, StopReason};
use greenroom_domain::money::Usage;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct ResponseDecoder {
    has_started: bool,
    /// By `output_index`.
    items: BTreeMap<u64, Item>,
    assembly: Assembly,
    has_refused: bool,
}

#[derive(Default)]
struct Item {
    /// The position of each of its texts, by `content_index` or `summary_index`.
    texts: BTreeMap<u64, Place>,
    call: Place,
    done: Option<Value>,
}

impl Decoder for ResponseDecoder {
    fn accept(&mut self, event: &Event, deltas: &mut Vec<Delta>) -> Result<Option<Response>, Error> {
        if event.data == "[DONE]" {
            return Ok(None);
        }
        let data = json(event)?;
        match data["type"].as_str().unwrap_or(event.name.as_str()) {
            "response.created" if std::mem::replace(&mut self.has_started, true) => {
                return Err(broken("it began twice"));
            }
            "response.output_item.added" => self.add_item(&data, deltas)?,
            "response.output_text.delta" => self.add_text(&data, deltas),
            "response.refusal.delta" => {
                self.has_refused = true;
                self.add_text(&data, deltas);
            }
            "response.reasoning_summary_text.delta" => self.add_thinking(&data, "summary_index", deltas),
            "response.reasoning_text.delta" => self.add_thinking(&data, "content_index", deltas),
            "response.function_call_arguments.delta" => self.add_arguments(&data),
            "response.output_item.done" => self.finish_item(&data, deltas)?,
            "response.completed" | "response.incomplete" => {
                return self.finish(&data["response"], deltas).map(Some);
            }
            "response.failed" => return Err(Refusal::from_value(&data["response"]).into_stream_error()),
            "error" => return Err(Refusal::from_value(&data).into_stream_error()),
            _ => {}
        }
        Ok(None)
    }
}

fn broken(reason: &str) -> Error {
    Error::Broken { reason: reason.to_owned() }
}

fn delta_text(data: &Value) -> &str {
    data["delta"].as_str().unwrap_or_default()
}

impl ResponseDecoder {
    fn item(&mut self, data: &Value) -> &mut Item {
        self.items.entry(data["output_index"].as_u64().unwrap_or(0)).or_default()
    }

    fn add_item(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        let item = &data["item"];
        if item["type"] != "function_call" {
            self.item(data);
            return Ok(());
        }
        let (Some(id), Some(name)) = (item["call_id"].as_str(), item["name"].as_str()) else {
            return Err(broken("a tool call has no id or name"));
        };
        if self.item(data).call.is_none() {
            let index = self.assembly.call(id, name, deltas);
            self.item(data).call = Some(index);
        }
        Ok(())
    }

    fn add_text(&mut self, data: &Value, deltas: &mut Vec<Delta>) {
        let part = data["content_index"].as_u64().unwrap_or(0);
        let mut place = self.item(data).texts.get(&part).copied().flatten();
        self.assembly.text(&mut place, delta_text(data), deltas);
        self.item(data).texts.insert(part, place);
    }

    fn add_thinking(&mut self, data: &Value, index: &str, deltas: &mut Vec<Delta>) {
        let part = data[index].as_u64().unwrap_or(0);
        let mut place = self.item(data).texts.get(&part).copied().flatten();
        self.assembly.thinking(&mut place, delta_text(data), deltas);
        self.item(data).texts.insert(part, place);
    }

    fn add_arguments(&mut self, data: &Value) {
        if let Some(index) = self.item(data).call {
            self.assembly.call_json(index, delta_text(data));
        }
    }

    /// The finished item holds everything; it fills in what no delta brought.
    fn finish_item(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<(), Error> {
        self.add_item(data, deltas)?;
        let raw = data["item"].clone();
        if let (Some(index), Some(arguments)) = (self.item(data).call, raw["arguments"].as_str()) {
            self.assembly.set_call_json(index, arguments);
        }
        if raw["type"] == "message" {
            self.fill_in_texts(data, &raw, deltas);
        }
        self.item(data).done = Some(raw);
        Ok(())
    }

    fn fill_in_texts(&mut self, data: &Value, raw: &Value, deltas: &mut Vec<Delta>) {
        for (part, content) in (0..).zip(raw["content"].as_array().into_iter().flatten()) {
            self.has_refused |= content["type"] == "refusal";
            let whole = content["text"].as_str().or(content["refusal"].as_str()).unwrap_or_default();
            let mut place = self.item(data).texts.get(&part).copied().flatten();
            if place.is_none() {
                self.assembly.text(&mut place, whole, deltas);
                self.item(data).texts.insert(part, place);
            }
        }
    }

    fn finish(&mut self, response: &Value, deltas: &mut Vec<Delta>) -> Result<Response, Error> {
        // Some compatible servers only send the final list.
        if self.items.is_empty() {
            for (index, item) in (0..).zip(response["output"].as_array().into_iter().flatten()) {
                let data = serde_json::json!({ "output_index": index, "item": item });
                self.finish_item(&data, deltas)?;
            }
        }
        let incomplete = response["incomplete_details"]["reason"].as_str();
        self.drop_unfinished_calls(incomplete.is_some());
        let stop_reason = match incomplete {
            Some("max_output_tokens") => StopReason::MaxTokens,
            Some("content_filter") => StopReason::Refusal,
            Some(_) => StopReason::Other,
            None if response["status"] == "incomplete" => StopReason::Other,
            None if self.assembly.has_calls() => StopReason::ToolUse,
            None if self.has_refused => StopReason::Refusal,
            None => StopReason::EndTurn,
        };
        let items = std::mem::take(&mut self.items).into_values().filter_map(|item| item.done).collect();
        Ok(Response {
            content: std::mem::take(&mut self.assembly).into_content(),
            raw: Some(RawItems { format: FORMAT.to_owned(), items, model: None }),
            stop_reason,
            usage: usage(&response["usage"]),
        })
    }

    fn drop_unfinished_calls(&mut self, is_incomplete: bool) {
        for item in self.items.values_mut() {
            let Some(index) = item.call else { continue };
            let was_cut = item.done.as_ref().is_none_or(|raw| {
                raw["status"] == "incomplete"
                    || is_incomplete && !is_complete(self.assembly.written_json(index))
            });
            if was_cut {
                self.assembly.drop_call(index);
                item.done = None;
            }
        }
    }
}

/// `input_tokens` counts cached ones too; ours do not.
fn usage(usage: &Value) -> Usage {
    let details = &usage["input_tokens_details"];
    let read = details["cached_tokens"].as_u64().unwrap_or(0);
    let written = details["cache_write_tokens"].as_u64().unwrap_or(0);
    Usage {
        input_tokens: usage["input_tokens"].as_u64().unwrap_or(0).saturating_sub(read + written),
        output_tokens: usage["output_tokens"].as_u64().unwrap_or(0),
        cache_read_tokens: read,
        cache_write_tokens: written,
        ..Usage::default()
    }
}
