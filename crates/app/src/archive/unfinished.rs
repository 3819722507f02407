//! Imports that are being made. A branch comes into the repository before its session exists; until then a note in
//! `<data>/imports` says so, and a start that finds one without its session takes the branch away again.

use crate::{Inner, Result};
use greenroom_domain::{BranchName, ErrorCode, RepositoryId, SessionId};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "imports";

pub(super) fn branch_of(session: SessionId) -> BranchName {
    format!("greenroom/{session}").parse().expect("an id is a valid branch name")
}

/// Durable before the branch is made.
pub(super) fn note(data: &Path, session: SessionId, repository: RepositoryId) -> io::Result<()> {
    let directory = data.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let mut file = File::create(place(data, session))?;
    file.write_all(repository.to_string().as_bytes())?;
    file.sync_all()?;
    File::open(&directory)?.sync_all()
}

/// The session exists, or its branch does not.
pub(super) fn forget(data: &Path, session: SessionId) {
    match fs::remove_file(place(data, session)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            // The next start looks at it again, and finds the session.
            tracing::warn!(%session, %error, "the note of an import is left over");
        }
        _ => {}
    }
}

fn place(data: &Path, session: SessionId) -> PathBuf {
    data.join(DIRECTORY).join(session.to_string())
}

impl Inner {
    pub(super) async fn undo_import(&self, session: SessionId, repository: RepositoryId) {
        match self.forge.remove_branch(repository, &branch_of(session)).await {
            Ok(()) => forget(&self.config.data_dir, session),
            Err(error) => tracing::warn!(%session, %error, "the branch of an import is left over"),
        }
    }

    /// Before anything is served.
    pub(crate) async fn undo_unfinished_imports(&self) -> Result<()> {
        let directory = self.config.data_dir.join(DIRECTORY);
        let noted = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            noted => noted.map_err(|error| super::unwritten(&error))?,
        };
        for note in noted.flatten() {
            let repository = fs::read_to_string(note.path()).ok().and_then(|text| text.parse().ok());
            let session = note.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(session) = session else { continue };
            match self.sessions().head_seq(session).await {
                Ok(_) => forget(&self.config.data_dir, session),
                Err(problem) if problem.code == ErrorCode::SessionUnknown => match repository {
                    Some(repository) => self.undo_import(session, repository).await,
                    // It was cut off before the branch.
                    None => forget(&self.config.data_dir, session),
                },
                Err(problem) => tracing::warn!(%session, %problem, "nobody knows whether it was imported"),
            }
        }
        Ok(())
    }
}
