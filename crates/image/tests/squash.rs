//! Long chains become one layer when they are published: nothing in it is different, and nothing runs again because of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;
mod support;

use greenroom_image::LayerKey;
use greenroom_image::store::LONG_CHAIN;
use machine::Machine;
use machine::tree::{self, SCRIPTS, listing, recipe};
use std::collections::HashSet;
use std::sync::Arc;
use support::{FakeProvider, Reply, Room};
use tokio::sync::mpsc;

fn writes_elsewhere(_: &str) -> Reply {
    Reply::Writes("made/file")
}

#[tokio::test]
async fn a_long_chain_is_published_as_one_layer_and_no_step_runs_again_for_it() {
    let text = recipe((0..LONG_CHAIN).map(|number| format!("run {number}")));
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1"), ("source", "1")];
    let room = Room::new(FakeProvider::new(writes_elsewhere), &files).await;
    let first = room.builder.build(room.request(), mpsc::channel(1024).0).await.unwrap();
    assert_eq!(first.layers.len(), 1);
    assert_eq!(room.provider.take_scripts().len(), LONG_CHAIN);

    // What a collection with this image alone leaves is enough for the next build.
    let live: HashSet<LayerKey> = first.keys().chain(first.build_keys()).cloned().collect();
    room.builder.layers.begin_collection().remove_unused(&live, i64::MAX).unwrap();
    room.push(&[("source", "2")]);
    let mut request = room.request();
    request.previous = Some(Arc::new(first.clone()));
    let second = room.builder.build(request, mpsc::channel(1024).0).await.unwrap();
    assert_eq!(room.provider.take_scripts(), [""; 0]);
    assert_eq!(second.layers.len(), 1);
    assert_ne!(second.layers, first.layers);
}

#[tokio::test]
async fn what_a_build_found_stays_while_it_runs_whatever_is_collected_meanwhile() {
    let text = recipe(["known", "slow"]);
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1"), ("source", "1")];
    let program = |script: &str| match script {
        "slow" => Reply::Hang("waits\n"),
        _ => Reply::Writes("made/file"),
    };
    let room = Room::new(FakeProvider::new(program), &files).await;
    let (progress, _events) = mpsc::channel(1024);
    let request = room.request();
    let cancel = request.cancel.clone();
    let builder = room.builder.clone();
    let build = tokio::spawn(async move { builder.build(request, progress).await });
    support::eventually("the slow step runs", || {
        room.provider.seen.lock().unwrap().scripts.iter().any(|script| script == "slow")
    })
    .await;
    for _ in 0..2 {
        room.builder.layers.begin_collection().remove_unused(&HashSet::new(), i64::MAX).unwrap();
    }
    assert_eq!(room.builder.layers.list().unwrap().len(), 2, "the clone and the first step");
    cancel.cancel();
    build.await.unwrap().unwrap_err();
    for _ in 0..2 {
        room.builder.layers.begin_collection().remove_unused(&HashSet::new(), i64::MAX).unwrap();
    }
    assert_eq!(room.builder.layers.list().unwrap().len(), 0, "it held on for nobody");
}

#[tokio::test]
async fn a_sandbox_sees_the_same_files_on_the_one_layer_as_on_the_chain() {
    let rest = (SCRIPTS.len()..LONG_CHAIN).map(|number| format!("echo {number} > t/late-{}", number % 3));
    let text = recipe(SCRIPTS.map(str::to_owned).into_iter().chain(rest));
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1")];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    let machine = Machine::new(&files).await;
    let image = machine.built(None).await;
    assert_eq!(image.layers.len(), 1, "{}", machine.log(&image));
    let mut chain = image.clone();
    let layer =
        |key: &LayerKey| greenroom_image::manifest::LayerRef { key: key.clone(), step: String::new() };
    chain.layers = image.parts.iter().map(|part| layer(&part.key)).collect();
    assert_eq!(chain.layers.len(), LONG_CHAIN + 2);
    let (of_chain, of_one) = (listing(&machine, &chain).await, listing(&machine, &image).await);
    tree::has_everything(&of_chain);
    assert_eq!(of_one, of_chain);
}
