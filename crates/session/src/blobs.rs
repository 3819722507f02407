//! Files by the SHA-256 of their bytes, beside the log that speaks of them: `sessions/<id>/blobs/ab/cdef…`. They are
//! immutable, put if absent, and go with the session. Files for a session that does not exist yet wait on a shelf of the
//! person's (`uploads/<person>`), and enter the session with its first entry.
//!
//! A file is received under a temporary name, synced, then linked to its place: what is on a shelf is whole. Bounded by
//! the size of each, and by bytes and number of all on a shelf.

use crate::log::LogError;
use crate::sqlite_log::{from_io, sync_directory};
use greenroom_domain::{BlobDigest, PersonId, SessionId};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncRead, AsyncReadExt};

const DIRECTORY: &str = "blobs";
const COMING: &str = ".coming";
const PARTIAL: &str = ".partial";
/// Files on one shelf.
const COUNT_LIMIT: u64 = 2_000;
const PIECE: usize = 256 * 1024;
/// A sender that is silent for longer has gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the file has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the file is empty")]
    Empty,
    #[error("the shelf has no room for it")]
    Full,
    #[error("there is no such file")]
    Missing,
    #[error("the sender broke off: {reason}")]
    BrokenOff { reason: String },
    #[error("the disk is full")]
    DiskFull,
    #[error("the file cannot be kept: {reason}")]
    Unavailable { reason: String },
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Unavailable { reason: error.to_string() },
        }
    }
}

/// Whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    Session(SessionId),
    /// Of a person's next session.
    Person(PersonId),
    /// Of a session that is about to be created.
    Coming(SessionId),
}

/// A file that is whole and synced, and on no shelf yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Received {
    pub digest: BlobDigest,
    pub bytes: u64,
    file: NamedTempFile,
}

impl Received {
    /// From its beginning. Blocking.
    pub fn open(&self) -> io::Result<File> {
        self.file.reopen()
    }
}

/// All shelves of a data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    sessions: PathBuf,
    uploads: PathBuf,
    /// Held while a shelf is measured and added to.
    adding: Arc<Mutex<()>>,
}

impl Blobs {
    /// What an earlier process received in part is removed.
    pub fn open(data: &Path) -> io::Result<Self> {
        let (sessions, uploads) = (data.join("sessions"), data.join("uploads"));
        crate::remove_tree(&uploads.join(PARTIAL))?;
        fs::create_dir_all(uploads.join(PARTIAL))?;
        fs::create_dir_all(&sessions)?;
        crate::remove_tree(&sessions.join(COMING))?;
        fs::create_dir(sessions.join(COMING))?;
        Ok(Self { sessions, uploads, adding: Arc::default() })
    }

    /// A directory for what is being packed or unpacked. It goes when it is dropped, or with the next start.
    pub fn scratch(&self) -> io::Result<TempDir> {
        TempDir::new_in(self.uploads.join(PARTIAL))
    }

    /// Reads to the end, at most `limit` bytes.
    pub async fn receive(
        &self,
        mut from: impl AsyncRead + Unpin + Send,
        limit: u64,
    ) -> Result<Received, BlobError> {
        let place = self.uploads.join(PARTIAL);
        let mut file = blocking(move || Ok(NamedTempFile::new_in(place)?)).await?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        loop {
            let piece = next_piece(&mut from).await?;
            if piece.is_empty() {
                break;
            }
            bytes += piece.len() as u64;
            if bytes > limit {
                return Err(BlobError::TooLarge { limit });
            }
            hash.update(&piece);
            file = blocking(move || {
                file.write_all(&piece)?;
                Ok(file)
            })
            .await?;
        }
        if bytes == 0 {
            return Err(BlobError::Empty);
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let digest = digest.parse().expect("a SHA-256 in hexadecimal");
        blocking(move || {
            file.as_file().sync_all()?;
            Ok(Received { digest, bytes, file })
        })
        .await
    }

    /// Puts a file on a shelf, durably; one that is there already stays. `most`: bytes of all files on it.
    pub async fn keep(&self, received: Received, shelf: Shelf, most: u64) -> Result<(), BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let _one = blobs.adding.lock().unwrap_or_else(PoisonError::into_inner);
            let place = blobs.path(shelf, &received.digest);
            if place.exists() {
                return touch(&place);
            }
            let (count, bytes) = blobs.measure(shelf)?;
            if count >= COUNT_LIMIT || bytes + received.bytes > most {
                return Err(BlobError::Full);
            }
            blobs.make_room(shelf, &place)?;
            match received.file.persist_noclobber(&place) {
                Ok(_) => {}
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.error.into()),
            }
            sync_above(&place)
        })
        .await
    }

    /// Whether a shelf has room for so many bytes more, as far as is known now.
    pub async fn has_room(&self, shelf: Shelf, bytes: u64, most: u64) -> Result<bool, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let (count, used) = blobs.measure(shelf)?;
            Ok(count < COUNT_LIMIT && used.saturating_add(bytes) <= most)
        })
        .await
    }

    /// An open file and its size.
    pub async fn open_blob(&self, shelf: Shelf, digest: &BlobDigest) -> Result<(File, u64), BlobError> {
        let place = self.path(shelf, digest);
        blocking(move || {
            let file = File::open(place)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        })
        .await
    }

    /// As `open_blob`, where one may wait. Blocking.
    pub fn open_now(&self, shelf: Shelf, digest: &BlobDigest) -> io::Result<File> {
        File::open(self.path(shelf, digest))
    }

    /// Gives files of one shelf to another too, without copying their bytes.
    pub async fn share(&self, from: Shelf, to: Shelf, digests: Vec<BlobDigest>) -> Result<(), BlobError> {
        let blobs = self.clone();
        blocking(move || {
            for digest in &digests {
                let (source, place) = (blobs.path(from, digest), blobs.path(to, digest));
                blobs.make_room(to, &place)?;
                match fs::hard_link(&source, &place) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    linked => linked?,
                }
                sync_above(&place)?;
            }
            Ok(())
        })
        .await
    }

    /// Clears a shelf. One that is not there is fine.
    pub async fn discard(&self, shelf: Shelf) -> Result<(), BlobError> {
        let directory = self.directory(shelf);
        blocking(move || Ok(crate::remove_tree(&directory)?)).await
    }

    /// Removes what waits for a session since before `oldest`.
    pub async fn expire(&self, oldest: SystemTime) -> Result<(), BlobError> {
        let uploads = self.uploads.clone();
        blocking(move || {
            for person in fs::read_dir(&uploads)?.flatten() {
                if person.file_name() == PARTIAL {
                    continue;
                }
                for file in files_below(&person.path())? {
                    let is_old = file.metadata().and_then(|facts| facts.modified())? < oldest;
                    if is_old {
                        fs::remove_file(file.path())?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    fn directory(&self, shelf: Shelf) -> PathBuf {
        match shelf {
            Shelf::Session(session) => self.sessions.join(session.to_string()).join(DIRECTORY),
            Shelf::Person(person) => self.uploads.join(person.to_string()),
            Shelf::Coming(session) => coming(&self.sessions, session),
        }
    }

    fn path(&self, shelf: Shelf, digest: &BlobDigest) -> PathBuf {
        let (first, rest) = digest.as_str().split_at(2);
        self.directory(shelf).join(first).join(rest)
    }

    /// The directories above a file. That of a session itself is not made: a removed one stays removed.
    fn make_room(&self, shelf: Shelf, place: &Path) -> Result<(), BlobError> {
        let shelf = self.directory(shelf);
        for directory in [&shelf, place.parent().unwrap_or(&shelf)] {
            match fs::create_dir(directory) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    sync(directory.parent().unwrap_or(directory))?;
                }
            }
        }
        Ok(())
    }

    fn measure(&self, shelf: Shelf) -> Result<(u64, u64), BlobError> {
        let (mut count, mut bytes) = (0, 0);
        for file in files_below(&self.directory(shelf))? {
            count += 1;
            bytes += file.metadata()?.len();
        }
        Ok((count, bytes))
    }
}

async fn next_piece(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, BlobError> {
    let broken = |reason: String| BlobError::BrokenOff { reason };
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    while filled < PIECE {
        let read = tokio::time::timeout(SILENCE_LIMIT, from.read(&mut piece[filled..])).await;
        let read = read.map_err(|_| broken(format!("nothing came for {} s", SILENCE_LIMIT.as_secs())))?;
        match read.map_err(|error| broken(error.to_string()))? {
            0 => break,
            count => filled += count,
        }
    }
    piece.truncate(filled);
    Ok(piece)
}

/// Where the files of a session wait that is about to be created.
fn coming(sessions: &Path, session: SessionId) -> PathBuf {
    sessions.join(COMING).join(session.to_string())
}

/// Before a session's first entry: it may name them.
pub(crate) fn take_in(sessions: &Path, session: SessionId, directory: &Path) -> Result<(), LogError> {
    match fs::rename(coming(sessions, session), directory.join(DIRECTORY)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        moved => moved.map_err(|error| from_io(&error)),
    }
}

/// A shelf has one level of directories. What is not there holds nothing.
fn files_below(shelf: &Path) -> Result<Vec<fs::DirEntry>, BlobError> {
    let list = |directory: &Path| match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        entries => entries?.collect::<io::Result<Vec<_>>>(),
    };
    let mut files = vec![];
    for directory in list(shelf)? {
        files.extend(list(&directory.path())?);
    }
    Ok(files)
}

/// It is wanted again, so it does not expire yet.
fn touch(place: &Path) -> Result<(), BlobError> {
    Ok(File::open(place)?.set_modified(SystemTime::now())?)
}

fn sync_above(place: &Path) -> Result<(), BlobError> {
    place.parent().map_or(Ok(()), sync)
}

fn sync(directory: &Path) -> Result<(), BlobError> {
    sync_directory(directory).map_err(|error| BlobError::Unavailable { reason: error.to_string() })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(BlobError::Unavailable { reason: error.to_string() }))
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
