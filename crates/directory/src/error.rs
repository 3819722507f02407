//! Why the directory could not answer.

use greenroom_domain::{ErrorCode, Problem};
use rusqlite::ffi;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the database said; for logs, not for people.
    #[error("the directory's database failed: {0}")]
    Database(String),
    #[error("the disk that holds the directory is full")]
    DiskFull,
    #[error("the name is taken")]
    NameTaken,
    #[error("the person has as many drafts as are kept")]
    TooManyDrafts,
    #[error("the session was deleted")]
    SessionRemoved,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE =>
            {
                Self::NameTaken
            }
            rusqlite::Error::SqliteFailure(failure, _) if failure.code == ffi::ErrorCode::DiskFull => {
                Self::DiskFull
            }
            _ => Self::Database(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NameTaken => {
                Self::new(ErrorCode::NameTaken, "The name is already taken.").hint("Choose another name.")
            }
            Error::TooManyDrafts => Self::new(
                ErrorCode::TooManyRequests,
                format!("{} drafts of yours are kept already; this one is not.", crate::DRAFTS),
            )
            .hint("Send or empty one of the others, or send this one."),
            Error::SessionRemoved => Self::new(ErrorCode::SessionUnknown, "There is no such session.")
                .hint("List sessions with `greenroom session list`."),
            Error::DiskFull => Self::new(ErrorCode::DiskFull, "The disk of the data directory is full.")
                .hint("Free some space on it and try again; nothing was changed."),
            Error::Database(cause) => {
                tracing::error!(%cause, "the directory's database failed");
                Self::new(ErrorCode::Internal, "The installation's database could not be used.")
                    .hint("The server's log says why.")
            }
        }
    }
}
