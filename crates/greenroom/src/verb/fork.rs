//! `session fork` and `session snapshots`.

use super::{Desk, now_ms, prompt_text, run};
use crate::cli::{Fork, TurnName};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::ago;
use greenroom_client::new_key;
use greenroom_domain::event::SnapshotReason;
use greenroom_domain::{Entry, Event, SessionId, TurnId};
use greenroom_wire::ForkSession;

const PAGE: u32 = 1000;

pub(crate) async fn fork(desk: &Desk, arguments: Fork) -> Result<Exit, Failure> {
    let turn = match arguments.turn {
        None => None,
        Some(TurnName::Id(turn)) => Some(turn),
        Some(TurnName::Number(number)) => Some(turn_of(desk, arguments.session, number).await?),
    };
    let prompt = arguments.prompt.map(prompt_text).transpose()?;
    let has_prompt = prompt.is_some();
    let body = ForkSession { turn, title: arguments.title, prompt };
    let session = desk.client.fork_session(&new_key(), arguments.session, &body).await?;
    // The sandbox's first word follows what was taken over.
    let is_border = |entry: &Entry| matches!(entry.event, Event::SandboxChanged { .. });
    let border = if has_prompt { find(desk, session.id, is_border).await? } else { None };
    run::begun(desk, &session, border.map_or(0, |entry| entry.seq), arguments.detach || !has_prompt).await
}

pub(super) async fn turn_of(desk: &Desk, session: SessionId, number: usize) -> Result<TurnId, Failure> {
    let mut left = number;
    let is_it = |entry: &Entry| {
        left -= usize::from(matches!(entry.event, Event::TurnStarted { .. }));
        left == 0
    };
    match find(desk, session, is_it).await?.map(|entry| entry.event) {
        Some(Event::TurnStarted { turn, .. }) => Ok(turn),
        _ => Err(Failure::usage(
            format!("The session has no turn {number}."),
            "`greenroom session follow` shows its turns; `--turn` takes their ids too.",
        )),
    }
}

/// The first entry of a log that is looked for.
async fn find(
    desk: &Desk,
    session: SessionId,
    mut is_it: impl FnMut(&Entry) -> bool,
) -> Result<Option<Entry>, Failure> {
    let mut after = 0;
    loop {
        let page = desk.client.entries(session, after, PAGE).await?.entries;
        let Some(last) = page.last() else { return Ok(None) };
        after = last.seq;
        if let Some(found) = page.into_iter().find(&mut is_it) {
            return Ok(Some(found));
        }
    }
}

pub(crate) async fn snapshots(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let snapshots = desk.client.session_environment(session).await?.snapshots;
    let now = now_ms();
    desk.out.document(&snapshots, |snapshots| {
        let head = ["SNAPSHOT", "TAKEN", "WHEN", "TURN"];
        let empty = "No snapshot: no turn of this session has changed a file yet.";
        let table = Table::new(&head, empty).rows(snapshots, |snapshot| {
            vec![
                snapshot.id.to_string(),
                ago(snapshot.at_ms, now),
                reason(snapshot.reason).to_owned(),
                snapshot.turn.map_or_else(String::new, |turn| turn.to_string()),
            ]
        });
        table.text()
    })?;
    Ok(Exit::Done)
}

fn reason(reason: SnapshotReason) -> &'static str {
    match reason {
        SnapshotReason::Turn => "a turn ended",
        SnapshotReason::Exit => "the sandbox ended",
        SnapshotReason::OutOfMemory => "memory ran out",
    }
}
