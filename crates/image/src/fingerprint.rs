//! What an image built on the host's root depends on outside of its layers. The root is not immutable: when its digest
//! changes, images are built anew instead of being mixed with other programs than they were built with.

use crate::key::{KeyHasher, LayerKey};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Package databases, by content.
const CONTENTS: [&str; 4] =
    ["etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "lib/apk/db/installed"];
/// Package databases that are rewritten without a change of packages, and programs outside of packages: by name, size
/// and time of change.
const LISTINGS: [&str; 4] =
    ["usr/lib/sysimage/rpm", "var/lib/pacman/local", "usr/local/bin", "usr/local/go/VERSION"];

/// Digest of the root's packages and of the names in the toolchain directories (for example `~/.rustup/toolchains`).
/// What does not exist counts as absent.
pub fn base_fingerprint(root: &Path, toolchains: &[PathBuf]) -> io::Result<String> {
    let mut hasher = KeyHasher::new("base");
    for name in CONTENTS {
        if let Some(bytes) = absent_is_none(std::fs::read(root.join(name)))? {
            hasher = hasher.part(name, bytes);
        }
    }
    for name in LISTINGS {
        hasher = hasher.part(name, listing(&root.join(name))?);
    }
    for directory in toolchains {
        hasher = hasher.part(&directory.to_string_lossy(), listing(directory)?);
    }
    let key: LayerKey = hasher.finish();
    Ok(key.to_string())
}

fn listing(path: &Path) -> io::Result<String> {
    let Some(metadata) = absent_is_none(path.metadata())? else { return Ok(String::new()) };
    if !metadata.is_dir() {
        return Ok(line("", &metadata));
    }
    let mut lines = Vec::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        if let Some(metadata) = absent_is_none(entry.metadata())? {
            lines.push(line(&entry.file_name().to_string_lossy(), &metadata));
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// A directory's own size and time change whenever anything is cached inside, so only its name counts.
fn line(name: &str, metadata: &std::fs::Metadata) -> String {
    if metadata.is_dir() {
        return name.to_owned();
    }
    format!("{name} {} {}.{}", metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_fingerprint_changes_with_packages_and_toolchains_only() {
        let root = tempfile::tempdir().unwrap();
        let toolchains = root.path().join("toolchains");
        let of = || base_fingerprint(root.path(), std::slice::from_ref(&toolchains)).unwrap();
        let empty = of();
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        fs::write(root.path().join("var/lib/dpkg/status"), "Package: a").unwrap();
        let packages = of();
        assert_ne!(empty, packages);
        fs::create_dir_all(toolchains.join("stable")).unwrap();
        let tools = of();
        assert_ne!(packages, tools);
        fs::write(toolchains.join("stable/cache"), "x").unwrap();
        fs::write(root.path().join("var/lib/other"), "x").unwrap();
        assert_eq!(tools, of());
    }
}
