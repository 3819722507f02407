//! Immutable bytes found by their SHA-256: what layers are moved to another machine in. Owns the trait and its form as
//! files of a directory; an object store would be another form of the same trait. Never trusts what it stores: a reader
//! fails at the end of bytes that are not the ones asked for. Blocking.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// 64 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct BlobDigest(String);

/// What `put` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    pub digest: BlobDigest,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest")]
pub struct InvalidDigest;

impl FromStr for BlobDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() == 64 && is_hex { Ok(Self(text.to_owned())) } else { Err(InvalidDigest) }
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlobDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Writes a blob's bytes to where it is told.
pub type Content<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores what `content` writes. What is there already stays. Durable when this returns; when `content` fails nothing
    /// is stored.
    fn put(&self, content: &mut Content<'_>) -> io::Result<StoredBlob>;

    /// Reads it from the beginning; the last read fails with `InvalidData` when the bytes are not those of the digest.
    /// `NotFound` when there is none.
    fn get(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + Send>>;

    fn exists(&self, digest: &BlobDigest) -> io::Result<bool>;
}

/// Files of a directory, each named by its digest.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    directory: PathBuf,
}

impl FileBlobs {
    /// For reading: nothing is made or changed.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Makes the directory. Files that a crash left half-written have other names and are removed.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        for entry in directory.read_dir()? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(crate::store::TEMPORARY_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.directory.join(&digest.0)
    }
}

impl BlobStore for FileBlobs {
    fn put(&self, content: &mut Content<'_>) -> io::Result<StoredBlob> {
        let prefix = crate::store::TEMPORARY_PREFIX;
        let file = tempfile::Builder::new().prefix(prefix).tempfile_in(&self.directory)?;
        let mut hashed = Hashed { inner: file, hasher: Sha256::new(), bytes: 0 };
        content(&mut hashed)?;
        let Hashed { inner: file, hasher, bytes } = hashed;
        let digest = digest_of(hasher);
        file.as_file().sync_all()?;
        match file.persist_noclobber(self.path(&digest)) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
        File::open(&self.directory)?.sync_all()?;
        Ok(StoredBlob { digest, bytes })
    }

    fn get(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(self.path(digest))?;
        Ok(Box::new(Verified { inner: file, hasher: Some(Sha256::new()), expected: digest.clone() }))
    }

    fn exists(&self, digest: &BlobDigest) -> io::Result<bool> {
        self.path(digest).try_exists()
    }
}

/// Counts and hashes what passes through.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn digest_of(hasher: Sha256) -> BlobDigest {
    BlobDigest(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Ends in an error instead of in bytes that nobody asked for.
struct Verified {
    inner: File,
    /// None once it was compared.
    hasher: Option<Sha256>,
    expected: BlobDigest,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..read]);
            }
            return Ok(read);
        }
        let is_end = !buffer.is_empty();
        let found = self.hasher.take_if(|_| is_end).map(digest_of);
        if found.is_some_and(|found| found != self.expected) {
            let reason = format!("the blob {} is damaged", self.expected);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &dyn BlobStore, bytes: &[u8]) -> BlobDigest {
        let stored = store.put(&mut |to| to.write_all(bytes)).unwrap();
        assert_eq!(stored.bytes, bytes.len() as u64);
        stored.digest
    }

    /// What every store must do.
    fn keeps_the_promises(store: &dyn BlobStore) {
        let text = b"some bytes".repeat(100_000);
        let digest = put(store, &text);
        assert_eq!(put(store, &text), digest, "the same bytes are stored once");
        assert!(store.exists(&digest).unwrap());
        let mut read = Vec::new();
        store.get(&digest).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        let unknown: BlobDigest = "0".repeat(64).parse().unwrap();
        assert!(!store.exists(&unknown).unwrap());
        assert_eq!(store.get(&unknown).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_keep_the_promises_of_a_store() {
        let directory = tempfile::tempdir().unwrap();
        keeps_the_promises(&FileBlobs::open(directory.path()).unwrap());
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn content_that_fails_in_the_middle_is_not_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileBlobs::open(directory.path()).unwrap();
        let mut half = |to: &mut dyn Write| to.write_all(b"half").and(Err(io::Error::other("broken")));
        assert_eq!(store.put(&mut half).unwrap_err().to_string(), "broken");
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_an_error_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileBlobs::open(directory.path()).unwrap();
        let digest = put(&store, b"whole");
        fs::write(directory.path().join(digest.to_string()), b"whose").unwrap();
        let error = store.get(&digest).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_and_no_name_leads_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".writing-x"), "half").unwrap();
        FileBlobs::open(directory.path()).unwrap();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        assert!("../../etc/passwd".parse::<BlobDigest>().is_err());
    }
}
