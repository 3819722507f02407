//! The directory a sandbox writes to: `upper/` with one directory per volume, and overlay's work directories in
//! `upper/.work/`, because both must lie on one subvolume and count against one limit. After `suspend` the upper is a
//! layer beside it.

use crate::zygote::{ID_BASE, system};
use greenroom_sandbox::{Error, Result, SnapshotLayer};
use rustix::fs::CWD;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Inside the upper, one directory per volume. No volume has this name, so no sandbox sees it.
pub(crate) const WORK: &str = ".work";

/// Makes the directory ready to be mounted over; what an earlier sandbox wrote stays.
pub(crate) fn prepare(directory: &Path, volumes: &[&str], is_user_mode: bool) -> Result<()> {
    let failed = |operation, path: &Path, error| system(operation, path.display().to_string(), error);
    let upper = directory.join("upper");
    let work = upper.join(WORK);
    if fs::symlink_metadata(&upper).is_err() {
        fs::create_dir_all(directory).map_err(|error| failed("mkdir", directory, error))?;
        own(directory, is_user_mode).map_err(|error| failed("chown", directory, error))?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))
            .map_err(|error| failed("chmod", directory, error))?;
    } else {
        for work in [&work, &directory.join("work")] {
            remove_work(work).map_err(|error| failed("remove", work, error))?;
        }
    }
    refuse_overlay(directory)?;
    let make = |path: &Path, mode| match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("mkdir", path, error)),
        Ok(()) => own(path, is_user_mode).map_err(|error| failed("chown", path, error)),
    };
    for parent in [&upper, &work] {
        make(parent, 0o700)?;
        for volume in volumes {
            make(&parent.join(volume), 0o755)?;
        }
    }
    Ok(())
}

/// Overlay takes no upper that lies on another overlay.
pub(crate) fn refuse_overlay(directory: &Path) -> Result<()> {
    let facts = rustix::fs::statfs(directory)
        .map_err(|errno| system("statfs", directory.display().to_string(), errno.into()))?;
    if facts.f_type as u64 == OVERLAY_MAGIC {
        return Err(Error::Unsupported {
            reason: format!("{} lies on an overlay file system, which cannot hold sandboxes", directory.display()),
            remedy: Some("put the data directory on a disk, in a container on a volume: greenroom serve --data /path/on/a/disk".into()),
        });
    }
    Ok(())
}

fn own(path: &Path, is_user_mode: bool) -> io::Result<()> {
    if is_user_mode {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(ID_BASE), rustix::fs::Gid::from_raw(ID_BASE));
    let at = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(CWD, path, Some(uid), Some(gid), at)?)
}

/// Holds overlay's temporary files and the mark that a `volatile` mount leaves; neither may outlive the mount. Overlay
/// makes its directories with mode 000, which stops everyone but root.
fn remove_work(work: &Path) -> io::Result<()> {
    let mut pending = vec![work.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(facts) = fs::symlink_metadata(&directory) else { continue };
        if facts.permissions().mode() & 0o700 != 0o700 {
            fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        }
        let entries = fs::read_dir(&directory)?.flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(directories.map(|entry| entry.path()));
    }
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The upper becomes a layer by its name alone. Volumes that nothing was written to are left out.
pub(crate) fn into_layer(directory: &Path) -> Result<SnapshotLayer> {
    let failed = |operation, path: &Path, error| system(operation, path.display().to_string(), error);
    let upper = directory.join("upper");
    let work = upper.join(WORK);
    remove_work(&work).map_err(|error| failed("remove", &work, error))?;
    for volume in fs::read_dir(&upper).map_err(|error| failed("open", &upper, error))?.flatten() {
        // Refused for what is not empty.
        let _ = fs::remove_dir(volume.path());
    }
    let layer = unused_name(directory);
    fs::rename(&upper, &layer).map_err(|error| failed("rename", &layer, error))?;
    Ok(SnapshotLayer { directory: layer })
}

fn unused_name(directory: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let names = (0..).map(|attempt| directory.join(format!("layer-{}", now + attempt)));
    let mut free = names.filter(|path| fs::symlink_metadata(path).is_err());
    free.next().expect("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_workspace_keeps_what_was_written_and_drops_work() {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path(), &["root", "usr"], true).unwrap();
        fs::write(directory.path().join("upper/root/kept"), b"x").unwrap();
        fs::create_dir_all(directory.path().join("upper/.work/root/work/incompat/volatile")).unwrap();
        prepare(directory.path(), &["root", "usr"], true).unwrap();
        assert!(directory.path().join("upper/root/kept").exists());
        assert!(!directory.path().join("upper/.work/root/work").exists());
    }

    #[test]
    fn an_upper_becomes_a_layer_without_its_empty_volumes() {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path(), &["root", "usr"], true).unwrap();
        fs::write(directory.path().join("upper/root/kept"), b"x").unwrap();
        let layer = into_layer(directory.path()).unwrap().directory;
        assert!(layer.join("root/kept").exists());
        assert!(!layer.join("usr").exists() && !layer.join(WORK).exists());
        assert!(!directory.path().join("upper").exists());
    }
}
