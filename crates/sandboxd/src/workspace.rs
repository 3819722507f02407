//! The directory a sandbox writes to: `upper/` with one directory per volume, and overlay's work directories in
//! `upper/.work/`, because both must lie on one subvolume and count against one limit. Where the file system has
//! subvolumes, the upper is one, bounded; elsewhere a directory. After `suspend` the upper is a layer beside it.
//!
//! A workspace that begins from a snapshot is a snapshot of it (btrfs), or has it as the layer below the upper, named by
//! the link `begun` (elsewhere).

use crate::btrfs;
use crate::zygote::system;
use greenroom_sandbox::{ClaimSpec, Error, ID_BASE, LayerCopy, Result, SnapshotLayer};
use rustix::fs::{CWD, StatVfsMountFlags};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Inside the upper, one directory per volume. No volume has this name, so no sandbox sees it.
pub(crate) const WORK: &str = ".work";
/// Beside the upper: a link to the snapshot that lies below it.
const BEGUN: &str = "begun";
/// Bytes that a sandbox may write, where the file system can bound them.
pub const DEFAULT_DISK: u64 = 20 << 30;

/// What the file system below a workspace can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    Subvolumes,
    Plain,
}

pub(crate) fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
        _ => system(operation, path.display().to_string(), error),
    }
}

/// Makes the workspace ready to be mounted over; what an earlier sandbox wrote stays. Answers the layers that come
/// directly below its upper, above the claim's. `disk`: bytes it may write where the claim says nothing. Blocking.
pub(crate) fn prepare(
    spec: &ClaimSpec,
    volumes: &[&str],
    disk: u64,
    is_user_mode: bool,
) -> Result<Vec<PathBuf>> {
    let directory = &spec.workspace.directory;
    let upper = directory.join("upper");
    let work = upper.join(WORK);
    if fs::symlink_metadata(&upper).is_err() {
        make_directory(directory, is_user_mode)?;
        begin(directory, spec.workspace.begin_from.as_deref(), is_user_mode)?;
    } else {
        remove_work(&work).map_err(failed("remove", &work))?;
    }
    if ground(directory, is_user_mode)? == Ground::Subvolumes {
        bound(&upper, spec.resources.disk_bytes.unwrap_or(disk))?;
    }
    make_volumes(&upper, volumes, is_user_mode)?;
    Ok(begun(directory).into_iter().collect())
}

/// A workspace that no claim has asked for yet: nothing is in it. Blocking.
pub(crate) fn make_empty(directory: &Path, volumes: &[&str], disk: u64, is_user_mode: bool) -> Result<()> {
    make_directory(directory, is_user_mode)?;
    begin(directory, None, is_user_mode)?;
    let upper = directory.join("upper");
    if ground(directory, is_user_mode)? == Ground::Subvolumes {
        bound(&upper, disk)?;
    }
    make_volumes(&upper, volumes, is_user_mode)
}

/// Gives a workspace that nothing was written to another bound.
pub(crate) fn rebound(directory: &Path, bytes: u64, is_user_mode: bool) -> Result<()> {
    if ground(directory, is_user_mode)? == Ground::Subvolumes {
        bound(&directory.join("upper"), bytes)?;
    }
    Ok(())
}

fn make_directory(directory: &Path, is_user_mode: bool) -> Result<()> {
    fs::create_dir_all(directory).map_err(failed("mkdir", directory))?;
    own(directory, is_user_mode).map_err(failed("chown", directory))?;
    fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(failed("chmod", directory))
}

fn make_volumes(upper: &Path, volumes: &[&str], is_user_mode: bool) -> Result<()> {
    for parent in [upper, &upper.join(WORK)] {
        make(parent, 0o700, is_user_mode)?;
        for volume in volumes {
            make(&parent.join(volume), 0o755, is_user_mode)?;
        }
    }
    Ok(())
}

/// The upper of a workspace that has none.
fn begin(directory: &Path, from: Option<&Path>, is_user_mode: bool) -> Result<()> {
    let upper = directory.join("upper");
    let has_subvolumes = ground(directory, is_user_mode)? == Ground::Subvolumes;
    match from {
        None if has_subvolumes => {
            btrfs::create(&upper).map_err(failed("make subvolume", &upper))?;
            fs::set_permissions(&upper, Permissions::from_mode(0o700)).map_err(failed("chmod", &upper))?;
            own(&upper, is_user_mode).map_err(failed("chown", &upper))
        }
        None => Ok(()),
        Some(snapshot) if has_subvolumes && btrfs::is_subvolume(snapshot) => {
            btrfs::snapshot(snapshot, &upper).map_err(failed("snapshot", snapshot))?;
            let work = upper.join(WORK);
            renew_work(&work).map_err(failed("renew", &work))
        }
        Some(snapshot) => {
            fs::read_dir(snapshot).map_err(failed("open", snapshot))?;
            let link = directory.join(BEGUN);
            match std::os::unix::fs::symlink(snapshot, &link) {
                // A claim that was cut off before it made the upper.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::remove_file(&link).map_err(failed("remove", &link))?;
                    std::os::unix::fs::symlink(snapshot, &link).map_err(failed("link", &link))
                }
                other => other.map_err(failed("link", &link)),
            }
        }
    }
}

/// The snapshot below a workspace's upper.
pub(crate) fn begun(directory: &Path) -> Option<PathBuf> {
    fs::read_link(directory.join(BEGUN)).ok()
}

/// Quotas that are off were said in the capabilities.
fn bound(upper: &Path, bytes: u64) -> Result<()> {
    match btrfs::limit(upper, bytes) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINVAL)) => {
            Err(failed("limit", upper)(error))
        }
        _ => Ok(()),
    }
}

fn make(path: &Path, mode: u32, is_user_mode: bool) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("mkdir", path)(error)),
        Ok(()) => own(path, is_user_mode).map_err(failed("chown", path)),
    }
}

/// Overlay takes no upper that lies on another overlay.
pub(crate) fn refuse_overlay(directory: &Path) -> Result<()> {
    ground(directory, true).map(drop)
}

/// Refuses what cannot hold an upper at all. An ordinary user may neither bound a subvolume nor remove it.
fn ground(directory: &Path, is_user_mode: bool) -> Result<Ground> {
    let facts = rustix::fs::statfs(directory).map_err(|errno| failed("statfs", directory)(errno.into()))?;
    if facts.f_type as u64 == OVERLAY_MAGIC {
        return Err(Error::Unsupported {
            reason: format!("{} lies on an overlay file system, which cannot hold sandboxes", directory.display()),
            remedy: Some("put the data directory on a disk, in a container on a volume: greenroom serve --data /path/on/a/disk".into()),
        });
    }
    if facts.f_type as u64 != btrfs::MAGIC || is_user_mode {
        return Ok(Ground::Plain);
    }
    // What the kernel makes of a file system that could not write, above all because the host's disk was full.
    let is_read_only =
        StatVfsMountFlags::from_bits_retain(facts.f_flags as _).contains(StatVfsMountFlags::RDONLY);
    if is_read_only { Err(Error::DiskFull) } else { Ok(Ground::Subvolumes) }
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

/// Makes work directories of earlier mounts fit for the next: usually only the mark of a `volatile` one is in the way, and
/// overlay empties the rest itself. Removing and making all of it would cost a start a millisecond or two.
fn renew_work(work: &Path) -> io::Result<()> {
    for volume in fs::read_dir(work)? {
        let volume = volume?.path();
        if !remove_mark(&volume)? {
            remove_work(&volume)?;
        }
    }
    Ok(())
}

/// Whether nothing but an empty work directory is left.
fn remove_mark(volume: &Path) -> io::Result<bool> {
    let inner = volume.join("work");
    let is_gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    is_gone(fs::remove_file(inner.join("incompat/volatile/dirty")))?;
    for directory in ["incompat/volatile", "incompat"] {
        match is_gone(fs::remove_dir(inner.join(directory))) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            other => other?,
        }
    }
    let is_empty = |directory: &Path| Ok::<_, io::Error>(fs::read_dir(directory)?.next().is_none());
    let others = fs::read_dir(volume)?.flatten().any(|entry| entry.file_name() != "work");
    Ok(!others && (!inner.exists() || is_empty(&inner)?))
}

/// The upper becomes a layer by its name alone. Volumes that nothing was written to are left out.
pub(crate) fn into_layer(directory: &Path) -> Result<SnapshotLayer> {
    let upper = directory.join("upper");
    let work = upper.join(WORK);
    remove_work(&work).map_err(failed("remove", &work))?;
    for volume in fs::read_dir(&upper).map_err(failed("open", &upper))?.flatten() {
        // Refused for what is not empty.
        let _ = fs::remove_dir(volume.path());
    }
    let layer = unused_name(directory);
    if let Some(begun) = begun(directory) {
        return merge(directory, &[&begun, &upper], layer);
    }
    fs::rename(&upper, &layer).map_err(failed("rename", &layer))?;
    Ok(SnapshotLayer { directory: layer })
}

/// The layer of a workspace that began from another directory: both in one.
fn merge(directory: &Path, layers: &[&Path], target: PathBuf) -> Result<SnapshotLayer> {
    let merged =
        LayerCopy::new(layers, &target).and_then(|mut copy| copy.update().and_then(|()| copy.finish()));
    if let Err(error) = merged {
        // What is left of it is removed with the workspace.
        let _ = greenroom_sandbox::remove_tree(&target);
        return Err(failed("copy to", &target)(error));
    }
    let (upper, link) = (directory.join("upper"), directory.join(BEGUN));
    btrfs::remove_tree(&upper).map_err(failed("remove", &upper))?;
    fs::remove_file(&link).map_err(failed("remove", &link))?;
    Ok(SnapshotLayer { directory: target })
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

    fn spec(directory: &Path) -> ClaimSpec {
        ClaimSpec {
            id: "sandbox".into(),
            fence: greenroom_sandbox::Fence { session: "session".into(), epoch: 1, generation: 1 },
            base: greenroom_sandbox::Base::HostRoot,
            layers: Vec::new(),
            workspace: greenroom_sandbox::Workspace { directory: directory.to_owned(), begin_from: None },
            binds: Vec::new(),
            egress_ports: Vec::new(),
            resources: greenroom_sandbox::Resources::default(),
            hostname: "room".into(),
            env: Vec::new(),
            is_background: false,
        }
    }

    #[test]
    fn a_prepared_workspace_keeps_what_was_written_and_drops_work() {
        let directory = tempfile::tempdir().unwrap();
        prepare(&spec(directory.path()), &["root", "usr"], DEFAULT_DISK, true).unwrap();
        fs::write(directory.path().join("upper/root/kept"), b"x").unwrap();
        fs::create_dir_all(directory.path().join("upper/.work/root/work/incompat/volatile")).unwrap();
        prepare(&spec(directory.path()), &["root", "usr"], DEFAULT_DISK, true).unwrap();
        assert!(directory.path().join("upper/root/kept").exists());
        assert!(!directory.path().join("upper/.work/root/work").exists());
    }

    #[test]
    fn an_upper_becomes_a_layer_without_its_empty_volumes() {
        let directory = tempfile::tempdir().unwrap();
        prepare(&spec(directory.path()), &["root", "usr"], DEFAULT_DISK, true).unwrap();
        fs::write(directory.path().join("upper/root/kept"), b"x").unwrap();
        let layer = into_layer(directory.path()).unwrap().directory;
        assert!(layer.join("root/kept").exists());
        assert!(!layer.join("usr").exists() && !layer.join(WORK).exists());
        assert!(!directory.path().join("upper").exists());
    }

    #[test]
    fn what_a_workspace_begins_from_lies_below_its_upper_at_every_claim() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("snapshot");
        fs::create_dir(&snapshot).unwrap();
        let mut begun = spec(&directory.path().join("workspace"));
        begun.workspace.begin_from = Some(snapshot.clone());
        assert_eq!(prepare(&begun, &["root"], DEFAULT_DISK, true).unwrap(), std::slice::from_ref(&snapshot));
        begun.workspace.begin_from = None;
        assert_eq!(prepare(&begun, &["root"], DEFAULT_DISK, true).unwrap(), [snapshot]);
        begun.workspace.directory = directory.path().join("another");
        begun.workspace.begin_from = Some(directory.path().join("missing"));
        assert!(prepare(&begun, &["root"], DEFAULT_DISK, true).is_err());
    }
}
