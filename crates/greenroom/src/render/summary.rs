//! Entries of the log that are shown as one or a few lines of their own.

use super::table::Table;
use super::text::{BAD, BOLD, DIM, GOOD, NOTE, WARN, clean, dollars, duration, grouped, one_line, paint};
use greenroom_domain::event::{
    CompactionReason, SandboxPhase, ServicePhase, StartStage, TimelineMark, TodoItem, TodoStatus, TurnOutcome,
};
use greenroom_domain::money::Usage;
use greenroom_domain::{Event, Problem, SessionRole, TeamAccess};
use greenroom_wire::{Presence, PresentPerson};
use std::fmt::Write as _;

const TITLE_CHARS: usize = 160;

/// The sentence and its hint.
pub(crate) fn problem(problem: &Problem) -> String {
    let mut text = paint(BAD, clean(&problem.message));
    if let Some(hint) = &problem.hint {
        let _ = write!(text, "\n  {}", clean(hint));
    }
    if let Some(detail) = &problem.detail {
        let detail = clean(detail.trim_end()).replace('\n', "\n    ");
        let _ = write!(text, "\n    {}", paint(DIM, detail));
    }
    let _ = write!(text, "\n  {}", paint(DIM, format!("({})", problem.code)));
    text
}

/// Who is here and with what; empty while it is one person.
pub(crate) fn here(presence: &Presence) -> String {
    if presence.people.len() < 2 {
        return String::new();
    }
    let person = |one: &PresentPerson| {
        let clients: Vec<_> = one.clients.iter().map(|client| client.as_str()).collect();
        format!("{} ({})", one_line(&one.name, 60), clients.join(", "))
    };
    let people: Vec<_> = presence.people.iter().map(person).collect();
    let more = if presence.more == 0 { String::new() } else { format!(" and {} more", presence.more) };
    format!("Here: {}{more}", people.join(", "))
}

/// Who takes part from now on, and by whom.
fn taking_part(event: &Event) -> Option<String> {
    Some(match event {
        Event::ParticipantChanged { person, name, role: None, by, .. } if person == by => {
            format!("{} left the session.", one_line(name, 60))
        }
        Event::ParticipantChanged { name, role: None, by_name, .. } => {
            format!("{} removed {} from the session.", one_line(by_name, 60), one_line(name, 60))
        }
        Event::ParticipantChanged { name, role: Some(role), link: Some(_), .. } => {
            let what = if *role == SessionRole::Viewer { "look" } else { "take part" };
            format!("{} came by a link, to {what}.", one_line(name, 60))
        }
        Event::ParticipantChanged { name, role: Some(role), by_name, .. } => {
            let what = match role {
                SessionRole::Viewer => "a viewer",
                SessionRole::Contributor => "a contributor",
                SessionRole::Owner => "an owner",
            };
            format!("{} made {} {what} of the session.", one_line(by_name, 60), one_line(name, 60))
        }
        Event::TeamAccessChanged { access, name, .. } => {
            let what = match access {
                TeamAccess::Contribute => "opened the session for everyone to take part",
                TeamAccess::View => "opened the session for everyone to look",
                TeamAccess::None => "made the session private",
            };
            format!("{} {what}.", one_line(name, 60))
        }
        Event::ShareLinkRevoked { name, .. } => {
            format!("{} revoked a link; who was here only by it is not any more.", one_line(name, 60))
        }
        _ => return None,
    })
}

/// `None` for what has no line: it is shown elsewhere, or matters to programs only.
pub(crate) fn note(event: &Event) -> Option<String> {
    Some(match event {
        Event::SessionCreated { repository_name, branch, base_branch, imported_from, .. } => {
            let imported = imported_from.as_ref().map_or_else(String::new, |point| {
                format!(" · imported, exported by {}", one_line(&point.exported_by, TITLE_CHARS))
            });
            paint(DIM, format!("{repository_name} · {branch} from {base_branch}{imported}"))
        }
        Event::ModelRetry { attempt, wait_ms, problem, .. } => {
            let message = one_line(&problem.message, TITLE_CHARS);
            paint(WARN, format!("{message} Trying again in {} (attempt {attempt}).", duration(*wait_ms)))
        }
        Event::ModelFallback { from, to, problem, .. } => {
            let message = one_line(&problem.message, TITLE_CHARS);
            paint(WARN, format!("{message} {} goes on instead of {}.", one_line(to, 60), one_line(from, 60)))
        }
        Event::ModelChosen { model, effort, name, .. } => {
            let model = model.as_deref().map_or("the default model".to_owned(), |model| one_line(model, 60));
            let effort = effort.map_or(String::new(), |effort| format!(", effort {}", effort.as_str()));
            paint(DIM, format!("{} chose {model}{effort} for the next turns.", one_line(name, 60)))
        }
        Event::PromptEdited { .. } => paint(DIM, "A waiting prompt was edited."),
        Event::PromptWithdrawn { .. } => paint(DIM, "A waiting prompt was withdrawn."),
        Event::PromptMoved { .. } => paint(DIM, "A waiting prompt was moved."),
        Event::ParticipantChanged { .. }
        | Event::TeamAccessChanged { .. }
        | Event::ShareLinkRevoked { .. } => paint(DIM, taking_part(event)?),
        Event::QueueHeld { name, .. } => {
            paint(WARN, format!("{} held back the prompts that wait.", one_line(name, 60)))
        }
        Event::QueueReleased { name, .. } => {
            paint(DIM, format!("{} released the prompts that were held back.", one_line(name, 60)))
        }
        Event::CommandsBegun { by } => {
            paint(DIM, format!("{} runs commands in the sandbox.", one_line(&by.name, 60)))
        }
        Event::ChildSpawned { child, request, .. } => {
            let (repository, title) = (&request.repository, one_line(&request.title, TITLE_CHARS));
            paint(DIM, format!("It began session {child} in {repository}: {title}."))
        }
        Event::ChildEnded { child, end, .. } => {
            let change = end.change.map_or(String::new(), |number| format!(", change #{number}"));
            paint(DIM, format!("Session {child}, begun here, has ended: {}{change}.", end.outcome.as_str()))
        }
        Event::ChildrenStopRequested { name, .. } => {
            paint(WARN, format!("{} has the sessions begun here stopped.", one_line(name, 60)))
        }
        Event::ChildrenReleased { name, .. } => {
            paint(DIM, format!("{} lets the sessions begun here go on alone.", one_line(name, 60)))
        }
        Event::ContextPruned { calls, tokens, .. } => {
            let outputs = if calls.len() == 1 { "output" } else { "outputs" };
            let count = grouped(calls.len() as u64);
            let saved = grouped(*tokens);
            paint(
                DIM,
                format!("{count} older {outputs} of tools left the model's view, about {saved} tokens."),
            )
        }
        Event::CompactionRequested { author, .. } => {
            paint(DIM, format!("{} asked for a summary.", one_line(&author.name, 60)))
        }
        Event::CompactionStarted { reason, .. } => {
            let why = match reason {
                CompactionReason::WindowFull => "The model's window is full. ",
                CompactionReason::Overflow => "The provider says that the conversation is too long. ",
                CompactionReason::Asked => "",
            };
            paint(NOTE, format!("{why}Summarising the conversation for the model."))
        }
        Event::ContextCompacted { tokens_before, tokens_after, .. } => {
            let (before, after) = (grouped(*tokens_before), grouped(*tokens_after));
            paint(DIM, format!("The model goes on from a summary: {before} tokens before, {after} now."))
        }
        Event::TodoChanged { items, .. } => todo(items),
        Event::ArtifactPublished { file, title, .. } => {
            let about = format!("{title} ({}, {} bytes)", file.name, file.bytes);
            paint(NOTE, format!("Published: {}", one_line(&about, TITLE_CHARS)))
        }
        Event::SandboxChanged { state, problem, .. } => sandbox(*state, problem.as_ref())?,
        Event::Synced { changed_count, rerun_steps, .. } => synced(*changed_count, rerun_steps)?,
        Event::ServiceChanged { name, state: ServicePhase::Failed, problem: failure } => {
            let line = paint(WARN, format!("The service {} failed.", one_line(name, 60)));
            failure.as_ref().map_or(line.clone(), |failure| format!("{line}\n{}", problem(failure)))
        }
        Event::EgressDenied { host, port, reason } => {
            let host = one_line(host, TITLE_CHARS);
            let why = reason.map_or(String::new(), |reason| format!(": {}", reason.words()));
            paint(WARN, format!("Network: {host}:{port} was refused{why}."))
        }
        Event::ChangeOpened { number, title, branch, author, .. } => {
            let author = one_line(&author.name, 60);
            change(*number, &format!("opened by {author} from {branch}: {}", one_line(title, TITLE_CHARS)))
        }
        Event::ChangeUpdated { number, commit, .. } => {
            change(*number, &format!("is now at {}", &commit.as_str()[..10]))
        }
        Event::ChangeApproved { number, name, .. } => {
            change(*number, &format!("approved by {}", one_line(name, 60)))
        }
        Event::ChangeMerged { number, name, commit, .. } => {
            let commit = &commit.as_str()[..10];
            change(*number, &format!("merged by {} as {commit}", one_line(name, 60)))
        }
        Event::SessionArchived { name, .. } => {
            paint(DIM, format!("{} archived this session.", one_line(name, 60)))
        }
        Event::SessionUnarchived { name, .. } => {
            paint(DIM, format!("{} brought this session back.", one_line(name, 60)))
        }
        Event::DeadLetterAdded { consumer, problem: failure } => {
            let line = paint(WARN, format!("The {} could not be told of this session.", consumer.as_str()));
            format!("{line}\n{}", problem(failure))
        }
        Event::DeadLetterRetried { consumer, name, .. } => {
            paint(DIM, format!("{} has the {} told again.", one_line(name, 60), consumer.as_str()))
        }
        Event::DeadLetterSettled { consumer } => {
            paint(DIM, format!("The {} was told after all.", consumer.as_str()))
        }
        Event::StopRequested { name, .. } => paint(WARN, format!("{} asked to stop.", one_line(name, 60))),
        other => return super::asks::note(other),
    })
}

/// `None` when the newest commits changed nothing.
fn synced(changed: u64, rerun: &[String]) -> Option<String> {
    if changed == 0 {
        return None;
    }
    let again = match rerun {
        [] => String::new(),
        steps => format!(" Ran again: {}.", one_line(&steps.join(", "), TITLE_CHARS)),
    };
    Some(paint(DIM, format!("Synced with the base branch: {changed} files changed.{again}")))
}

fn change(number: u64, what: &str) -> String {
    format!("{} {what}", paint(BOLD, format!("Change #{number}")))
}

fn todo(items: &[TodoItem]) -> String {
    let line = |item: &TodoItem| {
        let text = one_line(&item.text, TITLE_CHARS);
        match item.status {
            TodoStatus::Done => paint(DIM, format!("[x] {text}")),
            TodoStatus::InProgress => paint(NOTE, format!("[~] {text}")),
            TodoStatus::Pending => format!("[ ] {text}"),
        }
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn sandbox(state: SandboxPhase, failure: Option<&Problem>) -> Option<String> {
    if let Some(failure) = failure {
        return Some(problem(failure));
    }
    match state {
        SandboxPhase::WaitingForImage => {
            Some(paint(DIM, "Waiting for the repository's first image to be built."))
        }
        SandboxPhase::Lost => Some(paint(WARN, "The sandbox was lost; files up to the last write are kept.")),
        SandboxPhase::Failed => Some(paint(BAD, "The sandbox could not be started.")),
        SandboxPhase::Claiming
        | SandboxPhase::Restoring
        | SandboxPhase::Syncing
        | SandboxPhase::Ready
        | SandboxPhase::Stopped => None,
    }
}

/// The end of a turn: its outcome, what it used.
pub(crate) fn turn(outcome: &TurnOutcome, usage: &Usage, duration_ms: u64) -> String {
    let took = duration(duration_ms);
    let first = match outcome {
        TurnOutcome::Completed => paint(GOOD, format!("Completed in {took}.")),
        TurnOutcome::Stopped => paint(WARN, format!("Stopped after {took}; what was done is kept.")),
        TurnOutcome::Failed { problem: failure } | TurnOutcome::BudgetReached { problem: failure } => {
            problem(failure)
        }
    };
    format!("{first}\n{}", paint(DIM, used(usage)))
}

/// Tokens and cost in words. An unknown price is said, never shown as zero.
pub(crate) fn used(usage: &Usage) -> String {
    if usage.requests == 0 {
        return "No model was called.".to_owned();
    }
    let input = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    let cost =
        if usage.cost_microusd == 0 { "price unknown".to_owned() } else { dollars(usage.cost_microusd) };
    let requests =
        if usage.requests == 1 { "1 request".to_owned() } else { format!("{} requests", usage.requests) };
    format!(
        "{requests} · {} tokens in ({} from the cache) · {} out · {cost}",
        grouped(input),
        grouped(usage.cache_read_tokens),
        grouped(usage.output_tokens)
    )
}

/// How the turn's start went, in the order it happened.
pub(crate) fn timeline(marks: &[TimelineMark]) -> String {
    let mut table = Table::new(&["START", "MS"], "No timeline was recorded.").right(&[1]);
    for mark in marks {
        table.row([stage(mark.stage).to_owned(), format!("{:.1}", mark.at_us as f64 / 1000.0)]);
    }
    table.text()
}

fn stage(stage: StartStage) -> &'static str {
    match stage {
        StartStage::Queued => "queued",
        StartStage::Committed => "committed",
        StartStage::ModelCalled => "model called",
        StartStage::FirstToken => "first token",
        StartStage::Claimed => "sandbox claimed",
        StartStage::Restored => "files restored",
        StartStage::Synced => "synced with the base branch",
    }
}
