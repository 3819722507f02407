//! What a push may do: first by its commands alone, then by its objects while they are still in quarantine.

use super::receive::{Failure, Quarantine, RefUpdate, Target};
use super::scan;
use crate::PushPolicy;
use greenroom_domain::BranchName;

const MOST_NEW_COMMITS: usize = 10_000;

/// A refusal in words. `reason` is one line: git prints it beside the branch.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// What git calls the result of unpacking, when that is what failed.
    pub(crate) unpack: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: one_line(&reason.into()), unpack: None, hint: None }
    }

    pub(crate) fn unpack(reason: impl Into<String>) -> Self {
        let refusal = Self::new(reason);
        Self { unpack: Some(refusal.reason.clone()), ..refusal }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Before anything is read from the pack.
pub(crate) fn check_commands(
    policy: &PushPolicy,
    default_branch: &BranchName,
    updates: &[RefUpdate],
) -> Result<(), Refusal> {
    for update in updates {
        check_name(&update.name)?;
    }
    match policy {
        PushPolicy::Person(_) => {
            let default = format!("refs/heads/{default_branch}");
            match updates.iter().find(|update| update.name == default && update.is_delete()) {
                Some(_) => {
                    Err(Refusal::new(format!("the default branch {default_branch} cannot be deleted")))
                }
                None => Ok(()),
            }
        }
        PushPolicy::Session { branch, .. } => check_session(branch, default_branch, updates),
    }
}

fn check_session(
    branch: &BranchName,
    default_branch: &BranchName,
    updates: &[RefUpdate],
) -> Result<(), Refusal> {
    let own = format!("refs/heads/{branch}");
    if branch == default_branch {
        return Err(Refusal::new("a session cannot push to the default branch"));
    }
    if updates.iter().any(|update| update.name != own) {
        let words = format!("this session may push only its own branch, {branch}");
        return Err(Refusal::new(words).hint(format!("Push with: git push origin HEAD:{branch}")));
    }
    if updates.len() != 1 {
        return Err(Refusal::new("a session pushes one branch once per push"));
    }
    if updates[0].is_delete() {
        return Err(Refusal::new("a session cannot delete its branch"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let rest = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
    match rest.map(str::parse::<BranchName>) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(Refusal::new("the branch or tag name is not valid")),
        None => Err(Refusal::new("only branches and tags can be pushed")),
    }
}

/// After unpacking: everything reachable is there, branches do not lose what they must keep, commits are by whom they
/// may be, and nothing that is new looks like a secret.
pub(crate) async fn check_objects(
    quarantine: &Quarantine,
    target: &Target<'_>,
    updates: &[RefUpdate],
) -> Result<(), Failure> {
    let tips: Vec<&RefUpdate> = updates.iter().filter(|update| !update.is_delete()).collect();
    check_tips(quarantine, &tips).await?;
    check_connected(quarantine, &tips).await?;
    match &target.policy {
        PushPolicy::Person(_) => check_default_branch(quarantine, &target.default_branch, &tips).await?,
        PushPolicy::Session { emails, .. } => check_people(quarantine, emails, &tips).await?,
    }
    scan::check(quarantine, lines(&tips), target.forge.known_secrets()).await
}

/// Branches name commits; what a tag names only has to exist.
async fn check_tips(quarantine: &Quarantine, tips: &[&RefUpdate]) -> Result<(), Failure> {
    let names: String = tips.iter().map(|tip| format!("{}\n", tip.new)).collect();
    let check = ["cat-file", "--batch-check=%(objecttype)"];
    let output = quarantine.git().args(check).stdin(names).success().await?.text();
    for (tip, kind) in tips.iter().zip(output.lines().chain(std::iter::repeat("missing"))) {
        if kind.ends_with("missing") {
            return Err(Refusal::unpack("the pack does not hold what the branch points to").into());
        }
        if tip.name.starts_with("refs/heads/") && kind != "commit" {
            return Err(Refusal::new(format!("a branch must point to a commit, not to a {kind}")).into());
        }
    }
    Ok(())
}

async fn check_connected(quarantine: &Quarantine, tips: &[&RefUpdate]) -> Result<(), Failure> {
    let walk = ["rev-list", "--objects", "--quiet", "--stdin", "--not", "--all"];
    let output = quarantine.git().args(walk).stdin(lines(tips)).run().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Refusal::unpack("the push is incomplete: objects that its commits need are missing").into())
}

async fn check_default_branch(
    quarantine: &Quarantine,
    default_branch: &BranchName,
    tips: &[&RefUpdate],
) -> Result<(), Failure> {
    let name = format!("refs/heads/{default_branch}");
    let Some(tip) = tips.iter().find(|tip| tip.name == name && !tip.is_create()) else { return Ok(()) };
    let ancestor = ["merge-base", "--is-ancestor", &tip.old, &tip.new];
    let output = quarantine.git().args(ancestor).run().await?;
    match output.status.code() {
        Some(0) => Ok(()),
        _ => Err(Refusal::new(format!("the default branch {default_branch} only moves forward"))
            .hint("Fetch, merge or rebase, and push again.")
            .into()),
    }
}

/// Authors and committers as the objects spell them: no mailmap, no re-encoding.
async fn check_people(
    quarantine: &Quarantine,
    emails: &[String],
    tips: &[&RefUpdate],
) -> Result<(), Failure> {
    let most = format!("--max-count={}", MOST_NEW_COMMITS + 1);
    let list = ["log", "--encoding=none", "--no-mailmap", "--format=%H %ae%n%H %ce", &most, "--stdin"];
    let output = quarantine.git().args(list).args(["--not", "--all"]).stdin(lines(tips)).success().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.is_truncated || text.lines().count() > 2 * MOST_NEW_COMMITS {
        return Err(Refusal::new(format!("the push has more than {MOST_NEW_COMMITS} new commits")).into());
    }
    for line in text.lines() {
        let (commit, email) = line.split_once(' ').unwrap_or((line, ""));
        if !emails.iter().any(|allowed| allowed.eq_ignore_ascii_case(email)) {
            return Err(wrong_person(commit, email, emails).into());
        }
    }
    Ok(())
}

fn wrong_person(commit: &str, email: &str, emails: &[String]) -> Refusal {
    let short = commit.get(..10).unwrap_or(commit);
    let reason =
        format!("commit {short} is by {email:?}, who neither prompted this session nor ran commands in it");
    Refusal::new(reason).hint(format!(
        "Authors and committers must be people who did: {}.\nMake the commits again, for example with: \
         git rebase --root --exec 'git commit --amend --no-edit --reset-author' (or --onto the base branch)",
        emails.join(", ")
    ))
}

fn lines(tips: &[&RefUpdate]) -> String {
    tips.iter().map(|tip| format!("{}\n", tip.new)).collect()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::super::receive::ZERO;
    use super::*;
    use greenroom_domain::{PersonId, SessionId};

    fn update(name: &str, new: &str) -> RefUpdate {
        RefUpdate { old: ZERO.into(), new: new.into(), name: name.into() }
    }

    fn session() -> PushPolicy {
        PushPolicy::Session {
            session: SessionId::from_parts(1, 1),
            branch: "greenroom/a".parse().unwrap(),
            emails: vec!["ann@example.com".into()],
            people: vec![],
            size_limit_bytes: 1,
        }
    }

    #[test]
    fn a_session_moves_only_its_own_branch() {
        let main = "main".parse().unwrap();
        let hash = "a".repeat(40);
        let check = |updates: &[RefUpdate]| check_commands(&session(), &main, updates);
        assert!(check(&[update("refs/heads/greenroom/a", &hash)]).is_ok());
        assert!(check(&[update("refs/heads/greenroom/a", ZERO)]).is_err());
        assert!(check(&[update("refs/heads/main", &hash)]).is_err());
        assert!(check(&[update("refs/tags/greenroom/a", &hash)]).is_err());
        let own = update("refs/heads/greenroom/a", &hash);
        assert!(check(&[own.clone(), update("refs/heads/b", &hash)]).is_err());
        assert!(check(&[own.clone(), own]).is_err());
    }

    #[test]
    fn nobody_pushes_outside_of_branches_and_tags() {
        let main = "main".parse().unwrap();
        let person = PushPolicy::Person(PersonId::from_parts(1, 1));
        let hash = "a".repeat(40);
        for bad in ["refs/changes/1/head", "HEAD", "refs/heads/", "refs/heads/../x", "refs/replace/x"] {
            assert!(check_commands(&person, &main, &[update(bad, &hash)]).is_err(), "{bad}");
        }
        assert!(check_commands(&person, &main, &[update("refs/heads/main", ZERO)]).is_err());
        assert!(check_commands(&person, &main, &[update("refs/heads/topic", ZERO)]).is_ok());
    }

    #[test]
    fn a_reason_stays_one_line() {
        assert_eq!(Refusal::new("a\nb").reason, "a b");
    }
}
