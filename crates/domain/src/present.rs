//! What of a session's past its present still shows: the newest entry of each kind that nothing has replaced since. Whoever
//! opens a long session at its end is given these instead of the log's beginning, and folds them as any other entry.
//!
//! An event that a client's view of the present depends on, however long ago it was, has a place here.

use crate::event::{Consumer, Entry, Event, SandboxPhase};
use crate::{AskId, PromptId, SnapshotId};
use serde::{Deserialize, Serialize};

/// Refused hosts that are remembered.
const DENIED: usize = 64;

/// Bounded by what a session can have at a time: waiting prompts, snapshots, services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Present {
    standing: Vec<Standing>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    place: Place,
    entry: Entry,
}

/// An entry replaces the one that stood in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Created,
    Title,
    Prompt(PromptId),
    Edit(PromptId),
    /// Prompts that the running turn answers are a part of it.
    Insert(PromptId),
    Turn,
    Model,
    /// Of the model that answers the next turns.
    Choice,
    Stop,
    Ask(AskId),
    Compaction,
    Todo,
    Sandbox,
    Service(String),
    Snapshot(SnapshotId),
    Denied(String, u16),
    Change,
    Merge,
    DeadLetter(Consumer),
    Archived,
    Revert,
}

impl Present {
    /// Oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.standing.iter().map(|standing| standing.entry.clone()).collect();
        entries.sort_by_key(|entry| entry.seq);
        entries
    }

    /// Applies one entry of the log.
    pub fn step(&mut self, entry: &Entry) {
        match &entry.event {
            Event::SessionCreated { .. } => self.put(Place::Created, entry),
            Event::TitleChanged { .. } => self.put(Place::Title, entry),
            Event::ModelChosen { .. } => self.put(Place::Choice, entry),
            Event::PromptAccepted { prompt, .. } => self.put(Place::Prompt(*prompt), entry),
            Event::PromptEdited { prompt, .. } => self.put(Place::Edit(*prompt), entry),
            Event::PromptWithdrawn { prompt, .. } => self.drop_prompt(*prompt),
            Event::TurnStarted { .. } => self.put(Place::Turn, entry),
            Event::PromptInserted { prompt, .. } => self.put(Place::Insert(*prompt), entry),
            Event::ModelRequested { .. } => self.put(Place::Model, entry),
            Event::StopRequested { .. } => self.put(Place::Stop, entry),
            Event::AskOpened { ask, .. } => self.put(Place::Ask(*ask), entry),
            Event::AskAnswered { ask, .. } | Event::AskExpired { ask, .. } => {
                self.drop_place(&Place::Ask(*ask));
            }
            Event::CompactionStarted { .. } => self.put(Place::Compaction, entry),
            Event::ContextCompacted { .. } => self.drop_place(&Place::Compaction),
            Event::TurnFinished { .. } => self.end_turn(),
            Event::TodoChanged { .. } => self.put(Place::Todo, entry),
            Event::SandboxChanged { state, .. } => {
                // Services live and end with their sandbox.
                if matches!(state, SandboxPhase::Claiming | SandboxPhase::Stopped) {
                    self.standing.retain(|standing| !matches!(standing.place, Place::Service(_)));
                }
                self.put(Place::Sandbox, entry);
            }
            Event::ServiceChanged { name, .. } => self.put(Place::Service(name.clone()), entry),
            Event::SnapshotTaken { snapshot, .. } => self.put(Place::Snapshot(*snapshot), entry),
            Event::SnapshotDropped { snapshot } => self.drop_place(&Place::Snapshot(*snapshot)),
            Event::EgressDenied { host, port, .. } => {
                self.put_denied(Place::Denied(host.clone(), *port), entry);
            }
            Event::ChangeOpened { .. } => {
                self.drop_place(&Place::Merge);
                self.put(Place::Change, entry);
            }
            Event::ChangeMerged { .. } => self.put(Place::Merge, entry),
            Event::RevertRequested { .. } | Event::Reverted { .. } => self.put(Place::Revert, entry),
            Event::RevertFailed { .. } | Event::StepTree { .. } => self.drop_place(&Place::Revert),
            Event::SessionArchived { .. } => self.put(Place::Archived, entry),
            Event::SessionUnarchived { .. } => self.drop_place(&Place::Archived),
            Event::DeadLetterAdded { consumer, .. } => self.put(Place::DeadLetter(*consumer), entry),
            Event::DeadLetterRetried { consumer, .. } | Event::DeadLetterSettled { consumer } => {
                self.drop_place(&Place::DeadLetter(*consumer));
            }
            _ => {}
        }
    }

    fn put(&mut self, place: Place, entry: &Entry) {
        self.drop_place(&place);
        self.standing.push(Standing { place, entry: entry.clone() });
    }

    fn put_denied(&mut self, place: Place, entry: &Entry) {
        let is_denied = |standing: &&Standing| matches!(standing.place, Place::Denied(..));
        let is_known = self.standing.iter().any(|standing| standing.place == place);
        if is_known || self.standing.iter().filter(is_denied).count() < DENIED {
            self.put(place, entry);
        }
    }

    fn drop_place(&mut self, place: &Place) {
        self.standing.retain(|standing| standing.place != *place);
    }

    fn drop_prompt(&mut self, prompt: PromptId) {
        self.drop_place(&Place::Prompt(prompt));
        self.drop_place(&Place::Edit(prompt));
    }

    fn end_turn(&mut self) {
        let answered: Vec<PromptId> = self
            .standing
            .iter()
            .flat_map(|standing| match &standing.entry.event {
                Event::TurnStarted { prompts, .. } => prompts.clone(),
                Event::PromptInserted { prompt, .. } => vec![*prompt],
                _ => vec![],
            })
            .collect();
        for prompt in answered {
            self.drop_prompt(prompt);
        }
        let is_of_turn = |place: &Place| {
            matches!(
                place,
                Place::Turn
                    | Place::Model
                    | Place::Stop
                    | Place::Compaction
                    | Place::Insert(_)
                    | Place::Ask(_)
            )
        };
        self.standing.retain(|standing| !is_of_turn(&standing.place));
    }
}

/// Where a window over the end of a log begins best: the first of these entries before which no turn ran and no prompt
/// waited that one of them answers. The window's own beginning, where there is none.
pub fn turn_boundary<'a>(window: impl IntoIterator<Item = &'a Entry, IntoIter: DoubleEndedIterator>) -> u64 {
    let mut first = None;
    // Backwards: what the entries from here on speak of and do not begin themselves.
    let (mut turns, mut prompts, mut boundary) = (vec![], vec![], None);
    for entry in window.into_iter().rev() {
        first = Some(entry.seq);
        match &entry.event {
            Event::TurnStarted { turn, prompts: answered } => {
                turns.retain(|open| open != turn);
                prompts.extend(answered.iter().copied());
            }
            Event::PromptInserted { turn, prompt } => {
                turns.push(*turn);
                prompts.push(*prompt);
            }
            Event::PromptAccepted { prompt, .. } => prompts.retain(|open| open != prompt),
            event => {
                if let Some(turn) = event.turn()
                    && !turns.contains(&turn)
                {
                    turns.push(turn);
                }
            }
        }
        let is_quiet = turns.is_empty() && prompts.is_empty();
        if is_quiet && matches!(entry.event, Event::PromptAccepted { .. }) {
            boundary = Some(entry.seq);
        }
    }
    match first {
        None | Some(1) => 1,
        Some(first) => boundary.unwrap_or(first),
    }
}

#[cfg(test)]
#[path = "present_tests.rs"]
mod tests;
