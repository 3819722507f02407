//! `person …` and `token …`

use super::{Desk, now_ms};
use crate::cli::{Person, Token};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::one_line;
use greenroom_domain::Role;
use greenroom_wire::AddPerson;

pub(crate) async fn perform(desk: &Desk, verb: Person) -> Result<Exit, Failure> {
    match verb {
        Person::Add { login, name, email, role } => {
            let body = AddPerson { login, name, email, role: role.into() };
            let added = desk.client.add_person(&body).await?;
            desk.out.document(&added, |added| {
                let link = desk.page(&added.sign_in_path);
                format!("{} is added. Give them this link; it works once:\n{link}\n", added.person.login)
            })?;
        }
        Person::List => list(desk).await?,
    }
    Ok(Exit::Done)
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let people = desk.client.people().await?;
    desk.out.document(&people, |people| {
        let table = Table::new(&["LOGIN", "NAME", "EMAIL", "ROLE"], "Nobody yet.").rows(people, |person| {
            let role = match person.role {
                Role::Viewer => "viewer",
                Role::Member => "member",
                Role::Admin => "admin",
            };
            let (name, email) = (one_line(&person.name, 40), one_line(&person.email, 60));
            vec![person.login.to_string(), name, email, role.to_owned()]
        });
        table.text()
    })
}

pub(crate) async fn token(desk: &Desk, verb: Token) -> Result<Exit, Failure> {
    let Token::Create { name, person, expires } = verb;
    let expires_at_ms = expires.map(|days| now_ms() + i64::from(days) * 86_400_000);
    let created = desk.client.create_token(&name, person, expires_at_ms).await?;
    let ends = expires.map_or_else(String::new, |days| format!(" It ends in {days} days."));
    desk.out.progress(&format!("A token of {}, shown this once.{ends}\n", created.login));
    desk.out.document(&created, |created| format!("{}\n", created.secret))?;
    Ok(Exit::Done)
}
