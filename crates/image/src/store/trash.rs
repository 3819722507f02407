//! Deletion in two parts: a rename now, the work later on a thread, since deleting a large tree takes seconds. The
//! queue is bounded by what is in the trash directory anyway; what a crash leaves there is deleted at the next start.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

#[derive(Debug)]
pub(super) struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    removals: Sender<PathBuf>,
}

impl Trash {
    pub(super) fn start(directory: PathBuf) -> io::Result<Self> {
        let (removals, queue) = channel();
        std::thread::Builder::new().name("layer-trash".into()).spawn(move || remove_all(&queue))?;
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

fn remove_all(queue: &Receiver<PathBuf>) {
    for path in queue {
        if let Err(error) = remove(&path) {
            tracing::warn!(path = %path.display(), %error, "the trash keeps what cannot be removed");
        }
    }
}

/// Trees hold directories without permissions (overlay's work directory), which only root removes as they are.
fn remove(path: &Path) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path);
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_directories(root: &Path) {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let entries = directory.read_dir().into_iter().flatten().flatten();
        // `file_type` does not follow links, so this never leaves the tree.
        pending.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
}
