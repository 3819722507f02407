//! `session export` and `session import`.

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::render::text::clean;
use greenroom_client::new_key;
use greenroom_domain::{CommandId, RepositoryName, SessionId};
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Between two words on how far it is, in bytes.
const STEP: u64 = 64 << 20;

/// Never over a file that is there, and never half of one.
pub(super) async fn export(desk: &Desk, session: SessionId, path: &Path) -> Result<Exit, Failure> {
    if path == Path::new("-") {
        write(desk, session, path, &mut tokio::io::stdout()).await?;
        return Ok(Exit::Done);
    }
    let created = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
    let mut file = created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already.", path.display()), "Name another file.")
        }
        _ => unwritten(path, &error),
    })?;
    let written = tokio::select! {
        written = write(desk, session, path, &mut file) => written,
        _ = tokio::signal::ctrl_c() => {
            let _ = tokio::fs::remove_file(path).await;
            return Ok(Exit::Interrupted);
        }
    };
    if written.is_err() {
        let _ = tokio::fs::remove_file(path).await;
    }
    let bytes = written?;
    let name = path.display().to_string();
    desk.out.document(&json!({ "file": name, "bytes": bytes, "session": session }), |_| {
        format!("{} holds the session.\n", clean(&name))
    })?;
    Ok(Exit::Done)
}

async fn write(
    desk: &Desk,
    session: SessionId,
    path: &Path,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, Failure> {
    let mut pieces = desk.client.export_session(session).await?;
    let (mut bytes, mut told) = (0, 0);
    while let Some(piece) = pieces.next().await? {
        to.write_all(&piece).await.map_err(|error| unwritten(path, &error))?;
        bytes += piece.len() as u64;
        if bytes - told >= STEP {
            told = bytes;
            desk.out.progress(&format!("{} MiB are here.", bytes >> 20));
        }
    }
    to.flush().await.map_err(|error| unwritten(path, &error))?;
    Ok(bytes)
}

pub(super) async fn import(
    desk: &Desk,
    path: &Path,
    repository: Option<&RepositoryName>,
    key: Option<CommandId>,
) -> Result<Exit, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            format!("{} cannot be read: {error}.", path.display()),
            "Name a file that you may read.",
        )
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let facts = file.metadata().await.map_err(unreadable)?;
    if !facts.is_file() {
        return Err(Failure::usage(format!("{} is no file.", path.display()), "Name a file."));
    }
    let key = key.unwrap_or_else(new_key);
    let session = desk.client.import_session(&key, repository, file, facts.len()).await?;
    desk.out.document(&session, |session| {
        format!("{} in {}: {}\n", session.id, session.repository, clean(&session.title))
    })?;
    Ok(Exit::Done)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be written: {error}.", path.display()), "Name another file.")
}
