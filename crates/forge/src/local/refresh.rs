//! Brings a repository up to its source. The source's branches are fetched beside ours, below `refs/greenroom/source/`, which
//! nobody is shown; then each of ours follows: one that nobody moved here becomes what it is there, one that only went
//! on there goes on here, and one that went on in both places stays and is named. Branches of sessions are this server's
//! own, nothing is deleted, and tags never move.

use super::git::Git;
use super::import::{CloneWords, fetch};
use super::source::Source;
use crate::{Error, Refreshed, Result};
use greenroom_domain::BranchName;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const BESIDE: &str = "refs/greenroom/source/";
/// Sessions work on branches of this name.
const OF_SESSIONS: &str = "greenroom/";

type Refs = BTreeMap<String, String>;

/// What the source has and had; objects are here when this returns, and no branch has moved.
pub(super) struct Fetched {
    before: Refs,
    now: Refs,
}

pub(super) async fn fetch_beside(repository: &Path, source: &Source) -> Result<Fetched> {
    let before = refs(repository, BESIDE).await?;
    let [heads, tags] = ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:{BESIDE}{kind}/*"));
    fetch(repository, source, CloneWords::Refresh, &["--prune"], &[&heads, &tags]).await?;
    Ok(Fetched { before, now: refs(repository, BESIDE).await? })
}

/// Under the repository's lock.
pub(super) async fn follow(repository: &Path, fetched: &Fetched) -> Result<Refreshed> {
    let ours = refs(repository, "refs/").await?;
    let (mut refreshed, mut changes) = (Refreshed::default(), String::new());
    for (name, theirs) in &fetched.now {
        let reference = format!("refs/{name}");
        let branch = name.strip_prefix("heads/").map(str::parse::<BranchName>);
        let branch = match branch {
            None => None,
            Some(Ok(branch)) if !branch.as_str().starts_with(OF_SESSIONS) => Some(branch),
            Some(_) => continue,
        };
        let known = fetched.before.get(name);
        match (ours.get(name), branch) {
            // Removed here after it was seen.
            (None, _) if known.is_some() => {}
            (None, branch) => {
                changes += &format!("create {reference} {theirs}\n");
                refreshed.moved.extend(branch);
            }
            (Some(_), None) => {}
            (Some(here), Some(_)) if here == theirs => {}
            (Some(here), Some(branch)) => {
                if known == Some(here) || is_ancestor(repository, here, theirs).await? {
                    changes += &format!("update {reference} {theirs} {here}\n");
                    refreshed.moved.push(branch);
                } else if !is_ancestor(repository, theirs, here).await? {
                    refreshed.diverged.push(branch);
                }
            }
        }
    }
    if !changes.is_empty() {
        Git::at(repository).args(["update-ref", "--stdin"]).stdin(changes).success().await?;
    }
    Ok(refreshed)
}

/// Names without the prefix.
async fn refs(repository: &Path, prefix: &str) -> Result<Refs> {
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", prefix];
    let output = Git::at(repository).args(list).success().await?;
    if output.is_truncated {
        let output = "too many references to list".to_owned();
        return Err(Error::Git { operation: "for-each-ref".into(), output });
    }
    let line = |line: &str| {
        let (hash, name) = line.split_once(' ')?;
        Some((name.strip_prefix(prefix)?.to_owned(), hash.to_owned()))
    };
    Ok(output.text().lines().filter_map(line).collect())
}

async fn is_ancestor(repository: &Path, earlier: &str, later: &str) -> Result<bool> {
    let asked = Git::at(repository).args(["merge-base", "--is-ancestor", earlier, later]).run().await?;
    match asked.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Error::Git { operation: "merge-base".into(), output: asked.stderr }),
    }
}
