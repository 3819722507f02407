//! Which layers are made again at which change, against a provider whose programs are closures.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use greenroom_image::ImageManifest;
use std::sync::Arc;
use support::{FakeProvider, Reply, Room};
use tokio::sync::mpsc;

const RECIPE: &str = r#"
[[steps]]
name = "tools"
run = "tools"
inputs = ["tools.txt"]
[[steps]]
name = "dependencies"
run = "install"
inputs = ["lock", "crates/*/manifest"]
[[steps]]
name = "schema"
run = "migrate"
inputs = ["schema/**"]
[[checks]]
name = "tests"
run = "test"
optional = true
"#;

const FILES: [(&str, &str); 5] = [
    (".greenroom/environment.toml", RECIPE),
    ("lock", "1"),
    ("tools.txt", "1"),
    ("schema/1.sql", "1"),
    ("src/main", "1"),
];

fn programs(script: &str) -> Reply {
    match script {
        "install" => Reply::Writes("node_modules/a/index.js"),
        "test" => Reply::Writes("target/debug/app"),
        _ => Reply::Exit("", 0),
    }
}

/// Builds on what is there and answers with what ran.
async fn rebuild(room: &Room, previous: &ImageManifest) -> (ImageManifest, Vec<String>) {
    room.provider.take_scripts();
    let mut request = room.request();
    request.previous = Some(Arc::new(previous.clone()));
    let manifest = room.builder.build(request, mpsc::channel(256).0).await.unwrap();
    (manifest, room.provider.take_scripts())
}

async fn room(program: fn(&str) -> Reply) -> (Room, ImageManifest) {
    let room = Room::new(FakeProvider::new(program), &FILES).await;
    let first = room.builder.build(room.request(), mpsc::channel(256).0).await.unwrap();
    (room, first)
}

fn reused(manifest: &ImageManifest) -> Vec<&str> {
    manifest.parts.iter().filter(|part| part.is_reused).map(|part| part.name.as_str()).collect()
}

#[tokio::test]
async fn a_changed_source_file_runs_no_step() {
    let (room, first) = room(programs).await;
    room.push(&[("src/main", "2"), ("docs/new", "1")]);
    let (second, ran) = rebuild(&room, &first).await;
    assert_eq!(ran, ["test"]);
    assert_eq!(reused(&second), ["tools", "dependencies", "schema"]);
    assert_ne!(second.commit, first.commit);
    // The clone grew by one layer, and the checks began from what they left before.
    assert_eq!(second.reuse.clone[..1], first.reuse.clone);
    assert_eq!((second.reuse.clone.len(), second.reuse.caches.len()), (2, 2));
    let names: Vec<&str> = second.layers.iter().map(|layer| layer.step.as_str()).collect();
    assert_eq!(names, ["clone", "clone", "tools", "dependencies", "schema", "checks", "checks", "finish"]);
}

#[tokio::test]
async fn a_changed_lockfile_runs_its_step_and_those_after_it() {
    let (room, first) = room(programs).await;
    room.push(&[("lock", "2")]);
    let (second, ran) = rebuild(&room, &first).await;
    assert_eq!(ran, ["install", "migrate", "test"]);
    assert_eq!(reused(&second), ["tools"]);
    room.push(&[("crates/a/manifest", "1")]);
    assert_eq!(
        rebuild(&room, &second).await.1,
        ["install", "migrate", "test"],
        "a new file that a glob finds"
    );
    room.push(&[("schema/2.sql", "1")]);
    assert_eq!(rebuild(&room, &second).await.1, ["migrate", "test"]);
    room.push(&[("lock", "1")]);
    let (_, ran) = rebuild(&room, &second).await;
    assert_eq!(ran, ["install", "migrate", "test"], "another glob's file is still there");
}

#[tokio::test]
async fn the_same_commit_runs_nothing_and_an_image_may_be_gone() {
    let (room, first) = room(programs).await;
    let (second, ran) = rebuild(&room, &first).await;
    assert!(ran.is_empty());
    assert_eq!(second.layers, first.layers);
    room.push(&[("src/main", "2")]);
    room.builder.layers.remove(&first.reuse.clone[0]).unwrap();
    let (third, ran) = rebuild(&room, &second).await;
    assert_eq!(third.reuse.clone.len(), 1, "a clone whose layer is gone is made anew");
    assert_eq!(ran, ["test"]);
}

#[tokio::test]
async fn a_step_that_changes_what_git_tracks_runs_at_each_commit_and_is_said_to() {
    let (room, first) = room(|script| match script {
        "install" => Reply::Writes("lock"),
        script => programs(script),
    })
    .await;
    assert!(room.log(first.id).contains("dependencies will run again at each commit: it changes lock"));
    room.push(&[("src/main", "2")]);
    let (second, ran) = rebuild(&room, &first).await;
    assert_eq!(ran, ["install", "migrate", "test"]);
    assert_eq!(reused(&second), ["tools"]);
    assert!(rebuild(&room, &second).await.1.is_empty(), "the same commit's layers are still good");
}

#[tokio::test]
async fn a_layer_is_not_put_over_a_commit_that_tracks_what_it_writes() {
    let (room, first) = room(programs).await;
    room.push(&[("node_modules/a/index.js", "now tracked")]);
    let (second, ran) = rebuild(&room, &first).await;
    assert_eq!(ran, ["install", "migrate", "test"]);
    room.push(&[("target/debug/app", "now tracked")]);
    let (third, _) = rebuild(&room, &second).await;
    assert!(third.reuse.caches.is_empty(), "leftovers that the commit tracks are not built upon");
}

#[tokio::test]
async fn a_step_that_writes_in_git_runs_at_each_commit() {
    let (room, first) = room(|script| match script {
        "tools" => Reply::Writes(".git/hooks/pre-commit"),
        script => programs(script),
    })
    .await;
    room.push(&[("src/main", "2")]);
    assert_eq!(rebuild(&room, &first).await.1, ["tools", "install", "migrate", "test"]);
}

#[tokio::test]
async fn chains_of_layers_are_bounded() {
    let (room, mut image) = room(programs).await;
    for number in 0..15 {
        room.push(&[("src/main", &format!("round {number}"))]);
        image = rebuild(&room, &image).await.0;
        assert!(image.reuse.clone.len() <= 12 && image.reuse.caches.len() <= 8);
    }
    assert!(image.layers.len() <= 30);
}
