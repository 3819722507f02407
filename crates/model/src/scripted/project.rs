//! What a listing of files tells: the language, and how the tests are run.

use std::collections::BTreeSet;

#[derive(Debug, PartialEq)]
pub(super) struct Project {
    /// Relative to the repository's root.
    pub(super) paths: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct TestCommand {
    pub(super) command: String,
    /// The sentence that says why.
    pub(super) because: String,
    pub(super) is_python: bool,
}

impl Project {
    /// One path a line; remarks in brackets are not paths.
    pub(super) fn from_listing(listing: &str) -> Self {
        let paths =
            listing.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['[', '(']));
        Self {
            paths: paths
                .map(|path| path.trim_start_matches("/workspace/").trim_start_matches("./").to_owned())
                .collect(),
        }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The listed path that `path` of a traceback means, which may be absolute.
    pub(super) fn find(&self, path: &str) -> Option<&str> {
        let matches = self.paths.iter().filter(|listed| {
            path == listed.as_str()
                || path.strip_suffix(listed.as_str()).is_some_and(|rest| rest.ends_with('/'))
        });
        matches.max_by_key(|listed| listed.len()).map(String::as_str)
    }

    pub(super) fn test_command(&self) -> Option<TestCommand> {
        let other = |command: &str, because: &str| {
            Some(TestCommand { command: command.into(), because: because.into(), is_python: false })
        };
        if let Some(command) = self.python_command() {
            return Some(command);
        }
        if self.has("Cargo.toml") {
            return other("cargo test", "There is a `Cargo.toml`, so this is a Rust project.");
        }
        if self.has("package.json") {
            return other("npm test", "There is a `package.json`, so this is a Node project.");
        }
        if self.has("go.mod") {
            return other("go test ./...", "There is a `go.mod`, so this is a Go project.");
        }
        None
    }

    /// `-B`: compiled files are told apart by whole seconds and sizes, too coarse for quick changes of one character.
    fn python_command(&self) -> Option<TestCommand> {
        let tests: Vec<&str> =
            self.paths.iter().map(String::as_str).filter(|path| is_test_file(path)).collect();
        let first = tests.first()?;
        let directory = first.rsplit_once('/').map_or("", |(directory, _)| directory);
        let source = if self.paths.iter().any(|path| path.starts_with("src/") && path.ends_with(".py")) {
            "PYTHONPATH=src "
        } else {
            ""
        };
        let command = if self.is_package(directory) {
            format!("{source}python3 -B -m unittest")
        } else {
            format!("{source}python3 -B -m unittest discover -s {directory}")
        };
        let because = match tests.len() {
            1 => format!("The tests are in `{first}`, so this is a Python project."),
            count => format!("There are {count} Python test files, `{first}` first."),
        };
        Some(TestCommand { command, because, is_python: true })
    }

    /// Whether unittest finds tests there from the root: only by packages.
    fn is_package(&self, directory: &str) -> bool {
        let mut parts = Vec::new();
        directory.split('/').filter(|part| !part.is_empty()).all(|part| {
            parts.push(part);
            self.has(&format!("{}/__init__.py", parts.join("/")))
        })
    }
}

/// unittest's own pattern, `test*.py`.
pub(super) fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("test") && name.ends_with(".py")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(listing: &str) -> Option<String> {
        Project::from_listing(listing).test_command().map(|command| command.command)
    }

    #[test]
    fn the_test_command_follows_from_the_files() {
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(command("a.py\ntest_a.py"), is("python3 -B -m unittest"));
        assert_eq!(command("a.py\ntests/__init__.py\ntests/test_a.py"), is("python3 -B -m unittest"));
        assert_eq!(command("./a.py\n./tests/test_a.py"), is("python3 -B -m unittest discover -s tests"));
        let source = "/workspace/src/p/__init__.py\n/workspace/tests/test_a.py";
        assert_eq!(command(source), is("PYTHONPATH=src python3 -B -m unittest discover -s tests"));
        assert_eq!(command("Cargo.toml\nsrc/lib.rs"), is("cargo test"));
        assert_eq!(command("[no files]\n(none)"), None);
    }

    #[test]
    fn paths_of_a_traceback_are_found_in_the_listing() {
        let project = Project::from_listing("cart.py\nshop/cart.py");
        assert_eq!(project.find("/tmp/x/shop/cart.py"), Some("shop/cart.py"));
        assert_eq!(project.find("cart.py"), Some("cart.py"));
        assert_eq!(project.find("/usr/lib/python3/unittest/mycart.py"), None);
    }
}
