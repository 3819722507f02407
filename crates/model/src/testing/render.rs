//! Turns a script into a protocol's events, then spoils them as the fault says.

mod anthropic;
mod chat;
mod gemini;
mod responses;

use super::script::{Fault, Turn};
use crate::config::ProviderKind;
use serde_json::{Value, json};

/// One event's bytes and what it is, so that faults find their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: PieceKind,
    pub(crate) bytes: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Start,
    Text,
    CallJson,
    Final,
    Other,
}

/// How the connection behaves after the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    Abort,
    Hang,
    /// The last piece is repeated for as long as anybody reads.
    Repeat,
}

impl Piece {
    /// `event:` is left out where the protocol has none.
    fn new(kind: PieceKind, event: Option<&str>, data: &Value) -> Self {
        let name = event.map(|event| format!("event: {event}\n")).unwrap_or_default();
        Self { kind, bytes: format!("{name}data: {data}\n\n") }
    }
}

pub(crate) fn render(protocol: ProviderKind, model: &str, turn: &Turn) -> (Vec<Piece>, Ending) {
    let mut pieces = match protocol {
        ProviderKind::Anthropic => anthropic::pieces(model, turn),
        ProviderKind::Openai => responses::pieces(model, turn),
        ProviderKind::OpenaiChat | ProviderKind::Openrouter | ProviderKind::Ollama => {
            chat::pieces(model, turn)
        }
        ProviderKind::Gemini => gemini::pieces(model, turn),
    };
    let ending = turn.fault.as_ref().map_or(Ending::Close, |fault| spoil(&mut pieces, protocol, fault));
    (pieces, ending)
}

fn spoil(pieces: &mut Vec<Piece>, protocol: ProviderKind, fault: &Fault) -> Ending {
    match fault {
        Fault::CutInText => keep_half(pieces, PieceKind::Text),
        Fault::CutInCall => keep_half(pieces, PieceKind::CallJson),
        Fault::NoFinalEvent => {
            pieces.retain(|piece| piece.kind != PieceKind::Final);
            Ending::Close
        }
        Fault::BrokenEventJson => {
            let bytes = &mut pieces[1].bytes;
            bytes.truncate(bytes.len() / 2);
            bytes.push_str("\n\n");
            Ending::Hang
        }
        Fault::DuplicateStart => {
            pieces.insert(1, pieces[0].clone());
            Ending::Close
        }
        Fault::ErrorEvent { kind, message } => {
            let end = last_of_first(pieces, PieceKind::Text, 1);
            pieces.truncate(end);
            pieces.push(error_event(protocol, kind, message));
            Ending::Close
        }
        Fault::Silence => {
            pieces.truncate(1);
            Ending::Hang
        }
        Fault::Endless => {
            let end = last_of_first(pieces, PieceKind::Text, 1);
            pieces.truncate(end);
            Ending::Repeat
        }
        Fault::MaxTokensInCall | Fault::Status(_) | Fault::NotEvents | Fault::SilenceBeforeHeaders => {
            Ending::Close
        }
    }
}

fn keep_half(pieces: &mut Vec<Piece>, kind: PieceKind) -> Ending {
    let count = pieces.iter().filter(|piece| piece.kind == kind).count();
    let end = last_of_first(pieces, kind, count.div_ceil(2));
    pieces.truncate(end);
    Ending::Abort
}

/// The end of the first `count` pieces of a kind.
fn last_of_first(pieces: &[Piece], kind: PieceKind, count: usize) -> usize {
    let mut positions = (0..).zip(pieces).filter(|(_, piece)| piece.kind == kind).map(|(at, _)| at);
    positions.nth(count.saturating_sub(1)).map_or(pieces.len(), |at: usize| at + 1)
}

/// The body of an HTTP error.
pub(crate) fn error_body(protocol: ProviderKind, kind: &str, message: &str) -> Value {
    match protocol {
        ProviderKind::Anthropic => {
            json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_1" })
        }
        ProviderKind::Gemini => {
            json!({ "error": { "code": null, "message": message, "status": kind } })
        }
        _ => {
            json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
        }
    }
}

fn error_event(protocol: ProviderKind, kind: &str, message: &str) -> Piece {
    let (event, data) = match protocol {
        ProviderKind::Anthropic => (Some("error"), error_body(protocol, kind, message)),
        ProviderKind::Openai => {
            let error = json!({ "code": kind, "message": message });
            let response = json!({ "id": "resp_1", "status": "failed", "error": error });
            (Some("response.failed"), json!({ "type": "response.failed", "response": response }))
        }
        _ => (None, error_body(protocol, kind, message)),
    };
    Piece::new(PieceKind::Other, event, &data)
}

/// Words with the space behind them.
fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').collect()
}

/// JSON in pieces that respect nothing but characters.
fn fragments(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(7).map(|piece| piece.iter().collect()).collect()
}
