//! Removes what a session left on disk. Its trees hold directories without permissions (overlay's work directory, package
//! caches made read-only), which only root removes as they are.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a directory with everything in it; one that is not there is fine. Follows no links.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(root);
            fs::remove_dir_all(root)
        }
        result => result,
    }
}

fn open_directories(root: &Path) {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        // What cannot be opened is named by the removal that follows.
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let entries = directory.read_dir().into_iter().flatten().flatten();
        // `file_type` does not follow links, so this never leaves the tree.
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(directories.map(|entry| entry.path()));
    }
}
