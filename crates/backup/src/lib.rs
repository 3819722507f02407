//! Backups of a data directory, made beside a running server and without it: what people said and did, the files they
//! attached, the repositories, and what the installation knows. Reads the directory's files; asks no server, and changes
//! nothing in it. What can be made again (images, layers, caches) is left out, and so is what only sandboxes hold.
//!
//! # The order, so that nothing in a backup points at what is not in it
//!
//! A backup is no single instant: each part is, and parts are taken one after the other, *who refers before who is referred
//! to*. What a part names existed when the part was taken, and is there still when its own turn comes:
//!
//! 1. Each session's log, in one read transaction of SQLite: every command that was acknowledged before that is in it, and
//!    the log up to there is gapless. Right after it its attached files: they are on the disk before an entry names them,
//!    never change, and go only with their session.
//! 2. The directory (people, repositories, the index of sessions, quotas). Lines of sessions whose logs are not in the
//!    backup, made or deleted meanwhile, are taken out of the copy.
//! 3. The forge's database (changes, approvals), which names commits.
//! 4. Each repository: its references at one instant, and then its objects, which are never changed and only added to, so
//!    that every reference finds its commit. Objects that a repack moves meanwhile are found in the next pass.
//! 5. The vault, which the directory's models and secrets point into. Its key only where it is asked for.
//!
//! Later parts may know more than earlier ones (a change of a session that is not in the backup, a line of the index that
//! is ahead of its log): the restore sets the index back to the logs, and the rest is harmless.

mod create;
mod files;
mod manifest;
mod place;
mod repository;
mod restore;
mod verify;

pub use create::{Made, Wanted, create};
pub use manifest::{FILE_NAME, Manifest, RepositoryCut, SessionCut, StoredFile};
pub use place::{Listed, find, list, remove_beyond};
pub use restore::{Restored, restore};
pub use verify::{Verified, verify};

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("git {what} in {}: {said}", path.display())]
    Git { what: &'static str, path: PathBuf, said: String },
    #[error("{} is not a backup, or not a whole one: it has no manifest", path.display())]
    NoBackup { path: PathBuf },
    #[error("the manifest of {} cannot be read: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("another backup is being made in {}", path.display())]
    Busy { path: PathBuf },
    #[error("{} is not empty: a backup is restored into a new data directory", path.display())]
    NotEmpty { path: PathBuf },
    #[error("{} is a mount of its own, which a data directory cannot be put in the place of", path.display())]
    Mounted { path: PathBuf },
    #[error("{} holds no data directory of Greenroom", path.display())]
    NoData { path: PathBuf },
    #[error("the backup is damaged: {}", problems.join("; "))]
    Damaged { problems: Vec<String> },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

fn sql(path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Database { path, source }
}
