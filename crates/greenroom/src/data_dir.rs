//! The data directory: made for this user alone, checked for what cannot work, held by one server at a time.

use greenroom_domain::{ErrorCode, Problem};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held as long as this value lives; the kernel frees it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let path = std::path::absolute(path).map_err(|error| unusable(path, &error))?;
        let run = path.join("run");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run)
            .map_err(|error| unusable(&path, &error))?;
        refuse_overlay(&path)?;
        let lock = lock(&run.join("lock"), &path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file under `run/` that only this user can read.
    pub(crate) fn write_run_file(&self, name: &str, text: &str) -> Result<(), Problem> {
        let path = self.path.join("run").join(name);
        let write = || {
            let new = path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|error| unusable(&path, &error))
    }

    pub(crate) fn remove_run_file(&self, name: &str) {
        // What is left behind is replaced at the next start.
        let _ = std::fs::remove_file(self.path.join("run").join(name));
    }
}

/// Sandboxes are overlays, and an overlay's upper layer cannot lie on another overlay.
fn refuse_overlay(path: &Path) -> Result<(), Problem> {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let found = rustix::fs::statfs(path).map_err(|error| unusable(path, &error.into()))?;
    if found.f_type != OVERLAYFS_SUPER_MAGIC {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::DataOnOverlay,
        format!(
            "The data directory {} lies on an overlay file system, where sandboxes cannot be made.",
            path.display()
        ),
    )
    .hint("Choose a directory on a real disk with --data; in a container, mount a volume there."))
}

fn lock(path: &Path, data: &Path) -> Result<File, Problem> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(data, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Problem::new(
            ErrorCode::DataInUse,
            format!("Another server already uses the data directory {}.", data.display()),
        )
        .hint("Stop it first, or give this one its own directory with --data.")),
        Err(TryLockError::Error(error)) => Err(unusable(data, &error)),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Problem {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
        _ => ErrorCode::SettingsInvalid,
    };
    Problem::new(code, format!("{} cannot be used: {error}.", path.display()))
        .hint("Choose a writable directory with --data or GREENROOM_DATA.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_server_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let held = DataDir::open(temporary.path()).unwrap();
        assert_eq!(DataDir::open(temporary.path()).unwrap_err().code, ErrorCode::DataInUse);
        drop(held);
        DataDir::open(temporary.path()).unwrap();
    }

    #[test]
    fn what_it_writes_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::open(&temporary.path().join("data")).unwrap();
        data.write_run_file("local-token", "secret").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.path().join("run/local-token")), 0o600);
        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_refused_in_words() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let problem = DataDir::open(file.path()).unwrap_err();
        assert_eq!(problem.code, ErrorCode::SettingsInvalid);
        assert!(problem.hint.is_some());
    }
}
