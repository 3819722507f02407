//! What the session knows of files it has read: a stamp per path, so that an edit never works on text that changed in
//! the meantime, and a lock per path, so that two edits never interleave.

use super::WORKSPACE;
use greenroom_sandbox::FileStat;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Paths remembered at once; past this the stamps are forgotten and files have to be read again.
const REMEMBERED_PATHS: usize = 10_000;

/// Kept by the caller for as long as the session is in memory; a fresh one is always safe.
#[derive(Debug, Default)]
pub struct Files {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified_ns: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    NeverRead,
    Unchanged,
    Changed,
}

impl Files {
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) async fn lock(&self, path: &str) -> OwnedMutexGuard<()> {
        let lock = self.with(path, |known| known.lock.clone());
        lock.lock_owned().await
    }

    pub(super) fn remember(&self, path: &str, stat: &FileStat) {
        self.with(path, |known| known.stamp = Some(Stamp::of(stat)));
    }

    pub(super) fn freshness(&self, path: &str, stat: &FileStat) -> Freshness {
        match self.with(path, |known| known.stamp) {
            None => Freshness::NeverRead,
            Some(stamp) if stamp == Stamp::of(stat) => Freshness::Unchanged,
            Some(_) => Freshness::Changed,
        }
    }

    fn with<T>(&self, path: &str, act: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_PATHS && !known.contains_key(path) {
            known.retain(|_, known| Arc::strong_count(&known.lock) > 1);
        }
        act(known.entry(path.to_owned()).or_default())
    }
}

impl Stamp {
    fn of(stat: &FileStat) -> Self {
        Self { size: stat.size, modified_ns: stat.modified_ns }
    }
}

/// An absolute path in the sandbox; relative ones are taken from the workspace. `..` is left to the sandbox, which knows
/// the links.
pub(super) fn absolute(path: &str) -> Result<String, String> {
    if path.trim().is_empty() || path.contains('\0') || path.len() > 4096 {
        return Err("The path is empty, too long or not a path.".to_owned());
    }
    let full = if path.starts_with('/') { path.to_owned() } else { format!("{WORKSPACE}/{path}") };
    let parts: Vec<&str> = full.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_workspace() {
        assert_eq!(absolute("src/./a.rs").unwrap(), "/workspace/src/a.rs");
        assert_eq!(absolute("/etc//hosts").unwrap(), "/etc/hosts");
        assert_eq!(absolute(".").unwrap(), "/workspace");
        assert_eq!(absolute("a/../b").unwrap(), "/workspace/a/../b");
        assert!(absolute(" ").is_err() && absolute("a\0").is_err());
    }
}
