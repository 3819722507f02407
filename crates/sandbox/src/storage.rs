//! Where layers, workspaces, snapshots and builds lie: directories of one file system, so that a rename moves between
//! them. Owns their names and deletion; what a particular file system does better is its `StorageDriver`'s. Knows no
//! session, image or mount. The files in these trees are hostile: no link of theirs is ever followed.
//!
//! What is durable when: nothing here is synced by itself. A layer is on the disk when `LayerStore::publish` returns; a
//! workspace or a snapshot when `Storage::sync` has returned after its last write.

mod removal;
mod trash;

pub use removal::{remove_tree, remove_tree_at};

use crate::{Error, Result};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trash::Trash;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // First, so that the thread ends before the driver's file system goes.
    trash: Trash,
    root: PathBuf,
    driver: Arc<dyn StorageDriver>,
}

/// What one kind of file system does in its own way. Blocking.
pub trait StorageDriver: Send + Sync + Debug {
    /// Removes a file or a tree with everything in it. What does not exist is removed already.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns when everything written on the file system of `path` before the call is on the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Bytes that a workspace or a snapshot takes of the disk; `None` where the file system keeps no count of them.
    fn used_bytes(&self, _path: &Path) -> Option<u64> {
        None
    }
}

/// Any file system, with system calls that every one has.
#[derive(Clone, Copy, Debug)]
pub struct PlainFiles;

impl StorageDriver for PlainFiles {
    fn remove(&self, path: &Path) -> io::Result<()> {
        remove_tree(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
}

const DIRECTORIES: [&str; 5] = ["layers", "builds", "workspaces", "snapshots", "trash"];

impl Storage {
    /// Makes the directories below `root` and begins to empty the trash that an earlier process left.
    pub fn open(root: &Path, driver: Arc<dyn StorageDriver>) -> io::Result<Self> {
        for name in DIRECTORIES {
            fs::create_dir_all(root.join(name))?;
        }
        let trash = Trash::start(root.join("trash"), Arc::clone(&driver))?;
        Ok(Self { inner: Arc::new(Inner { trash, root: root.to_owned(), driver }) })
    }

    /// Plain directories below `root`.
    pub fn plain(root: &Path) -> io::Result<Self> {
        Self::open(root, Arc::new(PlainFiles))
    }

    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub fn layers(&self) -> PathBuf {
        self.inner.root.join("layers")
    }

    pub fn builds(&self) -> PathBuf {
        self.inner.root.join("builds")
    }

    /// The workspace directory of a session, a warm sandbox or the like (`Workspace::directory`). The names of a
    /// directory's users differ, for example by the kind of their ids.
    pub fn workspace(&self, name: &str) -> PathBuf {
        self.inner.root.join("workspaces").join(name)
    }

    /// Where the snapshots of one workspace lie, each in a directory of its own (`Sandbox::snapshot`). Made by who
    /// takes the first.
    pub fn snapshots(&self, name: &str) -> PathBuf {
        self.inner.root.join("snapshots").join(name)
    }

    /// What all workspaces take of the disk; `None` where the file system keeps no count. Blocking.
    pub fn workspaces_bytes(&self) -> io::Result<Option<u64>> {
        self.used_below(&self.inner.root.join("workspaces"))
    }

    /// The same of all snapshots: what a snapshot shares with its workspace is the workspace's.
    pub fn snapshots_bytes(&self) -> io::Result<Option<u64>> {
        let mut all = None;
        for owner in self.inner.root.join("snapshots").read_dir()? {
            // Deleted meanwhile.
            let Ok(used) = self.used_below(&owner?.path()) else { continue };
            all = used.map(|used| all.unwrap_or(0) + used).or(all);
        }
        Ok(all)
    }

    /// What the workspace of this name and its snapshots take of the disk; 0 where the file system keeps no count. Blocking.
    pub fn bytes_of(&self, name: &str) -> u64 {
        let own = self.inner.driver.used_bytes(&self.workspace(name)).unwrap_or(0);
        own + self.used_below(&self.snapshots(name)).ok().flatten().unwrap_or(0)
    }

    fn used_below(&self, parent: &Path) -> io::Result<Option<u64>> {
        let mut all = None;
        for entry in parent.read_dir()? {
            if let Some(used) = self.inner.driver.used_bytes(&entry?.path()) {
                all = Some(all.unwrap_or(0) + used);
            }
        }
        Ok(all)
    }

    /// Deletes a file or tree below the root: out of sight when this returns (a rename), freed in the background, also
    /// after a crash. What does not exist is deleted already.
    pub fn discard(&self, path: &Path) -> io::Result<()> {
        self.inner.trash.put(path)
    }

    /// Deletes every workspace, with its snapshots, whose name is not kept: what a crash between two deletions left.
    pub fn retain_workspaces(&self, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
        for parent in ["workspaces", "snapshots"] {
            for entry in self.inner.root.join(parent).read_dir()? {
                let entry = entry?;
                if !is_kept(&entry.file_name().to_string_lossy()) {
                    self.discard(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Returns when everything written below the root before the call is on the disk: workspaces, snapshots, layers.
    pub async fn sync(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let synced = tokio::task::spawn_blocking(move || inner.driver.sync(&inner.root)).await;
        synced.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
            _ => Error::System { operation: "sync", path: self.root().display().to_string(), source },
        })
    }
}

#[cfg(test)]
mod tests;
