//! Events of the Responses API.

use super::{Piece, PieceKind, fragments, words};
use crate::testing::script::{Say, Turn};
use greenroom_domain::message::StopReason;
use serde_json::{Value, json};

struct Writer {
    pieces: Vec<Piece>,
    output: Vec<Value>,
}

impl Writer {
    fn event(&mut self, kind: PieceKind, name: &str, mut data: Value) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.pieces.len());
        self.pieces.push(Piece::new(kind, Some(name), &data));
    }

    /// Begins an item, writes its deltas, finishes it.
    fn item(&mut self, begun: &Value, done: Value, deltas: Vec<(PieceKind, &str, Value)>) {
        let index = self.output.len();
        let added = json!({ "output_index": index, "item": begun });
        self.event(PieceKind::Other, "response.output_item.added", added);
        for (kind, name, mut data) in deltas {
            data["output_index"] = json!(index);
            data["item_id"] = begun["id"].clone();
            self.event(kind, name, data);
        }
        let finished = json!({ "output_index": index, "item": done });
        self.event(PieceKind::Other, "response.output_item.done", finished);
        self.output.push(done);
    }
}

pub(super) fn pieces(model: &str, turn: &Turn) -> Vec<Piece> {
    let mut writer = Writer { pieces: Vec::new(), output: Vec::new() };
    let begun = json!({ "id": "resp_1", "object": "response", "status": "in_progress", "model": model,
        "output": [], "usage": null, "error": null, "incomplete_details": null });
    writer.event(PieceKind::Start, "response.created", json!({ "response": begun }));
    writer.event(PieceKind::Other, "response.in_progress", json!({ "response": begun }));
    for (index, say) in turn.says.iter().enumerate() {
        item(&mut writer, turn, index, say);
    }
    let mut response = begun;
    response["output"] = json!(writer.output);
    response["usage"] = usage(turn);
    let is_incomplete = turn.stop_reason() == StopReason::MaxTokens;
    let name = if is_incomplete { "response.incomplete" } else { "response.completed" };
    if is_incomplete {
        response["status"] = json!("incomplete");
        response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    } else {
        response["status"] = json!("completed");
    }
    writer.event(PieceKind::Final, name, json!({ "response": response }));
    writer.pieces
}

fn usage(turn: &Turn) -> Value {
    let tokens = turn.tokens;
    let input = tokens.input + tokens.cache_read + tokens.cache_write;
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_write },
        "output_tokens": tokens.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": input + tokens.output,
    })
}

fn item(writer: &mut Writer, turn: &Turn, index: usize, say: &Say) {
    match say {
        Say::Text(text) => message(writer, turn, index, text),
        Say::Thinking { text, signature } => reasoning(writer, index, text, signature),
        Say::RedactedThinking(data) => reasoning(writer, index, "", data),
        Say::Call { id, name, arguments } => {
            let written = turn.written_arguments(index, arguments);
            let is_cut = written.len() < arguments.len();
            let item = |arguments: &str, status: &str| {
                json!({ "id": format!("fc_{index}"), "type": "function_call", "status": status,
                    "call_id": id, "name": name, "arguments": arguments })
            };
            let deltas = fragments(written).into_iter().map(|fragment| {
                (PieceKind::CallJson, "response.function_call_arguments.delta", json!({ "delta": fragment }))
            });
            let status = if is_cut { "incomplete" } else { "completed" };
            writer.item(&item("", "in_progress"), item(written, status), deltas.collect());
        }
    }
}

fn message(writer: &mut Writer, turn: &Turn, index: usize, text: &str) {
    let is_refusal = turn.stop_reason() == StopReason::Refusal;
    let item = |content: Value, status: &str| {
        json!({ "id": format!("msg_{index}"), "type": "message", "status": status, "role": "assistant",
            "content": content })
    };
    let (part, name) = if is_refusal {
        (json!({ "type": "refusal", "refusal": text }), "response.refusal.delta")
    } else {
        let part = json!({ "type": "output_text", "text": text, "annotations": [] });
        (part, "response.output_text.delta")
    };
    let deltas = words(text)
        .into_iter()
        .map(|word| (PieceKind::Text, name, json!({ "content_index": 0, "delta": word })));
    writer.item(&item(json!([]), "in_progress"), item(json!([part]), "completed"), deltas.collect());
}

fn reasoning(writer: &mut Writer, index: usize, text: &str, encrypted: &str) {
    let item = |summary: Value| {
        json!({ "id": format!("rs_{index}"), "type": "reasoning", "summary": summary,
            "encrypted_content": encrypted })
    };
    let deltas = words(text).into_iter().map(|word| {
        let data = json!({ "summary_index": 0, "delta": word });
        (PieceKind::Other, "response.reasoning_summary_text.delta", data)
    });
    let summary = if text.is_empty() { json!([]) } else { json!([{ "type": "summary_text", "text": text }]) };
    writer.item(&item(json!([])), item(summary), deltas.collect());
}
