//! File requests, done by PID 1 itself with the rights of the sandbox's root. Every open is non-blocking, so that a
//! pipe or a lease inside cannot hold stage up. Links are followed: they lead nowhere but inside.

use crate::sys::{At, Outcome, fault};
use greenroom_stage::protocol::{EntryFacts, FILE_BYTES, FileFacts, Kind, LIST_ENTRIES, StageResult};
use rustix::fs::{Mode, OFlags, Stat};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A result and its body.
type Answer = Outcome<(StageResult, Vec<u8>)>;

pub(crate) fn read(path: &str, offset: u64, limit: u64) -> Answer {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?);
    let facts = file.metadata().at("stat", path)?;
    if facts.is_dir() {
        return Err(fault("read", path, libc::EISDIR));
    }
    if !facts.is_file() {
        return Err(fault("read", path, libc::ENXIO));
    }
    let mut bytes = vec![0; limit.min(FILE_BYTES) as usize];
    let mut filled = 0;
    // Files of /proc say size 0 and give their bytes in pieces: read until the end says so.
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64).at("read", path)? {
            0 => break,
            count => filled += count,
        }
    }
    let is_end = filled < bytes.len() || offset + filled as u64 == facts.len();
    bytes.truncate(filled);
    let size = facts.len().max(offset + filled as u64);
    Ok((StageResult::Content { size, is_end }, bytes))
}

const UPLOAD_PREFIX: &str = ".greenroom-";
const UPLOAD_SUFFIX: &str = ".part";

/// Whether a name is that of a write that is not whole yet.
pub(crate) fn is_upload(name: &[u8]) -> bool {
    name.starts_with(UPLOAD_PREFIX.as_bytes()) && name.ends_with(UPLOAD_SUFFIX.as_bytes())
}

/// One piece of a whole-file write; the last one makes it visible.
pub(crate) fn write(path: &str, upload: u64, offset: u64, is_last: bool, bytes: &[u8]) -> Answer {
    let target = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let (Some(parent), Some(_)) = (target.parent(), target.file_name()) else {
        return Err(fault("write", path, libc::EISDIR));
    };
    let temporary = parent.join(format!("{UPLOAD_PREFIX}{upload}{UPLOAD_SUFFIX}"));
    let written = write_piece(&target, parent, &temporary, offset, is_last, bytes);
    if written.is_err() {
        // The upload is over; what is left of it goes.
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| (StageResult::Done, Vec::new()))
}

fn write_piece(
    target: &Path,
    parent: &Path,
    temporary: &Path,
    offset: u64,
    is_last: bool,
    bytes: &[u8],
) -> Outcome<()> {
    if offset == 0 {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).at("mkdir", parent)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(offset == 0)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .mode(0o644)
        .open(temporary)
        .at("open", temporary)?;
    file.write_all_at(bytes, offset).at("write", target)?;
    if is_last {
        keep_attributes(target, &file)?;
        fs::rename(temporary, target).at("rename", target)?;
    }
    Ok(())
}

fn keep_attributes(target: &Path, file: &File) -> Outcome<()> {
    let Ok(present) = fs::symlink_metadata(target) else { return Ok(()) };
    if present.is_dir() {
        return Err(fault("write", target, libc::EISDIR));
    }
    file.set_permissions(Permissions::from_mode(present.mode() & 0o7777)).at("chmod", target)?;
    // An owner that does not exist inside cannot be kept.
    let _ = std::os::unix::fs::fchown(file, Some(present.uid()), Some(present.gid()));
    Ok(())
}

pub(crate) fn stat(path: &str) -> Answer {
    let facts: Stat = rustix::fs::lstat(path).at("stat", path)?;
    let kind = match rustix::fs::FileType::from_raw_mode(facts.st_mode) {
        rustix::fs::FileType::RegularFile => Kind::File,
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    let modified_ns = facts.st_mtime.saturating_mul(1_000_000_000).saturating_add(facts.st_mtime_nsec as i64);
    let facts = FileFacts { kind, size: facts.st_size as u64, mode: facts.st_mode & 0o7777, modified_ns };
    Ok((StageResult::Stat(facts), Vec::new()))
}

pub(crate) fn list(path: &str) -> Answer {
    let mut entries = Vec::new();
    let mut is_truncated = false;
    for entry in fs::read_dir(path).at("open", path)? {
        let entry = entry.at("list", path)?;
        if entries.len() == LIST_ENTRIES {
            is_truncated = true;
            break;
        }
        let Ok(facts) = entry.metadata() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(EntryFacts { name, kind: kind(&facts), size: facts.len() });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((StageResult::Entries { entries, is_truncated }, Vec::new()))
}

fn kind(facts: &Metadata) -> Kind {
    if facts.is_file() {
        Kind::File
    } else if facts.is_dir() {
        Kind::Directory
    } else if facts.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}
