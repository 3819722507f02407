//! `run` and `session prompt`: ask, watch until the answer, say where the change is.

use super::watching::{self, Watched};
use super::{Desk, files, prompt_text};
use crate::cli::Run;
use crate::exit::{Exit, Failure};
use crate::render::progress;
use crate::watch::{Answered, Awaited, TurnWatch};
use greenroom_client::new_key;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{AttachmentRef, Command, Delivery, SessionId, TeamAccess};
use greenroom_wire::{CreateSession, SessionView};
use serde::Serialize;

/// The lines that `--json` adds around the frames.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
enum Line<'a> {
    Session {
        session: &'a SessionView,
        url: String,
    },
    Result {
        session: &'a SessionView,
        outcome: Option<&'a TurnOutcome>,
        exit_code: u8,
        change_url: Option<String>,
    },
}

pub(crate) async fn run(desk: &Desk, arguments: Run) -> Result<Exit, Failure> {
    let attachments = files::attach(desk, None, &arguments.attach).await?;
    let body = CreateSession {
        repository: arguments.repository,
        attachments,
        prompt: Some(prompt_text(arguments.prompt)?),
        title: arguments.title,
        model: arguments.model,
        effort: arguments.effort.map(Into::into),
        base_branch: arguments.base.map(|base| base.as_str().to_owned()),
        budget: None,
        team_access: if arguments.private { TeamAccess::None } else { TeamAccess::default() },
    };
    let session = desk.client.create_session(&new_key(), &body).await?;
    begun(desk, &session, 0, arguments.detach).await
}

/// A prompt with the files that go along.
pub(super) struct Words {
    pub(super) text: String,
    pub(super) files: Vec<AttachmentRef>,
}

/// Another prompt to a session that is there.
pub(super) async fn prompt(
    desk: &Desk,
    id: SessionId,
    words: Words,
    delivery: Delivery,
    is_detached: bool,
) -> Result<Exit, Failure> {
    let before = desk.client.session(id).await?.head_seq;
    let command = Command::Prompt { text: prompt_text(words.text)?, delivery, attachments: words.files };
    let receipt = desk.client.submit(id, &new_key(), &command).await?;
    if let Some(problem) = receipt.problem {
        return Err(problem.into());
    }
    if is_detached {
        desk.out.document(&receipt, |_| "The session has it.\n".to_owned())?;
        return Ok(Exit::Done);
    }
    watch(desk, id, before, Awaited::UpTo(receipt.seq.unwrap_or(before + 1))).await
}

fn detached(desk: &Desk, session: &SessionView) -> Result<Exit, Failure> {
    desk.out.document(session, |session| {
        let url = desk.page(&format!("/sessions/{}", session.id));
        format!("{url}\nWatch it: greenroom session follow {}\n", session.id)
    })?;
    Ok(Exit::Done)
}

/// Prints where a session is, and, unless it is detached, watches its first own turn to the end.
pub(super) async fn begun(
    desk: &Desk,
    session: &SessionView,
    after: u64,
    is_detached: bool,
) -> Result<Exit, Failure> {
    if is_detached {
        return detached(desk, session);
    }
    let url = desk.page(&format!("/sessions/{}", session.id));
    desk.out.json_line(&Line::Session { session, url: url.clone() })?;
    desk.out.progress(&format!("{}\n\n", progress(&url)));
    watch(desk, session.id, after, Awaited::First).await
}

async fn watch(desk: &Desk, id: SessionId, after: u64, awaited: Awaited) -> Result<Exit, Failure> {
    let answered = match watching::session(desk, id, after, Some(TurnWatch::new(awaited))).await? {
        Watched::Answered(answered) => answered,
        Watched::Interrupted => {
            let again = format!("The session goes on. Watch it: greenroom session follow {id}");
            let stop = format!("Stop it: greenroom session stop {id}");
            desk.out.progress(&format!("\n{}\n{}\n", progress(&again), progress(&stop)));
            return Ok(Exit::Interrupted);
        }
    };
    let (outcome, exit) = match &answered {
        Answered::Finished(outcome) => (Some(outcome), Exit::of_turn(outcome)),
        Answered::Withdrawn => (None, Exit::Stopped),
    };
    let session = desk.client.session(id).await?;
    let change_url = session.change.as_ref().map(|change| desk.page(&format!("/changes/{}", change.id)));
    if let (Some(url), Some(change)) = (&change_url, &session.change) {
        desk.out.text(&format!("\nChange #{}: {url}\n", change.number))?;
    }
    desk.out.json_line(&Line::Result { session: &session, outcome, exit_code: exit.code(), change_url })?;
    Ok(exit)
}
