//! What a watch has to tell: one entry per path, in the order of first mention, bounded. No system call.

use greenroom_stage::protocol::Change;
use std::collections::HashMap;

/// Paths that wait to be told, and their bytes.
const MAX_CHANGES: usize = 4096;
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Changes {
    in_order: Vec<Change>,
    by_path: HashMap<String, usize>,
    bytes: usize,
    pub(crate) is_overflow: bool,
}

impl Changes {
    /// The last word about a path counts.
    pub(crate) fn note(&mut self, path: &str, is_removed: bool) {
        if let Some(at) = self.by_path.get(path) {
            self.in_order[*at].is_removed = is_removed;
            return;
        }
        if self.in_order.len() >= MAX_CHANGES || self.bytes + path.len() > MAX_BYTES {
            *self = Self { is_overflow: true, ..Self::default() };
        }
        self.bytes += path.len();
        self.by_path.insert(path.to_owned(), self.in_order.len());
        self.in_order.push(Change { path: path.to_owned(), is_removed });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && !self.is_overflow
    }

    /// What there is to tell, and whether more happened.
    pub(crate) fn take(&mut self) -> (Vec<Change>, bool) {
        let taken = std::mem::take(self);
        (taken.in_order, taken.is_overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, is_removed: bool) -> Change {
        Change { path: path.into(), is_removed }
    }

    #[test]
    fn several_changes_of_one_path_are_one() {
        let mut changes = Changes::default();
        for (path, is_removed) in [("a", false), ("b", false), ("a", true), ("b", true), ("b", false)] {
            changes.note(path, is_removed);
        }
        assert_eq!(changes.take(), (vec![change("a", true), change("b", false)], false));
        assert!(changes.is_empty());
    }

    #[test]
    fn more_than_can_be_kept_is_said_to_be_lost() {
        let mut changes = Changes::default();
        for number in 0..=MAX_CHANGES {
            changes.note(&number.to_string(), false);
        }
        assert_eq!(changes.take(), (vec![change(&MAX_CHANGES.to_string(), false)], true));
        changes.note(&"x".repeat(MAX_BYTES), false);
        changes.note("y", false);
        assert_eq!(changes.take(), (vec![change("y", false)], true));
    }
}
