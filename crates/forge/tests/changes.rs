//! Change requests on real repositories: opened, read, approved, merged, and everything that is refused.
#![allow(clippy::unwrap_used)]

mod support;

use greenroom_domain::{ErrorCode, Problem};
use greenroom_forge::{ChangeState, Error, Forge, LocalForge, PushPolicy};
use support::*;

fn code(error: &Error) -> ErrorCode {
    match error {
        Error::Refused(problem) => problem.code,
        other => panic!("not a refusal: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_opened_reviewed_and_merged_in_the_mergers_name() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    world.pushed_branch("greenroom/one", "sum.txt", "1\n2\nthree\n4\n5\n6\n7\n8\n9\n").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    assert_eq!((change.number, change.state, change.required_approvals), (1, ChangeState::Open, 1));

    let files = world.forge.diff(change.id).await.unwrap();
    assert_eq!((files[0].path.as_str(), files[0].additions, files[0].deletions), ("sum.txt", 1, 1));
    assert!(files[0].patch.contains("+three") && !files[0].is_truncated);
    let commits = world.forge.commits(change.id).await.unwrap();
    assert_eq!((commits.len(), commits[0].author_email.as_str()), (1, "ann@example.com"));
    assert_eq!((commits[0].subject.as_str(), &commits[0].hash), ("Write sum.txt", &change.head));

    assert_eq!(
        code(&world.forge.approve(change.id, &change.head, &ann, 5).await.unwrap_err()),
        ErrorCode::SelfApproval
    );
    let missing = world.forge.merge(change.id, &bob, 6).await.unwrap_err();
    assert_eq!(code(&missing), ErrorCode::ApprovalMissing);
    let approved = world.forge.approve(change.id, &change.head, &bob, 7).await.unwrap();
    assert_eq!((approved.approvals.len(), &approved.approvals[0].commit), (1, &change.head));
    // The prompting person may merge what somebody else approved.
    let merged = world.forge.merge(change.id, &ann, 1_700_000_100_000).await.unwrap();
    assert_eq!(
        (merged.state, merged.merged_by, merged.is_unreviewed),
        (ChangeState::Merged, Some(ann.id), false)
    );

    let main = world.forge.branch_head(repository_id(1), &change.base).await.unwrap();
    assert_eq!(main, merged.merge_commit);
    assert_eq!(world.forge.branch_head(repository_id(1), &change.branch).await.unwrap(), None);
    let shown = git_ok(&world.bare(), &["log", "-1", "--format=%an <%ae> %cn <%ce> %ct %s", "main"]).await;
    assert_eq!(
        shown,
        "ANN <ann@example.com> ANN <ann@example.com> 1700000100 Merge change #1: Repair the sum"
    );
    let clone = world.clone_to("result").await;
    assert!(std::fs::read_to_string(clone.join("sum.txt")).unwrap().contains("three"));

    let again = world.forge.merge(change.id, &bob, 9).await.unwrap();
    assert_eq!(again, merged, "a repeated merge answers the merged change");
    assert_eq!(code(&world.approve(change.id, &bob, 9).await.unwrap_err()), ErrorCode::ChangeNotOpen);
    assert_eq!(world.forge.diff(change.id).await.unwrap().len(), 1, "a merged change keeps its diff");
    let reopened = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    assert_eq!(reopened, merged, "a repeated opening as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_commit_that_was_looked_at_is_approved() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    let tree = world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let looked_at = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    commit_file(&tree, "b.txt", "slipped in").await;
    git_ok(&tree, &["push", "-q", "origin", "greenroom/one"]).await;
    let refused = world.forge.approve(looked_at.id, &looked_at.head, &bob, 1).await.unwrap_err();
    let problem = Problem::from(refused);
    assert_eq!(problem.code, ErrorCode::ChangeMoved);
    assert!(problem.hint.is_some());
    let now = world.forge.change(looked_at.id).await.unwrap().unwrap();
    assert!(now.approvals.is_empty());
    assert!(world.forge.approve(now.id, &now.head, &bob, 2).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_push_makes_an_approval_stale() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    let tree = world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    world.approve(change.id, &bob, 1).await.unwrap();
    let head = commit_file(&tree, "b.txt", "b").await;
    git_ok(&tree, &["push", "-q", "origin", "greenroom/one"]).await;
    let listed = world.forge.changes(Some(repository_id(1)), 10).await.unwrap();
    assert_eq!(listed[0].head.as_str(), head);
    let refused = world.forge.merge(change.id, &bob, 2).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::ApprovalMissing);
    assert!(matches!(refused, Error::Refused(p) if p.hint.as_deref().unwrap().contains("changed after")));
    world.approve(change.id, &bob, 3).await.unwrap();
    assert_eq!(world.forge.merge(change.id, &bob, 4).await.unwrap().state, ChangeState::Merged);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_by_somebody_who_then_prompts_no_longer_counts() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    world.approve(change.id, &bob, 1).await.unwrap();
    let mut again = proposal(2, "greenroom/one", &ann);
    again.prompters = vec![bob.id];
    again.title = "Repair it better".into();
    let renewed = world.forge.open_change(again).await.unwrap();
    assert_eq!((renewed.id, renewed.title.as_str()), (change.id, "Repair it better"));
    assert!(renewed.prompters.contains(&ann.id) && renewed.prompters.contains(&bob.id));
    assert_eq!(code(&world.forge.merge(change.id, &bob, 2).await.unwrap_err()), ErrorCode::ApprovalMissing);
    assert_eq!(code(&world.approve(change.id, &bob, 2).await.unwrap_err()), ErrorCode::SelfApproval);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_its_files_and_changes_nothing() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    world.pushed_branch("greenroom/one", "sum.txt", "one\n").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    world.approve(change.id, &bob, 1).await.unwrap();
    let tree = world.clone_to("tree").await;
    let main = commit_file(&tree, "sum.txt", "two\n").await;
    git_ok(&tree, &["push", "-q", "origin", "main"]).await;
    let refused = world.forge.merge(change.id, &bob, 2).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::MergeConflict);
    assert!(refused.to_string().contains("sum.txt"), "{refused}");
    let head = world.forge.branch_head(repository_id(1), &change.base).await.unwrap();
    assert_eq!(head.unwrap().as_str(), main);
    assert_eq!(world.forge.change(change.id).await.unwrap().unwrap().state, ChangeState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_moved_on_is_merged_with_and_not_part_of_the_diff() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let tree = world.clone_to("tree").await;
    commit_file(&tree, "other.txt", "other").await;
    git_ok(&tree, &["push", "-q", "origin", "main"]).await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    let files = world.forge.diff(change.id).await.unwrap();
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.txt"]);
    world.approve(change.id, &bob, 1).await.unwrap();
    world.forge.merge(change.id, &bob, 2).await.unwrap();
    let clone = world.clone_to("result").await;
    assert!(clone.join("a.txt").exists() && clone.join("other.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_required_approval_a_merge_is_marked_unreviewed() {
    let world = World::new().await;
    let ann = person(1, "ann");
    world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    world.forge.set_required_approvals(repository_id(1), 0).await.unwrap();
    let merged = world.forge.merge(change.id, &ann, 2).await.unwrap();
    assert!(merged.is_unreviewed && merged.state == ChangeState::Merged);
    assert!(world.forge.set_required_approvals(repository_id(7), 0).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proposed_is_refused() {
    let world = World::new().await;
    let ann = person(1, "ann");
    let absent = world.forge.open_change(proposal(1, "absent", &ann)).await.unwrap_err();
    assert_eq!(code(&absent), ErrorCode::NotFound);
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["push", "-q", "origin", "main:same"]).await;
    let same = world.forge.open_change(proposal(1, "same", &ann)).await.unwrap_err();
    assert_eq!(code(&same), ErrorCode::NothingToPropose);
    git_ok(&tree, &["checkout", "-q", "--orphan", "orphan"]).await;
    commit_file(&tree, "x", "y").await;
    git_ok(&tree, &["push", "-q", "origin", "orphan"]).await;
    let orphan = world.forge.open_change(proposal(1, "orphan", &ann)).await.unwrap_err();
    assert_eq!(code(&orphan), ErrorCode::InvalidRequest);
    let itself = world.forge.open_change(proposal(1, "main", &ann)).await.unwrap_err();
    assert_eq!(code(&itself), ErrorCode::InvalidRequest);
    let unknown = world.forge.merge(change_id(77), &ann, 1).await.unwrap_err();
    assert_eq!(code(&unknown), ErrorCode::ChangeUnknown);
    assert!(world.forge.changes(None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_binaries_links_and_long_patches_are_shown_for_what_they_are() {
    let world = World::new().await;
    let ann = person(1, "ann");
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["checkout", "-q", "-b", "topic"]).await;
    git_ok(&tree, &["mv", "sum.txt", "total é.txt"]).await;
    std::fs::write(tree.join("picture.png"), [0u8, 159, 146, 150]).unwrap();
    std::os::unix::fs::symlink("picture.png", tree.join("link")).unwrap();
    commit_file(&tree, "long.txt", &"diff --git a/x b/x\n".repeat(40_000)).await;
    git_ok(&tree, &["push", "-q", "origin", "topic"]).await;
    let change = world.forge.open_change(proposal(1, "topic", &ann)).await.unwrap();
    let files = world.forge.diff(change.id).await.unwrap();
    let find = |path: &str| files.iter().find(|file| file.path == path).unwrap();
    assert_eq!(find("total é.txt").old_path.as_deref(), Some("sum.txt"));
    assert!(find("picture.png").is_binary);
    assert!(find("link").patch.contains("120000"));
    let long = find("long.txt");
    assert!(long.is_truncated && long.patch.len() <= 256 * 1024 && long.additions == 40_000);
    let link = world.forge.read_file(repository_id(1), &change.head, "link", 10).await.unwrap();
    assert_eq!(link.unwrap(), [0u8, 159, 146, 150], "a link inside the commit is followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_a_crash_interrupted_is_finished_by_the_repeat() {
    let world = World::new().await;
    let (ann, bob) = (person(1, "ann"), person(2, "bob"));
    world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    world.approve(change.id, &bob, 1).await.unwrap();
    let merged = world.forge.merge(change.id, &bob, 2).await.unwrap();
    let commit = merged.merge_commit.clone().unwrap();
    // As it was after the reference had moved and before the record was written.
    let data = world.scratch.path().join("data");
    let database = rusqlite::Connection::open(data.join("forge.db")).unwrap();
    let rewind = "UPDATE change SET state = 'open', merge_commit = NULL, merged_by = NULL, pending_commit = ?1, \
        pending_by = ?2, pending_at_ms = 2";
    database.execute(rewind, rusqlite::params![commit.as_str(), bob.id.to_string()]).unwrap();
    git_ok(&world.bare(), &["update-ref", "refs/heads/greenroom/one", change.head.as_str()]).await;
    let forge = LocalForge::open(&data).unwrap();
    assert_eq!(forge.merge(change.id, &ann, 9).await.unwrap(), merged);
    assert_eq!(git_ok(&world.bare(), &["rev-list", "--count", "--merges", "main"]).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_worked_in_a_session_may_not_approve_what_it_pushes_from_then_on() {
    let world = World::new().await;
    let (ann, bob, cem) = (person(1, "ann"), person(2, "bob"), person(3, "cem"));
    let tree = world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    // What Bob looked at then was not his.
    world.approve(change.id, &bob, 1).await.unwrap();
    let mut policy = session_policy("greenroom/one", &["ann@example.com"]);
    if let PushPolicy::Session { people, .. } = &mut policy {
        *people = vec![ann.id, bob.id];
    }
    world.server.allow(Some(policy));
    commit_file(&tree, "b.txt", "b").await;
    git_ok(&tree, &["push", "-q", "origin", "greenroom/one"]).await;
    assert_eq!(code(&world.approve(change.id, &bob, 2).await.unwrap_err()), ErrorCode::SelfApproval);
    assert_eq!(code(&world.forge.merge(change.id, &ann, 3).await.unwrap_err()), ErrorCode::ApprovalMissing);
    world.approve(change.id, &cem, 4).await.unwrap();
    world.forge.merge(change.id, &ann, 5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_pushes_to_the_branch_may_not_approve_it() {
    let world = World::new().await;
    let (ann, bob, cem) = (person(1, "ann"), person(2, "bob"), person(3, "cem"));
    world.server.allow(Some(PushPolicy::Person(bob.id)));
    let tree = world.pushed_branch("greenroom/one", "a.txt", "a").await;
    let change = world.forge.open_change(proposal(1, "greenroom/one", &ann)).await.unwrap();
    assert_eq!(code(&world.approve(change.id, &bob, 1).await.unwrap_err()), ErrorCode::SelfApproval);
    world.server.allow(Some(PushPolicy::Person(cem.id)));
    commit_file(&tree, "b.txt", "b").await;
    git_ok(&tree, &["push", "-q", "origin", "greenroom/one"]).await;
    assert_eq!(code(&world.approve(change.id, &cem, 2).await.unwrap_err()), ErrorCode::SelfApproval);
    let dan = person(4, "dan");
    world.approve(change.id, &dan, 3).await.unwrap();
    world.forge.merge(change.id, &bob, 4).await.unwrap();
}
