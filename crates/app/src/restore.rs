//! Where a session's files come from when its sandbox is made: they are there; or they begin from its newest durable
//! copy; or, for a fork, from its parent's. Never half: a copy that is not whole is passed over and named.
//!
//! Files that are there are believed unless the machine was restarted while a sandbox used them: an overlay is not synced
//! while it runs, so a crash of the machine can tear it. Which run of the machine it was says a file beside the log; clocks
//! step. When nothing is left the start fails in words, once; whoever then
//! prompts again has been told, and the session begins from its image.

use crate::snapshots::{Place, ended_turns, unwritten};
use crate::{Inner, Result};
use greenroom_domain::event::{SandboxPhase, SnapshotReason};
use greenroom_domain::state::Origin;
use greenroom_domain::{ErrorCode, Event, Problem, SessionId, SessionState};
use greenroom_sandbox::{ExecSpec, ExitReason, Sandbox};
use greenroom_session::SessionHandle;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the model is told of a restore.
const RESTORED: &str = "The sandbox's files were lost and have been restored from their last copy. What was written after \
    it is gone: look before you rely on a recent change.";
const BRANCH_DEADLINE_MS: u64 = 60_000;

/// What the files of a session's next sandbox are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// The image's: the branch is still to be begun and synced.
    New,
    /// Those in the workspace.
    Kept,
    /// A copy, which an empty workspace begins from (`Workspace::begin_from`). The log has been told.
    Copy(PathBuf),
}

impl Inner {
    /// Decides what the next sandbox begins from, and puts aside files that cannot be trusted.
    pub(crate) async fn files_of(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
    ) -> Result<Files> {
        let directory = self.storage.workspace(&handle.id().to_string());
        let session = handle.id();
        let track = self.snapshots.track(session);
        // A copy that is being made of these files is finished first.
        let _one = track.turn.lock().await;
        let is_trusted = self.is_trusted(session, state);
        // Not synced: after a crash it says an earlier run, or nothing.
        std::fs::write(self.boot_file(session), &self.boot.id).map_err(unwritten)?;
        let is_begun = state.workspace.base_commit.is_some() && !state.workspace.is_gone;
        if has_files(&directory) {
            if is_trusted {
                return Ok(if is_begun { Files::Kept } else { Files::New });
            }
            tracing::warn!(%session, "the machine was restarted while a sandbox ran; its files are put aside");
            self.storage.discard(&directory).map_err(unwritten)?;
        }
        if !is_begun {
            return Ok(Files::New);
        }
        let Some((place, problem)) = self.newest_copy(handle, state).await? else {
            return self.without_a_copy(handle, state).await.map(|()| Files::New);
        };
        self.snapshots.shelf.need(session, place).map_err(unwritten)?;
        let path = self.usable(place)?;
        let restoring = Event::SandboxChanged {
            state: SandboxPhase::Restoring,
            image: state.workspace.image,
            commit: None,
            problem,
        };
        handle.record(vec![restoring]).await?;
        if place.owner == session {
            self.memories.files(session).synced(&[], &[RESTORED.to_owned()]);
        }
        Ok(Files::Copy(path))
    }

    /// The youngest usable copy, with a word on what it does not hold. The journal's becomes a snapshot.
    async fn newest_copy(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
    ) -> Result<Option<(Place, Option<Problem>)>> {
        let session = handle.id();
        let mut damaged = None;
        let mut newest = None;
        for kept in state.workspace.snapshots.iter().rev() {
            let place = Place { owner: session, snapshot: kept.snapshot };
            match self.usable(place) {
                Ok(_) => {
                    newest = Some((place, kept.at_ms));
                    break;
                }
                Err(problem) => {
                    tracing::warn!(%session, snapshot = %kept.snapshot, %problem, "passed over");
                    damaged = damaged.or(Some(problem));
                }
            }
        }
        let journal = self.journal_of(session);
        let is_younger = |at_ms: i64| newest.is_none_or(|(_, newest)| newest < at_ms);
        if let Some((path, description)) = journal.filter(|(_, description)| is_younger(description.at_ms)) {
            let place = self.new_place(session);
            self.snapshots.shelf.open_mark(place).map_err(unwritten)?;
            std::fs::rename(&path, self.snapshots.shelf.path(place)).map_err(unwritten)?;
            self.snapshots.shelf.describe(place, &description).map_err(unwritten)?;
            self.storage.sync().await.map_err(crate::problem_of_sandbox)?;
            let taken = Event::SnapshotTaken {
                snapshot: place.snapshot,
                reason: SnapshotReason::Exit,
                turn: description.turn,
                freeze_us: 0,
                duration_ms: 0,
            };
            handle.record(vec![taken]).await?;
            self.snapshots.shelf.close_mark(place);
            self.discard_journal(session);
            return Ok(Some((place, damaged)));
        }
        let base = self.snapshots.shelf.base_of(session).map(|place| (place, 0));
        let found = newest.or(base.filter(|(place, _)| self.usable(*place).is_ok()));
        Ok(found.map(|(place, _)| (place, damaged)))
    }

    /// Fine when nothing was ever written over the image; otherwise said, before anyone works on files that are not theirs.
    async fn without_a_copy(&self, handle: &SessionHandle, state: &SessionState) -> Result<()> {
        let entries = handle.conversation().await?;
        let is_fork = state
            .origin
            .as_ref()
            .is_some_and(|origin| origin.forked_from.as_ref().is_some_and(|point| point.snapshot.is_some()));
        let is_running = state.running.as_ref().is_some_and(|running| running.tool_calls > 0);
        let turns = ended_turns(&entries);
        let inherited = state.origin.as_ref().and_then(Origin::inherited_until);
        // What an import's turns wrote stayed where they ran.
        let own = turns.iter().rposition(|(turn, _)| Some(*turn) == inherited).map_or(0, |last| last + 1);
        let has_written = turns[own..].iter().any(|(_, has_written)| *has_written);
        if !is_fork && !is_running && !has_written && state.workspace.snapshots.is_empty() {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::SnapshotDamaged,
            "The files of this session are gone, and no usable copy of them is left.",
        )
        .hint(
            "The next prompt begins again from the image: the conversation is kept, changes that were not proposed are \
             lost.",
        ))
    }

    /// Nothing used the files when they were last heard of, or it was in the machine's present run.
    fn is_trusted(&self, session: SessionId, state: &SessionState) -> bool {
        let Some(used_ms) = state.workspace.in_use_since_ms else { return true };
        match std::fs::read_to_string(self.boot_file(session)) {
            Ok(boot) => boot == self.boot.id,
            // Used by a version that wrote no such file.
            Err(_) => used_ms >= self.boot.since_ms,
        }
    }

    /// In which run of the machine the session's files were last used.
    fn boot_file(&self, session: SessionId) -> PathBuf {
        self.config.data_dir.join("sessions").join(session.to_string()).join("boot")
    }

    /// A fork's files stand on its parent's branch: its own begins at the same commit, and nothing else is touched.
    pub(crate) async fn take_own_branch(
        &self,
        state: &SessionState,
        sandbox: &Arc<dyn Sandbox>,
    ) -> Result<()> {
        let Some(origin) = state.origin.as_ref().filter(|origin| origin.forked_from.is_some()) else {
            return Ok(());
        };
        let script = r#"git rev-parse -q --verify "refs/heads/$BRANCH" > /dev/null || {
            git update-ref "refs/heads/$BRANCH" HEAD && git symbolic-ref HEAD "refs/heads/$BRANCH"; }"#;
        let spec = ExecSpec {
            call: "greenroom-branch".to_owned(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: greenroom_image::WORKSPACE.to_owned(),
            env: vec![("BRANCH".to_owned(), origin.branch.to_string())],
            stdin: vec![],
            timeout_ms: BRANCH_DEADLINE_MS,
            output_limit_bytes: 64 * 1024,
            is_read_only: false,
        };
        let (exit, output) = crate::workspaces::run(sandbox, spec).await?;
        match exit {
            Some(ExitReason::Code { code: 0 }) => Ok(()),
            _ => Err(Problem::new(ErrorCode::SandboxFailed, "The fork's branch could not be begun.")
                .hint("Send the prompt again.")
                .detail(output)),
        }
    }
}

fn has_files(directory: &Path) -> bool {
    directory.read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

/// The machine's present run, and when this installation first saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    id: String,
    pub(crate) since_ms: i64,
}

impl Boot {
    /// Remembered in the data directory; known before any session is opened. Blocking.
    pub(crate) fn of_now(data: &Path, now_ms: i64) -> io::Result<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Self::recall(&data.join("boot.json"), id, now_ms)
    }

    fn recall(path: &Path, id: String, now_ms: i64) -> io::Result<Self> {
        let known: Option<Self> =
            std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(known) = known.filter(|known| known.id == id) {
            return Ok(known);
        }
        let boot = Self { id, since_ms: now_ms };
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&boot).map_err(io::Error::other)?)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)?;
        Ok(boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_the_machine_is_noticed_once_and_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boot.json");
        let at = |id: &str, now| Boot::recall(&path, id.to_owned(), now).unwrap().since_ms;
        assert_eq!(at("one", 10), 10);
        assert_eq!(at("one", 20), 10);
        assert_eq!(at("two", 30), 30);
        assert_eq!(at("two", 40), 30);
    }

    #[tokio::test]
    async fn which_run_of_the_machine_used_the_files_is_known_whatever_the_clock_says() {
        use crate::testing::{Bounds, World};
        let world = World::start(Bounds::without_pool()).await;
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        world.use_sandbox(&world.admin, session).await;
        let inner = world.inner();
        let mut state = inner.sessions().get(session).await.unwrap().state().await.unwrap();
        assert!(state.workspace.in_use_since_ms.is_some());
        // The clock stepped back after the start, and a sandbox was used then.
        state.workspace.in_use_since_ms = Some(inner.boot.since_ms - 1_000_000);
        assert!(inner.is_trusted(session, &state));
        // It was ahead before the machine was restarted.
        state.workspace.in_use_since_ms = Some(inner.boot.since_ms + 1_000_000);
        std::fs::write(inner.boot_file(session), "another run").unwrap();
        assert!(!inner.is_trusted(session, &state));
        state.workspace.in_use_since_ms = None;
        assert!(inner.is_trusted(session, &state), "nothing used them");
    }
}
