//! The log as lines of JSON, one entry in each, as the log has them.

use crate::{ENTRIES_LIMIT, ENTRY_LIMIT, Result, damaged};
use greenroom_domain::{Entry, Event};
use std::io::{BufRead, Read};

/// All entries, numbered from 1 without a gap, the first of them and no other the session's creation. An entry of an
/// event that this program does not know is refused.
pub(crate) fn parse(mut from: impl BufRead) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = vec![];
    let mut line = vec![];
    loop {
        line.clear();
        let number = entries.len() as u64 + 1;
        let read = from.by_ref().take(ENTRY_LIMIT + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| damaged(format!("its log cannot be read: {error}")))? == 0 {
            return Ok(entries);
        }
        if line.len() as u64 > ENTRY_LIMIT || number > ENTRIES_LIMIT {
            return Err(damaged(format!("entry {number} of its log is beyond what a log may have")));
        }
        if line.pop() != Some(b'\n') {
            return Err(damaged("its log ends within an entry"));
        }
        let entry: Entry = serde_json::from_slice(&line)
            .map_err(|error| damaged(format!("entry {number} of its log cannot be read: {error}")))?;
        if entry.seq != number {
            return Err(damaged(format!("entry {number} of its log says that it is number {}", entry.seq)));
        }
        if matches!(entry.event, Event::SessionCreated { .. }) != entries.is_empty() {
            return Err(damaged(format!("entry {number} of its log is out of place")));
        }
        entries.push(entry);
    }
}
