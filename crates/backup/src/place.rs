//! The directory that backups lie in: one directory each, named by its time.

use crate::create::PARTIAL;
use crate::manifest::Manifest;
use crate::{Error, Result, io};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Listed {
    pub path: PathBuf,
    pub manifest: Result<Manifest>,
}

/// Oldest first. A directory without a manifest is none.
pub fn list(place: &Path) -> Result<Vec<Listed>> {
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io("reading", place)(error)),
    };
    let mut found: Vec<Listed> = vec![];
    for entry in entries.flatten() {
        if !is_name(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let manifest = Manifest::read(&path);
        found.push(Listed { path, manifest });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A backup by its path, its name below `place`, or `latest`.
pub fn find(place: &Path, which: &str) -> Result<PathBuf> {
    if which == "latest" {
        let whole = list(place)?.into_iter().rev().find(|known| known.manifest.is_ok());
        return whole.map(|known| known.path).ok_or_else(|| Error::NoBackup { path: place.to_owned() });
    }
    let below = place.join(which);
    let path = if is_name(which) && below.exists() { below } else { PathBuf::from(which) };
    Manifest::read(&path)?;
    Ok(path)
}

/// Removes the oldest but `keep`, and answers them; `dry`: only answers them. Those without a readable manifest stay.
pub fn remove_beyond(place: &Path, keep: usize, dry: bool) -> Result<Vec<PathBuf>> {
    let whole: Vec<PathBuf> =
        list(place)?.into_iter().filter(|known| known.manifest.is_ok()).map(|known| known.path).collect();
    let beyond = whole.len().saturating_sub(keep);
    let old = whole[..beyond].to_vec();
    if !dry {
        for path in &old {
            // Without its manifest it is no backup any more, however far the removal gets.
            let manifest = path.join(crate::FILE_NAME);
            std::fs::remove_file(&manifest).map_err(io("removing", &manifest))?;
            std::fs::remove_dir_all(path).map_err(io("removing", path))?;
        }
    }
    Ok(old)
}

pub(crate) fn remove_partial(place: &Path) -> Result<()> {
    for entry in std::fs::read_dir(place).map_err(io("reading", place))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            std::fs::remove_dir_all(entry.path()).map_err(io("removing", &entry.path()))?;
        }
    }
    Ok(())
}

/// `2026-11-21T22-03-11Z`
pub(crate) fn name_of(at_ms: i64) -> String {
    let (day, ms) = (at_ms.div_euclid(86_400_000), at_ms.rem_euclid(86_400_000));
    let (year, month, of_month) = greenroom_domain::quota::civil_of(day);
    let seconds = ms / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{of_month:02}T{hour:02}-{minute:02}-{second:02}Z")
}

/// Two of one second get different names.
pub(crate) fn free_name(place: &Path, name: &str) -> PathBuf {
    let mut path = place.join(name);
    for number in 2.. {
        if !path.exists() {
            break;
        }
        path = place.join(format!("{name}-{number}"));
    }
    path
}

fn is_name(name: &str) -> bool {
    let shape = |(at, byte): (usize, u8)| match at {
        4 | 7 | 13 | 16 => byte == b'-',
        10 => byte == b'T',
        19 => byte == b'Z',
        0..19 => byte.is_ascii_digit(),
        _ => byte == b'-' || byte.is_ascii_digit(),
    };
    name.len() >= 20 && name.bytes().enumerate().all(shape)
}
