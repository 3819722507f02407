//! Immutable bytes found by their SHA-256: what layers will be moved to another machine in. Owns the trait and its form as
//! files of a directory; an object store is another form of the same trait. Never trusts what it stores: a reader fails
//! at the end of bytes that are not the ones asked for. Blocking.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// 64 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobDigest(String);

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

pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores all of `content` and answers its digest. What is there already stays. Durable when this returns.
    fn put(&self, content: &mut dyn Read) -> io::Result<BlobDigest>;

    /// Reads it from the beginning; the last read fails with `InvalidData` when the bytes are not those of the digest.
    /// `NotFound` when there is none.
    fn get(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + Send>>;

    fn exists(&self, digest: &BlobDigest) -> io::Result<bool>;

    /// What does not exist is deleted already.
    fn delete(&self, digest: &BlobDigest) -> io::Result<()>;
}

/// Files of a directory, each named by its digest.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    directory: PathBuf,
}

impl FileBlobs {
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
    fn put(&self, content: &mut dyn Read) -> io::Result<BlobDigest> {
        let prefix = crate::store::TEMPORARY_PREFIX;
        let mut file = tempfile::Builder::new().prefix(prefix).tempfile_in(&self.directory)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    file.write_all(&buffer[..read])?;
                }
            }
        }
        let digest = digest_of(hasher);
        file.as_file().sync_all()?;
        match file.persist_noclobber(self.path(&digest)) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
        File::open(&self.directory)?.sync_all()?;
        Ok(digest)
    }

    fn get(&self, digest: &BlobDigest) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(self.path(digest))?;
        Ok(Box::new(Verified { inner: file, hasher: Some(Sha256::new()), expected: digest.clone() }))
    }

    fn exists(&self, digest: &BlobDigest) -> io::Result<bool> {
        self.path(digest).try_exists()
    }

    fn delete(&self, digest: &BlobDigest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
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

    /// What every store must do.
    fn keeps_the_promises(store: &dyn BlobStore) {
        let text = b"some bytes".repeat(100_000);
        let digest = store.put(&mut text.as_slice()).unwrap();
        assert_eq!(store.put(&mut text.as_slice()).unwrap(), digest, "the same bytes are stored once");
        assert!(store.exists(&digest).unwrap());
        let mut read = Vec::new();
        store.get(&digest).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        store.delete(&digest).unwrap();
        store.delete(&digest).unwrap();
        assert!(!store.exists(&digest).unwrap());
        assert_eq!(store.get(&digest).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_keep_the_promises_of_a_store() {
        let directory = tempfile::tempdir().unwrap();
        keeps_the_promises(&FileBlobs::open(directory.path()).unwrap());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_an_error_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileBlobs::open(directory.path()).unwrap();
        let digest = store.put(&mut b"whole".as_slice()).unwrap();
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
