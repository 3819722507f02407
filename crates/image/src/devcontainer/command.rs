//! The three forms of a life-cycle command: shell text, a list of words, or an object of named ones. Named ones may run
//! at the same time by the specification; here they run one after the other, in the order of their names, so that a
//! failure has one name.

use serde_json::Value;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: Option<String>,
    pub(super) run: String,
}

/// `None` for what is no command.
pub(super) fn commands(value: &Value) -> Option<Vec<Command>> {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| Some(Command { name: Some(name.clone()), run: text(value)? }))
            .collect(),
        value => Some(vec![Command { name: None, run: text(value)? }]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) if !words.is_empty() => {
            let words: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(quote)).collect();
            Some(words?.join(" "))
        }
        _ => None,
    }
}

/// One word for a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
