//! Workspaces made in advance, with blanks that are furnished with them: what a claim over the host's root mounts is
//! mounted already, and the workspace has only to get its name.

use crate::btrfs;
use crate::workspace;
use crate::zygote::system;
use greenroom_sandbox::Result;
use rustix::fs::{CWD, RenameFlags};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where they lie, and what each holds.
#[derive(Debug)]
pub(crate) struct Spares {
    root: PathBuf,
    volumes: Vec<String>,
    is_user_mode: bool,
    disk: u64,
    next: AtomicU64,
}

/// Removed when it is dropped, unless it was named.
#[derive(Debug)]
pub(crate) struct Spare {
    directory: Option<PathBuf>,
}

impl Spares {
    /// Beside the workspaces, because naming one is a rename. What an earlier process left is removed. Blocking.
    pub(crate) fn open(storage: &Path, volumes: &[String], is_user_mode: bool, disk: u64) -> Result<Self> {
        let root = storage.join("spare");
        let failed = |error| system("make", root.display().to_string(), error);
        btrfs::remove_tree(&root).map_err(failed)?;
        fs::create_dir_all(&root).map_err(failed)?;
        Ok(Self { root, volumes: volumes.to_vec(), is_user_mode, disk, next: AtomicU64::new(0) })
    }

    /// Blocking.
    pub(crate) fn make(&self) -> Result<Spare> {
        let directory = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let spare = Spare { directory: Some(directory.clone()) };
        let volumes: Vec<&str> =
            std::iter::once("root").chain(self.volumes.iter().map(String::as_str)).collect();
        workspace::make_empty(&directory, &volumes, self.disk, self.is_user_mode)?;
        Ok(spare)
    }
}

impl Spare {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_deref().expect("it has its place until it is named, which ends it")
    }

    /// Becomes the workspace `name`, where nothing is yet. On failure (another file system) nothing has changed.
    pub(crate) fn become_workspace(mut self, name: &Path) -> io::Result<()> {
        if let Some(parent) = name.parent() {
            fs::create_dir_all(parent)?;
        }
        rustix::fs::renameat_with(CWD, self.directory(), CWD, name, RenameFlags::NOREPLACE)?;
        self.directory = None;
        Ok(())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        let remove = move || {
            if let Err(error) = btrfs::remove_tree(&directory) {
                tracing::debug!(path = %directory.display(), %error, "a spare workspace is left to the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
