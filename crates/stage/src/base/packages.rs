//! Directories below /var that installed packages own. Packages are shown as installed, so the programs that a later
//! `apt-get install` triggers find the directories of their state, as on the host; what is in them is not shown.

use super::{EMPTY, IdRange, LIVE, make_directory};
use crate::sys::Outcome;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MAX_DIRECTORIES: usize = 4_000;
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// `root` has the skeleton already.
pub(super) fn write(root: &Path, ids: IdRange) -> Outcome<()> {
    for path in owned(Path::new("/var/lib/dpkg/info")) {
        let inside = root.join(path.strip_prefix("/").unwrap_or(&path));
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        let has_parent = inside.parent().is_some_and(is_directory);
        if facts.is_dir() && has_parent && fs::symlink_metadata(&inside).is_err() {
            make_directory(&inside, facts.mode() & 0o1777, facts.uid(), facts.gid(), ids)?;
        }
    }
    Ok(())
}

/// Paths below /var in the lists of files, parents first.
fn owned(info: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(info).into_iter().flatten().flatten().map(|entry| entry.path());
    let lists = entries.filter(|path| path.extension().is_some_and(|extension| extension == "list"));
    let mut found = BTreeSet::new();
    for list in lists {
        let Ok(file) = fs::File::open(&list) else { continue };
        let lines = BufReader::new(std::io::Read::take(file, MAX_LIST_BYTES)).lines();
        let paths = lines.map_while(Result::ok).map(PathBuf::from);
        found.extend(paths.filter(|path| is_state(path)));
    }
    found.into_iter().take(MAX_DIRECTORIES).collect()
}

/// Neither what the skeleton says itself nor what has a volume of its own.
fn is_state(path: &Path) -> bool {
    let is_said = EMPTY.iter().any(|(empty, _)| path == Path::new(empty));
    let is_live = LIVE.iter().any(|(_, live, _)| path.starts_with(live));
    let is_plain = path.components().all(|part| part != std::path::Component::ParentDir);
    path.starts_with("/var") && is_plain && !is_said && !is_live
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_state_of_packages_is_owned_parents_first() {
        let info = std::env::temp_dir().join(format!("greenroom-lists-{}", std::process::id()));
        fs::create_dir(&info).unwrap();
        let list = "/.\n/usr\n/usr/bin/x\n/var\n/var/lib\n/var/lib/x/deep\n/var/lib/x\n/var/lib/dpkg/y\n/var/../etc\n";
        fs::write(info.join("x.list"), list).unwrap();
        fs::write(info.join("x.conffiles"), "/var/lib/z\n").unwrap();
        let found: Vec<_> = owned(&info).into_iter().collect();
        fs::remove_dir_all(&info).unwrap();
        assert_eq!(found, [Path::new("/var/lib/x"), Path::new("/var/lib/x/deep")]);
    }
}
