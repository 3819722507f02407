//! What was promised, asked of the logs, of the people and of the ledger once everything is quiet.

use crate::people::Said;
use crate::server::Server;
use crate::world::Shared;
use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_domain::message::Content;
use greenroom_domain::{Answer, Command, Entry, Event, PromptId, SessionId, SessionState, TurnId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

pub(crate) fn everything(shared: &Shared) {
    let runs = shared.ledger.runs();
    for session in &shared.sessions {
        let log = shared.disk.entries(*session);
        let report = |message: String| shared.violation(format!("session {session}: {message}"));
        numbers(&log, &report);
        queue(shared, &log, &report);
        turns(&log, &report);
        tools(&log, &runs, &report);
        asks(&log, &report);
        answers(shared, *session, &log, &report);
        views(shared, *session, &log, &report);
    }
}

/// The index was given the newest line of every session.
pub(crate) fn index(shared: &Shared, server: &Server) {
    let index = server.index.lock().unwrap_or_else(PoisonError::into_inner);
    for session in &shared.sessions {
        let state = folded(&shared.disk.entries(*session));
        let is_told = index.get(session).is_some_and(|told| {
            told.title == state.title
                && told.queue == state.queue
                && told.running.is_none() == state.running.is_none()
        });
        if !is_told {
            shared.violation(format!("session {session}: the index was not told how it ended"));
        }
    }
}

fn folded(log: &[Entry]) -> SessionState {
    let mut state = SessionState::default();
    for entry in log {
        let _ = state.step(entry);
    }
    state
}

/// Sequence numbers have no gap, and owners follow one another.
fn numbers(log: &[Entry], report: &dyn Fn(String)) {
    for (expected, entry) in (1..).zip(log) {
        if entry.seq != expected {
            report(format!("entry {} where {expected} belongs", entry.seq));
        }
    }
    if let Some(pair) = log.windows(2).find(|pair| pair[0].epoch > pair[1].epoch) {
        report(format!("entry {} of an owner before entry {}'s", pair[1].seq, pair[0].seq));
    }
}

/// A prompt as the checker's own queue has it.
struct Waiting {
    prompt: PromptId,
    text: String,
    is_held: bool,
}

/// Every accepted prompt is withdrawn or answered, once, and answered ones in the queue's order.
fn queue(shared: &Shared, log: &[Entry], report: &dyn Fn(String)) {
    let mut waiting: Vec<Waiting> = vec![];
    let mut running: Vec<Waiting> = vec![];
    for entry in log {
        let at = |prompt: &PromptId| waiting.iter().position(|other| other.prompt == *prompt);
        match &entry.event {
            Event::PromptAccepted { prompt, text, .. } => {
                waiting.push(Waiting { prompt: *prompt, text: text.clone(), is_held: false });
            }
            Event::PromptEdited { prompt, text, .. } => match at(prompt) {
                Some(at) => waiting[at].text.clone_from(text),
                None => report(format!("{prompt} was edited and does not wait")),
            },
            Event::PromptWithdrawn { prompt, .. } => match at(prompt) {
                Some(at) => drop(waiting.remove(at)),
                None => report(format!("{prompt} was withdrawn and does not wait")),
            },
            Event::PromptMoved { prompt, before, .. } => match at(prompt) {
                Some(from) => {
                    let moved = waiting.remove(from);
                    let to =
                        before.and_then(|before| waiting.iter().position(|other| other.prompt == before));
                    waiting.insert(to.unwrap_or(waiting.len()), moved);
                }
                None => report(format!("{prompt} was moved and does not wait")),
            },
            Event::QueueHeld { .. } => waiting.iter_mut().for_each(|prompt| prompt.is_held = true),
            Event::QueueReleased { .. } => waiting.iter_mut().for_each(|prompt| prompt.is_held = false),
            Event::TurnStarted { prompts, .. } => {
                running.clear();
                for prompt in prompts {
                    let first = waiting.iter().position(|other| !other.is_held);
                    match first {
                        Some(first) if waiting[first].prompt == *prompt => {
                            running.push(waiting.remove(first));
                        }
                        _ => return report(format!("{prompt} was answered out of turn")),
                    }
                }
            }
            Event::PromptInserted { prompt, .. } => match at(prompt) {
                Some(at) if !waiting[at].is_held => running.push(waiting.remove(at)),
                _ => report(format!("{prompt} was inserted and does not wait, or is held back")),
            },
            Event::TurnFinished { outcome: TurnOutcome::Completed, .. } => {
                for Waiting { prompt, text, .. } in &running {
                    if !shared.heard.has(text) {
                        report(format!("{prompt} was answered, and the model never heard it"));
                    }
                }
            }
            _ => {}
        }
    }
    for Waiting { prompt, .. } in waiting {
        report(format!("{prompt} is never answered"));
    }
}

/// Turns follow one another, each ends once, and a stop ends one.
fn turns(log: &[Entry], report: &dyn Fn(String)) {
    let mut running: Option<TurnId> = None;
    let mut stopping = false;
    let mut known = BTreeSet::new();
    for entry in log {
        match &entry.event {
            Event::TurnStarted { turn, .. } => {
                if running.replace(*turn).is_some() || !known.insert(*turn) {
                    report(format!("turn {turn} began beside another, or again"));
                }
                stopping = false;
            }
            Event::TurnFinished { turn, .. } if running == Some(*turn) => running = None,
            Event::StopRequested { turn, .. } if running == Some(*turn) && !stopping => stopping = true,
            event => {
                if let Some(turn) = event.turn()
                    && running != Some(turn)
                {
                    report(format!("entry {} is of turn {turn}, which does not run", entry.seq));
                }
            }
        }
    }
    if let Some(turn) = running {
        report(format!("turn {turn} never ends"));
    }
}

/// A call runs once at most; if it succeeded, once; what begins after a stop, not at all.
fn tools(log: &[Entry], runs: &BTreeMap<String, u64>, report: &dyn Fn(String)) {
    let mut commands = BTreeMap::new();
    let mut open = BTreeSet::new();
    let mut late = BTreeSet::new();
    let mut is_stopping = false;
    for entry in log {
        match &entry.event {
            Event::AssistantMessage { content, .. } => {
                for part in content {
                    if let Content::ToolCall(call) = part {
                        let command = call.input["command"].as_str().unwrap_or_default().to_owned();
                        commands.insert(call.id.clone(), command);
                    }
                }
            }
            Event::StopRequested { .. } => is_stopping = true,
            Event::TurnStarted { .. } => is_stopping = false,
            Event::ToolStarted { call, .. } => {
                if !open.insert(call.clone()) {
                    report(format!("call {call} began twice"));
                }
                if is_stopping {
                    late.insert(call.clone());
                }
            }
            Event::ToolFinished { call, outcome, .. } => {
                let ran = commands.get(call).and_then(|command| runs.get(command)).copied().unwrap_or(0);
                if ran > 1 || (*outcome == ToolOutcome::Succeeded && ran != 1) {
                    report(format!("call {call} ran {ran} times and is {outcome:?}"));
                }
                if late.contains(call) && ran > 0 {
                    report(format!("call {call} ran after its turn was stopped"));
                }
                if !open.remove(call) && *outcome == ToolOutcome::Succeeded {
                    report(format!("call {call} ended without a beginning"));
                }
            }
            _ => {}
        }
    }
    for call in open {
        report(format!("call {call} never ended"));
    }
}

/// A call asks once, is answered once, and runs only when it was allowed.
fn asks(log: &[Entry], report: &dyn Fn(String)) {
    let mut calls = BTreeMap::new();
    let mut open = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for entry in log {
        match &entry.event {
            Event::AskOpened { ask, call, .. } => {
                open.insert(*ask);
                refused.insert(call.clone());
                if calls.values().any(|known| known == call) || calls.insert(*ask, call.clone()).is_some() {
                    report(format!("call {call} asked twice"));
                }
            }
            Event::AskAnswered { ask, answer, .. } => {
                if !open.remove(ask) {
                    report(format!("{ask} was answered, and is not open"));
                }
                if let (Answer::Once {} | Answer::Always {}, Some(call)) = (answer, calls.get(ask)) {
                    refused.remove(call);
                }
            }
            Event::AskExpired { ask, .. } if !open.remove(ask) => {
                report(format!("{ask} ended, and is not open"));
            }
            Event::ToolFinished { call, outcome: ToolOutcome::Succeeded, .. } if refused.contains(call) => {
                report(format!("call {call} ran without the leave that it asked for"));
            }
            _ => {}
        }
    }
}

/// What people were told of their commands is in the log, and each command did its work once.
fn answers(shared: &Shared, session: SessionId, log: &[Entry], report: &dyn Fn(String)) {
    let head = log.last().map_or(0, |entry| entry.seq);
    for person in &shared.people {
        for said in person.known().said.iter().filter(|said| said.session == session) {
            let Some(answer) = &said.answer else { continue };
            if shared.disk.receipt(session, &said.key).as_ref() != Some(answer) {
                report(format!("{} was answered, and the answer is lost", said.key));
            }
            if answer.seq.is_some_and(|seq| seq > head) {
                report(format!("{} was answered with an entry that does not exist", said.key));
            }
            let expected = usize::from(answer.problem.is_none());
            let done = effects(said, log);
            if done.is_some_and(|done| done != expected) {
                report(format!("{} did its work {done:?} times; answer {answer:?}", said.key));
            }
        }
    }
}

/// How often the command is in the log; `None` where that cannot be told.
fn effects(said: &Said, log: &[Entry]) -> Option<usize> {
    match &said.command {
        Command::Prompt { text, .. } => Some(
            log.iter()
                .filter(|entry| matches!(&entry.event, Event::PromptAccepted { text: found, .. } if found == text))
                .count(),
        ),
        Command::EditPrompt { text, .. } => Some(
            log.iter()
                .filter(|entry| matches!(&entry.event, Event::PromptEdited { text: found, .. } if found == text))
                .count(),
        ),
        _ => None,
    }
}

/// Every screen shows the same in the end.
fn views(shared: &Shared, session: SessionId, log: &[Entry], report: &dyn Fn(String)) {
    let state = folded(log);
    let marks: Vec<(u64, i64)> = log.iter().map(|entry| (entry.epoch, entry.at_ms)).collect();
    for person in &shared.people {
        match person.known().views.get(&session) {
            Some(view) if view.state == state && view.marks == marks => {}
            Some(view) if view.seq == state.head_seq => {
                report(format!("person {} saw what is not in the log, or not all that is", person.number));
            }
            Some(view) => {
                report(format!(
                    "person {} sees entry {} of {} or another state",
                    person.number, view.seq, state.head_seq
                ));
            }
            None => report(format!("person {} sees nothing", person.number)),
        }
    }
}
