//! The whole conversation of a young session, kept in memory so that its first turns need not read it back from the
//! log. Given up when it grows, and never there for a session that was opened again.

use greenroom_domain::{Entry, Event};

const ENTRIES_KEPT: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    entries: Option<Vec<Entry>>,
}

impl Recent {
    pub(crate) fn of_a_new_session() -> Self {
        Self { entries: Some(vec![]) }
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        let Some(entries) = &mut self.entries else { return };
        if entries.len() >= ENTRIES_KEPT {
            self.entries = None;
        } else if !matches!(entry.event, Event::BlockText { .. }) {
            entries.push(entry.clone());
        }
    }

    /// The same as the log's `read_conversation`; `None`: ask the log.
    pub(crate) fn conversation(&self) -> Option<Vec<Entry>> {
        self.entries.clone()
    }
}
