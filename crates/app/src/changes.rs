//! Changes: what sessions propose, seen and decided by people.

use crate::{App, Inner, Result, require};
use greenroom_domain::{ChangeId, ErrorCode, Person, Problem, RepositoryName, Role};
use greenroom_forge::{Change, ChangeState, FileDiff};
use greenroom_wire::{
    ApprovalView, ApproveChange, ChangeStatus, ChangeView, CommitView, FileDiffView, Permission,
};

const LISTED: u32 = 200;

impl App {
    pub async fn changes(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
    ) -> Result<Vec<ChangeView>> {
        require(caller, Role::Viewer)?;
        let repository = match repository {
            Some(name) => Some(self.inner.repository_row(name).await?.id),
            None => None,
        };
        let mut views = vec![];
        for change in self.inner.forge.changes(repository, LISTED).await? {
            views.push(self.inner.change_view(caller, change, vec![]).await?);
        }
        Ok(views)
    }

    pub async fn change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView> {
        require(caller, Role::Viewer)?;
        let change = self.inner.change(id).await?;
        self.inner.change_with_commits(caller, change).await
    }

    pub async fn change_diff(&self, caller: &Person, id: ChangeId) -> Result<Vec<FileDiffView>> {
        require(caller, Role::Viewer)?;
        self.inner.change(id).await?;
        Ok(self.inner.forge.diff(id).await?.into_iter().map(diff_view).collect())
    }

    /// Approves the commit that the caller looked at, in their name; refused to everyone whose prompts produced the change.
    pub async fn approve_change(
        &self,
        caller: &Person,
        id: ChangeId,
        body: ApproveChange,
    ) -> Result<ChangeView> {
        require(caller, Role::Member)?;
        let session = self.inner.change(id).await?.session;
        self.inner.forge_owes(session).await?;
        let approved = self.inner.forge.approve(id, &body.head, caller, self.inner.now_ms()).await;
        self.inner.tell_of_forge(session).await;
        let change = approved?;
        self.inner.change_with_commits(caller, change).await
    }

    pub async fn merge_change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView> {
        require(caller, Role::Member)?;
        let before = self.inner.change(id).await?;
        self.inner.forge_owes(before.session).await?;
        let merged = self.inner.forge.merge(id, caller, self.inner.now_ms()).await;
        self.inner.tell_of_forge(before.session).await;
        let change = merged?;
        self.inner.pool.wake();
        if let (ChangeState::Open, ChangeState::Merged) = (before.state, change.state)
            && let Some(repository) = self.inner.directory.repository(change.repository).await?
        {
            self.inner.branches_moved(repository);
        }
        self.inner.change_with_commits(caller, change).await
    }
}

impl Inner {
    async fn change(&self, id: ChangeId) -> Result<Change> {
        let found = self.forge.change(id).await?;
        found.ok_or_else(|| {
            Problem::new(ErrorCode::ChangeUnknown, "There is no such change.")
                .hint("List changes with `greenroom change list`.")
        })
    }

    async fn change_with_commits(&self, caller: &Person, change: Change) -> Result<ChangeView> {
        let commits = self.forge.commits(change.id).await?;
        let commits = commits.into_iter().map(|commit| CommitView {
            hash: commit.hash,
            author_name: commit.author_name,
            author_email: commit.author_email,
            subject: commit.subject,
            at_ms: commit.at_ms,
        });
        self.change_view(caller, change, commits.collect()).await
    }

    async fn change_view(
        &self,
        caller: &Person,
        change: Change,
        commits: Vec<CommitView>,
    ) -> Result<ChangeView> {
        let repository = self.directory.repository(change.repository).await?;
        let repository = repository.ok_or_else(|| {
            Problem::new(ErrorCode::RepositoryUnknown, "The change's repository was removed.")
        })?;
        let approvals = change.approvals.iter().map(|approval| ApprovalView {
            by: approval.by,
            name: approval.name.clone(),
            is_current: approval.commit == change.head,
            at_ms: approval.at_ms,
        });
        Ok(ChangeView {
            may_approve: may_approve(caller, &change),
            may_merge: may_merge(caller, &change),
            approvals: approvals.collect(),
            id: change.id,
            repository: repository.name,
            number: change.number,
            session: change.session,
            title: change.title,
            body: change.body,
            branch: change.branch,
            base: change.base,
            head: change.head,
            author_id: change.author.on_behalf_of,
            author_name: change.author.name,
            state: status_of(change.state),
            required_approvals: change.required_approvals,
            is_unreviewed: change.is_unreviewed,
            merge_commit: change.merge_commit,
            commits,
            opened_at_ms: change.opened_at_ms,
            updated_at_ms: change.updated_at_ms,
        })
    }
}

fn status_of(state: ChangeState) -> ChangeStatus {
    match state {
        ChangeState::Open => ChangeStatus::Open,
        ChangeState::Merged => ChangeStatus::Merged,
        ChangeState::Closed => ChangeStatus::Closed,
    }
}

/// What the page offers; the forge decides again when it is asked to.
fn may_approve(caller: &Person, change: &Change) -> Permission {
    let is_prompter = change.prompters.contains(&caller.id) || change.author.on_behalf_of == caller.id;
    let has_approved = change.approvals.iter().any(|a| a.by == caller.id && a.commit == change.head);
    match () {
        () if change.state != ChangeState::Open => refused("The change is not open any more."),
        () if caller.role < Role::Member => refused("Only members approve."),
        () if is_prompter => refused("Your own work is in this change: another person must approve it."),
        () if has_approved => refused("You have approved it."),
        () => Permission { is_allowed: true, reason: None },
    }
}

fn may_merge(caller: &Person, change: &Change) -> Permission {
    let current = change.approvals.iter().filter(|approval| approval.commit == change.head).count();
    let missing = (change.required_approvals as usize).saturating_sub(current);
    match () {
        () if change.state != ChangeState::Open => refused("The change is not open any more."),
        () if caller.role < Role::Member => refused("Only members merge."),
        () if missing > 0 => {
            refused(&format!("{missing} more approval is needed, by someone who did not work on it."))
        }
        () => Permission { is_allowed: true, reason: None },
    }
}

fn refused(reason: &str) -> Permission {
    Permission { is_allowed: false, reason: Some(reason.to_owned()) }
}

pub(crate) fn diff_view(diff: FileDiff) -> FileDiffView {
    FileDiffView {
        path: diff.path,
        old_path: diff.old_path,
        additions: diff.additions,
        deletions: diff.deletions,
        is_binary: diff.is_binary,
        patch: diff.patch,
        is_truncated: diff.is_truncated,
    }
}
