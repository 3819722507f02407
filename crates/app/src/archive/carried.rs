//! What an imported session takes over of a log from elsewhere: the conversation, as a fork does, and nothing that could act
//! or that speaks of what is not here. Pure.

use crate::fork::conversation;
use greenroom_domain::command::PROMPT_LIMIT;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Author, Entry, Event, ModelChoice, PersonId, Problem, SessionState, TeamAccess, TurnId,
};

/// Longest name or address of a person.
const NAME_LIMIT: usize = 200;

/// The log's conversation, at rest.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) events: Vec<Event>,
    pub(super) title: String,
    pub(super) team_access: TeamAccess,
    pub(super) choice: ModelChoice,
    /// The last turn.
    pub(super) turn: Option<TurnId>,
}

/// Who somebody of the log is here.
pub(super) trait People {
    fn author(&mut self, author: &Author) -> Author;
    fn person(&mut self, person: PersonId) -> PersonId;
}

pub(super) fn carried(entries: &[Entry], people: &mut impl People) -> Result<Carried, Problem> {
    let (mut title, mut team_access) = (String::new(), TeamAccess::default());
    let mut choice = ModelChoice::default();
    for entry in entries {
        match &entry.event {
            Event::SessionCreated { title: first, team_access: access, model, effort, .. } => {
                choice = ModelChoice { model: model.clone(), effort: *effort };
                title.clone_from(first);
                team_access = *access;
            }
            Event::ModelChosen { model, effort, .. } => {
                choice = ModelChoice { model: model.clone(), effort: *effort };
            }
            Event::TitleChanged { title: later, .. } => title.clone_from(later),
            Event::TeamAccessChanged { access, .. } => team_access = *access,
            _ => {}
        }
    }
    let mut events = vec![];
    for event in conversation(entries) {
        events.extend(here(event, people)?);
    }
    let mut state = state_of(&events);
    if let Some(running) = &state.running {
        // It ran when the session was exported; nobody goes on with it here.
        let turn = running.turn;
        let mut ending = state.interruption();
        let outcome = TurnOutcome::Stopped;
        ending.push(Event::TurnFinished { turn, outcome, usage: Usage::default(), duration_ms: 0 });
        events.extend(ending);
        state = state_of(&events);
    }
    if state.running.is_some() || !state.queue.is_empty() {
        return Err(super::damaged("its log is no conversation that came to rest"));
    }
    Ok(Carried { events, title, team_access, choice, turn: state.last_turn })
}

fn state_of(events: &[Event]) -> SessionState {
    let mut state = SessionState::default();
    for (event, seq) in events.iter().zip(1..) {
        let _effects = state.step(&Entry { seq, at_ms: 0, epoch: 1, event: event.clone() });
    }
    state
}

/// `None`: it stays where it was.
fn here(event: Event, people: &mut impl People) -> Result<Option<Event>, Problem> {
    Ok(Some(match event {
        Event::PromptAccepted { prompt, author, text, delivery, attachments } => {
            check_prompt(&text)?;
            check_person(&author)?;
            Event::PromptAccepted { prompt, author: people.author(&author), text, delivery, attachments }
        }
        Event::PromptEdited { prompt, text, by } => {
            check_prompt(&text)?;
            Event::PromptEdited { prompt, text, by: people.person(by) }
        }
        Event::CommandsBegun { by } => {
            check_person(&by)?;
            Event::CommandsBegun { by: people.author(&by) }
        }
        // What a provider wants back word by word is sealed for the account that it was said to, and a file could hold
        // anything in it.
        Event::AssistantMessage { turn, content, blocks, stop_reason, usage, model, .. } => {
            Event::AssistantMessage { turn, content, blocks, raw: None, stop_reason, usage, model }
        }
        // Of commits in a clone that stayed there.
        Event::FilesMarked { .. }
        | Event::StepTree { .. }
        | Event::RevertRequested { .. }
        | Event::RevertBegun { .. }
        | Event::Reverted { .. }
        | Event::RevertFailed { .. } => return Ok(None),
        other => other,
    }))
}

fn check_prompt(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() || text.len() > PROMPT_LIMIT {
        return Err(super::damaged("a prompt in its log is none that anybody could send"));
    }
    Ok(())
}

/// Names and addresses become lines of commit messages.
fn check_person(author: &Author) -> Result<(), Problem> {
    let is_line = |text: &str| text.chars().count() <= NAME_LIMIT && !text.chars().any(char::is_control);
    let is_address = is_line(&author.email) && !author.email.contains(['<', '>', ' ']);
    if author.name.trim().is_empty()
        || !is_line(&author.name)
        || author.name.contains(['<', '>'])
        || !is_address
    {
        return Err(super::damaged("an author in its log has no name or address that a person can have"));
    }
    Ok(())
}
