//! Whether a step's layer may lie over another clone: it must hold nothing in the place of, above or below a path that git
//! tracks, and nothing of `.git`. Looks at the layer's directories on disk, never follows a link in them, and is bounded:
//! a layer that writes to too many places is taken as one that may not.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where the workspace lies in a layer: in the volume of the root.
const WORKSPACE: &str = "root/workspace";
/// A directory that hides what lies below it carries this attribute.
const OPAQUE: &str = "user.overlay.opaque";
const MOST_ENTRIES: usize = 50_000;

/// The paths of a commit, sorted.
#[derive(Debug)]
pub(super) struct Tracked(Vec<String>);

/// Why a layer belongs to its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// It writes a tracked path, or puts something in its way.
    Tracked(String),
    /// It writes in `.git`.
    Git(String),
    TooMany,
    Unreadable(String),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tracked(path) => write!(f, "it changes {path}, which git tracks"),
            Self::Git(path) => write!(f, "it writes {path}"),
            Self::TooMany => write!(f, "it writes to more than {MOST_ENTRIES} places of the workspace"),
            Self::Unreadable(reason) => write!(f, "its layer cannot be looked through: {reason}"),
        }
    }
}

impl Tracked {
    pub(super) fn new(mut paths: Vec<String>) -> Self {
        paths.sort_unstable();
        Self(paths)
    }

    fn has(&self, path: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(path)).is_ok()
    }

    /// A tracked path below a directory.
    fn below(&self, directory: &str) -> Option<&str> {
        let prefix = format!("{directory}/");
        let at = self.0.partition_point(|known| known.as_str() < prefix.as_str());
        self.0.get(at).map(String::as_str).filter(|path| path.starts_with(&prefix))
    }
}

/// `Ok`: the layer may lie over any clone whose commit tracks these paths. Blocking.
pub(super) fn check(layer: &Path, tracked: &Tracked) -> Result<(), Bound> {
    let root = layer.join(WORKSPACE);
    match fs::symlink_metadata(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(facts) if facts.is_dir() && !is_opaque(&root) => {}
        _ => return Err(Bound::Tracked("/workspace".into())),
    }
    let mut seen = 0;
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        let unreadable = |error: io::Error| Bound::Unreadable(error.to_string());
        for entry in root.join(&directory).read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            seen += 1;
            if seen > MOST_ENTRIES {
                return Err(Bound::TooMany);
            }
            let name = entry.file_name();
            let name = String::from_utf8_lossy(name.as_bytes());
            let path = if directory.is_empty() { name.into_owned() } else { format!("{directory}/{name}") };
            if path == ".git" {
                let inside = first_of(&entry.path()).map_or(path, |name| format!(".git/{name}"));
                return Err(Bound::Git(inside));
            }
            if tracked.has(&path) {
                return Err(Bound::Tracked(path));
            }
            let is_directory = entry.file_type().map_err(unreadable)?.is_dir();
            if is_directory && !is_opaque(&entry.path()) {
                pending.push(path);
            } else if let Some(hidden) = tracked.below(&path) {
                return Err(Bound::Tracked(hidden.to_owned()));
            }
        }
    }
    Ok(())
}

fn first_of(directory: &Path) -> Option<String> {
    let mut names: Vec<_> = directory.read_dir().ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.first().map(|name| name.to_string_lossy().into_owned())
}

/// Nothing below an opaque directory is merged with what lies under it, so it need not be looked through.
fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    matches!(rustix::fs::lgetxattr(path, OPAQUE, &mut value), Ok(length) if value[..length] == *b"y")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Layer(tempfile::TempDir);

    impl Layer {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(WORKSPACE).join(name)
        }

        fn file(self, name: &str) -> Self {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            self
        }

        fn opaque(self, name: &str) -> Self {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(self.path(name), OPAQUE, b"y", flags).unwrap();
            self
        }

        fn check(&self, tracked: &[&str]) -> Result<(), Bound> {
            check(self.0.path(), &Tracked::new(tracked.iter().map(|path| (*path).to_owned()).collect()))
        }
    }

    #[test]
    fn what_git_does_not_track_may_lie_over_any_clone() {
        assert_eq!(Layer::new().check(&["a"]), Ok(()));
        let layer = Layer::new().file("node_modules/a/index.js").file("web/dist/x");
        assert_eq!(layer.check(&["package.json", "web/index.ts", "node_modules.txt", "web/dist2"]), Ok(()));
        let layer = Layer::new().file("target/debug/x").opaque("target");
        assert_eq!(layer.check(&["src/main.rs", "targets"]), Ok(()));
    }

    #[test]
    fn a_tracked_path_binds_the_layer_to_its_commit() {
        let of = |path: &str| Err(Bound::Tracked(path.to_owned()));
        assert_eq!(
            Layer::new().file("package-lock.json").check(&["package-lock.json"]),
            of("package-lock.json")
        );
        // In the way: a file where the commit has a directory, and the other way round.
        assert_eq!(Layer::new().file("gen").check(&["gen/a.rs"]), of("gen/a.rs"));
        assert_eq!(Layer::new().file("gen/a.rs").check(&["gen"]), of("gen"));
        // Hidden by a directory that shows nothing of what is below it.
        assert_eq!(Layer::new().file("out/made").opaque("out").check(&["out/kept"]), of("out/kept"));
        assert_eq!(Layer::new().file("out/made").check(&["out/kept"]), Ok(()));
        assert_eq!(Layer::new().file("x").opaque("").check(&["a"]), of("/workspace"));
        let layer = Layer::new().file("x");
        std::os::unix::fs::symlink("/etc", layer.path("link")).unwrap();
        assert_eq!(layer.check(&["link/passwd"]), of("link/passwd"));
    }

    #[test]
    fn whatever_is_in_git_binds_the_layer_to_its_commit() {
        assert_eq!(Layer::new().file(".git/index").check(&[]), Err(Bound::Git(".git/index".into())));
        assert_eq!(Layer::new().file("sub/.git/index").check(&[]), Ok(()));
    }
}
