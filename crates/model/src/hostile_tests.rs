//! Decoders survive any answer: whatever is left out, repeated, moved or changed, they do not panic, and what they
//! return is what they streamed.

use crate::client::Protocol;
use crate::config::ProviderKind;
use crate::exchange::{Decoder, EVENT_LIMIT};
use crate::openai_chat::{Chat, Dialect};
use crate::provider::{Delta, Error, Response};
use crate::sse::{Event, Parser};
use crate::testing::{Turn, render};
use greenroom_domain::message::Content;
use serde_json::{Value, json};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn events(kind: ProviderKind) -> Vec<Event> {
    let turn = Turn::default()
        .and_thinking("hm, well", "c2ln")
        .and_text("one two")
        .and_call("c1", "bash", &json!({"command": "ls"}))
        .and_call("c2", "read", &json!({"path": "a"}));
    let (pieces, _) = render::render(kind, "m", &turn);
    let bytes: String = pieces.into_iter().map(|piece| piece.bytes).collect();
    Parser::new(EVENT_LIMIT).feed(bytes.as_bytes()).unwrap()
}

fn spoil(events: &mut Vec<Event>, dice: &mut Dice) {
    let (at, other) = (dice.roll(events.len()), dice.roll(events.len()));
    match dice.roll(4) {
        0 => drop(events.remove(at)),
        1 => events.insert(other, events[at].clone()),
        2 => events.swap(at, other),
        _ => {
            if let Ok(mut data) = serde_json::from_str::<Value>(&events[at].data) {
                change_somewhere(&mut data, dice);
                events[at].data = data.to_string();
            }
        }
    }
}

fn change_somewhere(value: &mut Value, dice: &mut Dice) {
    let is_here = dice.roll(4) == 0;
    match value {
        Value::Object(fields) if !is_here && !fields.is_empty() => {
            let at = dice.roll(fields.len());
            change_somewhere(fields.values_mut().nth(at).unwrap(), dice);
        }
        Value::Array(items) if !is_here && !items.is_empty() => {
            let at = dice.roll(items.len());
            change_somewhere(&mut items[at], dice);
        }
        _ => {
            let others = [json!(null), json!("x"), json!(7), json!(-1), json!([1]), json!({"a": 1})];
            *value = others[dice.roll(others.len())].clone();
        }
    }
}

fn decode(mut decoder: impl Decoder, events: &[Event]) -> (Vec<Delta>, Result<Response, Error>) {
    let mut deltas = Vec::new();
    for event in events {
        match decoder.accept(event, &mut deltas) {
            Ok(None) => {}
            Ok(Some(response)) => return (deltas, Ok(response)),
            Err(error) => return (deltas, Err(error)),
        }
    }
    let end = decoder.end();
    (deltas, end)
}

fn streamed(deltas: &[Delta], wanted: usize) -> String {
    let texts = deltas.iter().filter_map(|delta| match delta {
        Delta::Text { index, text } | Delta::Thinking { index, text } if *index == wanted => {
            Some(text.as_str())
        }
        _ => None,
    });
    texts.collect()
}

#[test]
fn spoiled_answers_are_survived_and_what_is_returned_was_streamed() {
    for kind in ProviderKind::ALL {
        let whole = events(kind);
        for seed in 0..3_000 {
            let mut dice = Dice(seed);
            let mut spoiled = whole.clone();
            for _ in 0..=dice.roll(3) {
                spoil(&mut spoiled, &mut dice);
            }
            let (deltas, end) = match kind {
                ProviderKind::Anthropic => decode(crate::anthropic::Messages.decoder(&[]), &spoiled),
                ProviderKind::Openai => decode(crate::openai_responses::Responses.decoder(&[]), &spoiled),
                ProviderKind::OpenaiChat | ProviderKind::Openrouter | ProviderKind::Ollama => {
                    decode(Chat { dialect: Dialect::Compatible }.decoder(&[]), &spoiled)
                }
                ProviderKind::Gemini => decode(crate::gemini::Gemini.decoder(&[]), &spoiled),
            };
            let Ok(response) = end else { continue };
            let is_shifted = response.content.len() < deltas.iter().map(index).max().map_or(0, |max| max + 1);
            for (at, part) in response.content.iter().enumerate().filter(|_| !is_shifted) {
                if let Content::Text { text } | Content::Thinking { text } = part {
                    assert_eq!(*text, streamed(&deltas, at), "{kind:?} {seed}");
                }
            }
        }
    }
}

fn index(delta: &Delta) -> usize {
    match delta {
        Delta::Text { index, .. } | Delta::Thinking { index, .. } | Delta::ToolCallStarted { index, .. } => {
            *index
        }
    }
}
