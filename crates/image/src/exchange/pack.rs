//! A finished layer as one stream of bytes, the same each time: tar, compressed by zstd. Entries are in the order of
//! their paths, each directory before what is in it. Owners are as they are inside a sandbox. Beyond plain tar: times in
//! nanoseconds (PAX `mtime`), extended attributes in libarchive's form, whiteouts as overlay has them (character devices
//! 0/0). Holes are bytes of zero, which cost nothing compressed; `unpack` makes them holes again.

use super::{ATTRIBUTE, LONG_NAME, MOST_BYTES, MOST_ENTRIES, MTIME, attribute_is_kept};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use greenroom_sandbox::{ID_BASE, ID_COUNT, LayerReader, Opened};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rustix::fs::{FileType, Stat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Part of the format: another one gives other bytes.
const LEVEL: i32 = 3;
/// What libarchive escapes in the name of an attribute.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'=');
/// What a header has room for.
const SHORT: usize = 100;
/// Inside a sandbox, and of whatever a sandbox has no name for.
const NOBODY: u32 = 65_534;

/// How the ids on the disk become those inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Of a layer that a sandbox wrote, on a server that runs as root.
    Shifted,
    /// Of an unpacked base there: as they are.
    AsTheyAre,
    /// On an ordinary user's server everything is the sandbox's root's.
    One,
}

impl Owners {
    pub(crate) fn of(is_base: bool) -> Self {
        match (rustix::process::geteuid().is_root(), is_base) {
            (false, _) => Self::One,
            (true, true) => Self::AsTheyAre,
            (true, false) => Self::Shifted,
        }
    }

    pub(super) fn inside(self, id: u32) -> u32 {
        let inside = match self {
            Self::Shifted => id.checked_sub(ID_BASE),
            Self::AsTheyAre => Some(id),
            Self::One => Some(0),
        };
        inside.filter(|id| *id < ID_COUNT).unwrap_or(NOBODY)
    }

    /// The other way; `None`: what is made belongs to the server anyway.
    pub(super) fn on_disk(self, id: u64) -> Option<u32> {
        let inside = u32::try_from(id).ok().filter(|id| *id < ID_COUNT).unwrap_or(NOBODY);
        match self {
            Self::Shifted => Some(ID_BASE + inside),
            Self::AsTheyAre => Some(inside),
            Self::One => None,
        }
    }
}

/// Writes all of the layer. Blocking.
pub(crate) fn pack(layer: &Path, owners: Owners, to: &mut dyn Write) -> io::Result<()> {
    let reader = LayerReader::open(layer)?;
    let mut archive = Builder::new(zstd::Encoder::new(to, LEVEL)?);
    let mut packer = Packer { reader, owners, links: HashMap::new(), entries: 0, bytes: 0 };
    while let Some((path, facts)) = packer.reader.advance()? {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        packer.entry(&path, &facts, &mut archive).map_err(at)?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}

struct Packer {
    reader: LayerReader,
    owners: Owners,
    /// The first path of each file that has several.
    links: HashMap<u64, PathBuf>,
    entries: u64,
    bytes: u64,
}

impl Packer {
    fn entry(&mut self, path: &Path, facts: &Stat, archive: &mut Builder<impl Write>) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(too_large(&format!("the layer has more than {MOST_ENTRIES} entries")));
        }
        let is_whiteout = FileType::from_raw_mode(facts.st_mode) == FileType::CharacterDevice;
        let kind = match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => EntryType::Directory,
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice if facts.st_rdev == 0 => EntryType::Char,
            // As in every copy of a layer: a socket is of no use without its process.
            _ => return Ok(()),
        };
        // Overlay gives all whiteouts one inode; that is no fact about them.
        if facts.st_nlink > 1 && kind != EntryType::Directory && !is_whiteout {
            if let Some(first) = self.links.get(&facts.st_ino) {
                let first = first.clone();
                return self.write(EntryType::Link, path, facts, first.as_os_str().as_bytes(), None, archive);
            }
            self.links.insert(facts.st_ino, path.to_owned());
        }
        match kind {
            EntryType::Directory => {
                let opened = self.reader.directory(path)?;
                self.write(kind, path, facts, b"", Some(opened), archive)
            }
            EntryType::Regular => {
                let opened = self.reader.file(path)?;
                self.write(kind, path, facts, b"", Some(opened), archive)
            }
            EntryType::Symlink => {
                let target = self.reader.link(path)?;
                self.write(kind, path, facts, &target, None, archive)
            }
            _ => self.write(kind, path, facts, b"", None, archive),
        }
    }

    fn write(
        &mut self,
        kind: EntryType,
        path: &Path,
        facts: &Stat,
        link: &[u8],
        opened: Option<Opened>,
        archive: &mut Builder<impl Write>,
    ) -> io::Result<()> {
        let path = match path.as_os_str().as_bytes() {
            b"" => b".",
            path => path,
        };
        let size = if kind == EntryType::Regular { facts.st_size as u64 } else { 0 };
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MOST_BYTES {
            return Err(too_large(&format!("the layer has more than {} GiB", MOST_BYTES >> 30)));
        }
        let attributes = opened.as_ref().map_or(Ok(Vec::new()), |opened| self.attributes(opened))?;
        let time = nanoseconds(facts);
        let records = [(MTIME.to_owned(), time)].into_iter().chain(attributes);
        let records: Vec<(String, String)> = records.collect();
        archive
            .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))?;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(facts.st_mode & 0o7777);
        header.set_uid(self.owners.inside(facts.st_uid).into());
        header.set_gid(self.owners.inside(facts.st_gid).into());
        header.set_mtime(u64::try_from(facts.st_mtime).unwrap_or(0));
        header.set_size(size);
        if kind == EntryType::Char {
            header.set_device_major(0)?;
            header.set_device_minor(0)?;
        }
        long(EntryType::GNULongName, path, archive)?;
        long(EntryType::GNULongLink, link, archive)?;
        let fields = header.as_old_mut();
        fields.name[..path.len().min(SHORT)].copy_from_slice(&path[..path.len().min(SHORT)]);
        fields.linkname[..link.len().min(SHORT)].copy_from_slice(&link[..link.len().min(SHORT)]);
        header.set_cksum();
        let Some(opened) = opened.filter(|_| kind == EntryType::Regular) else {
            return archive.append(&header, io::empty());
        };
        let mut content = File::from(opened.handle().try_clone()?).take(size);
        archive.append(&header, &mut content)?;
        if content.limit() > 0 {
            return Err(io::Error::other("the file became shorter while it was read"));
        }
        Ok(())
    }

    fn attributes(&self, opened: &Opened) -> io::Result<Vec<(String, String)>> {
        let attributes = self.reader.attributes(opened)?.into_iter();
        let kept = attributes.filter(|(name, value)| attribute_is_kept(name.as_bytes(), value));
        let record = |(name, value): (std::ffi::OsString, Vec<u8>)| {
            let name = percent_encode(name.as_bytes(), ESCAPED);
            (format!("{ATTRIBUTE}{name}"), BASE64_STANDARD.encode(value))
        };
        Ok(kept.map(record).collect())
    }
}

fn too_large(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, reason)
}

/// Seconds with nine digits of fraction.
fn nanoseconds(facts: &Stat) -> String {
    let total = i128::from(facts.st_mtime) * 1_000_000_000 + i128::from(facts.st_mtime_nsec);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000)
}

/// What a header has no room for goes before it, byte for byte.
fn long(kind: EntryType, text: &[u8], archive: &mut Builder<impl Write>) -> io::Result<()> {
    if text.len() <= SHORT {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
    header.set_mode(0o644);
    header.set_size(text.len() as u64 + 1);
    header.set_cksum();
    archive.append(&header, text.chain([0].as_slice()))
}
