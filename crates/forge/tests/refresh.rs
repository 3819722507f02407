//! A repository follows the place that it was made from, as far as nobody went another way here.
#![allow(clippy::unwrap_used)]

mod support;

use greenroom_domain::{BranchName, ErrorCode, Problem};
use greenroom_forge::{Forge, Refreshed};
use std::path::PathBuf;
use support::*;

fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

fn moved(names: &[&str]) -> Refreshed {
    Refreshed { moved: names.iter().map(|name| branch(name)).collect(), diverged: vec![] }
}

/// A forge with the repository, and the repository it was made from with its working tree.
async fn world() -> (World, PathBuf) {
    let world = World::new().await;
    let source = world.scratch.path().join("source");
    (world, source)
}

async fn refresh(world: &World, source: &std::path::Path) -> Refreshed {
    world.forge.refresh(repository_id(1), source.to_str().unwrap()).await.unwrap()
}

async fn head(world: &World, name: &str) -> Option<String> {
    let head = world.forge.branch_head(repository_id(1), &branch(name)).await.unwrap();
    head.map(|head| head.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_commits_branches_and_tags_of_the_source_arrive_and_a_second_look_changes_nothing() {
    let (world, source) = world().await;
    let commit = commit_file(&source, "new.txt", "new").await;
    git_ok(&source, &["branch", "topic"]).await;
    git_ok(&source, &["tag", "v1"]).await;
    git_ok(&source, &["branch", "greenroom/of-a-session"]).await;
    assert_eq!(refresh(&world, &source).await, moved(&["main", "topic"]));
    assert_eq!(head(&world, "main").await.as_deref(), Some(&*commit));
    assert_eq!(head(&world, "greenroom/of-a-session").await, None);
    assert_eq!(refresh(&world, &source).await, Refreshed::default());
    let shown = git_ok(world.scratch.path(), &["ls-remote", &world.server.url()]).await;
    assert!(shown.contains("refs/tags/v1") && !shown.contains("refs/greenroom/"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_branch_is_followed_only_while_nobody_moved_it_here() {
    let (world, source) = world().await;
    git_ok(&source, &["checkout", "-q", "-b", "topic"]).await;
    commit_file(&source, "one.txt", "one").await;
    refresh(&world, &source).await;
    git_ok(&source, &["reset", "-q", "--hard", "HEAD~1"]).await;
    let rewritten = commit_file(&source, "two.txt", "two").await;
    assert_eq!(refresh(&world, &source).await, moved(&["topic"]));
    assert_eq!(head(&world, "topic").await, Some(rewritten));

    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["checkout", "-q", "topic"]).await;
    let ours = commit_file(&tree, "ours.txt", "ours").await;
    git_ok(&tree, &["push", "-q", "origin", "topic"]).await;
    assert_eq!(refresh(&world, &source).await, Refreshed::default(), "further on here is no quarrel");
    commit_file(&source, "theirs.txt", "theirs").await;
    let quarrel = Refreshed { moved: vec![], diverged: vec![branch("topic")] };
    assert_eq!(refresh(&world, &source).await, quarrel);
    assert_eq!(refresh(&world, &source).await, quarrel, "and it is named as long as it lasts");
    assert_eq!(head(&world, "topic").await, Some(ours.clone()));
    git_ok(&source, &["fetch", "-q", &world.server.url(), "topic"]).await;
    git_ok(&source, &["merge", "-q", "--no-edit", "FETCH_HEAD"]).await;
    assert_eq!(refresh(&world, &source).await, moved(&["topic"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_deletes_or_is_deleted_here_stays_so_and_a_tag_never_moves() {
    let (world, source) = world().await;
    for name in ["gone-there", "gone-here"] {
        git_ok(&source, &["branch", name]).await;
    }
    git_ok(&source, &["tag", "v1"]).await;
    refresh(&world, &source).await;
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["push", "-q", "origin", ":gone-here"]).await;
    let tagged = git_ok(&tree, &["rev-parse", "v1"]).await;
    git_ok(&source, &["branch", "-D", "gone-there"]).await;
    commit_file(&source, "new.txt", "new").await;
    git_ok(&source, &["tag", "-f", "v1"]).await;
    assert_eq!(refresh(&world, &source).await, moved(&["main"]));
    assert!(head(&world, "gone-there").await.is_some() && head(&world, "gone-here").await.is_none());
    let again = world.clone_to("again").await;
    assert_eq!(git_ok(&again, &["rev-parse", "v1"]).await, tagged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_is_told_and_harms_nothing() {
    let (world, source) = world().await;
    let before = head(&world, "main").await;
    let gone = source.with_file_name("elsewhere");
    std::fs::rename(&source, &gone).unwrap();
    let refused = world.forge.refresh(repository_id(1), source.to_str().unwrap()).await.unwrap_err();
    assert_eq!(Problem::from(refused).code, ErrorCode::CloneFailed);
    let url = "http://ann:a-password-nobody-knows@127.0.0.1:9/x.git";
    let refused = Problem::from(world.forge.refresh(repository_id(1), url).await.unwrap_err());
    assert!(refused.message.starts_with("New commits could not be fetched from http://127.0.0.1:9/"));
    assert!(!format!("{refused:?}").contains("a-password-nobody-knows"));
    assert_eq!(head(&world, "main").await, before);
    assert_eq!(refresh(&world, &gone).await, Refreshed::default());
}
