//! Commits of one branch as a file, to take them to another installation and to bring them in there. What comes in goes the
//! way of a push by the person who brings it: quarantine, checks, and nobody approves what they brought.

use super::{
    LocalForge,
    git::Git,
    receive::{self, Failure, RefUpdate, Target, ZERO},
};
use crate::{Error, Incoming, PushPolicy, Result, Work};
use greenroom_domain::{BranchName, CommitHash, ErrorCode, Problem, RepositoryId};
use std::{path::Path, time::Duration};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

const DEADLINE: Duration = Duration::from_secs(300);
/// gitformat-bundle(5). Version 3 is for repositories with another hash.
const SIGNATURE: &str = "# v2 git bundle";
const HEADER_LIMIT: u64 = 64 * 1024;

impl LocalForge {
    pub(super) async fn write_bundle(
        &self,
        id: RepositoryId,
        branch: &BranchName,
        base: Option<&CommitHash>,
        to: &Path,
    ) -> Result<Option<Work>> {
        let repository = self.known(id).await?;
        let Some(head) = super::changes::branch_head(&repository, branch).await? else { return Ok(None) };
        let base = match base {
            Some(base) => common(&repository, base, &head).await?,
            None => None,
        };
        if base.as_ref() == Some(&head) {
            return Ok(None);
        }
        let reference = format!("refs/heads/{branch}");
        let not = base.as_ref().map(|base| format!("^{base}"));
        let create = ["bundle", "create", "--quiet", "--version=2"];
        let git = Git::at(&repository).args(create).args([to.as_os_str()]).args([&reference]).args(not);
        git.deadline(DEADLINE).success().await.map_err(|error| self.or_disk_full(error))?;
        // The branch may have moved since it was looked at.
        let mut file = open(to).await?;
        let Header { head, .. } = read_header(&mut file).await?;
        Ok(Some(Work { head, base }))
    }

    pub(super) async fn read_bundle(
        &self,
        id: RepositoryId,
        Incoming { branch, work, by, from }: Incoming<'_>,
    ) -> Result<()> {
        let default_branch = self.known_default_branch(id).await?;
        let repository = self.path(id);
        let mut file = open(from).await?;
        let header = read_header(&mut file).await?;
        if header.head != work.head {
            return Err(damaged("it holds another commit than its manifest says"));
        }
        if work.base.as_ref().is_some_and(|base| !header.needed.contains(base)) {
            return Err(damaged("it does not stand on what its manifest says"));
        }
        if let Some(missing) = missing(&repository, &header.needed).await? {
            return Err(Error::Refused(
                Problem::new(
                    ErrorCode::CommitMissing,
                    format!("The repository lacks commit {missing}, which the session's work stands on."),
                )
                .hint("Bring the repository up to its source, or name the repository that the work is for."),
            ));
        }
        if super::changes::branch_head(&repository, branch).await?.as_ref() == Some(&work.head) {
            return Ok(());
        }
        let name = format!("refs/heads/{branch}");
        let update = RefUpdate { old: ZERO.to_owned(), new: work.head.to_string(), name };
        let _permit = super::permit(&self.inner.pushes).await?;
        let lock = self.lock(id);
        let policy = PushPolicy::Person(by);
        let target = Target { repository: &repository, default_branch, policy, forge: self, id, lock: &lock };
        receive::take_in(&target, &[update], &mut file).await.map_err(|failure| match failure {
            Failure::Broken(error) => self.or_disk_full(error),
            Failure::Refused(refusal) if refusal.unpack.is_some() => damaged(&refusal.reason),
            Failure::Refused(refusal) => {
                let problem = Problem::new(
                    ErrorCode::PushRefused,
                    format!("The session's commits are not taken: {}.", refusal.reason),
                );
                Error::Refused(problem.hint(refusal.hint.unwrap_or_else(|| {
                    "Take it out of the commits where the session was exported, and export it again.".into()
                })))
            }
        })
    }

    pub(super) async fn delete_branch(&self, id: RepositoryId, branch: &BranchName) -> Result<()> {
        let repository = self.known(id).await?;
        let lock = self.lock(id);
        let _held = lock.lock().await;
        let name = format!("refs/heads/{branch}");
        Git::at(&repository).args(["update-ref", "-d", &name]).success().await.map(drop)
    }
}

/// Where two histories part; `None`: they have nothing in common, or one is not here.
async fn common(repository: &Path, one: &CommitHash, other: &CommitHash) -> Result<Option<CommitHash>> {
    let output = Git::at(repository).args(["merge-base", &one.to_string(), &other.to_string()]).run().await?;
    Ok(output.status.success().then(|| output.text().parse().ok()).flatten())
}

async fn missing(repository: &Path, commits: &[CommitHash]) -> Result<Option<CommitHash>> {
    let names: String = commits.iter().map(|commit| format!("{commit}\n")).collect();
    let check = ["cat-file", "--batch-check=%(objecttype)"];
    let kinds = Git::at(repository).args(check).stdin(names).success().await?.text();
    let known = kinds.lines().chain(std::iter::repeat("missing"));
    Ok(commits.iter().zip(known).find(|(_, kind)| *kind != "commit").map(|(commit, _)| commit.clone()))
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    needed: Vec<CommitHash>,
    head: CommitHash,
}

/// Up to the pack. Of one branch only.
async fn read_header(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Header> {
    let mut left = from.take(HEADER_LIMIT);
    let (mut needed, mut head) = (vec![], None);
    let mut number = 0;
    loop {
        let mut line = vec![];
        left.read_until(b'\n', &mut line).await.map_err(|error| damaged(&error.to_string()))?;
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\n').ok_or_else(|| damaged("its bundle has no beginning"))?;
        number += 1;
        let hash = |text: &str| text.split(' ').next().and_then(|hash| hash.parse::<CommitHash>().ok());
        match line.strip_prefix('-') {
            _ if number == 1 && line == SIGNATURE => {}
            _ if number == 1 => return Err(damaged("its bundle is none of git's")),
            None if line.is_empty() => break,
            Some(rest) => needed.push(hash(rest).ok_or_else(|| damaged("its bundle needs no commit"))?),
            None if head.is_none() => {
                head = Some(hash(line).ok_or_else(|| damaged("its bundle names no commit"))?);
            }
            None => return Err(damaged("its bundle holds more than one branch")),
        }
    }
    Ok(Header { needed, head: head.ok_or_else(|| damaged("its bundle holds no branch"))? })
}

async fn open(path: &Path) -> Result<BufReader<tokio::fs::File>> {
    let file = tokio::fs::File::open(path).await.map_err(|source| super::io("reading", path, source))?;
    Ok(BufReader::new(file))
}

fn damaged(reason: &str) -> Error {
    Error::Refused(
        Problem::new(ErrorCode::ArchiveDamaged, format!("The file's commits cannot be taken: {reason}."))
            .hint("Export the session again."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn header(text: &str) -> Result<Header> {
        read_header(&mut text.as_bytes()).await
    }

    #[tokio::test]
    async fn a_header_names_what_is_needed_and_one_branch() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!("{SIGNATURE}\n-{a} the commit before\n{b} refs/heads/x\n\nPACK");
        let mut rest = text.as_bytes();
        let found = read_header(&mut rest).await.unwrap();
        assert_eq!(found, Header { needed: vec![a.parse().unwrap()], head: b.parse().unwrap() });
        assert_eq!(rest, b"PACK");
    }

    #[tokio::test]
    async fn other_headers_are_refused() {
        let a = "a".repeat(40);
        for bad in [
            String::new(),
            "PACK".into(),
            "# v3 git bundle\n\n".into(),
            format!("{SIGNATURE}\n\n"),
            format!("{SIGNATURE}\n{a} refs/heads/x\n"),
            format!("{SIGNATURE}\n{a} refs/heads/x\n{a} refs/heads/y\n\n"),
            format!("{SIGNATURE}\n--upload-pack=x\n{a} refs/heads/x\n\n"),
            format!("{SIGNATURE}\nx refs/heads/x\n\n"),
            format!("{SIGNATURE}\n{}", format!("-{a} x\n").repeat(3000)),
        ] {
            assert!(header(&bad).await.is_err(), "{bad:.80}");
        }
    }
}
