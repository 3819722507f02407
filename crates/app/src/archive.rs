//! A session as one file: taken out of this installation, and made into a session of this one. The format is the crate
//! `archive`'s; who may, and what becomes of a session from elsewhere, is decided here.

mod carried;
mod export;
#[cfg(test)]
mod full_disk;
mod import;
#[cfg(test)]
mod tests;
mod unfinished;

pub use export::ExportedSession;

use greenroom_archive::Error;
use greenroom_domain::{ErrorCode, Problem};
use std::time::Duration;

/// Bytes of a session's file, packed and unpacked alike, where no setting says otherwise.
pub const ARCHIVE_BYTES: u64 = 1024 * 1024 * 1024;
/// Files that are packed or unpacked at the same time.
const AT_ONCE: usize = 2;
/// How long one waits for the others.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// What bounds packing and unpacking.
#[derive(Debug)]
pub(crate) struct Archives {
    places: tokio::sync::Semaphore,
}

impl Default for Archives {
    fn default() -> Self {
        Self { places: tokio::sync::Semaphore::new(AT_ONCE) }
    }
}

impl Archives {
    async fn enter(&self) -> crate::Result<tokio::sync::SemaphorePermit<'_>> {
        match tokio::time::timeout(PATIENCE, self.places.acquire()).await {
            Ok(place) => Ok(place.expect("never closed")),
            Err(_) => Err(Problem::new(
                ErrorCode::TooManyRequests,
                "Too many sessions are being exported and imported.",
            )
            .hint("Try again in a minute.")),
        }
    }
}

fn problem_of_archive(error: Error) -> Problem {
    match error {
        Error::Damaged { reason } => damaged(&reason),
        Error::TooNew { found } => Problem::new(
            ErrorCode::ArchiveTooNew,
            format!("A newer Greenroom wrote this file: its format is {found}."),
        )
        .hint("Bring this installation to the version that the file was exported with."),
        Error::TooLarge { what, limit } => too_large(what, limit),
        Error::Io(error) => unwritten(&error),
    }
}

fn damaged(reason: &str) -> Problem {
    Problem::new(ErrorCode::ArchiveDamaged, format!("The file is no whole export of a session: {reason}."))
        .hint("Export the session again and send that file as it is.")
}

fn too_large(what: &str, limit: u64) -> Problem {
    let message = format!("The session is too large for one file: {what} has more than {} MiB.", limit / MIB);
    Problem::new(ErrorCode::TooLarge, message).hint("Ask an admin to raise `session_archive_mib`.")
}

fn unwritten(error: &std::io::Error) -> Problem {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        return Problem::new(ErrorCode::DiskFull, "The server's disk is full; nothing was kept.")
            .hint("Free some space on the data directory's disk and try again.");
    }
    Problem::new(ErrorCode::Internal, format!("The file cannot be used: {error}."))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::Result<T> + Send + 'static,
) -> crate::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Problem::new(ErrorCode::Internal, "The file could not be worked on; the server's log says why."))
    })
}
