//! Which tool calls may have changed files: pure, from the log's own words. A call that cannot be judged counts as one
//! that did.

use greenroom_domain::message::Content;
use greenroom_domain::{Entry, Event, TurnId};
use std::collections::HashSet;

/// Calls of one answer that are remembered as harmless; more are taken for writes.
const HARMLESS_LIMIT: usize = 1024;

/// Follows a session's events.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    harmless: HashSet<String>,
    /// Calls that run and may write.
    running: HashSet<String>,
}

impl Writes {
    /// Whether files may change from this event on.
    pub(crate) fn begins_with(&mut self, event: &Event) -> bool {
        match event {
            Event::AssistantMessage { content, .. } => {
                self.note_harmless(content);
                false
            }
            Event::TurnStarted { .. } => {
                self.running.clear();
                false
            }
            Event::ToolStarted { call, name, .. } => {
                let may_write = !is_lookup(name) && name != "todo" && !self.harmless.contains(call);
                if may_write {
                    self.running.insert(call.clone());
                }
                may_write
            }
            _ => false,
        }
    }

    /// Whether this event ends a call that may have written.
    pub(crate) fn end_with(&mut self, event: &Event) -> bool {
        match event {
            Event::ToolFinished { call, .. } => self.running.remove(call),
            _ => false,
        }
    }

    fn note_harmless(&mut self, content: &[Content]) {
        let calls = content.iter().filter_map(|part| match part {
            Content::ToolCall(call) if call.name == "bash" && call.input["read_only"] == true => {
                Some(call.id.clone())
            }
            _ => None,
        });
        self.harmless = calls.take(HARMLESS_LIMIT).collect();
    }
}

fn is_lookup(name: &str) -> bool {
    matches!(name, "read" | "glob" | "grep")
}

/// Turns of a log that have ended, in order, each with whether it may have changed files.
pub(crate) fn ended_turns(entries: &[Entry]) -> Vec<(TurnId, bool)> {
    let (mut writes, mut has_written, mut turns) = (Writes::default(), false, vec![]);
    for entry in entries {
        has_written |= writes.begins_with(&entry.event);
        match &entry.event {
            Event::TurnStarted { .. } => has_written = false,
            Event::TurnFinished { turn, .. } => turns.push((*turn, has_written)),
            _ => {}
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::message::{StopReason, ToolCall};
    use serde_json::json;

    fn started(call: &str, name: &str) -> Event {
        let turn = TurnId::from_parts(1, 1);
        Event::ToolStarted { turn, call: call.into(), name: name.into(), title: String::new() }
    }

    #[test]
    fn a_shell_command_that_says_it_only_reads_is_believed_and_every_other_one_is_not() {
        let call =
            |id: &str, input| Content::ToolCall(ToolCall { id: id.into(), name: "bash".into(), input });
        let message = Event::AssistantMessage {
            turn: TurnId::from_parts(1, 1),
            content: vec![
                call("a", json!({"command": "ls", "read_only": true})),
                call("b", json!({"command": "ls"})),
            ],
            blocks: vec![],
            raw: None,
            stop_reason: StopReason::ToolUse,
            usage: Default::default(),
            model: "m".into(),
        };
        let mut writes = Writes::default();
        assert!(!writes.begins_with(&message));
        assert!(!writes.begins_with(&started("a", "bash")));
        assert!(writes.begins_with(&started("b", "bash")));
        assert!(writes.begins_with(&started("c", "edit")));
        assert!(writes.begins_with(&started("d", "some_later_tool")));
        assert!(!writes.begins_with(&started("e", "grep")));
        let finished = |call: &str| Event::ToolFinished {
            turn: TurnId::from_parts(1, 1),
            call: call.into(),
            outcome: greenroom_domain::event::ToolOutcome::Succeeded,
            text: String::new(),
            display: None,
            duration_ms: 1,
        };
        assert!(writes.end_with(&finished("b")) && !writes.end_with(&finished("b")));
        assert!(!writes.end_with(&finished("a")) && !writes.end_with(&finished("e")));
    }
}
