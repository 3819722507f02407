//! What the directory takes from a session's log, beside its line: what counts, and what is found. Pure.

use super::Own;
use greenroom_directory::{Fact, Part, PartKind, SessionRow, What};
use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_domain::message::Content;
use greenroom_domain::{Entry, Event, TurnId};

#[derive(Debug)]
pub(super) struct Taken {
    pub(super) facts: Vec<Fact>,
    pub(super) parts: Vec<Part>,
    own: Own,
}

impl Taken {
    /// Of a log from this entry on.
    pub(super) fn new(row: &SessionRow, after: u64, inherited: Option<TurnId>) -> Self {
        let whole = |kind, text: &str| put(kind, &"", row.head_seq, text);
        let parts = vec![
            whole(PartKind::Title, &row.title),
            whole(PartKind::Repository, row.repository_name.as_str()),
            whole(PartKind::Branch, row.branch.as_str()),
        ];
        Self { facts: vec![], parts, own: Own::after(after, inherited) }
    }

    pub(super) fn take(&mut self, entry: &Entry) {
        self.parts.extend(part_of(entry));
        // A fork is found by what it took over, and counts what it did itself.
        if self.own.has(entry)
            && let Some(what) = what_of(&entry.event)
        {
            self.facts.push(Fact { seq: entry.seq, at_ms: entry.at_ms, what });
        }
    }
}

fn put(kind: PartKind, subject: &impl ToString, seq: u64, text: &str) -> Part {
    Part::Put { kind, subject: subject.to_string(), seq, text: text.to_owned() }
}

fn part_of(entry: &Entry) -> Option<Part> {
    match &entry.event {
        Event::PromptAccepted { prompt, text, .. } | Event::PromptEdited { prompt, text, .. } => {
            Some(put(PartKind::Prompt, prompt, entry.seq, text))
        }
        Event::PromptWithdrawn { prompt, .. } => {
            Some(Part::Remove { kind: PartKind::Prompt, subject: prompt.to_string() })
        }
        Event::AssistantMessage { turn, content, .. } => {
            let calls = content.iter().any(|part| matches!(part, Content::ToolCall(_)));
            let text: Vec<&str> = content
                .iter()
                .filter_map(|part| match part {
                    Content::Text { text } => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            let text = text.join("\n");
            (!calls && !text.trim().is_empty()).then(|| put(PartKind::Answer, turn, entry.seq, &text))
        }
        _ => None,
    }
}

fn what_of(event: &Event) -> Option<What> {
    Some(match event {
        Event::PromptAccepted { prompt, author, .. } => {
            What::Prompted { prompt: prompt.to_string(), by: author.on_behalf_of }
        }
        Event::TurnStarted { turn, prompts } => {
            What::TurnStarted { turn: turn.to_string(), prompt: prompts.first().map(ToString::to_string) }
        }
        Event::CompactionRequested { turn, author } => {
            What::TurnAskedFor { turn: turn.to_string(), by: author.on_behalf_of }
        }
        Event::ContextCompacted { turn, model, .. } => {
            What::ModelChosen { turn: turn.to_string(), model: model.clone() }
        }
        Event::ModelRequested { turn, model, .. } => {
            What::ModelChosen { turn: turn.to_string(), model: model.clone() }
        }
        Event::ToolStarted { turn, call, name, .. } => {
            What::ToolStarted { turn: turn.to_string(), call: call.clone(), tool: name.clone() }
        }
        Event::ToolFinished { call, outcome, duration_ms, .. } => What::ToolEnded {
            call: call.clone(),
            outcome: match outcome {
                ToolOutcome::Succeeded => "succeeded",
                ToolOutcome::Failed => "failed",
                ToolOutcome::Cancelled => "cancelled",
                ToolOutcome::Unknown => "unknown",
            },
            duration_ms: *duration_ms,
        },
        Event::TurnFinished { turn, outcome, usage, duration_ms } => What::TurnEnded {
            turn: turn.to_string(),
            outcome: match outcome {
                TurnOutcome::Completed => "completed",
                TurnOutcome::Stopped => "stopped",
                TurnOutcome::Failed { .. } => "failed",
                TurnOutcome::BudgetReached { .. } => "budget_reached",
            },
            usage: *usage,
            duration_ms: *duration_ms,
        },
        Event::ChangeOpened { change, author, .. } => {
            What::ChangeOpened { change: change.to_string(), by: author.on_behalf_of }
        }
        Event::ChangeMerged { change, by, .. } => What::ChangeMerged { change: change.to_string(), by: *by },
        _ => return None,
    })
}
