//! `session …`

use super::watching::{self, Watched};
use super::{
    Desk, archive, asks, blame, children, context, files, fork, now_ms, outbox, queue, run, search, sharing,
    trees,
};
use crate::cli::{Children, Session};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{BOLD, ago, clean, one_line, paint};
use crate::render::used;
use crate::render::waterfall;
use futures::StreamExt;
use greenroom_domain::{Command, Delivery, Effort, RepositoryName, SessionId};
use greenroom_wire::{Exec, SessionStatus, SessionView, SessionsFrame};
use serde_json::json;

pub(crate) async fn perform(desk: &Desk, verb: Session) -> Result<Exit, Failure> {
    match verb {
        Session::List { repository, follow: true, .. } => follow_list(desk, repository).await,
        Session::List { repository, archived, follow: false } => list(desk, repository, archived).await,
        Session::Search { words, repository } => search::perform(desk, &words, repository.as_ref()).await,
        Session::Archive { session, children: fate } => {
            children::settle(desk, session, fate).await?;
            let said = "The session is archived; its next prompt brings it back.";
            queue::submit(desk, session, &Command::Archive {}, said).await
        }
        Session::Unarchive { session } => {
            queue::submit(desk, session, &Command::Unarchive {}, "The session is in the list again.").await
        }
        Session::Show { session } => show(desk, session).await,
        Session::Follow { session, after } => follow(desk, session, after).await,
        Session::Prompt { session, prompt, insert, attach, detach } => {
            let delivery = if insert { Delivery::Insert } else { Delivery::Queue };
            let files = files::attach(desk, Some(session), &attach).await?;
            run::prompt(desk, session, run::Words { text: prompt, files }, delivery, detach).await
        }
        Session::Queue(verb) => queue::perform(desk, verb).await,
        Session::People(verb) => sharing::people(desk, verb).await,
        Session::Share(verb) => sharing::share(desk, verb).await,
        Session::Join { link } => sharing::join(desk, &link).await,
        Session::Stop { session, only_children: true, .. } => children::stop(desk, session).await,
        Session::Stop { session, hold, children, .. } => {
            let fate = children.then_some(Children::Stop);
            children::settle(desk, session, fate).await?;
            stop(desk, session, hold).await
        }
        Session::Asks { session } => asks::list(desk, session).await,
        Session::Answer { session, ask, words } => asks::answer(desk, session, ask, &words).await,
        Session::Context { session } => context::perform(desk, session).await,
        Session::Compact { session } => {
            let said = "The conversation is being summarised; `session follow` shows it.";
            queue::submit(desk, session, &Command::Compact {}, said).await
        }
        Session::Rename { session, title } => {
            let said = "The session has another title.";
            queue::submit(desk, session, &Command::Rename { title }, said).await
        }
        Session::Model { session, model, effort, default } => {
            let effort = effort.map(Into::into);
            choose_model(desk, session, model, effort, default).await
        }
        Session::Diff { session, turn, step } => trees::diff(desk, session, turn, step).await,
        Session::Steps { session } => trees::steps(desk, session).await,
        Session::Revert { session, to, dry_run: true, .. } => trees::dry_run(desk, session, to).await,
        Session::Revert { session, to, key, .. } => trees::revert(desk, session, to, key).await,
        Session::Blame { session, file } => blame::blame(desk, session, &file).await,
        Session::Trace { session, turn } => {
            let turns = desk.client.session_trace(session, turn).await?;
            desk.out.document(&turns, |turns| waterfall::text(turns))?;
            Ok(Exit::Done)
        }
        Session::Outbox { session, retry } => outbox::perform(desk, session, retry).await,
        Session::Exec { session, timeout, command } => exec(desk, session, timeout, command).await,
        Session::Fork(arguments) => fork::fork(desk, arguments).await,
        Session::Export { session, file } => archive::export(desk, session, &file).await,
        Session::Import { file, repository, key } => {
            archive::import(desk, &file, repository.as_ref(), key).await
        }
        Session::Artifacts { session, download: Some(number), to } => {
            files::download(desk, session, number, to).await
        }
        Session::Artifacts { session, download: None, .. } => files::list(desk, session).await,
        Session::Snapshots { session } => fork::snapshots(desk, session).await,
        Session::Tree { session } => children::tree(desk, session).await,
        Session::Delete { session, children: fate } => {
            children::settle(desk, session, fate).await?;
            desk.client.delete_session(session).await?;
            desk.out.document(&json!({ "deleted": session }), |_| format!("{session} is deleted.\n"))?;
            Ok(Exit::Done)
        }
    }
}

async fn list(desk: &Desk, repository: Option<RepositoryName>, archived: bool) -> Result<Exit, Failure> {
    let mut sessions =
        if archived { desk.client.archived_sessions().await? } else { desk.client.sessions().await? };
    sessions.retain(|session| repository.as_ref().is_none_or(|name| *name == session.repository));
    desk.out.document(&sessions, |sessions| table(sessions))?;
    Ok(Exit::Done)
}

fn table(sessions: &[SessionView]) -> String {
    let now = now_ms();
    let head = ["SESSION", "REPOSITORY", "STATUS", "BY", "UPDATED", "TITLE"];
    let empty = "No session yet. Start one: greenroom run REPOSITORY \"what to do\"";
    let table = Table::new(&head, empty).rows(sessions, |session| {
        vec![
            session.id.to_string(),
            session.repository.to_string(),
            status(session).to_owned(),
            one_line(&session.created_by_name, 24),
            ago(session.updated_at_ms, now),
            marked(session),
        ]
    });
    table.text()
}

/// The title, with a mark where another session began it.
fn marked(session: &SessionView) -> String {
    let mark = if session.parent.is_some() { "↳ " } else { "" };
    format!("{mark}{}", one_line(&session.title, 60))
}

async fn follow_list(desk: &Desk, repository: Option<RepositoryName>) -> Result<Exit, Failure> {
    let mut frames = desk.client.follow_sessions(repository);
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame.expect("the list's stream ends with an error only")?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        };
        desk.out.json_line(&frame)?;
        desk.out.text(&list_text(&frame))?;
    }
}

/// The table once, then a line for each change.
fn list_text(frame: &SessionsFrame) -> String {
    match frame {
        SessionsFrame::Snapshot { sessions, .. } => table(sessions),
        SessionsFrame::Changed { session } if session.is_archived => {
            format!("{}  is archived\n", session.id)
        }
        SessionsFrame::Changed { session } => format!(
            "{}  {}  {}  {}\n",
            session.id,
            session.repository,
            status(session),
            one_line(&session.title, 60)
        ),
        SessionsFrame::Removed { session } => format!("{session}  is gone\n"),
        // One's own, for pages that show them.
        SessionsFrame::Read(_) | SessionsFrame::Draft(_) => String::new(),
        SessionsFrame::Error { problem } => format!("{problem}\n"),
    }
}

pub(super) fn status(session: &SessionView) -> &'static str {
    match session.status {
        _ if session.open_asks > 0 => "waiting",
        SessionStatus::Idle => "idle",
        SessionStatus::Running => "running",
        SessionStatus::Failed => "failed",
    }
}

async fn show(desk: &Desk, id: SessionId) -> Result<Exit, Failure> {
    let session = desk.client.session(id).await?;
    desk.out.document(&session, |session| describe(desk, session))?;
    Ok(Exit::Done)
}

fn describe(desk: &Desk, session: &SessionView) -> String {
    let change = session.change.as_ref().map_or("none yet".to_owned(), |change| {
        format!("#{}, {}", change.number, super::change::status(change.state))
    });
    let waiting = match session.queued_prompts {
        0 => String::new(),
        waiting => format!(", {waiting} prompts wait"),
    };
    let asks = if session.open_asks == 0 { "" } else { ", waits for people: see `session asks`" };
    let lines = [
        ("Session", session.id.to_string()),
        ("Page", desk.page(&format!("/sessions/{}", session.id))),
        ("Repository", session.repository.to_string()),
        ("Branch", session.branch.to_string()),
        ("Status", format!("{}{waiting}{asks}", status(session))),
        ("Started by", started_by(session)),
        ("Model", model(session)),
        ("Used", used(&session.usage)),
        ("Change", change),
    ];
    let mut text = format!("{}\n", paint(BOLD, one_line(&session.title, 120)));
    lines.iter().for_each(|(name, value)| text.push_str(&format!("{name:<11} {value}\n")));
    text
}

fn started_by(session: &SessionView) -> String {
    let name = one_line(&session.created_by_name, 60);
    session.parent.map_or(name.clone(), |parent| format!("{name}, by session {parent}"))
}

fn model(session: &SessionView) -> String {
    let name = session.model.as_deref().map_or("the default".to_owned(), |model| one_line(model, 60));
    match session.effort {
        Some(effort) => format!("{name}, effort {}", effort.as_str()),
        None => name,
    }
}

async fn follow(desk: &Desk, id: SessionId, after: u64) -> Result<Exit, Failure> {
    match watching::session(desk, id, after, None).await? {
        Watched::Interrupted => Ok(Exit::Interrupted),
        Watched::Answered(_) => Ok(Exit::Done),
    }
}

async fn stop(desk: &Desk, id: SessionId, hold_queue: bool) -> Result<Exit, Failure> {
    let said = match hold_queue {
        true => "The turn is being stopped; what was done is kept. What waits is held back.",
        false => "The turn is being stopped; what was done is kept.",
    };
    queue::submit(desk, id, &Command::Stop { hold_queue }, said).await
}

async fn choose_model(
    desk: &Desk,
    id: SessionId,
    model: Option<String>,
    effort: Option<Effort>,
    is_default: bool,
) -> Result<Exit, Failure> {
    let model = match model {
        None if !is_default && effort.is_some() => desk.client.session(id).await?.model,
        None if !is_default => {
            return Err(Failure::usage(
                "Nothing is chosen.",
                "Name a model, or give --effort or --default; `greenroom model list` lists the models.",
            ));
        }
        named => named,
    };
    let said = "The next turn is answered so.";
    queue::submit(desk, id, &Command::ChooseModel { model, effort }, said).await
}

async fn exec(
    desk: &Desk,
    id: SessionId,
    timeout_s: Option<u64>,
    command: Vec<String>,
) -> Result<Exit, Failure> {
    let body = Exec { command: shell_line(&command)?, timeout_ms: timeout_s.map(|seconds| seconds * 1000) };
    let result = desk.client.exec(id, &body).await?;
    desk.out.document(&result, |result| {
        let mut text = clean(&result.output).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    })?;
    if result.is_truncated {
        desk.out.progress("Part of the output is left out: it was too long.\n");
    }
    if let Some(by) = &result.ended_by {
        desk.out.progress(&format!("The command was ended: {}.\n", clean(by)));
    }
    Ok(result.exit_code.map_or(Exit::Failed, |code| Exit::Program(u8::try_from(code).unwrap_or(1))))
}

/// One argument is a line of shell as it is; several keep their borders.
fn shell_line(command: &[String]) -> Result<String, Failure> {
    match command {
        [line] => Ok(line.clone()),
        words => shlex::try_join(words.iter().map(String::as_str)).map_err(|_| {
            Failure::usage("An argument holds a NUL character.", "No program can be given one.")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_argument_is_shell_and_several_are_words() {
        let line =
            |words: &[&str]| shell_line(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(line(&["ls | wc -l"]), "ls | wc -l");
        assert_eq!(line(&["echo", "a b", "$HOME", "it's"]), r#"echo 'a b' '$HOME' "it's""#);
    }
}
