//! The `Forge` trait and its values.

use async_trait::async_trait;
use greenroom_domain::{
    Author, BranchName, ChangeId, CommitHash, ErrorCode, Person, PersonId, Problem, RepositoryId, SessionId,
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};

/// A proposal to merge a branch. On the local forge `number` counts from 1 within a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub id: ChangeId,
    pub repository: RepositoryId,
    pub number: u64,
    pub session: Option<SessionId>,
    pub title: String,
    pub body: String,
    pub branch: BranchName,
    pub base: BranchName,
    pub base_commit: CommitHash,
    pub head: CommitHash,
    /// In whose name it was opened.
    pub author: Author,
    /// Everyone whose prompts produced it, or who pushed to its branch: none of them may approve.
    pub prompters: Vec<PersonId>,
    pub state: ChangeState,
    pub approvals: Vec<Approval>,
    pub required_approvals: u32,
    pub merge_commit: Option<CommitHash>,
    pub merged_by: Option<PersonId>,
    /// Merged without another person's approval because the repository requires none.
    pub is_unreviewed: bool,
    pub opened_at_ms: i64,
    pub updated_at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    Open,
    Merged,
    Closed,
}

/// Counts only while `commit` is the change's head: a later push makes it stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: PersonId,
    pub name: String,
    pub commit: CommitHash,
    pub at_ms: i64,
}

#[derive(Clone, Debug)]
pub struct OpenChange {
    pub id: ChangeId,
    pub repository: RepositoryId,
    pub session: Option<SessionId>,
    pub title: String,
    pub body: String,
    pub branch: BranchName,
    pub base: BranchName,
    pub author: Author,
    pub prompters: Vec<PersonId>,
    pub at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub hash: CommitHash,
    pub author_name: String,
    pub author_email: String,
    pub subject: String,
    pub at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    pub path: String,
    /// The path before a rename.
    pub old_path: Option<String>,
    pub additions: u64,
    pub deletions: u64,
    pub is_binary: bool,
    /// Unified diff with three lines of context; cut at 256 KiB, then `is_truncated`.
    pub patch: String,
    pub is_truncated: bool,
}

/// What a look at a repository's source changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    pub moved: Vec<BranchName>,
    /// With commits of their own in both places.
    pub diverged: Vec<BranchName>,
}

/// Commits of a branch, in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub head: CommitHash,
    /// What they stand on and the file has not; `None`: it has everything.
    pub base: Option<CommitHash>,
}

/// Commits that somebody brings in, to become this branch.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub branch: &'a BranchName,
    pub work: &'a Work,
    pub by: PersonId,
    /// The bundle.
    pub from: &'a Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitService {
    UploadPack,
    ReceivePack,
}

/// What a push may do. Checked on objects in quarantine, before any reference moves.
#[derive(Clone, Debug)]
pub enum PushPolicy {
    /// A person with write access: any branch but forced updates of the default branch.
    Person(PersonId),
    /// A sandbox: exactly one branch; authors and committers of new commits are among `emails`. What it holds may be the
    /// work of all these `people`, whoever's name the commits carry.
    Session {
        session: SessionId,
        branch: BranchName,
        emails: Vec<String>,
        people: Vec<PersonId>,
        size_limit_bytes: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Refused(Problem),
    #[error("git {operation} failed: {output}")]
    Git { operation: String, output: String },
    #[error("the forge's database: {0}")]
    Database(String),
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: String, source: std::io::Error },
}

impl Error {
    /// git and SQLite say it in words only.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Git { output, .. } => output.contains("No space left on device"),
            Self::Database(text) => text.contains("database or disk is full"),
            Self::Refused(problem) => {
                problem.detail.as_ref().is_some_and(|output| output.contains("No space left on device"))
            }
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            error if error.is_disk_full() => {
                Self::new(ErrorCode::DiskFull, "The forge's disk is full; nothing was changed.")
                    .hint("Free some space on the disk of the data directory.")
            }
            Error::Refused(problem) => problem,
            Error::Git { ref output, .. } => {
                Self::new(ErrorCode::Internal, format!("The forge failed: {error}.")).detail(output.clone())
            }
            other => Self::new(ErrorCode::Internal, format!("The forge failed: {other}.")),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// Makes the repository from a path or URL (mirrors its branches and tags); `None` makes an empty one. Answers the
    /// default branch. Repeating a finished call is harmless.
    async fn create_repository(&self, id: RepositoryId, source: Option<&str>) -> Result<BranchName>;
    /// Fetches what is new at the place the repository was made from, which is given anew because no credential is kept here.
    /// What moved both there and here stays as it is and is named.
    async fn refresh(&self, id: RepositoryId, source: &str) -> Result<Refreshed>;
    async fn remove_repository(&self, id: RepositoryId) -> Result<()>;
    /// How many other people must approve a change before it can be merged: 1 unless set. With 0 a change may be merged
    /// unreviewed and is marked so. A forge with protection rules of its own refuses.
    async fn set_required_approvals(&self, _id: RepositoryId, _count: u32) -> Result<()> {
        Err(Error::Refused(
            Problem::new(ErrorCode::NotAllowed, "This forge keeps its own rules for approvals.")
                .hint("Set the branch protection at the forge."),
        ))
    }

    /// Bytes that no push may bring: what the installation itself keeps secret, in every form. Replaces earlier ones.
    fn set_known_secrets(&self, _secrets: Vec<Vec<u8>>) {}

    async fn branch_head(&self, id: RepositoryId, branch: &BranchName) -> Result<Option<CommitHash>>;
    /// Writes the branch's commits that `base` has not to a new file; `None`: there are none.
    async fn bundle(
        &self,
        id: RepositoryId,
        branch: &BranchName,
        base: Option<&CommitHash>,
        to: &Path,
    ) -> Result<Option<Work>>;
    /// Makes a branch of a bundle from anywhere, as a push by whoever brings it would. Without what it stands on it is refused
    /// (`commit_missing`). Repeating it is harmless.
    async fn take_bundle(&self, id: RepositoryId, bundle: Incoming<'_>) -> Result<()>;
    /// One that is not there is fine.
    async fn remove_branch(&self, id: RepositoryId, branch: &BranchName) -> Result<()>;
    /// A file at a commit; `None` when there is none. Larger than `limit` bytes is refused.
    async fn read_file(
        &self,
        id: RepositoryId,
        commit: &CommitHash,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>>;
    /// Paths (files only) under a directory at a commit.
    async fn list_files(&self, id: RepositoryId, commit: &CommitHash, directory: &str)
    -> Result<Vec<String>>;

    /// Opens a change, or updates the open one of the same branch (then `head`, title and prompters are renewed).
    async fn open_change(&self, open: OpenChange) -> Result<Change>;
    async fn change(&self, id: ChangeId) -> Result<Option<Change>>;
    async fn change_by_number(&self, repository: RepositoryId, number: u64) -> Result<Option<Change>>;
    /// Newest first; `limit` at most 200.
    async fn changes(&self, repository: Option<RepositoryId>, limit: u32) -> Result<Vec<Change>>;
    async fn diff(&self, id: ChangeId) -> Result<Vec<FileDiff>>;
    async fn commits(&self, id: ChangeId) -> Result<Vec<Commit>>;
    /// Approves the commit that was looked at: another head is refused (`change_moved`), and so is anyone whose prompts
    /// produced the change (`self_approval`).
    async fn approve(&self, id: ChangeId, head: &CommitHash, by: &Person, at_ms: i64) -> Result<Change>;
    /// Merges with a merge commit in the name of `by`. Needs the required approvals of other people for the head.
    async fn merge(&self, id: ChangeId, by: &Person, at_ms: i64) -> Result<Change>;

    /// The answer to `GET …/info/refs?service=…` of git's smart HTTP protocol, protocol header passed through.
    async fn advertise(
        &self,
        id: RepositoryId,
        service: GitService,
        git_protocol: Option<&str>,
    ) -> Result<Vec<u8>>;
    /// One request of git's stateless RPC. Returns when `output` is complete. A refused push is told to git in words.
    async fn serve(
        &self,
        id: RepositoryId,
        service: GitService,
        git_protocol: Option<&str>,
        policy: Option<PushPolicy>,
        input: Box<dyn AsyncRead + Send + Unpin>,
        output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()>;
}
