//! Reads an archive from anywhere: nothing of it is believed. A member is what the manifest says at its place, or all is
//! refused; the headers' own extensions (long names, sparse files, links) are not understood, and so cost no memory.

use crate::log;
use crate::manifest::{MANIFEST, Manifest, Member, Place, no_manifest};
use crate::write::{Hashed, through};
use crate::{Error, MANIFEST_LIMIT, Result, damaged};
use greenroom_domain::{BlobDigest, Entry};
use std::fs::OpenOptions;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tar::EntryType;
use zstd::Decoder;

/// Of what a reader of it must keep in memory: 8 MiB.
const WINDOW_LOG: u32 = 23;
/// Zeros behind the last member.
const MOST_PADDING: u64 = 1024 * 1024;
const BUNDLE_FILE: &str = "bundle";

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all members together, unpacked.
    pub bytes: u64,
}

/// A whole archive, checked against its manifest. Its files lie in the directory that was given.
#[derive(Debug)]
pub struct Unpacked {
    pub manifest: Manifest,
    pub entries: Vec<Entry>,
    directory: PathBuf,
}

impl Unpacked {
    pub fn blobs(&self) -> impl Iterator<Item = BlobDigest> {
        self.manifest.members.iter().filter_map(Member::digest)
    }

    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.directory.join(digest.as_str())
    }

    /// `None`: no work came along.
    pub fn bundle_path(&self) -> Option<PathBuf> {
        self.manifest.work.is_some().then(|| self.directory.join(BUNDLE_FILE))
    }
}

/// Unpacks into an empty directory. Blocking.
pub fn read(from: impl Read, limits: Limits, into: &Path) -> Result<Unpacked> {
    let mut decoder = Decoder::new(from).map_err(|error| unreadable(&error))?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    // What is behind the frame shows when all of it is read.
    let mut archive = tar::Archive::new(&mut decoder);
    let mut members = archive.entries().map_err(|error| unreadable(&error))?.raw(true);
    let mut next = || match members.next() {
        Some(member) => member.map(Some).map_err(|error| unreadable(&error)),
        None => Ok(None),
    };
    let first =
        next()?.filter(|first| &*first.path_bytes() == MANIFEST.as_bytes()).ok_or_else(no_manifest)?;
    let size = first.header().entry_size().map_err(|error| unreadable(&error))?;
    if size > MANIFEST_LIMIT || first.header().entry_type() != EntryType::Regular {
        return Err(no_manifest());
    }
    let mut text = vec![];
    first.take(size).read_to_end(&mut text).map_err(|error| unreadable(&error))?;
    let manifest = Manifest::parse(&text, limits.bytes)?;
    let mut entries = vec![];
    for member in &manifest.members {
        let found = next()?.ok_or_else(|| damaged(format!("it ends before {}", member.name)))?;
        let is_it = &*found.path_bytes() == member.name.as_bytes()
            && found.header().entry_type() == EntryType::Regular
            && found.header().entry_size().is_ok_and(|bytes| bytes == member.bytes);
        if !is_it {
            return Err(damaged(format!("{} is not where it should be", member.name)));
        }
        let (bytes, sha256) = match member.place().expect("looked at with the manifest") {
            Place::Log => {
                let mut lines = BufReader::new(Hashed::new(found));
                entries = log::parse(&mut lines)?;
                lines.into_inner().finish()
            }
            Place::Blob(digest) => keep(found, &into.join(digest.as_str()))?,
            Place::Bundle => keep(found, &into.join(BUNDLE_FILE))?,
        };
        if bytes != member.bytes || sha256 != member.sha256 {
            return Err(damaged(format!("{} is not what the manifest says", member.name)));
        }
    }
    if next()?.is_some() {
        return Err(damaged("it holds more than its manifest names"));
    }
    if entries.is_empty() || entries.len() as u64 != manifest.session.entries {
        return Err(damaged("its log is shorter or longer than its manifest says"));
    }
    end(decoder)?;
    Ok(Unpacked { manifest, entries, directory: into.to_owned() })
}

/// Padding, and then nothing.
fn end<R: io::BufRead>(mut decoder: Decoder<'_, R>) -> Result<()> {
    let mut rest = [0; 4096];
    let mut padding = 0;
    loop {
        let read = decoder.read(&mut rest).map_err(|error| unreadable(&error))?;
        padding += read as u64;
        if padding > MOST_PADDING || rest[..read].iter().any(|byte| *byte != 0) {
            return Err(damaged("it goes on behind its last member"));
        }
        if read == 0 {
            break;
        }
    }
    let mut behind = [0];
    match decoder.finish().read(&mut behind) {
        Ok(0) => Ok(()),
        _ => Err(damaged("it goes on behind its end")),
    }
}

fn keep(from: impl Read, path: &Path) -> Result<(u64, String)> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut unwritten = None;
    let read = through(from, |piece| {
        file.write_all(piece).map_err(|error| {
            let kind = error.kind();
            unwritten = Some(error);
            kind.into()
        })
    });
    match unwritten {
        // The disk's trouble is not the archive's.
        Some(error) => Err(error.into()),
        None => read.map_err(|error| unreadable(&error)),
    }
}

fn unreadable(error: &io::Error) -> Error {
    damaged(format!("it cannot be unpacked: {error}"))
}
