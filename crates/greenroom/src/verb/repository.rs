//! `repository …`

use super::watching;
use super::{Desk, now_ms};
use crate::cli::Repository;
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, one_line};
use greenroom_client::Address;
use greenroom_wire::{AddRepository, ImageState, RepositoryView};
use serde_json::json;

pub(crate) async fn perform(desk: &Desk, verb: Repository) -> Result<Exit, Failure> {
    match verb {
        Repository::Add { name, source, required_approvals, wait } => {
            let source = source_of(source, desk.client.address());
            add(desk, &AddRepository { name, source, required_approvals }, wait).await
        }
        Repository::List => list(desk).await,
        Repository::Hook { name, remove: true } => {
            desk.client.remove_hook(&name).await?;
            desk.out
                .document(&json!({ "removed": name }), |_| format!("{name} has no push hook any more.\n"))?;
            Ok(Exit::Done)
        }
        Repository::Hook { name, remove: false } => {
            let hook = desk.client.create_hook(&name).await?;
            desk.out.document(&hook, |hook| {
                format!("Address: {}\nSecret (shown once): {}\n", hook.url, hook.secret)
            })?;
            Ok(Exit::Done)
        }
        Repository::Egress(verb) => {
            super::secret::egress(desk, verb).await?;
            Ok(Exit::Done)
        }
        Repository::Remove { name } => {
            desk.client.remove_repository(&name).await?;
            desk.out.document(&json!({ "removed": name }), |_| format!("{name} is removed.\n"))?;
            Ok(Exit::Done)
        }
    }
}

async fn add(desk: &Desk, body: &AddRepository, wait: bool) -> Result<Exit, Failure> {
    let repository = desk.client.add_repository(body).await?;
    let build = repository.build.as_ref().or(repository.image.as_ref()).map(|image| image.id);
    let said = |view: &RepositoryView| {
        let next = match build {
            Some(id) if !wait => format!("Its image is being built: greenroom image log {id}\n"),
            _ => String::new(),
        };
        format!("{} is added, at {}.\n{next}", view.name, view.default_branch)
    };
    match build {
        Some(build) if wait => {
            desk.out.json_line(&repository)?;
            desk.out.text(&said(&repository))?;
            watching::build(desk, build).await
        }
        _ => desk.out.document(&repository, said).map(|()| Exit::Done),
    }
}

/// A path of this machine is made absolute: the server runs in another directory.
fn source_of(source: String, server: &Address) -> String {
    let is_url =
        source.contains("://") || source.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    if is_url || !server.is_loopback() {
        return source;
    }
    let absolute = std::fs::canonicalize(&source).ok();
    absolute.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(source)
}

async fn list(desk: &Desk) -> Result<Exit, Failure> {
    let repositories = desk.client.repositories().await?;
    let now = now_ms();
    desk.out.document(&repositories, |repositories| {
        let empty = "No repository yet. Add one: greenroom repository add NAME PATH-or-URL";
        let table = Table::new(&["NAME", "BRANCH", "IMAGE", "SOURCE"], empty);
        let table = table.rows(repositories, |view| {
            vec![
                view.name.to_string(),
                view.default_branch.to_string(),
                image(view, now),
                one_line(&view.source, 80),
            ]
        });
        table.text()
    })?;
    Ok(Exit::Done)
}

fn image(view: &RepositoryView, now: i64) -> String {
    let good = view
        .image
        .as_ref()
        .map(|image| format!("ready, {}", ago(image.finished_at_ms.unwrap_or(image.started_at_ms), now)));
    let build = view.build.as_ref().map(|build| match build.state {
        ImageState::Building => "building",
        ImageState::Failed => "the newest build failed",
        ImageState::Ready => "ready",
    });
    match (good, build) {
        (Some(good), Some(build)) => format!("{good}; {build}"),
        (Some(good), None) => good,
        (None, Some(build)) => build.to_owned(),
        (None, None) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_machine_are_made_absolute() {
        let here: Address = "http://127.0.0.1:7878".parse().unwrap();
        let away: Address = "https://code.example".parse().unwrap();
        assert!(source_of("src".to_owned(), &here).starts_with('/'));
        assert_eq!(source_of("src".to_owned(), &away), "src");
        for url in ["https://git.example/a.git", "git@git.example:a.git", "file:///a"] {
            assert_eq!(source_of(url.to_owned(), &here), url);
        }
        assert_eq!(source_of("/no/such/path".to_owned(), &here), "/no/such/path");
    }
}
