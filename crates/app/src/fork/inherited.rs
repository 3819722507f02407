//! What a fork takes over of its parent's log, and an import of an exported one: the conversation up to and including one ended turn. Pure. Left out is
//! what belongs to the parent alone: its title, change, sandbox, snapshots, refused connections, services and costs.

use greenroom_domain::event::{MarkedFor, StepOf};
use greenroom_domain::money::Usage;
use greenroom_domain::{Entry, Event, PromptId, TurnId};
use std::collections::HashSet;

/// `None`: the log holds no such turn, or it has not ended. The entries may lack coalesced text.
pub(super) fn inherited(entries: &[Entry], last: TurnId) -> Option<Vec<Event>> {
    let is_end = |entry: &Entry| matches!(&entry.event, Event::TurnFinished { turn, .. } if *turn == last);
    let (entries, later) = entries.split_at(entries.iter().position(is_end)? + 1);
    // The turn's own mark and its last step's tree are made beside its end, and are in its snapshot.
    let is_its_mark = |entry: &&Entry| match &entry.event {
        Event::FilesMarked { of: MarkedFor::Turn { turn, .. }, .. }
        | Event::StepTree { of: StepOf::Calls { turn, .. }, .. } => *turn == last,
        _ => false,
    };
    // Whoever ran commands since may be in the snapshot too: it can be newer than the turn's end.
    let is_of_files =
        |entry: &&Entry| matches!(entry.event, Event::CommandsBegun { .. }) || is_its_mark(entry);
    let mut events = conversation(entries);
    events.extend(later.iter().filter(is_of_files).map(|entry| entry.event.clone()));
    Some(events)
}

/// What of a log another session can go on with.
pub(crate) fn conversation(entries: &[Entry]) -> Vec<Event> {
    let answered = answered(entries);
    entries.iter().filter_map(|entry| taken_over(&entry.event, &answered)).collect()
}

/// Prompts that a turn took up: others still waited, or were withdrawn.
fn answered(entries: &[Entry]) -> HashSet<PromptId> {
    let mut answered = HashSet::new();
    for entry in entries {
        match &entry.event {
            Event::TurnStarted { prompts, .. } => answered.extend(prompts),
            Event::PromptInserted { prompt, .. } => drop(answered.insert(*prompt)),
            _ => {}
        }
    }
    answered
}

fn taken_over(event: &Event, answered: &HashSet<PromptId>) -> Option<Event> {
    match event {
        Event::PromptAccepted { prompt, .. } | Event::PromptEdited { prompt, .. } => {
            answered.contains(prompt).then(|| event.clone())
        }
        Event::TurnStarted { .. }
        | Event::PromptInserted { .. }
        | Event::ModelRequested { .. }
        | Event::ModelFallback { .. }
        | Event::BlockOpened { .. }
        | Event::BlockReset { .. }
        | Event::ToolStarted { .. }
        | Event::ToolFinished { .. }
        | Event::NoticeGiven { .. }
        | Event::ContextPruned { .. }
        | Event::TodoChanged { .. }
        | Event::ArtifactPublished { .. }
        | Event::FilesMarked { .. }
        | Event::StepTree { .. }
        | Event::Reverted { .. }
        | Event::CommandsBegun { .. }
        | Event::TurnInterrupted { .. } => Some(event.clone()),
        Event::AssistantMessage { turn, content, blocks, raw, stop_reason, model, .. } => {
            Some(Event::AssistantMessage {
                turn: *turn,
                content: content.clone(),
                blocks: blocks.clone(),
                raw: raw.clone(),
                stop_reason: *stop_reason,
                usage: Usage::default(),
                model: model.clone(),
            })
        }
        Event::ContextCompacted { .. } => {
            let mut event = event.clone();
            if let Event::ContextCompacted { usage, .. } = &mut event {
                *usage = Usage::default();
            }
            Some(event)
        }
        Event::TurnFinished { turn, outcome, duration_ms, .. } => Some(Event::TurnFinished {
            turn: *turn,
            outcome: outcome.clone(),
            usage: Usage::default(),
            duration_ms: *duration_ms,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::event::TurnOutcome;
    use greenroom_domain::{Author, Delivery, PersonId, SessionState};

    fn author(n: u128) -> Author {
        let text = format!(
            r#"{{"on_behalf_of":"{}","name":"P{n}","email":"p{n}@example.org","via":"person"}}"#,
            PersonId::from_parts(1, n)
        );
        serde_json::from_str(&text).unwrap()
    }

    fn prompt(n: u128) -> Event {
        Event::PromptAccepted {
            prompt: PromptId::from_parts(1, n),
            author: author(n),
            text: format!("prompt {n}"),
            delivery: Delivery::Queue,
            attachments: vec![],
        }
    }

    fn turn(n: u128) -> TurnId {
        TurnId::from_parts(1, n)
    }

    fn log() -> Vec<Entry> {
        let start = |n| Event::TurnStarted { turn: turn(n), prompts: vec![PromptId::from_parts(1, n)] };
        let answer = |n| Event::AssistantMessage {
            turn: turn(n),
            content: vec![],
            blocks: vec![],
            raw: None,
            stop_reason: greenroom_domain::message::StopReason::EndTurn,
            usage: Usage { input_tokens: 7, ..Usage::default() },
            model: "m".into(),
        };
        let end = |n| Event::TurnFinished {
            turn: turn(n),
            outcome: TurnOutcome::Completed,
            usage: Usage { input_tokens: 7, ..Usage::default() },
            duration_ms: 1,
        };
        let events = vec![
            Event::EgressDenied { host: "a".into(), port: 1, reason: None },
            prompt(1),
            start(1),
            prompt(2),
            answer(1),
            end(1),
            start(2),
            answer(2),
            end(2),
            prompt(3),
            start(3),
        ];
        let entry = |(event, seq)| Entry { seq, at_ms: 1, epoch: 1, event };
        events.into_iter().zip(1..).map(entry).collect()
    }

    fn state_of(events: Vec<Event>) -> SessionState {
        let mut state = SessionState::default();
        for (event, seq) in events.into_iter().zip(1..) {
            let _ = state.step(&Entry { seq, at_ms: 1, epoch: 1, event });
        }
        state
    }

    #[test]
    fn a_fork_stands_where_its_turn_ended_and_has_cost_nothing() {
        let state = state_of(inherited(&log(), turn(2)).unwrap());
        assert_eq!(state.last_turn, Some(turn(2)));
        assert!(state.running.is_none() && state.queue.is_empty());
        assert_eq!(state.usage, Usage::default());
    }

    #[test]
    fn whoever_prompted_up_to_the_turn_counts_as_a_prompter_of_the_fork() {
        let people = |n| {
            let prompters = state_of(inherited(&log(), turn(n)).unwrap()).prompters;
            prompters.iter().map(|author| author.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(people(1), ["P1"]);
        assert_eq!(people(2), ["P1", "P2"]);
    }

    #[test]
    fn prompts_that_waited_and_what_belongs_to_the_parent_stay_there() {
        let events = inherited(&log(), turn(1)).unwrap();
        assert!(!events.contains(&prompt(2)));
        assert!(!events.iter().any(|event| matches!(event, Event::EgressDenied { .. })));
    }

    #[test]
    fn the_last_turns_mark_is_taken_over_though_it_follows_the_end_and_no_later_one_is() {
        let mark = |n: u128| Event::FilesMarked {
            commit: n.to_string().repeat(40).parse().unwrap(),
            of: MarkedFor::Turn { turn: turn(n), prompts: vec![] },
        };
        let mut log = log();
        for event in [mark(1), mark(2)] {
            log.push(Entry { seq: log.len() as u64 + 1, at_ms: 1, epoch: 1, event });
        }
        let events = inherited(&log, turn(1)).unwrap();
        assert!(events.contains(&mark(1)) && !events.contains(&mark(2)), "{events:?}");
    }

    #[test]
    fn whoever_ran_commands_up_to_the_fork_counts_in_it_also_after_its_turn() {
        let runs = |n| Event::CommandsBegun { by: author(n) };
        let mut log = log();
        log.insert(1, Entry { seq: 0, at_ms: 1, epoch: 1, event: runs(7) });
        log.push(Entry { seq: 0, at_ms: 1, epoch: 1, event: runs(8) });
        let state = state_of(inherited(&log, turn(1)).unwrap());
        assert_eq!(state.runners, [author(7), author(8)]);
        let people: Vec<_> = state.contributors().map(|author| author.name.as_str()).collect();
        assert_eq!(people, ["P1", "P7", "P8"]);
    }

    #[test]
    fn a_fork_sees_what_the_model_saw_and_does_not_pay_for_the_summary() {
        let compacted = |usage| Event::ContextCompacted {
            turn: turn(1),
            reason: greenroom_domain::event::CompactionReason::WindowFull,
            summary: "So far.".into(),
            kept: 0,
            carried: 1,
            tokens_before: 2,
            tokens_after: 1,
            usage,
            model: "m".into(),
        };
        let pruned = Event::ContextPruned { turn: turn(1), calls: vec!["c".into()], tokens: 1 };
        let mut log = log();
        let paid = compacted(Usage { input_tokens: 7, ..Usage::default() });
        for event in [pruned.clone(), paid] {
            log.insert(4, Entry { seq: 0, at_ms: 1, epoch: 1, event });
        }
        let events = inherited(&log, turn(1)).unwrap();
        assert!(events.contains(&pruned) && events.contains(&compacted(Usage::default())));
    }

    #[test]
    fn a_turn_that_runs_or_is_unknown_gives_nothing() {
        assert_eq!(inherited(&log(), turn(3)), None);
        assert_eq!(inherited(&log(), turn(9)), None);
    }
}
