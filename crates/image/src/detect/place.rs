//! Where in a repository an ecosystem's project lies.

/// A directory of the repository; the root is the empty path.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    directory: &'a str,
    paths: &'a [String],
}

/// Directories whose projects are not the repository's own work.
const SKIPPED: [&str; 14] = [
    "node_modules",
    "vendor",
    "third_party",
    "examples",
    "example",
    "fixtures",
    "testdata",
    "test",
    "tests",
    "docs",
    "doc",
    "benches",
    "templates",
    "samples",
];
const DEEPEST: usize = 2;
const MOST: usize = 4;

/// The root if it has a marker, else the shallowest directories that do.
pub(super) fn find(paths: &[String], is_marker: fn(&str) -> bool) -> Vec<Place<'_>> {
    let mut directories: Vec<&str> = paths
        .iter()
        .map(|path| path.rsplit_once('/').unwrap_or(("", path)))
        .filter(|(directory, name)| is_marker(name) && is_own(directory))
        .map(|(directory, _)| directory)
        .collect();
    directories.sort_by_key(|directory| (depth(directory), *directory));
    directories.dedup();
    let shallowest = directories.first().map_or(0, |directory| depth(directory));
    directories
        .into_iter()
        .filter(|directory| depth(directory) == shallowest)
        .take(MOST)
        .map(|directory| Place { directory, paths })
        .collect()
}

fn is_own(directory: &str) -> bool {
    depth(directory) <= DEEPEST
        && !directory.chars().any(char::is_control)
        && directory.len() <= 200
        && directory
            .split('/')
            .all(|part| !SKIPPED.contains(&part) && (part.is_empty() || !part.starts_with('.')))
}

fn depth(directory: &str) -> usize {
    if directory.is_empty() { 0 } else { directory.split('/').count() }
}

impl<'a> Place<'a> {
    pub(super) fn is_root(&self) -> bool {
        self.directory.is_empty()
    }

    /// A file's path from the root of the repository.
    pub(super) fn path(&self, name: &str) -> String {
        if self.directory.is_empty() { name.to_owned() } else { format!("{}/{name}", self.directory) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let path = self.path(name);
        self.paths.contains(&path)
    }

    /// Paths of files below this directory, relative to it.
    pub(super) fn files(&self) -> impl Iterator<Item = &'a str> {
        let directory = self.directory;
        self.paths.iter().filter_map(move |path| {
            if directory.is_empty() {
                Some(path.as_str())
            } else {
                path.strip_prefix(directory)?.strip_prefix('/')
            }
        })
    }

    /// `what`, with the directory where it is not the root.
    pub(super) fn name(&self, what: &str) -> String {
        if self.directory.is_empty() { what.to_owned() } else { format!("{what} ({})", self.directory) }
    }

    /// Shell text that runs in this directory.
    pub(super) fn script(&self, text: &str) -> String {
        if self.directory.is_empty() {
            text.to_owned()
        } else {
            format!("cd {}\n{text}", quote(self.directory))
        }
    }

    /// Input patterns: only those whose file exists, or that are globs.
    pub(super) fn inputs(&self, names: &[&str]) -> Vec<String> {
        names
            .iter()
            .filter(|name| name.contains('*') || self.has(name))
            .map(|name| {
                if self.directory.is_empty() {
                    (*name).to_owned()
                } else {
                    format!("{}/{name}", globset::escape(self.directory))
                }
            })
            .collect()
    }
}

/// One word for a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
