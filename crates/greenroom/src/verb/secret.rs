//! `secret …` and `repository egress …`

use super::Desk;
use crate::ask;
use crate::cli::{Egress, Secret, SecretAdd};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::one_line;
use greenroom_wire::{
    AddSecret, EgressAddition, EgressSource, EgressView, SecretInjection, SecretView, SetEgress,
};
use serde_json::json;
use std::path::Path;

pub(crate) async fn perform(desk: &Desk, verb: Secret) -> Result<Exit, Failure> {
    match verb {
        Secret::Add(arguments) => add(desk, arguments).await?,
        Secret::List { repository } => {
            let secrets = desk.client.secrets(&repository).await?;
            desk.out.document(&secrets, |secrets| {
                let empty = "No secret yet. Add one: greenroom secret add REPOSITORY NAME --host HOST";
                Table::new(&["NAME", "ADDED AS", "HOSTS", "IN SANDBOXES"], empty).rows(secrets, cells).text()
            })?;
        }
        Secret::Remove { repository, name } => {
            desk.client.remove_secret(&repository, &name).await?;
            desk.out.document(&json!({ "removed": name }), |_| format!("{name} is removed.\n"))?;
        }
    }
    Ok(Exit::Done)
}

async fn add(desk: &Desk, arguments: SecretAdd) -> Result<(), Failure> {
    let value = match &arguments.value_file {
        Some(path) => ask::secret_file(path)?,
        None if piped() => ask::secret_file(Path::new("-"))?,
        None => ask::secret("Value", "Give it on standard input.")?,
    };
    let injection = match (arguments.basic, arguments.header, arguments.placeholder) {
        (Some(user), _, _) => SecretInjection::Basic { user },
        (_, Some(name), _) => SecretInjection::Header { name },
        (_, _, true) => SecretInjection::Placeholder,
        _ => SecretInjection::Bearer,
    };
    let body = AddSecret { name: arguments.name, value, hosts: arguments.hosts, injection };
    let secret = desk.client.add_secret(&arguments.repository, &body).await?;
    desk.out.document(&secret, |secret| {
        format!(
            "{} is added. Sandboxes that start from now on hold {} in its place;\n\
             requests to {} are given the value. Without TLS: {}\n",
            secret.name,
            secret.placeholder,
            one_line(&secret.hosts.join(", "), 200),
            secret.base_url
        )
    })
}

fn piped() -> bool {
    !std::io::IsTerminal::is_terminal(&std::io::stdin())
}

fn cells(secret: &SecretView) -> Vec<String> {
    let how = match &secret.injection {
        SecretInjection::Bearer => "bearer token".to_owned(),
        SecretInjection::Basic { user } => format!("password of {user}"),
        SecretInjection::Header { name } => format!("header {name}"),
        SecretInjection::Placeholder => "placeholder".to_owned(),
    };
    vec![
        one_line(&secret.name, 50),
        one_line(&how, 40),
        one_line(&secret.hosts.join(", "), 80),
        secret.placeholder.clone(),
    ]
}

pub(crate) async fn egress(desk: &Desk, verb: Egress) -> Result<(), Failure> {
    match verb {
        Egress::Show { repository } => show(desk, &desk.client.egress(&repository).await?),
        Egress::Allow { repository, host, private } => {
            let mut additions = desk.client.egress(&repository).await?.additions;
            additions.retain(|addition| addition.host != host);
            additions.push(EgressAddition { host, allows_private: private });
            let view = desk.client.set_egress(&repository, &SetEgress { additions }).await?;
            show(desk, &view)
        }
        Egress::Forbid { repository, host } => {
            let mut additions = desk.client.egress(&repository).await?.additions;
            let before = additions.len();
            additions.retain(|addition| addition.host != host);
            if additions.len() == before {
                let words = format!("{host} is not among the additions of {repository}.");
                return Err(Failure::usage(words, "Only what an admin allowed can be taken back."));
            }
            let view = desk.client.set_egress(&repository, &SetEgress { additions }).await?;
            show(desk, &view)
        }
    }
}

fn show(desk: &Desk, view: &EgressView) -> Result<(), Failure> {
    desk.out.document(view, |view| {
        let table = Table::new(&["HOST", "FROM", "TLS", "PRIVATE NETWORK"], "Nothing may be reached.");
        let text = table.rows(&view.rules, |rule| {
            let source = match rule.source {
                EgressSource::Default => "default",
                EgressSource::Installation => "this machine",
                EgressSource::Recipe => "recipe",
                EgressSource::Admin => "admin",
                EgressSource::Secret => "secret",
            };
            let tls = if rule.is_tls_ended { "ended, a secret is added" } else { "only its name is checked" };
            let private = if rule.allows_private { "allowed" } else { "no" };
            vec![one_line(&rule.host, 80), source.to_owned(), tls.to_owned(), private.to_owned()]
        });
        text.text()
    })
}
