//! Deletion in two parts: a rename now, the work later on a thread, since deleting a large tree takes seconds. The
//! queue is bounded by what is in the trash directory anyway; what a crash leaves there is deleted at the next start.

use super::StorageDriver;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

#[derive(Debug)]
pub(super) struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    removals: Sender<PathBuf>,
}

impl Trash {
    pub(super) fn start(directory: PathBuf, driver: Arc<dyn StorageDriver>) -> io::Result<Self> {
        let (removals, queue) = channel();
        let work = move || remove_all(&queue, &*driver);
        std::thread::Builder::new().name("storage-trash".into()).spawn(work)?;
        for entry in directory.read_dir()? {
            let _ = removals.send(entry?.path());
        }
        Ok(Self { directory, next: AtomicU64::new(0), removals })
    }

    pub(super) fn put(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let target = self.directory.join(format!("{number}-{name}"));
            if target.symlink_metadata().is_ok() {
                continue;
            }
            return match fs::rename(path, &target) {
                Ok(()) => {
                    let _ = self.removals.send(target);
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
        }
    }
}

fn remove_all(queue: &Receiver<PathBuf>, driver: &dyn StorageDriver) {
    for path in queue {
        // The thread goes on, whatever becomes of one tree: space would never be given back again.
        match catch_unwind(AssertUnwindSafe(|| driver.remove(&path))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "the trash keeps what cannot be removed");
            }
            Err(_) => tracing::error!(path = %path.display(), "removing from the trash panicked"),
        }
    }
}
