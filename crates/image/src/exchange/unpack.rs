//! The other way of `pack`, for bytes of which nobody knows where they come from. Only what `pack` writes is taken:
//! entries in its order, each in the directory that was made last or one above it, none twice. Every name is opened below
//! the new directory and through no link, owners are always those of a sandbox, and entries, bytes and memory are
//! bounded. What is wrong ends it; the directory is then for the caller to remove.

use super::pack::Owners;
use super::{ATTRIBUTE, MOST_BYTES, MOST_ENTRIES, MTIME, attribute_is_kept};
use crate::base::each_metered;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tar::{Entry, EntryType};
use tokio_util::sync::CancellationToken;

/// Of what zstd keeps in memory; `pack` needs a quarter.
const WINDOW_LOG: u32 = 23;
/// Beside the bytes of files: headers, names, attributes.
const MOST_BESIDE: u64 = 8 << 30;
/// After the last entry there are two empty blocks.
const MOST_PADDING: u64 = 64 * 1024;
/// A file's smallest hole.
const BLOCK: usize = 4096;
const PIECE: usize = 64 * BLOCK;
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// Reads `packed` to its end and makes its entries in `directory`, which exists and is empty. Blocking.
pub(crate) fn unpack(
    packed: impl Read,
    directory: &Path,
    owners: Owners,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let mut decoder = zstd::Decoder::new(packed)?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
    let root = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    let mut target = Target { root, owners, open: Vec::new(), is_begun: false, entries: 0, bytes: 0 };
    let mut bounded = (&mut decoder).take(MOST_BYTES + MOST_BESIDE);
    each_metered(&mut bounded, |entry| {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        target.entry(entry)
    })?;
    target.leave_all()?;
    if io::copy(&mut bounded.take(MOST_PADDING), &mut io::sink())? == MOST_PADDING {
        return Err(refused("it goes on behind its last entry"));
    }
    // To the very end, where the digest is compared.
    let mut rest: BufReader<_> = decoder.finish();
    if io::copy(&mut (&mut rest).take(1), &mut io::sink())? > 0 {
        io::copy(&mut rest, &mut io::sink())?;
        return Err(refused("it goes on behind its end"));
    }
    Ok(())
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Set when nothing is made in the directory any more.
struct Facts {
    mode: Mode,
    owner: Option<(Uid, Gid)>,
    time: Timespec,
}

struct Target {
    root: OwnedFd,
    owners: Owners,
    /// The directory that was made last and those it lies in, the outermost first.
    open: Vec<(Vec<u8>, Facts)>,
    is_begun: bool,
    entries: u64,
    bytes: u64,
}

impl Target {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(refused(&format!("it has more than {MOST_ENTRIES} entries")));
        }
        let path = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        let (facts, attributes) = self.facts(entry)?;
        if path == b"." {
            if self.is_begun || kind != EntryType::Directory {
                return Err(refused("it does not begin with the layer's own directory"));
            }
            self.is_begun = true;
            set_attributes(&self.root, &attributes)?;
            self.open.push((Vec::new(), facts));
            return Ok(());
        }
        let (above, name) = split(&path)?;
        self.leave_until(above)?;
        let parent = self.directory(above)?;
        match kind {
            EntryType::Directory => {
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                let made = self.directory(&path)?;
                set_attributes(&made, &attributes)?;
                self.open.push((path, facts));
                return Ok(());
            }
            EntryType::Regular => return self.file(entry, &parent, name, &facts, &attributes),
            EntryType::Link => return self.link(entry, &parent, name),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().filter(|target| !target.is_empty());
                let target = target.ok_or_else(|| refused("a link in it leads nowhere"))?;
                rustix::fs::symlinkat(&*target, &parent, name)?;
            }
            EntryType::Char => {
                let header = entry.header();
                if (header.device_major()?, header.device_minor()?) != (Some(0), Some(0)) {
                    return Err(refused("it has a device"));
                }
                rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            EntryType::Fifo => {
                rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            }
            _ => return Err(refused("it has an entry of another kind")),
        }
        if let Some((uid, gid)) = facts.owner {
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if kind == EntryType::Fifo {
            // Nobody else writes here, so the name is still the fifo.
            rustix::fs::chmodat(&parent, name, facts.mode, AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(&parent, name, &times(&facts), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &[u8],
        facts: &Facts,
        attributes: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        let size = entry.size();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MOST_BYTES {
            return Err(refused(&format!("it has more than {} GiB", MOST_BYTES >> 30)));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        write_with_holes(entry, &file, size)?;
        // A change of owner takes capabilities and the bits of setuid away, so they come after.
        if let Some((uid, gid)) = facts.owner {
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        set_attributes(&file, attributes)?;
        rustix::fs::fchmod(&file, facts.mode)?;
        Ok(rustix::fs::futimens(&file, &times(facts))?)
    }

    /// To a file that was made before; never through a link.
    fn link(&self, entry: &Entry<'_, impl Read>, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let first = entry.link_name_bytes().ok_or_else(|| refused("a name of a file in it leads nowhere"))?;
        let (above, first) = split(&first)?;
        let above = self.directory(above)?;
        Ok(rustix::fs::linkat(&above, first, parent, name, AtFlags::empty())?)
    }

    fn facts(&self, entry: &mut Entry<'_, impl Read>) -> io::Result<(Facts, Attributes)> {
        let (mut time, mut attributes) = (None, Vec::new());
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record?;
            let text = |text: Result<&str, std::str::Utf8Error>| {
                text.map(str::to_owned).map_err(|_| refused("its attributes cannot be read"))
            };
            let (key, value) = (text(record.key())?, text(record.value())?);
            if key == MTIME {
                time = Some(timespec(&value).ok_or_else(|| refused("a time in it cannot be read"))?);
            } else if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                let name: Vec<u8> = percent_decode_str(name).collect();
                let value = BASE64_STANDARD.decode(&value);
                let value = value.map_err(|_| refused("its attributes cannot be read"))?;
                if !attribute_is_kept(&name, &value) {
                    return Err(refused("it has an attribute that no sandbox can set"));
                }
                attributes.push((name, value));
            } else {
                return Err(refused("it has a record that is not known"));
            }
        }
        let header = entry.header();
        let owner = match (self.owners.on_disk(header.uid()?), self.owners.on_disk(header.gid()?)) {
            (Some(uid), Some(gid)) => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => None,
        };
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let time = time.ok_or_else(|| refused("an entry has no time"))?;
        Ok((Facts { mode, owner, time }, attributes))
    }

    /// Ends the directories that the next entry, which lies in `above`, is not in.
    fn leave_until(&mut self, above: &[u8]) -> io::Result<()> {
        while self.open.last().is_some_and(|(path, _)| path != above) {
            self.leave()?;
        }
        if self.open.is_empty() { Err(refused("its entries are not in order")) } else { Ok(()) }
    }

    fn leave_all(&mut self) -> io::Result<()> {
        if !self.is_begun {
            return Err(refused("it is empty"));
        }
        while !self.open.is_empty() {
            self.leave()?;
        }
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let Some((path, facts)) = self.open.pop() else { return Ok(()) };
        let directory = self.directory(&path)?;
        if let Some((uid, gid)) = facts.owner {
            rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&directory, facts.mode)?;
        Ok(rustix::fs::futimens(&directory, &times(&facts))?)
    }

    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BELOW)?)
    }
}

/// The directory and the name in it. Only plain names: no `..`, no empty one.
fn split(path: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let is_plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if !path.split(|byte| *byte == b'/').all(is_plain) {
        return Err(refused(&format!("the path {:?} is refused", String::from_utf8_lossy(path))));
    }
    Ok(match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    })
}

fn set_attributes(of: impl AsFd, attributes: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        rustix::fs::fsetxattr(&of, name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Whole blocks of zero are left out, so that a file with holes takes no more room than before.
fn write_with_holes(from: &mut impl Read, to: &File, size: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    while offset < size {
        let length = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
        from.read_exact(&mut piece[..length])?;
        let blocks: Vec<&[u8]> = piece[..length].chunks(BLOCK).collect();
        let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        let mut at = 0;
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let end = at + run.iter().map(|block| block.len()).sum::<usize>();
            if !is_zero(run[0]) {
                to.write_all_at(&piece[at..end], offset + at as u64)?;
            }
            at = end;
        }
        offset += length as u64;
    }
    to.set_len(size)
}

/// Of `pack`'s form: seconds, a point, nine digits.
fn timespec(text: &str) -> Option<Timespec> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (seconds, fraction) = digits.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) || fraction.len() != 9 {
        return None;
    }
    let total = i128::from(seconds.parse::<i64>().ok()?) * 1_000_000_000 + fraction.parse::<i128>().ok()?;
    let total = if is_negative { -total } else { total };
    Some(Timespec {
        tv_sec: i64::try_from(total.div_euclid(1_000_000_000)).ok()?,
        tv_nsec: i64::try_from(total.rem_euclid(1_000_000_000)).ok()?,
    })
}

fn times(facts: &Facts) -> Timestamps {
    Timestamps { last_access: facts.time, last_modification: facts.time }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
