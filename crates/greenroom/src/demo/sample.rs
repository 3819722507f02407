//! The sample repository: made anew with git for each run.

use greenroom_domain::{ErrorCode, Problem};
use std::path::{Path, PathBuf};
use std::process::Command;

const FILES: [(&str, &str); 5] = [
    (".greenroom/environment.toml", include_str!("sample/environment.toml")),
    ("README.md", include_str!("sample/README.md")),
    ("AGENTS.md", include_str!("sample/AGENTS.md")),
    ("basket.py", include_str!("sample/basket.py")),
    ("test_basket.py", include_str!("sample/test_basket.py")),
];

/// A repository on disk, removed with this value when it was made for it.
#[derive(Debug)]
pub(super) enum Sample {
    Made(tempfile::TempDir),
    Given(PathBuf),
}

impl Sample {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Made(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}

pub(super) fn repository(given: Option<&Path>) -> Result<Sample, Problem> {
    if let Some(path) = given {
        let path = std::path::absolute(path).map_err(|error| failed(&error))?;
        return Ok(Sample::Given(path));
    }
    let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
    for (name, text) in FILES {
        let path = directory.path().join(name);
        let parent = path.parent().expect("a file lies in a directory");
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| failed(&error))?;
    }
    git(directory.path(), &["init", "-q", "-b", "main"])?;
    git(directory.path(), &["add", "-A"])?;
    git(directory.path(), &["commit", "-q", "-m", "A basket with a failing test"])?;
    Ok(Sample::Made(directory))
}

fn git(directory: &Path, arguments: &[&str]) -> Result<(), Problem> {
    let identity = [
        ("GIT_AUTHOR_NAME", "Greenroom"),
        ("GIT_AUTHOR_EMAIL", "sample@demo.invalid"),
        ("GIT_COMMITTER_NAME", "Greenroom"),
        ("GIT_COMMITTER_EMAIL", "sample@demo.invalid"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ];
    let run = Command::new("git").args(arguments).current_dir(directory).envs(identity).output();
    match run {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(&String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(Problem::new(ErrorCode::Internal, format!("git could not be started: {error}."))
            .hint("Install git.")),
    }
}

fn failed(reason: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::Internal, format!("The sample repository could not be made: {reason}."))
}
