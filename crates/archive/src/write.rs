//! Writes an archive. What a member is and how large it is must be known before, because the manifest comes first.

use crate::manifest::{BUNDLE, LOG, MANIFEST, Manifest, Member};
use crate::{Error, MANIFEST_LIMIT, Result, damaged};
use greenroom_domain::Entry;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};
use zstd::Encoder;

const LEVEL: i32 = 3;
const PIECE: usize = 256 * 1024;

/// Appends entries to a log that is being written.
pub fn write_log(to: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        serde_json::to_writer(&mut *to, entry)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// The log's or the bundle's line of the manifest, from its bytes.
pub fn describe(what: Described, from: impl Read) -> io::Result<Member> {
    let (bytes, sha256) = through(from, |_| Ok(()))?;
    let name = match what {
        Described::Log => LOG,
        Described::Bundle => BUNDLE,
    };
    Ok(Member { name: name.to_owned(), bytes, sha256 })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Described {
    Log,
    Bundle,
}

/// Blocking. `open` gives each member's bytes; those that are not what the manifest says are refused.
pub fn write<R: Read>(
    to: impl Write,
    manifest: &Manifest,
    mut open: impl FnMut(&Member) -> io::Result<R>,
) -> Result<()> {
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    if text.len() as u64 > MANIFEST_LIMIT {
        return Err(Error::TooLarge { what: "the manifest", limit: MANIFEST_LIMIT });
    }
    let mut archive = Builder::new(Encoder::new(to, LEVEL)?);
    archive.append(&header(MANIFEST, text.len() as u64)?, text.as_slice())?;
    for member in &manifest.members {
        let mut hashed = Hashed::new(open(member)?.take(member.bytes));
        archive.append(&header(&member.name, member.bytes)?, &mut hashed)?;
        if hashed.finish() != (member.bytes, member.sha256.clone()) {
            return Err(damaged(format!("{} is not what it was", member.name)));
        }
    }
    archive.into_inner()?.finish()?;
    Ok(())
}

fn header(name: &str, bytes: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Reads on and digests what passes.
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// Bytes, and their digest in hexadecimal.
    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex(self.hash))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

pub(crate) fn through(
    from: impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, String)> {
    let (mut from, mut piece) = (Hashed::new(from), vec![0; PIECE]);
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(from.finish()),
            read => each(&piece[..read])?,
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
