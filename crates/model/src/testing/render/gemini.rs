//! Chunks of `streamGenerateContent`.

use super::{Piece, PieceKind, words};
use crate::testing::script::{Fault, Say, Turn};
use greenroom_domain::message::StopReason;
use serde_json::{Value, json};

pub(super) fn pieces(model: &str, turn: &Turn) -> Vec<Piece> {
    let chunk = |kind: PieceKind, candidate: Value| {
        let data = json!({ "candidates": [candidate], "modelVersion": model, "responseId": "gem-1" });
        Piece::new(kind, None, &data)
    };
    let said = |kind: PieceKind, part: Value| {
        chunk(kind, json!({ "content": { "role": "model", "parts": [part] }, "index": 0 }))
    };
    let mut pieces = vec![chunk(
        PieceKind::Start,
        json!({ "content": { "role": "model", "parts": [{ "text": "" }] }, "index": 0 }),
    )];
    let mut pending = None;
    for (index, say) in turn.says.iter().enumerate() {
        for (kind, part) in parts(turn, index, say, &mut pending) {
            pieces.push(said(kind, part));
        }
    }
    let mut last = json!({ "index": 0, "finishReason": finish_reason(turn.stop_reason()) });
    if let Some(signature) = pending {
        last["content"] =
            json!({ "role": "model", "parts": [{ "text": "", "thoughtSignature": signature }] });
    }
    let data = json!({ "candidates": [last], "usageMetadata": usage(turn), "responseId": "gem-1" });
    pieces.push(Piece::new(PieceKind::Final, None, &data));
    pieces
}

/// A signature is on the call that follows the thought, or comes at the end.
fn parts(turn: &Turn, index: usize, say: &Say, pending: &mut Option<String>) -> Vec<(PieceKind, Value)> {
    match say {
        Say::Text(text) => {
            words(text).into_iter().map(|word| (PieceKind::Text, json!({ "text": word }))).collect()
        }
        Say::Thinking { text, signature } => {
            *pending = Some(signature.clone());
            words(text)
                .into_iter()
                .map(|word| (PieceKind::Other, json!({ "text": word, "thought": true })))
                .collect()
        }
        Say::RedactedThinking(data) => {
            vec![(PieceKind::Other, json!({ "text": "", "thoughtSignature": data }))]
        }
        // A call comes whole or not at all.
        Say::Call { .. } if is_cut(turn, index) => vec![],
        Say::Call { id, name, arguments } => {
            let args: Value =
                serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(arguments.clone()));
            let mut part = json!({ "functionCall": { "id": id, "name": name, "args": args } });
            if let Some(signature) = pending.take() {
                part["thoughtSignature"] = json!(signature);
            }
            vec![(PieceKind::CallJson, part)]
        }
    }
}

fn is_cut(turn: &Turn, index: usize) -> bool {
    turn.fault == Some(Fault::MaxTokensInCall) && index + 1 == turn.says.len()
}

fn usage(turn: &Turn) -> Value {
    let tokens = turn.tokens;
    json!({
        // There is no writing of the cache that is paid for.
        "promptTokenCount": tokens.input + tokens.cache_read,
        "cachedContentTokenCount": tokens.cache_read,
        "candidatesTokenCount": tokens.output,
        "totalTokenCount": tokens.input + tokens.cache_read + tokens.output,
    })
}

fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Pause => "STOP",
        StopReason::MaxTokens => "MAX_TOKENS",
        StopReason::Refusal => "SAFETY",
        StopReason::Other => "SOMETHING_NEW",
    }
}
