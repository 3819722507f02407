//! `session people …`, `session share …` and `session join`

use super::{Desk, now_ms, queue};
use crate::ask;
use crate::cli::{People, Share, kind};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, one_line};
use greenroom_domain::{Command, LoginName, PersonId, SessionId, SessionRole, ShareKind, TeamAccess};
use greenroom_wire::{CreateShareLink, ShareLinkState, UseShareLink};
use serde_json::json;
use std::path::Path;

pub(crate) async fn people(desk: &Desk, verb: People) -> Result<Exit, Failure> {
    match verb {
        People::List { session } => list(desk, session).await,
        People::Set { session, login, role } => {
            let (person, role) = (person(desk, &login).await?, role.into());
            let said = format!("{login} is {} of the session.", with_article(role));
            queue::submit(desk, session, &Command::SetParticipant { person, role }, &said).await
        }
        People::Remove { session, login } => {
            let person = person(desk, &login).await?;
            let said = format!("{login} takes no part in the session any more.");
            queue::submit(desk, session, &Command::RemoveParticipant { person }, &said).await
        }
        People::Leave { session } => {
            let person = desk.client.me().await?.person.id;
            let said = "You take no part in the session any more.";
            queue::submit(desk, session, &Command::RemoveParticipant { person }, said).await
        }
        People::Open { session, access } => {
            let access = access.into();
            let said = format!("{}.", open_for(access));
            queue::submit(desk, session, &Command::SetTeamAccess { access }, &said).await
        }
    }
}

async fn person(desk: &Desk, login: &LoginName) -> Result<PersonId, Failure> {
    let people = desk.client.people().await?;
    people.into_iter().find(|person| person.login == *login).map(|person| person.id).ok_or_else(|| {
        Failure::usage(
            format!("There is no person with the login {login}."),
            "List people with `greenroom person list`.",
        )
    })
}

async fn list(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let people = desk.client.session_people(session).await?;
    desk.out.document(&people, |people| {
        let table =
            Table::new(&["LOGIN", "NAME", "ROLE"], "Nobody yet.").rows(&people.participants, |participant| {
                let login = participant.login.as_ref().map_or_else(String::new, ToString::to_string);
                let by_link = if participant.is_by_link { " (by a link)" } else { "" };
                let role = format!("{}{by_link}", role(participant.role));
                vec![login, one_line(&participant.name, 40), role]
            });
        format!("{}{}.\n", table.text(), open_for(people.team_access))
    })?;
    Ok(Exit::Done)
}

pub(crate) async fn share(desk: &Desk, verb: Share) -> Result<Exit, Failure> {
    match verb {
        Share::List { session } => links(desk, session).await,
        Share::Create { session, take_part, expires } => {
            let body = CreateShareLink { kind: kind(take_part), life_s: Some(expires) };
            let created = desk.client.create_share_link(session, &body).await?;
            desk.out.progress("A link for people of this installation, shown this once:\n");
            desk.out.document(&created, |created| format!("{}\n", desk.page(&created.path)))?;
            Ok(Exit::Done)
        }
        Share::Revoke { session, link } => {
            desk.client.revoke_share_link(session, link).await?;
            desk.out.document(&json!({ "revoked": link }), |_| format!("{link} is revoked.\n"))?;
            Ok(Exit::Done)
        }
    }
}

async fn links(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let links = desk.client.share_links(session).await?;
    let now = now_ms();
    desk.out.document(&links, |links| {
        let head = ["LINK", "FOR", "STATE", "MADE", "BY", "JOINED"];
        let empty = "No link. Make one: greenroom session share create SESSION";
        let table = Table::new(&head, empty).rows(links, |link| {
            let kind = match link.kind {
                ShareKind::View => "view",
                ShareKind::TakePart => "take part",
            };
            vec![
                link.id.to_string(),
                kind.to_owned(),
                state(link.state).to_owned(),
                ago(link.made_at_ms, now),
                one_line(&link.made_by_name, 30),
                link.joined.to_string(),
            ]
        });
        table.text()
    })?;
    Ok(Exit::Done)
}

/// A link, or only its secret.
/// `-` stands for standard input.
pub(crate) async fn join(desk: &Desk, link: &str) -> Result<Exit, Failure> {
    let link = match link {
        "-" => ask::secret_file(Path::new("-"))?,
        link => link.to_owned(),
    };
    let secret = link.rsplit_once('#').map_or(link.as_str(), |(_, secret)| secret).trim().to_owned();
    let session = desk.client.use_share_link(&UseShareLink { secret }).await?;
    desk.out.document(&session, |session| {
        let page = desk.page(&format!("/sessions/{}", session.id));
        format!("{}\n{}\n{page}\n", session.id, one_line(&session.title, 120))
    })?;
    Ok(Exit::Done)
}

fn role(role: SessionRole) -> &'static str {
    match role {
        SessionRole::Viewer => "viewer",
        SessionRole::Contributor => "contributor",
        SessionRole::Owner => "owner",
    }
}

fn with_article(role: SessionRole) -> &'static str {
    match role {
        SessionRole::Viewer => "a viewer",
        SessionRole::Contributor => "a contributor",
        SessionRole::Owner => "an owner",
    }
}

fn open_for(access: TeamAccess) -> &'static str {
    match access {
        TeamAccess::Contribute => "Everyone of the installation may look and prompt",
        TeamAccess::View => "Everyone of the installation may look",
        TeamAccess::None => "The session is private to its participants and to admins",
    }
}

fn state(state: ShareLinkState) -> &'static str {
    match state {
        ShareLinkState::Active => "active",
        ShareLinkState::Expired => "expired",
        ShareLinkState::Revoked => "revoked",
        ShareLinkState::Disowned => "its maker may not share any more",
    }
}
