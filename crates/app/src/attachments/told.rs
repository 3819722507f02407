//! Attached files on their way to the agent: into what the model is told, and into the sandbox.

use super::problem_of_blob;
use crate::{Inner, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use greenroom_agent::Material;
use greenroom_agent::attachments::{PICTURES_LIMIT, is_content_told, path_in_sandbox};
use greenroom_domain::{Attachment, Entry, Event, SessionId};
use greenroom_sandbox::{FileKind, Sandbox};
use greenroom_session::Shelf;
use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// For one file.
const PLACE_DEADLINE: Duration = Duration::from_secs(60);

/// Which files a sandbox has, for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    sandboxes: Vec<(Weak<dyn Sandbox>, HashSet<String>)>,
}

impl Placed {
    fn of(&mut self, sandbox: &Arc<dyn Sandbox>) -> &mut HashSet<String> {
        self.sandboxes.retain(|(known, _)| known.strong_count() > 0);
        let known = Arc::downgrade(sandbox);
        let at = self.sandboxes.iter().position(|(other, _)| other.ptr_eq(&known)).unwrap_or_else(|| {
            self.sandboxes.push((known, HashSet::new()));
            self.sandboxes.len() - 1
        });
        &mut self.sandboxes[at].1
    }
}

/// All files on the prompts of a log, in its order.
pub(crate) fn files_of(entries: &[Entry]) -> Vec<Attachment> {
    let files = |entry: &Entry| match &entry.event {
        Event::PromptAccepted { attachments, .. } => attachments.clone(),
        _ => vec![],
    };
    entries.iter().flat_map(files).collect()
}

impl Inner {
    /// Adds what the model is to see of these files. What cannot be read is left out, and the model told so.
    pub(crate) async fn load(&self, session: SessionId, files: &[Attachment], material: &mut Material) {
        let mut pictures = 0;
        for file in files.iter().filter(|file| is_content_told(file)) {
            if file.is_picture() {
                pictures += file.bytes;
            }
            if material.has(file) || pictures > PICTURES_LIMIT {
                continue;
            }
            match self.content(session, file).await {
                Ok(bytes) if file.is_picture() => material.add_picture(file, BASE64_STANDARD.encode(bytes)),
                Ok(bytes) => material.add_text(file, &String::from_utf8_lossy(&bytes)),
                Err(problem) => {
                    tracing::warn!(%session, digest = file.digest.as_str(), %problem, "a file cannot be read");
                }
            }
        }
    }

    async fn content(&self, session: SessionId, file: &Attachment) -> Result<Vec<u8>> {
        let opened = self.blobs.open_blob(Shelf::Session(session), &file.digest).await;
        let (mut opened, bytes) = opened.map_err(problem_of_blob)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
            opened.read_to_end(&mut content).map(|_| content)
        });
        let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        read.map_err(|error| problem_of_blob(error.into()))
    }

    /// Puts files into a sandbox that has not got them yet. One that cannot be put there is missing when the agent opens
    /// it, which it is then told.
    pub(crate) async fn place(
        &self,
        session: SessionId,
        sandbox: &Arc<dyn Sandbox>,
        files: &[Attachment],
        placed: &tokio::sync::Mutex<Placed>,
    ) {
        if files.is_empty() {
            return;
        }
        let mut placed = placed.lock().await;
        let there = placed.of(sandbox);
        for file in files {
            let path = path_in_sandbox(file);
            if there.contains(&path) {
                continue;
            }
            match tokio::time::timeout(PLACE_DEADLINE, self.place_one(session, sandbox, file, &path)).await {
                Ok(Ok(())) => drop(there.insert(path)),
                Ok(Err(reason)) => tracing::warn!(%session, path, reason, "an attached file is not there"),
                Err(_) => tracing::warn!(%session, path, "an attached file takes too long"),
            }
        }
    }

    async fn place_one(
        &self,
        session: SessionId,
        sandbox: &Arc<dyn Sandbox>,
        file: &Attachment,
        path: &str,
    ) -> Result<(), String> {
        // An earlier sandbox over the same files got it, and the agent may have changed it since.
        if sandbox.stat(path).await.is_ok_and(|facts| facts.kind == FileKind::File) {
            return Ok(());
        }
        let bytes = self.content(session, file).await.map_err(|problem| problem.message)?;
        sandbox.write_file(path, &bytes).await.map_err(|error| error.to_string())
    }
}
