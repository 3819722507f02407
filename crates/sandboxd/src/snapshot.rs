//! Copies of a workspace at one instant, while its sandbox lives. On btrfs a snapshot of the upper's subvolume, whatever
//! its size; elsewhere a copy, made while processes run and then once more, while they stand still, of what changed.
//!
//! Processes are frozen only where some run besides stage, and only for the instant; they are thawed on every way out.
//! Nothing is synced: `Storage::sync` says when a snapshot is durable.

use crate::btrfs;
use crate::room::Room;
use crate::sandbox::LocalSandbox;
use crate::workspace::{self, failed};
use greenroom_sandbox::{Error, LayerCopy, Result, Snapshot, SnapshotLayer, SnapshotMethod};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const FREEZE_ATTEMPTS: u32 = 4;

/// A task of its own: a caller that gives up must not leave processes frozen.
pub(crate) async fn take(sandbox: &Arc<LocalSandbox>, target: &Path) -> Result<Snapshot> {
    sandbox.check_files()?;
    let (sandbox, target) = (Arc::clone(sandbox), target.to_owned());
    let taken = tokio::spawn(async move {
        // Two at a time would thaw each other's processes.
        let _one = sandbox.room().snapshots.lock().await;
        sandbox.check_files()?;
        let result = Taking::new(&sandbox, &target).await?.take().await;
        if result.is_err() {
            let remove = move || btrfs::remove_tree(&target);
            let removed = tokio::task::spawn_blocking(remove).await;
            if !matches!(removed, Ok(Ok(()))) {
                tracing::warn!(?removed, "a snapshot that failed is left over");
            }
        }
        result
    });
    taken.await.map_err(|error| Error::Ended { reason: format!("the snapshot failed: {error}") })?
}

struct Taking {
    room: Arc<Room>,
    upper: PathBuf,
    /// What the workspace began from, where that lies below the upper.
    begun: Option<PathBuf>,
    target: PathBuf,
    /// Nothing runs in it any more.
    has_ended: bool,
    started: Instant,
}

impl Taking {
    async fn new(sandbox: &LocalSandbox, target: &Path) -> Result<Self> {
        let started = Instant::now();
        if !target.is_absolute() || fs::symlink_metadata(target).is_ok() {
            let reason = format!("{} is not the absolute path of a new directory", target.display());
            return Err(Error::Invalid { reason });
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed("mkdir", parent))?;
        }
        Ok(Self {
            room: Arc::clone(sandbox.room()),
            upper: sandbox.workspace().join("upper"),
            begun: workspace::begun(sandbox.workspace()),
            target: target.to_owned(),
            has_ended: sandbox.has_ended(),
            started,
        })
    }

    async fn take(self) -> Result<Snapshot> {
        let is_subvolume = self.begun.is_none() && btrfs::is_subvolume(&self.upper);
        let (method, freeze_us) = if is_subvolume {
            (SnapshotMethod::Subvolume, self.by_subvolume().await?)
        } else {
            (SnapshotMethod::Copy, self.by_copy().await?)
        };
        let layer = SnapshotLayer { directory: self.target };
        Ok(Snapshot { layer, method, freeze_us, total_us: micros(self.started) })
    }

    /// Answers how long processes stood still.
    async fn by_subvolume(&self) -> Result<u64> {
        let source = btrfs::open_directory(&self.upper).map_err(failed("open", &self.upper))?;
        let target = self.target.clone();
        let snapshot = move || btrfs::snapshot_of(&source, &target).map_err(failed("snapshot", &target));
        if !self.is_quiescent() {
            self.flush().await?;
        }
        self.while_still(snapshot).await.map(|((), freeze_us)| freeze_us)
    }

    /// What the snapshot itself would write while processes stand still.
    async fn flush(&self) -> Result<()> {
        let upper = self.upper.clone();
        blocking(move || btrfs::flush(&upper).map_err(failed("flush", &upper))).await
    }

    async fn by_copy(&self) -> Result<u64> {
        let (upper, begun, target) = (self.upper.clone(), self.begun.clone(), self.target.clone());
        let is_live = !self.is_quiescent();
        let copy = blocking(move || {
            if is_live {
                // Pages that are written through a mapping change a file's time once more only after they were synced.
                let opened = btrfs::open_directory(&upper).map_err(failed("open", &upper))?;
                rustix::fs::syncfs(opened).map_err(|errno| failed("sync", &upper)(errno.into()))?;
            }
            let layers: Vec<&Path> = begun.iter().map(PathBuf::as_path).chain([upper.as_path()]).collect();
            let mut copy =
                LayerCopy::new(&layers, &target).map_err(failed("copy to", &target))?.remembering();
            copy.update().map_err(failed("copy to", &target))?;
            Ok(copy)
        })
        .await?;
        let target = self.target.clone();
        let mut copy = copy;
        let again = move || copy.update().map(|()| copy).map_err(failed("copy to", &target));
        let (copy, freeze_us) = self.while_still(again).await?;
        let target = self.target.clone();
        blocking(move || copy.finish().map_err(failed("copy to", &target))).await?;
        Ok(freeze_us)
    }

    /// Carries out the work while nothing inside changes; answers how long processes were frozen for it.
    async fn while_still<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<(T, u64)> {
        {
            // Nothing new is begun while it is held.
            let _alone = self.room.gate.write().await;
            if self.is_quiescent() || self.room.is_frozen() {
                return Ok((blocking(work).await?, 0));
            }
        }
        let frozen = self.freeze().await?;
        let done = blocking(work).await;
        self.room.thaw().await?;
        Ok((done?, micros(frozen)))
    }

    /// Answers since when processes stand still. A process that waits for a busy disk cannot be frozen before it is served.
    async fn freeze(&self) -> Result<Instant> {
        for _ in 1..FREEZE_ATTEMPTS {
            let begun = Instant::now();
            match self.room.freeze().await {
                Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::TimedOut => {}
                other => return other.map(|()| begun),
            }
        }
        let begun = Instant::now();
        self.room.freeze().await.map(|()| begun)
    }

    /// No process but stage: it is the first one, so every other descends from it.
    fn is_quiescent(&self) -> bool {
        if self.has_ended {
            return true;
        }
        let tasks = format!("/proc/{}/task", self.room.spawned.pid);
        let Ok(mut tasks) = fs::read_dir(tasks) else { return true };
        tasks.all(|task| {
            let children = task.and_then(|task| fs::read_to_string(task.path().join("children")));
            // A thread that ended has none; a kernel without the file counts as busy.
            match children {
                Ok(text) => text.trim().is_empty(),
                Err(error) => error.raw_os_error() == Some(libc::ESRCH),
            }
        })
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Ended { reason: format!("the snapshot failed: {error}") }))
}
