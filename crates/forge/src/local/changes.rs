//! Change requests of the local forge: opened for a branch, approved for a commit, merged by a merge commit whose
//! reference moves in one compared step. Heads are git's truth and are looked up when a change is read.

use super::{
    LocalForge, diff,
    git::Git,
    receive::ZERO,
    store::{PendingMerge, Store},
};
use crate::{Approval, Change, ChangeState, Commit, Error, FileDiff, OpenChange, Result};
use greenroom_domain::{
    BranchName, ChangeId, CommitHash, ErrorCode, Person, PersonId, Problem, RepositoryId,
};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

const LONGEST_TITLE: usize = 500;
const LONGEST_BODY: usize = 64 * 1024;

impl LocalForge {
    pub(crate) async fn propose(&self, open: OpenChange) -> Result<Change> {
        check_text(&open)?;
        let repository = self.known(open.repository).await?;
        let lock = self.lock(open.repository);
        let _held = lock.lock().await;
        let id = open.id;
        if let Some(change) = self.store(move |store| store.change(id)).await? {
            return self.reopen(change, open).await;
        }
        let (number, branch) = (open.repository, open.branch.clone());
        if let Some(change) = self.store(move |store| store.open_change_of(number, &branch)).await? {
            return self.renew(change.id, open).await;
        }
        let (head, base_commit) = endpoints(&repository, &open.branch, &open.base).await?;
        self.store(move |store| store.insert(&open, &head, &base_commit)).await?;
        let change = self.stored(id).await?;
        keep_head(&repository, &change).await?;
        Ok(change)
    }

    /// The same call again: harmless. The same id for something else is refused.
    async fn reopen(&self, change: Change, open: OpenChange) -> Result<Change> {
        if change.repository != open.repository || change.branch != open.branch {
            let words = "This change id already belongs to another branch.";
            return Err(Error::Refused(Problem::new(ErrorCode::KeyReused, words)));
        }
        match change.state {
            ChangeState::Open => self.renew(change.id, open).await,
            ChangeState::Merged | ChangeState::Closed => Ok(change),
        }
    }

    async fn renew(&self, id: ChangeId, open: OpenChange) -> Result<Change> {
        endpoints(&self.path(open.repository), &open.branch, &open.base).await?;
        self.store(move |store| store.renew(id, &open)).await?;
        let change = self.stored(id).await?;
        self.refreshed(change).await
    }

    pub(crate) async fn find(&self, id: ChangeId) -> Result<Option<Change>> {
        match self.store(move |store| store.change(id)).await? {
            Some(change) => self.refreshed(change).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn find_by_number(&self, id: RepositoryId, number: u64) -> Result<Option<Change>> {
        match self.store(move |store| store.change_by_number(id, number)).await? {
            Some(change) => self.refreshed(change).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn list(&self, repository: Option<RepositoryId>, limit: u32) -> Result<Vec<Change>> {
        let mut changes = self.store(move |store| store.changes(repository, limit.min(200))).await?;
        let open = changes.iter().filter(|change| change.state == ChangeState::Open);
        let repositories: BTreeSet<RepositoryId> = open.map(|change| change.repository).collect();
        let mut heads = HashMap::new();
        for id in repositories {
            heads.insert(id, branch_heads(&self.path(id)).await?);
        }
        for change in changes.iter_mut().filter(|change| change.state == ChangeState::Open) {
            let current = heads.get(&change.repository).and_then(|heads| heads.get(change.branch.as_str()));
            if current.is_some_and(|head| *head != change.head) {
                *change = self.refreshed(change.clone()).await?;
            }
        }
        Ok(changes)
    }

    pub(crate) async fn files(&self, id: ChangeId) -> Result<Vec<FileDiff>> {
        let change = self.required(id).await?;
        diff::diff(&self.path(change.repository), &change.base_commit, &change.head).await
    }

    pub(crate) async fn commits_of(&self, id: ChangeId) -> Result<Vec<Commit>> {
        let change = self.required(id).await?;
        diff::commits(&self.path(change.repository), &change.base_commit, &change.head).await
    }

    pub(crate) async fn approve_change(
        &self,
        id: ChangeId,
        head: &CommitHash,
        by: &Person,
        at_ms: i64,
    ) -> Result<Change> {
        let repository = self.required(id).await?.repository;
        let lock = self.lock(repository);
        let _held = lock.lock().await;
        let change = self.required(id).await?;
        if change.state != ChangeState::Open {
            return Err(not_open(&change));
        }
        if is_prompter(&change, by.id) {
            let words = format!("Change #{} holds your own work, so you cannot approve it.", change.number);
            return Err(Error::Refused(
                Problem::new(ErrorCode::SelfApproval, words)
                    .hint("Ask somebody else on the team to review it."),
            ));
        }
        if change.head != *head {
            let words = format!(
                "Change #{} has moved on to commit {} since it was looked at.",
                change.number,
                &change.head.as_str()[..10]
            );
            return Err(Error::Refused(
                Problem::new(ErrorCode::ChangeMoved, words)
                    .hint("Look at it again, then approve what it is now."),
            ));
        }
        let approval = Approval { by: by.id, name: by.name.clone(), commit: change.head, at_ms };
        self.store(move |store| store.add_approval(id, &approval)).await?;
        self.stored(id).await
    }

    pub(crate) async fn merge_change(&self, id: ChangeId, by: &Person, at_ms: i64) -> Result<Change> {
        let change = self.required(id).await?;
        let lock = self.lock(change.repository);
        let _held = lock.lock().await;
        let change = self.settled(self.required(id).await?).await?;
        match change.state {
            ChangeState::Merged => return Ok(change),
            ChangeState::Closed => return Err(not_open(&change)),
            ChangeState::Open => {}
        }
        let approvals = approvals_that_count(&change);
        if approvals < change.required_approvals as usize {
            return Err(approval_missing(&change, approvals));
        }
        self.merge_now(&change, by, at_ms).await?;
        self.stored(id).await
    }

    /// Intent first, then the reference, then the record: whatever of it a crash leaves, `settled` finishes.
    async fn merge_now(&self, change: &Change, by: &Person, at_ms: i64) -> Result<()> {
        let repository = self.path(change.repository);
        let Some(base) = branch_head(&repository, &change.base).await? else {
            return Err(missing_branch(&change.base));
        };
        let commit = match is_ancestor(&repository, &change.head, &base).await? {
            true => base.clone(), // somebody pushed its commits to the base already
            false => merge_commit(&repository, change, &base, by, at_ms).await?,
        };
        let pending = PendingMerge { commit, by: by.id, at_ms };
        let (id, intent) = (change.id, pending.clone());
        self.store(move |store| store.begin_merge(id, &intent)).await?;
        move_base(&repository, change, &base, &pending.commit).await?;
        self.finish(change, pending).await
    }

    async fn finish(&self, change: &Change, merge: PendingMerge) -> Result<()> {
        let (id, is_unreviewed) = (change.id, approvals_that_count(change) == 0);
        self.store(move |store| store.finish_merge(id, &merge, is_unreviewed)).await?;
        // The commits stay reachable through the merge. A branch that moved meanwhile is not ours to delete.
        let delete = format!("delete refs/heads/{}\0{}\0", change.branch, change.head);
        let repository = self.path(change.repository);
        let output = Git::at(&repository).args(["update-ref", "--stdin", "-z"]).stdin(delete).run().await?;
        if !output.status.success() {
            tracing::info!(branch = %change.branch, said = output.stderr, "a merged branch stays");
        }
        Ok(())
    }

    /// Finishes a merge that a crash interrupted after its reference had moved.
    async fn settled(&self, change: Change) -> Result<Change> {
        let id = change.id;
        let Some(pending) = self.store(move |store| store.pending_merge(id)).await? else {
            return Ok(change);
        };
        let repository = self.path(change.repository);
        let Some(base) = branch_head(&repository, &change.base).await? else { return Ok(change) };
        if is_ancestor(&repository, &pending.commit, &base).await? {
            self.finish(&change, pending).await?;
        }
        self.stored(id).await
    }

    /// With the head that its branch has now. A branch that is gone leaves the last head known.
    async fn refreshed(&self, change: Change) -> Result<Change> {
        if change.state != ChangeState::Open {
            return Ok(change);
        }
        let repository = self.path(change.repository);
        let (head, base) = tokio::try_join!(
            branch_head(&repository, &change.branch),
            branch_head(&repository, &change.base)
        )?;
        let head = head.unwrap_or_else(|| change.head.clone());
        let base_commit = match base {
            Some(base) => merge_base(&repository, &base, &head).await?,
            None => None,
        };
        let base_commit = base_commit.unwrap_or_else(|| change.base_commit.clone());
        // The same head, now all in the base: a merge that is being recorded. The last real diff stays.
        if head == change.head && (base_commit == change.base_commit || base_commit == head) {
            return Ok(change);
        }
        let id = change.id;
        self.store(move |store| store.set_head(id, &head, &base_commit)).await?;
        let change = self.stored(id).await?;
        keep_head(&repository, &change).await?;
        Ok(change)
    }

    async fn required(&self, id: ChangeId) -> Result<Change> {
        self.find(id).await?.ok_or_else(|| unknown(id))
    }

    async fn stored(&self, id: ChangeId) -> Result<Change> {
        self.store(move |store: &Store| store.change(id)).await?.ok_or_else(|| unknown(id))
    }
}

pub(crate) async fn branch_head(repository: &Path, branch: &BranchName) -> Result<Option<CommitHash>> {
    // Asked at every start of a session: a git process would cost more than the rest of it.
    if let Some(head) = head_on_disk(repository, branch) {
        return Ok(Some(head));
    }
    let name = format!("refs/heads/{branch}^{{commit}}");
    let output = Git::at(repository).args(["rev-parse", "--quiet", "--verify", &name]).run().await?;
    Ok(output.text().parse().ok().filter(|_| output.status.success()))
}

/// As git keeps it: a file of its own, or a line among the packed ones (gitrepository-layout(5)). Branches are never
/// symbolic here.
fn head_on_disk(repository: &Path, branch: &BranchName) -> Option<CommitHash> {
    let name = format!("refs/heads/{branch}");
    if let Ok(loose) = std::fs::read_to_string(repository.join(&name)) {
        return loose.trim_end().parse().ok();
    }
    let packed = std::fs::read_to_string(repository.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, its)| its == name))?;
    line.split_once(' ')?.0.parse().ok()
}

async fn branch_heads(repository: &Path) -> Result<HashMap<String, CommitHash>> {
    let list = ["for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/"];
    let output = Git::at(repository).args(list).success().await?.text();
    let pairs = output.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.filter_map(|(hash, name)| Some((name.to_owned(), hash.parse().ok()?))).collect())
}

/// Head of the branch and where it left the base; refuses what could not be proposed.
async fn endpoints(
    repository: &Path,
    branch: &BranchName,
    base: &BranchName,
) -> Result<(CommitHash, CommitHash)> {
    let (head, onto) = tokio::try_join!(branch_head(repository, branch), branch_head(repository, base))?;
    let head = head.ok_or_else(|| missing_branch(branch))?;
    let onto = onto.ok_or_else(|| missing_branch(base))?;
    match merge_base(repository, &onto, &head).await? {
        Some(common) if common == head => Err(Error::Refused(
            Problem::new(ErrorCode::NothingToPropose, format!("{branch} has no commits that {base} lacks."))
                .hint("Commit something first."),
        )),
        Some(common) => Ok((head, common)),
        None => Err(Error::Refused(Problem::new(
            ErrorCode::InvalidRequest,
            format!("{branch} and {base} have no common history."),
        ))),
    }
}

async fn merge_base(repository: &Path, a: &CommitHash, b: &CommitHash) -> Result<Option<CommitHash>> {
    let output = Git::at(repository).args(["merge-base", a.as_str(), b.as_str()]).run().await?;
    match output.status.code() {
        Some(0) => Ok(output.text().parse().ok()),
        Some(1) => Ok(None),
        _ => Err(Error::Git { operation: "merge-base".into(), output: output.stderr }),
    }
}

async fn is_ancestor(repository: &Path, old: &CommitHash, new: &CommitHash) -> Result<bool> {
    let ask = ["merge-base", "--is-ancestor", old.as_str(), new.as_str()];
    Ok(Git::at(repository).args(ask).run().await?.status.success())
}

/// A reference of ours keeps an open change's commits whatever happens to its branch.
async fn keep_head(repository: &Path, change: &Change) -> Result<()> {
    let name = format!("refs/changes/{}/head", change.number);
    Git::at(repository).args(["update-ref", &name, change.head.as_str()]).success().await.map(drop)
}

async fn merge_commit(
    repository: &Path,
    change: &Change,
    base: &CommitHash,
    by: &Person,
    at_ms: i64,
) -> Result<CommitHash> {
    let tree = merged_tree(repository, change, base).await?;
    let name = if by.name.trim().is_empty() { by.login.as_str() } else { &by.name };
    let date = format!("@{} +0000", at_ms.div_euclid(1000));
    let title: String = change.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let commit = ["commit-tree", &tree, "-p", base.as_str(), "-p", change.head.as_str(), "-F", "-"];
    let output = Git::at(repository)
        .env("GIT_AUTHOR_NAME", name)
        .env("GIT_AUTHOR_EMAIL", &by.email)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", name)
        .env("GIT_COMMITTER_EMAIL", &by.email)
        .env("GIT_COMMITTER_DATE", &date)
        .args(commit)
        .stdin(format!("Merge change #{}: {title}\n", change.number))
        .success()
        .await?;
    let text = output.text();
    text.parse().map_err(|_| Error::Git { operation: "commit-tree".into(), output: text })
}

async fn merged_tree(repository: &Path, change: &Change, base: &CommitHash) -> Result<String> {
    let merge = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"];
    let output = Git::at(repository).args(merge).args([base.as_str(), change.head.as_str()]).run().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    let tree = fields.next().unwrap_or_default().trim().to_owned();
    match output.status.code() {
        Some(0) if !output.is_truncated => Ok(tree),
        Some(1) => Err(conflict(change, &fields.collect::<Vec<_>>())),
        _ => Err(Error::Git { operation: "merge-tree".into(), output: output.stderr }),
    }
}

/// Compared with the old value: a push to the base in between makes the merge fail, not vanish.
async fn move_base(repository: &Path, change: &Change, old: &CommitHash, new: &CommitHash) -> Result<()> {
    let update = format!("update refs/heads/{}\0{new}\0{old}\0", change.base);
    let output = Git::at(repository).args(["update-ref", "--stdin", "-z"]).stdin(update).run().await?;
    if output.status.success() {
        return Ok(());
    }
    debug_assert_ne!(old.as_str(), ZERO);
    let words = format!("{} moved while change #{} was being merged.", change.base, change.number);
    Err(Error::Refused(
        Problem::new(ErrorCode::MergeConflict, words).hint("Merge again.").detail(output.stderr),
    ))
}

fn is_prompter(change: &Change, person: PersonId) -> bool {
    change.author.on_behalf_of == person || change.prompters.contains(&person)
}

/// Of the head, by different people who have not worked on it (also not since they approved).
fn approvals_that_count(change: &Change) -> usize {
    let current = change.approvals.iter().filter(|approval| approval.commit == change.head);
    current.map(|approval| approval.by).filter(|by| !is_prompter(change, *by)).collect::<BTreeSet<_>>().len()
}

fn check_text(open: &OpenChange) -> Result<()> {
    let words = if open.title.trim().is_empty() {
        "A change needs a title."
    } else if open.title.len() > LONGEST_TITLE || open.body.len() > LONGEST_BODY {
        "The title (500 bytes) or the description (64 KiB) of the change is too long."
    } else if open.branch == open.base {
        "A change cannot propose a branch to itself."
    } else {
        return Ok(());
    };
    Err(Error::Refused(Problem::new(ErrorCode::InvalidRequest, words)))
}

fn conflict(change: &Change, files: &[&str]) -> Error {
    let shown = files.iter().take(20).copied().collect::<Vec<_>>().join(", ");
    let more = if files.len() > 20 { format!(" and {} more", files.len() - 20) } else { String::new() };
    let words = format!("Change #{} conflicts with {} in {shown}{more}.", change.number, change.base);
    Error::Refused(
        Problem::new(ErrorCode::MergeConflict, words)
            .hint(format!("Merge {} into {}, resolve the conflicts and push.", change.base, change.branch))
            .detail(files.join("\n")),
    )
}

fn approval_missing(change: &Change, approvals: usize) -> Error {
    let stale = change.approvals.iter().any(|approval| approval.commit != change.head);
    let words = format!(
        "Change #{} needs {} approval(s) of its newest commit and has {approvals}.",
        change.number, change.required_approvals
    );
    let hint = match stale {
        true => "It changed after it was approved. Ask somebody who did not work on it to look at it again.",
        false => "Ask somebody who did not work on it to approve it.",
    };
    Error::Refused(Problem::new(ErrorCode::ApprovalMissing, words).hint(hint))
}

fn not_open(change: &Change) -> Error {
    let state = if change.state == ChangeState::Merged { "merged" } else { "closed" };
    let words = format!("Change #{} is already {state}.", change.number);
    Error::Refused(Problem::new(ErrorCode::ChangeNotOpen, words))
}

fn missing_branch(branch: &BranchName) -> Error {
    let words = format!("There is no branch {branch} in the repository.");
    Error::Refused(Problem::new(ErrorCode::NotFound, words).hint("Push it first."))
}

fn unknown(id: ChangeId) -> Error {
    Error::Refused(Problem::new(ErrorCode::ChangeUnknown, format!("There is no change {id}.")))
}
