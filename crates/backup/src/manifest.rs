//! What a backup says about itself; written last, so that a backup with a manifest is a whole one.

use crate::{Error, Result, io};
use greenroom_domain::SessionId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

pub const FILE_NAME: &str = "manifest.json";
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Of the program that made it.
    pub version: String,
    pub began_at_ms: i64,
    pub ended_at_ms: i64,
    /// With the vault's key in it, whoever has the backup has every secret of the installation.
    pub has_key: bool,
    pub sessions: Vec<SessionCut>,
    pub repositories: Vec<RepositoryCut>,
    /// Every file but this one, by path.
    pub files: Vec<StoredFile>,
}

/// Up to where a session is in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCut {
    pub id: SessionId,
    /// The last entry of its log.
    pub head_seq: u64,
    /// How its files looked before they were copied: the same later, and nothing was written.
    pub(crate) stamp: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryCut {
    /// Its directory's name.
    pub name: String,
    pub references: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Below the backup's directory, and below the data directory alike.
    pub path: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

impl Manifest {
    pub fn read(backup: &Path) -> Result<Self> {
        let path = backup.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NoBackup { path: backup.to_owned() });
            }
            Err(error) => return Err(io("reading", &path)(error)),
        };
        let unreadable = |reason: String| Error::Manifest { path: backup.to_owned(), reason };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if manifest.format != FORMAT {
            let reason = format!("it has format {}, and this program reads {FORMAT}", manifest.format);
            return Err(unreadable(reason));
        }
        if let Some(file) = manifest.files.iter().find(|file| !is_below(&file.path)) {
            return Err(unreadable(format!("it names {:?}", file.path)));
        }
        Ok(manifest)
    }

    pub(crate) fn write(&self, backup: &Path) -> Result<()> {
        let path = backup.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(text?.as_bytes())?;
            file.sync_all()
        };
        write().map_err(io("writing", &path))
    }

    pub(crate) fn by_path(&self) -> HashMap<&str, &StoredFile> {
        self.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A manifest from elsewhere must not lead outside.
fn is_below(path: &str) -> bool {
    let is_plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(is_plain)
}
