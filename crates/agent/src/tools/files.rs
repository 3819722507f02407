//! What the session knows of files it has read: a stamp per path, so that an edit never works on text that changed in
//! the meantime, and a lock per path, so that two edits never interleave. When the newest commits of the base branch
//! arrive after the first reads, it says which of the read files they changed.

use super::WORKSPACE;
use greenroom_sandbox::FileStat;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Paths remembered at once; past this the stamps are forgotten and files have to be read again.
const REMEMBERED_PATHS: usize = 10_000;
/// Files that one notice names.
const NAMED_LIMIT: usize = 50;
/// Notices that may wait for the next request.
const NOTICES_LIMIT: usize = 16;

/// Kept by the caller for as long as the session is in memory; a fresh one is always safe.
#[derive(Debug, Default)]
pub struct Files {
    known: Mutex<HashMap<String, Known>>,
    told: Mutex<Told>,
}

/// What the model is to be told before its next request.
#[derive(Debug, Default)]
struct Told {
    /// Absolute paths that the sync changed.
    changed: BTreeSet<String>,
    /// Of those, the ones that were read as they were before.
    stale: BTreeSet<String>,
    remarks: Vec<String>,
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

    /// The same for a file that was read where the sync had not arrived yet; it may have arrived since.
    pub(super) fn remember_early(&self, path: &str, stat: &FileStat) {
        self.remember(path, stat);
        let mut told = self.told();
        if told.changed.contains(path) {
            told.stale.insert(path.to_owned());
        }
    }

    /// The newest commits of the base branch are there. `changed`: paths from the workspace's root. `remarks`: what went
    /// wrong on the way, each a sentence.
    pub fn synced(&self, changed: &[String], remarks: &[String]) {
        let changed: BTreeSet<String> = changed.iter().map(|path| format!("{WORKSPACE}/{path}")).collect();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_read = |path: &&String| known.get(*path).is_some_and(|known| known.stamp.is_some());
        let stale: Vec<String> = changed.iter().filter(is_read).cloned().collect();
        drop(known);
        let mut told = self.told();
        told.stale.extend(stale);
        told.changed = changed;
        let room = NOTICES_LIMIT.saturating_sub(told.remarks.len());
        told.remarks.extend(remarks.iter().take(room).cloned());
    }

    /// What the model must know before its next request; each is given once.
    pub fn take_notice(&self) -> Option<String> {
        let mut told = self.told();
        let stale = std::mem::take(&mut told.stale);
        let remarks = std::mem::take(&mut told.remarks);
        drop(told);
        let mut parts = vec![];
        if !stale.is_empty() {
            parts.push(stale_words(&stale));
        }
        parts.extend(remarks);
        (!parts.is_empty()).then(|| format!("(From the platform: {})", parts.join(" ")))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
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

fn stale_words(stale: &BTreeSet<String>) -> String {
    let named: Vec<&str> = stale.iter().take(NAMED_LIMIT).map(String::as_str).collect();
    let mut text = format!(
        "the newest commits of the base branch arrived in the sandbox after you read these files, and changed them: {}",
        named.join(", ")
    );
    if stale.len() > NAMED_LIMIT {
        let _ = write!(text, " and {} more", stale.len() - NAMED_LIMIT);
    }
    text.push_str(". Read them again before you rely on what you saw.");
    text
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

    fn stat(modified_ns: i64) -> FileStat {
        FileStat { kind: greenroom_sandbox::FileKind::File, size: 1, mode: 0o644, modified_ns }
    }

    #[test]
    fn files_read_before_the_sync_and_changed_by_it_are_named_once() {
        let files = Files::new();
        files.remember_early("/workspace/a.py", &stat(1));
        files.remember_early("/workspace/b.py", &stat(1));
        assert_eq!(files.take_notice(), None);
        files.synced(&["a.py".into(), "c.py".into()], &[]);
        let notice = files.take_notice().unwrap();
        assert!(notice.contains("/workspace/a.py") && !notice.contains("b.py") && !notice.contains("c.py"));
        assert_eq!(files.take_notice(), None);
    }

    #[test]
    fn a_read_that_was_overtaken_by_the_sync_is_named_too() {
        let files = Files::new();
        files.synced(&["a.py".into()], &["A step failed.".into()]);
        assert_eq!(files.take_notice().unwrap(), "(From the platform: A step failed.)");
        files.remember("/workspace/a.py", &stat(2));
        assert_eq!(files.take_notice(), None);
        files.remember_early("/workspace/a.py", &stat(1));
        assert!(files.take_notice().unwrap().contains("a.py"));
    }
}
