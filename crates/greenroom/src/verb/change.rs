//! `change …`

use super::Desk;
use crate::cli::{Change, ChangeName};
use crate::exit::{Exit, Failure};
use crate::render::diff;
use crate::render::table::Table;
use crate::render::text::{BOLD, DIM, WARN, clean, one_line, paint};
use greenroom_domain::{ChangeId, CommitHash, ErrorCode, Problem, RepositoryName};
use greenroom_wire::{ChangeStatus, ChangeView, Permission};
use serde_json::json;

pub(crate) async fn perform(desk: &Desk, verb: Change) -> Result<Exit, Failure> {
    match verb {
        Change::List { repository } => list(desk, repository).await?,
        Change::Show { change, diff } => show(desk, &change, diff).await?,
        Change::Approve { change, head } => {
            let seen = desk.client.change(find(desk, &change).await?).await?;
            let head = match head {
                Some(head) => chosen_head(&seen, &head)?,
                None => seen.head,
            };
            let change = desk.client.approve_change(seen.id, &head).await?;
            desk.out.document(&change, |change| {
                format!("{} is approved at {}.\n", name(change), &change.head.as_str()[..10])
            })?;
        }
        Change::Merge { change } => {
            let change = desk.client.merge_change(find(desk, &change).await?).await?;
            desk.out.document(&change, |change| {
                let commit = change.merge_commit.as_ref().map_or("", |commit| &commit.as_str()[..10]);
                let unreviewed = if change.is_unreviewed { ", unreviewed" } else { "" };
                format!("{} is merged into {} as {commit}{unreviewed}.\n", name(change), change.base)
            })?;
        }
    }
    Ok(Exit::Done)
}

/// A commit may be given by its beginning.
fn chosen_head(change: &ChangeView, head: &str) -> Result<CommitHash, Failure> {
    if head.len() >= 7 && change.head.as_str().starts_with(&head.to_ascii_lowercase()) {
        return Ok(change.head.clone());
    }
    let words =
        format!("{} is at {} now, not at {}.", name(change), &change.head.as_str()[..10], one_line(head, 40));
    Err(Problem::new(ErrorCode::ChangeMoved, words)
        .hint(format!("Look at it again: greenroom change show {} --diff", name(change)))
        .into())
}

async fn list(desk: &Desk, repository: Option<RepositoryName>) -> Result<(), Failure> {
    let changes = desk.client.changes(repository.as_ref()).await?;
    desk.out.document(&changes, |changes| {
        let table = Table::new(&["CHANGE", "STATE", "BY", "APPROVALS", "TITLE"], "No change yet.");
        let table = table.rows(changes, |change| {
            vec![
                name(change),
                status(change.state).to_owned(),
                one_line(&change.author_name, 24),
                format!("{} of {}", current_approvals(change), change.required_approvals),
                one_line(&change.title, 60),
            ]
        });
        table.text()
    })
}

async fn show(desk: &Desk, wanted: &ChangeName, with_diff: bool) -> Result<(), Failure> {
    let change = desk.client.change(find(desk, wanted).await?).await?;
    if !with_diff {
        return desk.out.document(&change, |change| describe(desk, change));
    }
    let files = desk.client.change_diff(change.id).await?;
    let both = json!({ "change": change, "diff": files });
    desk.out.document(&both, |_| format!("{}\n{}", describe(desk, &change), diff::files(&files)))
}

fn describe(desk: &Desk, change: &ChangeView) -> String {
    let mut text = format!("{} {}\n", paint(BOLD, name(change)), one_line(&change.title, 120));
    let approvals: Vec<String> = change.approvals.iter().map(approval).collect();
    let approvals = if approvals.is_empty() { "none".to_owned() } else { approvals.join(", ") };
    let lines = [
        ("Page", desk.page(&format!("/changes/{}", change.id))),
        ("State", status(change.state).to_owned()),
        ("By", one_line(&change.author_name, 60)),
        ("Branch", format!("{} into {}", change.branch, change.base)),
        ("Approvals", format!("{approvals} ({} needed)", change.required_approvals)),
        ("You may", permissions(change)),
    ];
    lines.iter().for_each(|(name, value)| text.push_str(&format!("{name:<10} {value}\n")));
    for commit in &change.commits {
        let author =
            format!("{} <{}>", one_line(&commit.author_name, 60), one_line(&commit.author_email, 80));
        let (hash, subject) = (&commit.hash.as_str()[..10], one_line(&commit.subject, 100));
        text.push_str(&format!("{hash} {subject}  {}\n", paint(DIM, author)));
    }
    if !change.body.trim().is_empty() {
        text.push_str(&format!("\n{}\n", clean(change.body.trim())));
    }
    text
}

fn approval(approval: &greenroom_wire::ApprovalView) -> String {
    let name = one_line(&approval.name, 60);
    if approval.is_current { name } else { format!("{name} (of an earlier commit)") }
}

fn permissions(change: &ChangeView) -> String {
    let say = |verb: &str, permission: &Permission| match (permission.is_allowed, &permission.reason) {
        (true, _) => verb.to_owned(),
        (false, Some(reason)) => paint(WARN, format!("not {verb}: {}", one_line(reason, 160))),
        (false, None) => paint(WARN, format!("not {verb}")),
    };
    format!("{}; {}", say("approve", &change.may_approve), say("merge", &change.may_merge))
}

fn current_approvals(change: &ChangeView) -> usize {
    change.approvals.iter().filter(|approval| approval.is_current).count()
}

pub(crate) fn status(status: ChangeStatus) -> &'static str {
    match status {
        ChangeStatus::Open => "open",
        ChangeStatus::Merged => "merged",
        ChangeStatus::Closed => "closed",
    }
}

fn name(change: &ChangeView) -> String {
    format!("{}#{}", change.repository, change.number)
}

async fn find(desk: &Desk, wanted: &ChangeName) -> Result<ChangeId, Failure> {
    let (repository, number) = match wanted {
        ChangeName::Id(id) => return Ok(*id),
        ChangeName::Number(repository, number) => (repository, *number),
    };
    let changes = desk.client.changes(Some(repository)).await?;
    let found = changes.iter().find(|change| change.number == number).map(|change| change.id);
    found.ok_or_else(|| {
        Problem::new(ErrorCode::ChangeUnknown, format!("{repository} has no change #{number}."))
            .hint(format!("greenroom change list --repository {repository}"))
            .into()
    })
}
