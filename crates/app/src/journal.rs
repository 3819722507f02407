//! The journal: between snapshots, after a tool call that may have changed files, a durable copy of what the session's
//! sandbox wrote. It bounds what a machine's crash can take to the call that ran. Made by the provider's own snapshot, so
//! it walks only the upper; two exist at most, while the younger is being made; a `SnapshotTaken` replaces both.
//!
//! It runs beside the turn and delays nothing: one copy at a time, two of all sessions, because each is a commit of
//! the whole volume; later calls are covered by the next one, and where copies are slow (plain directories) they take at
//! most a tenth of the time.

use crate::snapshots::{Description, check, read_description, unwritten, write_description};
use crate::{Inner, Result};
use greenroom_domain::SessionId;
use greenroom_session::SessionHandle;
use greenroom_tasks::caught;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const PREFIX: &str = "journal-";
/// Copies that took less are made after every call.
const CHEAP: Duration = Duration::from_millis(50);
/// The part of the time that slower ones may take is one in this many.
const SHARE: u32 = 10;
/// The request that follows the call leaves first.
pub(crate) const REQUEST_FIRST: Duration = Duration::from_millis(20);
/// People's commands come in a row, the first ones of a session right behind its start: one copy for all of them.
pub(crate) const PEOPLE_FIRST: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether a session's journal is being written, and has to be again.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_running: bool,
    is_due: bool,
}

impl Inner {
    /// A call that may have changed files has finished, and what follows it is on its way: not before `pause` is over.
    pub(crate) fn write_journal(self: &Arc<Self>, handle: &SessionHandle, pause: Duration) {
        let track = self.snapshots.track(handle.id());
        {
            let mut pace = track.journal.lock().unwrap_or_else(PoisonError::into_inner);
            pace.is_due = true;
            if std::mem::replace(&mut pace.is_running, true) {
                return;
            }
        }
        let (app, handle) = (Arc::downgrade(self), handle.clone());
        tokio::spawn(async move {
            let is_due = || {
                let mut pace = track.journal.lock().unwrap_or_else(PoisonError::into_inner);
                pace.is_running = pace.is_due;
                std::mem::replace(&mut pace.is_due, false)
            };
            while is_due() {
                let Some(app) = app.upgrade() else { return };
                tokio::time::sleep(pause).await;
                let begun = Instant::now();
                let written = caught("writing a journal", Box::pin(app.journal_once(&handle))).await;
                let written = written.unwrap_or_else(|panicked| Err(crate::broken(&panicked)));
                if let Err(problem) = written {
                    tracing::debug!(session = %handle.id(), %problem, "the journal was not written");
                }
                drop(app);
                let took = begun.elapsed();
                if took > CHEAP {
                    tokio::time::sleep((took * (SHARE - 1)).min(LONGEST_PAUSE)).await;
                }
            }
        });
    }

    async fn journal_once(self: &Arc<Self>, handle: &SessionHandle) -> Result<()> {
        let session = handle.id();
        let track = self.snapshots.track(session);
        // Never closed.
        let _turn = self.snapshots.journals.acquire().await;
        let _one = track.turn.lock().await;
        let Some(sandbox) = self.workspaces.ready_sandbox(session) else { return Ok(()) };
        if !self.snapshots.is_changed(session) {
            return Ok(());
        }
        let state = handle.state().await?;
        let turn = state.running.as_ref().map(|running| running.turn).or(state.last_turn);
        let description = self.description(session, &state, turn)?;
        let directory = self.snapshots.shelf.directory(session);
        std::fs::create_dir_all(&directory).map_err(unwritten)?;
        let earlier = copies(&directory);
        let number = earlier.last().map_or(1, |(number, _)| number + 1);
        let path = directory.join(format!("{PREFIX}{number}"));
        let made = async {
            let copied = sandbox.snapshot(&path).await.map_err(crate::problem_of_sandbox)?;
            if !copied.is_durable() {
                self.storage.sync().await.map_err(crate::problem_of_sandbox)?;
            }
            // Says that the copy is whole; only ever read after a crash of the machine, and then it is there or not.
            let whole = beside(&path);
            tokio::task::spawn_blocking(move || write_durably(&whole, &description))
                .await
                .map_err(|error| unwritten(io::Error::other(error)))?
                .map_err(unwritten)
        };
        let result = made.await;
        let superseded = if result.is_ok() { earlier } else { vec![(number, path)] };
        for (_, path) in superseded {
            self.discard_copy(&path);
        }
        result
    }

    fn discard_copy(&self, path: &Path) {
        let removed = match std::fs::remove_file(beside(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.storage.discard(path),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a copy of the journal is left over");
        }
    }

    /// A snapshot holds all that the journal does.
    pub(crate) fn discard_journal(&self, session: SessionId) {
        for (_, path) in copies(&self.snapshots.shelf.directory(session)) {
            self.discard_copy(&path);
        }
    }

    /// The youngest copy that is whole and fits this version, with its description.
    pub(crate) fn journal_of(&self, session: SessionId) -> Option<(PathBuf, Description)> {
        copies(&self.snapshots.shelf.directory(session)).into_iter().rev().find_map(|(_, path)| {
            let description = read_description(&beside(&path));
            let description = check(&path, description, &self.config.runtime_version).ok()?;
            Some((path, description))
        })
    }
}

fn write_durably(path: &Path, description: &Description) -> io::Result<()> {
    write_description(path, description)?;
    std::fs::File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Oldest first.
fn copies(directory: &Path) -> Vec<(u64, PathBuf)> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let mut copies: Vec<_> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    copies.sort_unstable();
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_in_the_order_they_were_made_and_descriptions_are_none() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["journal-10", "journal-9", "snp_x"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("journal-9.json"), "{}").unwrap();
        let numbers: Vec<u64> = copies(directory.path()).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [9, 10]);
    }
}
