//! Chunks of Chat Completions.

use super::{Piece, PieceKind, fragments, words};
use crate::testing::script::{Say, Turn};
use greenroom_domain::message::StopReason;
use serde_json::{Value, json};

pub(super) fn pieces(model: &str, turn: &Turn) -> Vec<Piece> {
    let chunk = |kind: PieceKind, delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        Piece::new(kind, None, &envelope(model, &json!([choice]), &Value::Null))
    };
    let mut pieces =
        vec![chunk(PieceKind::Start, json!({ "role": "assistant", "content": "" }), Value::Null)];
    let mut calls = 0;
    for (index, say) in turn.says.iter().enumerate() {
        for (kind, delta) in deltas(turn, index, say, &mut calls) {
            pieces.push(chunk(kind, delta, Value::Null));
        }
    }
    pieces.push(chunk(PieceKind::Final, json!({}), json!(finish_reason(turn.stop_reason()))));
    pieces.push(Piece::new(PieceKind::Final, None, &envelope(model, &json!([]), &usage(turn))));
    pieces.push(Piece { kind: PieceKind::Final, bytes: "data: [DONE]\n\n".to_owned() });
    pieces
}

fn envelope(model: &str, choices: &Value, usage: &Value) -> Value {
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model,
        "choices": choices, "usage": usage })
}

fn deltas(turn: &Turn, index: usize, say: &Say, calls: &mut usize) -> Vec<(PieceKind, Value)> {
    match say {
        Say::Text(text) => {
            words(text).into_iter().map(|word| (PieceKind::Text, json!({ "content": word }))).collect()
        }
        Say::Thinking { text, .. } => words(text)
            .into_iter()
            .map(|word| (PieceKind::Other, json!({ "reasoning_content": word })))
            .collect(),
        Say::RedactedThinking(_) => Vec::new(),
        Say::Call { id, name, arguments } => {
            let number = *calls;
            *calls += 1;
            let begin = json!({ "index": number, "id": id, "type": "function",
                "function": { "name": name, "arguments": "" } });
            let written = fragments(turn.written_arguments(index, arguments)).into_iter().map(|fragment| {
                let piece = json!({ "index": number, "function": { "arguments": fragment } });
                (PieceKind::CallJson, json!({ "tool_calls": [piece] }))
            });
            std::iter::once((PieceKind::Other, json!({ "tool_calls": [begin] }))).chain(written).collect()
        }
    }
}

fn usage(turn: &Turn) -> Value {
    let tokens = turn.tokens;
    let prompt = tokens.input + tokens.cache_read + tokens.cache_write;
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": tokens.output,
        "total_tokens": prompt + tokens.output,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_write },
    });
    if let Some(cost) = turn.cost_usd {
        usage["cost"] = json!(cost);
    }
    usage
}

fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn | StopReason::Pause => "stop",
        StopReason::ToolUse => "tool_calls",
        StopReason::MaxTokens => "length",
        StopReason::Refusal => "content_filter",
        StopReason::Other => "something_new",
    }
}
