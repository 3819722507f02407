//! Files of a commit, read from git's objects: no working tree, no links outside of the commit.

use super::git::Git;
use crate::{Error, Result};
use greenroom_domain::{CommitHash, ErrorCode, Problem};
use std::path::Path;

const LONGEST_LISTING: usize = 32 * 1024 * 1024;
const LONGEST_HEADER: u64 = 16 * 1024;

/// A file's bytes, following links that stay inside the commit.
pub(crate) async fn read_file(
    repository: &Path,
    commit: &CommitHash,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>> {
    let path = checked(path)?;
    let read = ["cat-file", "--batch", "--follow-symlinks"];
    let stdout_limit = usize::try_from(limit.saturating_add(LONGEST_HEADER)).unwrap_or(usize::MAX);
    let output = Git::at(repository)
        .args(read)
        .stdin(format!("{commit}:{path}\n"))
        .stdout_limit(stdout_limit)
        .run()
        .await?;
    // `<hash> blob <size>`, or one of `missing`, `symlink`, `dangling`, `loop`, `notdir` with what was asked.
    let Some(end) = output.stdout.iter().position(|b| *b == b'\n') else { return Ok(None) };
    let header = String::from_utf8_lossy(&output.stdout[..end]);
    let mut words = header.split(' ');
    let (Some(hash), Some("blob"), Some(Ok(size)), None) =
        (words.next(), words.next(), words.next().map(str::parse::<u64>), words.next())
    else {
        return Ok(None);
    };
    if hash.len() != 40 {
        return Ok(None);
    }
    if size > limit {
        let words = format!("{path} has {size} bytes; at most {limit} are read.");
        return Err(Error::Refused(Problem::new(ErrorCode::TooLarge, words)));
    }
    let size = usize::try_from(size).expect("below the limit, which fits");
    let bytes = output.stdout.get(end + 1..end + 1 + size);
    bytes
        .map(|bytes| Some(bytes.to_vec()))
        .ok_or_else(|| Error::Git { operation: "cat-file".into(), output: "the file ended early".into() })
}

/// Paths from the repository's root, sorted as git sorts them.
pub(crate) async fn list_files(
    repository: &Path,
    commit: &CommitHash,
    directory: &str,
) -> Result<Vec<String>> {
    let list = ["ls-tree", "-r", "-z", "--full-tree", commit.as_str()];
    let mut git = Git::at(repository).args(list).stdout_limit(LONGEST_LISTING);
    let directory = directory.trim_matches('/');
    if !matches!(directory, "" | ".") {
        git = git.args(["--", &format!("{}/", checked(directory)?)]);
    }
    let output = git.run().await?;
    if output.is_truncated {
        return Err(Error::Refused(Problem::new(
            ErrorCode::TooLarge,
            "The commit has too many files to list.",
        )));
    }
    if !output.status.success() {
        return Err(Error::Git { operation: "ls-tree".into(), output: output.stderr });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let entries = text.split('\0').filter_map(|entry| entry.split_once('\t'));
    Ok(entries.filter(|(kind, _)| kind.contains(" blob ")).map(|(_, path)| path.to_owned()).collect())
}

fn checked(path: &str) -> Result<&str> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.len() <= 4096 && !path.contains(char::is_control) && path.split('/').all(is_plain) {
        return Ok(path);
    }
    let words = "The path must be relative to the repository, without `.` and `..`.";
    Err(Error::Refused(Problem::new(ErrorCode::InvalidRequest, words)))
}
