//! Sessions that a session's agent began: their tree, and what becomes of them when it is stopped or put away.

use super::{Desk, now_ms, queue};
use crate::cli::Children;
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, one_line};
use greenroom_client::new_key;
use greenroom_domain::{Command, SessionId};
use greenroom_wire::{SessionTree, SessionView};

pub(crate) async fn tree(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let tree = desk.client.session_tree(session).await?;
    desk.out.document(&tree, |tree| table(tree, session))?;
    Ok(Exit::Done)
}

fn table(tree: &SessionTree, asked: SessionId) -> String {
    let now = now_ms();
    let mut table =
        Table::new(&["SESSION", "REPOSITORY", "STATUS", "CHANGE", "UPDATED", "TITLE"], "No session.");
    for (depth, session) in ordered(tree) {
        let change = session.change.as_ref().map_or("-".to_owned(), |change| {
            format!("#{} {}", change.number, super::change::status(change.state))
        });
        let mark = if session.id == asked { " *" } else { "" };
        table.row([
            format!("{}{}{mark}", "  ".repeat(depth), session.id),
            session.repository.to_string(),
            super::session::status(session).to_owned(),
            change,
            ago(session.updated_at_ms, now),
            one_line(&session.title, 60),
        ]);
    }
    table.text()
}

/// Each session right before those that it began, with how far down it is.
fn ordered(tree: &SessionTree) -> Vec<(usize, &SessionView)> {
    let is_top = |session: &&SessionView| {
        session.parent.is_none_or(|parent| tree.sessions.iter().all(|other| other.id != parent))
    };
    let mut open: Vec<(usize, &SessionView)> =
        tree.sessions.iter().filter(is_top).map(|session| (0, session)).rev().collect();
    let mut all = vec![];
    while let Some((depth, session)) = open.pop() {
        all.push((depth, session));
        let children = tree.sessions.iter().rev().filter(|child| child.parent == Some(session.id));
        open.extend(children.map(|child| (depth + 1, child)));
    }
    all
}

/// Before the session is put away.
pub(crate) async fn settle(desk: &Desk, session: SessionId, fate: Option<Children>) -> Result<(), Failure> {
    let command = match fate {
        Some(Children::Stop) => Command::StopChildren {},
        Some(Children::Release) => Command::ReleaseChildren {},
        None => return Ok(()),
    };
    match desk.client.submit(session, &new_key(), &command).await?.problem {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

pub(crate) async fn stop(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let said = "The sessions that it began are being stopped; what they did is kept.";
    queue::submit(desk, session, &Command::StopChildren {}, said).await
}
