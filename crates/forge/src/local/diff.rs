//! What a change changes, as git prints it and we read it: counts by `--numstat -z`, patches split by file.

use super::git::Git;
use crate::{Commit, FileDiff, Result};
use greenroom_domain::CommitHash;
use std::path::Path;

const PATCH_LIMIT: usize = 256 * 1024;
const MOST_FILES: usize = 3000;
const MOST_COMMITS: usize = 500;
const ALL_PATCHES_LIMIT: usize = 16 * 1024 * 1024;
const COMMON: &[&str] =
    &["-r", "-M", "--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--no-commit-id"];

/// From `base` (a merge base) to `head`.
pub(crate) async fn diff(repository: &Path, base: &CommitHash, head: &CommitHash) -> Result<Vec<FileDiff>> {
    let run = |what: [&'static str; 2], limit: usize| {
        Git::at(repository)
            .args(["diff-tree"])
            .args(COMMON)
            .args(what)
            .args([base.as_str(), head.as_str()])
            .stdout_limit(limit)
            .run()
    };
    let (counts, patches) = tokio::try_join!(
        run(["--numstat", "-z"], ALL_PATCHES_LIMIT),
        run(["--patch", "--unified=3"], ALL_PATCHES_LIMIT)
    )?;
    Ok(read_diff(&counts.stdout, &String::from_utf8_lossy(&patches.stdout), patches.is_truncated))
}

/// Joins what `git diff --numstat -z` and `git diff --patch` print of the same two trees. `is_cut`: the patches end in
/// the middle of one.
pub fn read_diff(counts: &[u8], patches: &str, is_cut: bool) -> Vec<FileDiff> {
    let mut files = read_counts(counts);
    let mut sections = split_patches(patches);
    if is_cut {
        sections.pop();
    }
    let is_complete = sections.len() == files.len();
    let mut sections = sections.into_iter();
    for file in &mut files {
        match sections.next() {
            Some(patch) if is_complete || is_cut => set_patch(file, patch),
            _ => file.is_truncated = true,
        }
    }
    files
}

/// Oldest first.
pub(crate) async fn commits(repository: &Path, base: &CommitHash, head: &CommitHash) -> Result<Vec<Commit>> {
    let most = format!("--max-count={MOST_COMMITS}");
    let list = ["log", "--no-mailmap", "--format=%H%x00%an%x00%ae%x00%ct%x00%s%x00", "-z", &most];
    let range = format!("{base}..{head}");
    let output = Git::at(repository).args(list).args([range.as_str(), "--"]).success().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = text.split('\0').collect();
    let mut commits: Vec<Commit> = fields.chunks(6).filter_map(read_commit).collect();
    commits.reverse();
    Ok(commits)
}

fn read_commit(fields: &[&str]) -> Option<Commit> {
    let [hash, name, email, seconds, subject, ..] = fields else { return None };
    Some(Commit {
        hash: hash.parse().ok()?,
        author_name: (*name).to_owned(),
        author_email: (*email).to_owned(),
        subject: (*subject).to_owned(),
        at_ms: seconds.parse::<i64>().ok()?.checked_mul(1000)?,
    })
}

/// `additions TAB deletions TAB path NUL`, or for a rename `additions TAB deletions TAB NUL old NUL new NUL`.
fn read_counts(bytes: &[u8]) -> Vec<FileDiff> {
    let text = String::from_utf8_lossy(bytes);
    let mut fields = text.split('\0');
    let mut files = Vec::new();
    while let Some(field) = fields.next().filter(|field| !field.is_empty()) {
        let mut columns = field.splitn(3, '\t');
        let (Some(additions), Some(deletions), Some(path)) = (columns.next(), columns.next(), columns.next())
        else {
            break;
        };
        let (old_path, path) = match path {
            "" => (fields.next().map(str::to_owned), fields.next().unwrap_or_default()),
            path => (None, path),
        };
        files.push(FileDiff {
            path: path.to_owned(),
            old_path,
            additions: additions.parse().unwrap_or(0),
            deletions: deletions.parse().unwrap_or(0),
            is_binary: additions == "-",
            patch: String::new(),
            is_truncated: false,
        });
        if files.len() == MOST_FILES {
            break;
        }
    }
    files
}

/// One text per file. A line of content never begins with `diff`; a file that became a link has two sections with the
/// same heading.
fn split_patches(text: &str) -> Vec<String> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with("diff --git ") && sections.last().is_none_or(|(heading, _)| *heading != line) {
            if sections.len() == MOST_FILES {
                break;
            }
            sections.push((line, String::new()));
        }
        if let Some((_, patch)) = sections.last_mut()
            && patch.len() <= PATCH_LIMIT
        {
            patch.push_str(line);
        }
    }
    sections.into_iter().map(|(_, patch)| patch).collect()
}

fn set_patch(file: &mut FileDiff, mut patch: String) {
    if patch.len() > PATCH_LIMIT {
        let cut = patch[..patch.floor_char_boundary(PATCH_LIMIT)].rfind('\n').map_or(0, |at| at + 1);
        patch.truncate(cut);
        file.is_truncated = true;
    }
    file.patch = patch;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_renames_and_binaries_are_read() {
        let files = read_counts(b"1\t2\ta b.txt\0-\t-\tpicture.png\x003\t0\t\0old.rs\0new.rs\0");
        assert_eq!(files.len(), 3);
        assert!(files[1].is_binary);
        assert_eq!((files[2].path.as_str(), files[2].old_path.as_deref()), ("new.rs", Some("old.rs")));
        assert_eq!((files[0].additions, files[0].deletions), (1, 2));
    }

    #[test]
    fn a_file_that_became_a_link_keeps_one_patch() {
        let text =
            "diff --git a/x b/x\ndeleted\n-diff --git\ndiff --git a/x b/x\nnew\ndiff --git a/y b/y\n+1\n";
        let patches = split_patches(text);
        assert_eq!(patches.len(), 2);
        assert!(patches[0].contains("deleted") && patches[0].contains("new"));
    }

    #[test]
    fn a_long_patch_is_cut_at_a_line() {
        let mut file = read_counts(b"1\t2\ta\0").remove(0);
        set_patch(&mut file, "é234567\n".repeat(PATCH_LIMIT / 8));
        assert!(file.is_truncated && file.patch.len() <= PATCH_LIMIT && file.patch.ends_with('\n'));
    }
}
