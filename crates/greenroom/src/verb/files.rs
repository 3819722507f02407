//! `--attach` and `session artifacts`.

use super::{Desk, now_ms};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, clean, one_line};
use greenroom_domain::attachment::file_name;
use greenroom_domain::{AttachmentRef, SessionId};
use serde_json::json;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// Uploads files for a prompt of this session, or of the next one.
pub(super) async fn attach(
    desk: &Desk,
    session: Option<SessionId>,
    paths: &[PathBuf],
) -> Result<Vec<AttachmentRef>, Failure> {
    let mut files = vec![];
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
        let facts = file.metadata().await.map_err(|error| unreadable(path, &error))?;
        if !facts.is_file() {
            return Err(Failure::usage(format!("{} is no file.", path.display()), "Name a file."));
        }
        let uploaded = desk.client.attach(session, &name, file, facts.len()).await?;
        files.push(AttachmentRef { digest: uploaded.digest, name: uploaded.name });
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be read: {error}.", path.display()), "Name a file that you may read.")
}

pub(super) async fn list(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let artifacts = desk.client.artifacts(session).await?;
    desk.out.document(&artifacts, |artifacts| {
        let now = now_ms();
        let head = ["N", "NAME", "TYPE", "BYTES", "PUBLISHED", "TITLE"];
        let numbered: Vec<_> = artifacts.iter().enumerate().collect();
        let table =
            Table::new(&head, "The agent published nothing yet.").rows(&numbered, |(at, artifact)| {
                vec![
                    (at + 1).to_string(),
                    one_line(&artifact.file.name, 40),
                    artifact.file.media_type.clone(),
                    artifact.file.bytes.to_string(),
                    ago(artifact.at_ms, now),
                    one_line(&artifact.title, 60),
                ]
            });
        table.text()
    })?;
    Ok(Exit::Done)
}

/// Never over a file that is there.
pub(super) async fn download(
    desk: &Desk,
    session: SessionId,
    number: usize,
    to: Option<PathBuf>,
) -> Result<Exit, Failure> {
    let artifacts = desk.client.artifacts(session).await?;
    let Some(artifact) = number.checked_sub(1).and_then(|at| artifacts.get(at)) else {
        return Err(Failure::usage(
            format!("The session has no published file {number}."),
            format!("List them: greenroom session artifacts {session}"),
        ));
    };
    // The server's word for a name is checked again: it becomes a path of this machine.
    let path = to.unwrap_or_else(|| PathBuf::from(file_name(&artifact.file.name)));
    let created = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await;
    let mut file = created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already.", path.display()), "Name another file with --to.")
        }
        _ => unwritten(&path, &error),
    })?;
    let mut pieces = desk.client.blob(session, &artifact.file.digest).await?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).await.map_err(|error| unwritten(&path, &error))?;
    }
    file.flush().await.map_err(|error| unwritten(&path, &error))?;
    let name = path.display().to_string();
    desk.out.document(&json!({ "file": name, "artifact": artifact }), |_| format!("{}\n", clean(&name)))?;
    Ok(Exit::Done)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be written: {error}.", path.display()), "Name another file with --to.")
}
