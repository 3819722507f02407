//! Where results go: standard output, for people or as JSON; progress and errors go to standard error.

use crate::exit::{Failure, error_text};
use greenroom_wire::ErrorView;
use serde::Serialize;
use std::io::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Human,
    Json,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Human }
    }

    /// One result: a JSON document, or text.
    pub(crate) fn document<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Human => self.text(&text(value)),
            Self::Json => write_out(&format!("{}\n", json(value, serde_json::to_string_pretty))),
        }
    }

    /// One line of a stream of JSON; nothing for people.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        match self {
            Self::Human => Ok(()),
            Self::Json => write_out(&format!("{}\n", json(value, serde_json::to_string))),
        }
    }

    /// Text for people; nothing with `--json`.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        if self == Self::Human && !text.is_empty() { write_out(text) } else { Ok(()) }
    }

    /// What happens meanwhile, for people.
    pub(crate) fn progress(self, text: &str) {
        if self == Self::Human {
            // Nothing can be done where standard error is closed.
            let _ = anstream::stderr().write_all(text.as_bytes());
        }
    }

    pub(crate) fn error(self, view: &ErrorView) {
        let text = match self {
            Self::Human => error_text(view),
            Self::Json => format!("{}\n", json(view, serde_json::to_string)),
        };
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

fn json<T: Serialize>(value: &T, write: fn(&T) -> serde_json::Result<String>) -> String {
    write(value).expect("views have string keys only")
}

fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
