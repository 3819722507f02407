//! A text that must not be seen: a provider's key. Only the transport layer reads it.

use std::fmt;

/// A key. Neither `Debug` nor any error shows it; it is not serialisable on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keys pasted with surrounding white space are the commonest mistake, so that is removed.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` without this secret, for messages that others wrote.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.0.len() < 4 { text.to_owned() } else { text.replace(&self.0, "[key]") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_neither_in_debug_nor_in_a_redacted_message() {
        let key = Secret::new(" sk-very-secret\n");
        assert_eq!(key.expose(), "sk-very-secret");
        assert_eq!(format!("{key:?}"), "Secret(…)");
        assert_eq!(key.redact("wrong key sk-very-secret!"), "wrong key [key]!");
    }
}
