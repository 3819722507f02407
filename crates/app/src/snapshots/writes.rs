//! Which tool calls may have changed files: pure, from the log's own words. A call that cannot be judged counts as one
//! that did.

use greenroom_domain::event::SnapshotReason;
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

/// The last ended turn that may have changed files, when no snapshot holds what it left and no later call that may have
/// written was carried out. `inherited`: the last turn that a fork took over; its files are the parent's snapshot.
pub(crate) fn unsaved_turn(entries: &[Entry], inherited: Option<TurnId>) -> Option<TurnId> {
    let (mut writes, mut has_written, mut unsaved) = (Writes::default(), false, None);
    let mut saved = HashSet::new();
    for entry in entries {
        has_written |= writes.begins_with(&entry.event);
        if writes.end_with(&entry.event) {
            unsaved = None;
        }
        match &entry.event {
            Event::TurnStarted { .. } => has_written = false,
            Event::TurnFinished { turn, .. } if inherited == Some(*turn) => unsaved = None,
            Event::TurnFinished { turn, .. } if has_written && !saved.contains(turn) => unsaved = Some(*turn),
            Event::TurnFinished { .. } if has_written => unsaved = None,
            Event::SnapshotTaken { turn, reason, .. } => {
                unsaved = None;
                // It can come before the end that it was taken at.
                saved.extend(turn.filter(|_| *reason == SnapshotReason::Turn));
            }
            _ => {}
        }
    }
    unsaved
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::event::TurnOutcome;
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

    #[test]
    fn a_turn_is_unsaved_until_a_snapshot_holds_it_and_lost_once_another_call_wrote() {
        let id = |n| TurnId::from_parts(1, n);
        let begun = |n| Event::TurnStarted { turn: id(n), prompts: vec![] };
        let ended = |n| Event::TurnFinished {
            turn: id(n),
            outcome: TurnOutcome::Completed,
            usage: Default::default(),
            duration_ms: 1,
        };
        let done = |call: &str| Event::ToolFinished {
            turn: id(1),
            call: call.into(),
            outcome: greenroom_domain::event::ToolOutcome::Succeeded,
            text: String::new(),
            display: None,
            duration_ms: 1,
        };
        let taken = |n, reason| Event::SnapshotTaken {
            snapshot: greenroom_domain::SnapshotId::from_parts(1, 1),
            reason,
            turn: Some(id(n)),
            freeze_us: 0,
            duration_ms: 0,
        };
        let unsaved = |events: &[Event], inherited| {
            let entry = |event: &Event| Entry { seq: 0, at_ms: 0, epoch: 1, event: event.clone() };
            unsaved_turn(&events.iter().map(entry).collect::<Vec<_>>(), inherited)
        };
        let wrote = [begun(1), started("a", "edit"), done("a"), ended(1)];
        let then = |more: &[Event]| [&wrote[..], more].concat();
        assert_eq!(unsaved(&wrote, None), Some(id(1)));
        assert_eq!(unsaved(&wrote, Some(id(1))), None, "a fork's files began from its snapshot");
        assert_eq!(unsaved(&then(&[taken(1, SnapshotReason::Exit)]), None), None);
        let before_its_end = [&wrote[..3], &[taken(1, SnapshotReason::Turn), ended(1)]].concat();
        assert_eq!(unsaved(&before_its_end, None), None);
        let lost_memory = [&wrote[..3], &[taken(1, SnapshotReason::OutOfMemory), ended(1)]].concat();
        assert_eq!(unsaved(&lost_memory, None), Some(id(1)));
        // A later turn that only looked, or that has not got further than wanting to write.
        assert_eq!(unsaved(&then(&[begun(2), started("b", "read"), done("b"), ended(2)]), None), Some(id(1)));
        assert_eq!(unsaved(&then(&[begun(2), started("b", "edit")]), None), Some(id(1)));
        assert_eq!(unsaved(&then(&[begun(2), started("b", "edit"), done("b")]), None), None);
    }
}
