//! Puts an answer's content together from its pieces. A part gets its position when its first piece comes, so that
//! deltas can name it; parts without text (hidden thinking) get none.

use crate::provider::Delta;
use greenroom_domain::message::{Content, Image, Message, ToolCall};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The position of a part that may not have begun yet.
pub(crate) type Place = Option<usize>;

#[derive(Debug, Default)]
pub(crate) struct Assembly {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Thinking(String),
    Call { id: String, name: String, json: String, is_dropped: bool },
}

impl Assembly {
    pub(crate) fn text(&mut self, place: &mut Place, piece: &str, deltas: &mut Vec<Delta>) {
        if piece.is_empty() {
            return;
        }
        let index = self.place(place, || Part::Text(String::new()));
        if let Part::Text(text) = &mut self.parts[index] {
            text.push_str(piece);
            deltas.push(Delta::Text { index, text: piece.to_owned() });
        }
    }

    pub(crate) fn thinking(&mut self, place: &mut Place, piece: &str, deltas: &mut Vec<Delta>) {
        if piece.is_empty() {
            return;
        }
        let index = self.place(place, || Part::Thinking(String::new()));
        if let Part::Thinking(text) = &mut self.parts[index] {
            text.push_str(piece);
            deltas.push(Delta::Thinking { index, text: piece.to_owned() });
        }
    }

    pub(crate) fn call(&mut self, id: &str, name: &str, deltas: &mut Vec<Delta>) -> usize {
        self.parts.push(Part::Call {
            id: id.to_owned(),
            name: name.to_owned(),
            json: String::new(),
            is_dropped: false,
        });
        let index = self.parts.len() - 1;
        deltas.push(Delta::ToolCallStarted { index, id: id.to_owned(), name: name.to_owned() });
        index
    }

    pub(crate) fn call_json(&mut self, index: usize, piece: &str) {
        if let Some(Part::Call { json, .. }) = self.parts.get_mut(index) {
            json.push_str(piece);
        }
    }

    /// The arguments are known at once; replaces what came in pieces.
    pub(crate) fn set_call_json(&mut self, index: usize, whole: &str) {
        if let Some(Part::Call { json, .. }) = self.parts.get_mut(index) {
            whole.clone_into(json);
        }
    }

    pub(crate) fn written_json(&self, index: usize) -> &str {
        match self.parts.get(index) {
            Some(Part::Call { json, .. }) => json,
            _ => "",
        }
    }

    /// The call was cut off and must not be executed: it will not be in the content.
    pub(crate) fn drop_call(&mut self, index: usize) {
        if let Some(Part::Call { is_dropped, .. }) = self.parts.get_mut(index) {
            *is_dropped = true;
        }
    }

    pub(crate) fn has_text(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Text(_)))
    }

    pub(crate) fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call { is_dropped: false, .. }))
    }

    /// Dropped calls are always the last ones, so positions told by deltas hold.
    pub(crate) fn into_content(self) -> Vec<Content> {
        self.parts.into_iter().filter_map(Part::into_content).collect()
    }

    fn place(&mut self, place: &mut Place, new: impl FnOnce() -> Part) -> usize {
        *place.get_or_insert_with(|| {
            self.parts.push(new());
            self.parts.len() - 1
        })
    }
}

impl Part {
    fn into_content(self) -> Option<Content> {
        match self {
            Self::Text(text) => Some(Content::Text { text }),
            Self::Thinking(text) => Some(Content::Thinking { text }),
            Self::Call { is_dropped: true, .. } => None,
            Self::Call { id, name, json, .. } => {
                Some(Content::ToolCall(ToolCall { id, name, input: input_of(&json) }))
            }
        }
    }
}

/// Ids of calls, each once in a conversation: some servers give none, or repeat them.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    used: HashSet<String>,
}

impl CallIds {
    pub(crate) fn after(used: HashSet<String>) -> Self {
        Self { used }
    }

    /// The server's id; made from the answer's id where the server gave none or one that was there before.
    pub(crate) fn unique(&mut self, given: &str, answer: &str) -> String {
        let stem = if given.is_empty() { format!("call_{answer}") } else { given.to_owned() };
        let numbered = (1u32..).map(|number| format!("{stem}_{number}"));
        let candidates = (!given.is_empty()).then(|| given.to_owned()).into_iter().chain(numbered);
        for id in candidates {
            if self.used.insert(id.clone()) {
                return id;
            }
        }
        stem
    }
}

/// Ids of all calls of a conversation.
pub(crate) fn used_call_ids(messages: &[Message]) -> HashSet<String> {
    let contents = messages.iter().filter_map(|message| match message {
        Message::Assistant { content, .. } => Some(content),
        Message::User { .. } | Message::ToolResults { .. } => None,
    });
    contents
        .flatten()
        .filter_map(|content| match content {
            Content::ToolCall(call) => Some(call.id.clone()),
            Content::Text { .. } | Content::Thinking { .. } => None,
        })
        .collect()
}

/// A tool call's input: the object that was written, or a string with what was written instead. Nothing is an empty
/// object, as both protocols mean it.
pub(crate) fn input_of(written: &str) -> Value {
    if written.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str::<Value>(written) {
        Ok(value) if value.is_object() => value,
        _ => Value::String(written.to_owned()),
    }
}

/// Whether a call whose answer was cut off by the output limit is complete all the same.
pub(crate) fn is_complete(written: &str) -> bool {
    !written.trim().is_empty() && input_of(written).is_object()
}

/// The input as an object, which providers demand in a conversation: broken JSON is wrapped, so that the model sees what
/// it wrote.
pub(crate) fn replayable_input(input: &Value) -> Value {
    if input.is_object() { input.clone() } else { json!({ "malformed_json": input }) }
}

/// A picture as OpenAI's APIs take it.
pub(crate) fn data_url(image: &Image) -> String {
    format!("data:{};base64,{}", image.media_type, image.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_text_take_no_position() {
        let (mut assembly, mut deltas) = (Assembly::default(), Vec::new());
        let (mut hidden, mut text) = (None, None);
        assembly.thinking(&mut hidden, "", &mut deltas);
        assembly.text(&mut text, "a", &mut deltas);
        let call = assembly.call("c1", "bash", &mut deltas);
        assembly.call_json(call, "{\"x\":");
        assembly.text(&mut text, "b", &mut deltas);
        assembly.call_json(call, "1}");
        assert_eq!(
            deltas,
            [
                Delta::Text { index: 0, text: "a".into() },
                Delta::ToolCallStarted { index: 1, id: "c1".into(), name: "bash".into() },
                Delta::Text { index: 0, text: "b".into() },
            ]
        );
        let call = ToolCall { id: "c1".into(), name: "bash".into(), input: json!({"x": 1}) };
        assert_eq!(assembly.into_content(), [Content::Text { text: "ab".into() }, Content::ToolCall(call)]);
    }

    #[test]
    fn broken_arguments_become_a_string_and_none_an_empty_object() {
        assert_eq!(input_of(" "), json!({}));
        assert_eq!(input_of("{\"a\":"), json!("{\"a\":"));
        assert_eq!(input_of("[1]"), json!("[1]"));
        assert!(is_complete("{}") && !is_complete("") && !is_complete("{\"a\""));
        assert_eq!(replayable_input(&json!("{")), json!({"malformed_json": "{"}));
    }
}
