//! Events of the Messages API.

use super::{Piece, PieceKind, fragments, words};
use crate::testing::script::{Say, Turn};
use greenroom_domain::message::StopReason;
use serde_json::{Value, json};

fn piece(kind: PieceKind, data: &Value) -> Piece {
    Piece::new(kind, data["type"].as_str(), data)
}

pub(super) fn pieces(model: &str, turn: &Turn) -> Vec<Piece> {
    let tokens = turn.tokens;
    let usage = json!({
        "input_tokens": tokens.input,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": tokens.cache_write,
        "output_tokens": 1,
    });
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let mut pieces = vec![
        piece(PieceKind::Start, &json!({ "type": "message_start", "message": message })),
        piece(PieceKind::Other, &json!({ "type": "ping" })),
    ];
    for (index, say) in turn.says.iter().enumerate() {
        block(&mut pieces, turn, index, say);
    }
    let delta = json!({ "stop_reason": stop_reason(turn.stop_reason()), "stop_sequence": null });
    let usage = json!({ "output_tokens": tokens.output });
    pieces.push(piece(PieceKind::Final, &json!({ "type": "message_delta", "delta": delta, "usage": usage })));
    pieces.push(piece(PieceKind::Final, &json!({ "type": "message_stop" })));
    pieces
}

fn block(pieces: &mut Vec<Piece>, turn: &Turn, index: usize, say: &Say) {
    let mut start = |block: Value| {
        let data = json!({ "type": "content_block_start", "index": index, "content_block": block });
        pieces.push(piece(PieceKind::Other, &data));
    };
    let delta = |kind: PieceKind, delta: Value| {
        piece(kind, &json!({ "type": "content_block_delta", "index": index, "delta": delta }))
    };
    match say {
        Say::Text(text) => {
            start(json!({ "type": "text", "text": "" }));
            let text = words(text).into_iter();
            pieces.extend(
                text.map(|word| delta(PieceKind::Text, json!({ "type": "text_delta", "text": word }))),
            );
        }
        Say::Thinking { text, signature } => {
            start(json!({ "type": "thinking", "thinking": "", "signature": "" }));
            pieces.extend(
                words(text).into_iter().map(|word| {
                    delta(PieceKind::Other, json!({ "type": "thinking_delta", "thinking": word }))
                }),
            );
            let signed = json!({ "type": "signature_delta", "signature": signature });
            pieces.push(delta(PieceKind::Other, signed));
        }
        Say::RedactedThinking(data) => start(json!({ "type": "redacted_thinking", "data": data })),
        Say::Call { id, name, arguments } => {
            start(json!({ "type": "tool_use", "id": id, "name": name, "input": {} }));
            let written = turn.written_arguments(index, arguments);
            let fragments = std::iter::once(String::new()).chain(fragments(written));
            pieces.extend(fragments.map(|fragment| {
                let fragment = json!({ "type": "input_json_delta", "partial_json": fragment });
                delta(PieceKind::CallJson, fragment)
            }));
        }
    }
    pieces.push(piece(PieceKind::Other, &json!({ "type": "content_block_stop", "index": index })));
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn => "end_turn",
        StopReason::ToolUse => "tool_use",
        StopReason::MaxTokens => "max_tokens",
        StopReason::Refusal => "refusal",
        StopReason::Pause => "pause_turn",
        StopReason::Other => "something_new",
    }
}
