//! `session diff`, `session steps` and `session revert`.

use super::fork::turn_of;
use super::{Desk, now_ms};
use crate::cli::TurnName;
use crate::exit::{Exit, Failure};
use crate::render::diff;
use crate::render::table::Table;
use crate::render::text::ago;
use greenroom_client::new_key;
use greenroom_domain::event::StepOf;
use greenroom_domain::{Command, CommandId, Entry, ErrorCode, Event, Problem, SessionId};
use greenroom_wire::{SessionStep, SessionSteps, TreesOf};
use serde_json::json;
use std::time::Duration;

const PAGE: u32 = 1000;
/// Longer than the server lets it take.
const REVERT_PATIENCE: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn diff(
    desk: &Desk,
    session: SessionId,
    turn: Option<TurnName>,
    step: Option<u64>,
) -> Result<Exit, Failure> {
    let of = match (turn, step) {
        (Some(TurnName::Id(turn)), _) => Some(TreesOf::Turn(turn)),
        (Some(TurnName::Number(number)), _) => Some(TreesOf::Turn(turn_of(desk, session, number).await?)),
        (None, step) => step.map(TreesOf::Step),
    };
    let files = match of {
        Some(of) => desk.client.tree_diff(session, of).await?,
        None => desk.client.session_diff(session).await?,
    };
    desk.out.document(&files, |files| diff::files(files))?;
    Ok(Exit::Done)
}

pub(super) async fn steps(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let found = desk.client.session_steps(session, None).await?;
    desk.out.document(&found, table)?;
    Ok(Exit::Done)
}

fn table(found: &SessionSteps) -> String {
    let head = ["STEP", "BY", "FILES", "LINES", "WHEN"];
    let now_ms = now_ms();
    let rows = |step: &SessionStep| {
        let is_at = if step.is_current { " *" } else { "" };
        vec![
            format!("{}{is_at}", step.step),
            whose(step),
            step.files.to_string(),
            format!("+{} -{}", step.additions, step.deletions),
            ago(step.at_ms, now_ms),
        ]
    };
    let table = Table::new(&head, "No step has changed files yet.").rows(&found.steps, rows).text();
    match found.forward {
        Some(step) => {
            format!("{table}Files were put back; `session revert --forward` leads to step {step}.\n")
        }
        None => table,
    }
}

fn whose(step: &SessionStep) -> String {
    match &step.of {
        StepOf::Calls { calls, .. } if calls.len() == 1 => "a tool call".to_owned(),
        StepOf::Calls { calls, .. } => format!("{} tool calls", calls.len()),
        StepOf::Outside if step.from.is_none() => "as it began".to_owned(),
        StepOf::Outside => "commands in between".to_owned(),
    }
}

pub(super) async fn dry_run(desk: &Desk, session: SessionId, to: Option<u64>) -> Result<Exit, Failure> {
    let to = match to {
        Some(to) => to,
        None => desk.client.session_steps(session, None).await?.forward.ok_or_else(nothing_ahead)?,
    };
    let files = desk.client.tree_diff(session, TreesOf::Revert(to)).await?;
    desk.out.document(&files, |files| diff::files(files))?;
    Ok(Exit::Done)
}

fn nothing_ahead() -> Problem {
    Problem::new(ErrorCode::StepUnknown, "There is nothing to go forward to.")
        .hint("`greenroom session steps` lists the session's steps; `--to` takes any of them.")
}

/// `to` is `None`: forward. Waits until the log says how it ended.
pub(super) async fn revert(
    desk: &Desk,
    session: SessionId,
    to: Option<u64>,
    key: Option<CommandId>,
) -> Result<Exit, Failure> {
    let command = to.map_or(Command::Forward {}, |to| Command::Revert { to });
    let receipt = desk.client.submit(session, &key.unwrap_or_else(new_key), &command).await?;
    if let Some(problem) = receipt.problem {
        return Err(problem.into());
    }
    let ended = tokio::time::timeout(REVERT_PATIENCE, end_of(desk, session, receipt.seq.unwrap_or(0))).await;
    let ended = ended.map_err(|_| {
        Problem::new(ErrorCode::Deadline, "The files are not put back yet.")
            .hint("`greenroom session steps` shows where they are.")
    })??;
    match ended {
        Event::Reverted { to, from, changed_count, forward, .. } => {
            let document =
                json!({ "to": to, "from": from, "changed_count": changed_count, "forward": forward });
            let files =
                if changed_count == 1 { "1 file".to_owned() } else { format!("{changed_count} files") };
            desk.out.document(&document, |_| {
                format!(
                    "{files} changed: the workspace is as step {to} left it. What was there is step {from}.\n"
                )
            })?;
            Ok(Exit::Done)
        }
        Event::RevertFailed { problem, .. } => Err(problem.into()),
        _ => unreachable!("only these are looked for"),
    }
}

/// The first end after the request's own entry.
async fn end_of(desk: &Desk, session: SessionId, mut after: u64) -> Result<Event, Failure> {
    loop {
        let page = desk.client.entries(session, after, PAGE).await?.entries;
        after = page.last().map_or(after, |entry| entry.seq);
        let is_end =
            |entry: &Entry| matches!(entry.event, Event::Reverted { .. } | Event::RevertFailed { .. });
        if let Some(found) = page.into_iter().find(is_end) {
            return Ok(found.event);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
