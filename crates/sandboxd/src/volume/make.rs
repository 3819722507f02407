//! Making the volume's file: its size, and the file system in it. A file under its final name is whole.

use super::{Reason, VolumeError, VolumeSettings, failed};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const GIB: u64 = 1 << 30;
const LEAST: u64 = 2 * GIB;
const MOST: u64 = 1024 * GIB;
/// A file is not grown for less.
const STEP: u64 = 4 * GIB;

/// Makes the file system under a temporary name first. The inner error: this machine cannot.
pub(super) fn file_system(file: &Path, settings: &VolumeSettings) -> Result<Result<(), Reason>, VolumeError> {
    let Some(program) = find("mkfs.btrfs") else {
        let detail = "mkfs.btrfs is missing";
        return Ok(Err(Reason::new(detail, "apt-get install btrfs-progs")));
    };
    let directory = file.parent().expect("it is a file of the data directory");
    let size = wanted_size(directory, 0, settings).map_err(failed("look at", directory))?;
    if size < LEAST {
        let detail = "the disk has less than 2.5 GiB free for a volume";
        return Ok(Err(Reason::new(detail, &format!("df -h {}", directory.display()))));
    }
    let new = file.with_extension("new");
    let made = write(&program, &new, size);
    let kept = match made {
        Ok(Ok(())) => fs::rename(&new, file).and_then(|()| File::open(directory)?.sync_all()),
        Ok(Err(reason)) => {
            fs::remove_file(&new).map_err(failed("remove", &new))?;
            return Ok(Err(reason));
        }
        Err(error) => Err(error),
    };
    if kept.is_err() {
        let _ = fs::remove_file(&new);
    }
    kept.map(Ok).map_err(failed("make", file))
}

fn write(program: &Path, new: &Path, size: u64) -> io::Result<Result<(), Reason>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(new)?;
    file.set_len(size)?;
    let made = Command::new(program)
        // One copy of the metadata: both would lie in one file of one disk.
        .args(["-q", "--nodiscard", "-m", "single", "-d", "single", "-L", "greenroom"])
        // A snapshot commits a transaction: with small nodes it has half as much to write.
        .args(["-n", "4096"])
        .arg(new)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let detail = format!("mkfs.btrfs failed ({})", last.trim());
        return Ok(Err(Reason { detail, remedy: Some(format!("df -h {}", new.display())) }));
    }
    file.sync_all()?;
    Ok(Ok(()))
}

/// Makes room at the end of the file when the disk has more than at first; never shrinks.
pub(super) fn grow_file(file: &Path, settings: &VolumeSettings) -> Result<(), VolumeError> {
    let grow = || -> io::Result<()> {
        let open = OpenOptions::new().write(true).open(file)?;
        let facts = open.metadata()?;
        if settings.size_bytes.is_some_and(|asked| asked < facts.len()) {
            tracing::warn!(
                gib = facts.len() / GIB,
                "the volume is larger than the setting says and does not shrink"
            );
        }
        let directory = file.parent().expect("it is a file of the data directory");
        let wanted = wanted_size(directory, facts.blocks() * 512, settings)?;
        if wanted >= facts.len() + STEP { open.set_len(wanted) } else { Ok(()) }
    };
    grow().map_err(failed("grow", file))
}

/// Whole GiB. `used`: what the file has of the disk already.
fn wanted_size(directory: &Path, used: u64, settings: &VolumeSettings) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(directory)?;
    let free = facts.f_bavail * facts.f_frsize + used;
    Ok(size_of_free(free, settings.size_bytes))
}

fn size_of_free(free: u64, asked: Option<u64>) -> u64 {
    // A fifth stays for databases, logs and the rest of the machine.
    let size = asked.unwrap_or(MOST).min(MOST).min(free / 5 * 4);
    size / GIB * GIB
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|place| place.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_takes_most_of_what_is_free_and_never_more() {
        assert_eq!(size_of_free(100 * GIB, None), 80 * GIB);
        assert_eq!(size_of_free(100 * GIB, Some(10 * GIB)), 10 * GIB);
        assert_eq!(size_of_free(10 * GIB, Some(100 * GIB)), 8 * GIB);
        assert_eq!(size_of_free(100_000 * GIB, None), MOST);
        assert_eq!(size_of_free(GIB, None), 0);
    }
}
