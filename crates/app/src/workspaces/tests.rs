//! How a session's sandbox ends: once, told by one, and the next one waits for it.

use super::*;
use crate::testing::{Bounds, World, until};

/// What the log says of its sandboxes' ends.
async fn ends(world: &World, session: SessionId) -> Vec<SandboxPhase> {
    let log = world.log(session).await;
    let end = |event: &Event| match event {
        Event::SandboxChanged { state: state @ (SandboxPhase::Stopped | SandboxPhase::Lost), .. } => {
            Some(*state)
        }
        _ => None,
    };
    log.iter().filter_map(|entry| end(&entry.event)).collect()
}

async fn with_sandbox(world: &World) -> (SessionHandle, u64) {
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, session).await;
    let handle = world.inner().sessions().get(session).await.unwrap();
    let generation = world.inner().workspaces.with(|entries| entries[&session].generation);
    (handle, generation)
}

#[tokio::test]
async fn a_sandbox_that_is_ended_is_not_told_as_lost() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, _) = with_sandbox(&world).await;
    world.inner().end_sandbox(&handle, Ending::Parked, "it is a test").await;
    // Whoever watched its end has seen it once the next one can be had.
    world.use_sandbox(&world.admin, handle.id()).await;
    assert_eq!(ends(&world, handle.id()).await, [SandboxPhase::Stopped]);
}

#[tokio::test]
async fn a_sandbox_that_ends_by_itself_is_lost_and_whoever_ends_it_then_waits_for_its_files() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, _) = with_sandbox(&world).await;
    world.sandboxes.lose(&handle.id().to_string()).await;
    until("it is noticed", async || !ends(&world, handle.id()).await.is_empty()).await;
    world.inner().end_sandbox(&handle, Ending::Deleted, "it is a test").await;
    assert_eq!(ends(&world, handle.id()).await, [SandboxPhase::Lost]);
}

#[tokio::test]
async fn of_two_who_see_an_end_one_has_it_and_the_others_wait_for_that_one() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, generation) = with_sandbox(&world).await;
    let workspaces = &world.inner().workspaces;
    let (_entry, guard) = workspaces.end(handle.id(), generation).expect("the first has it");
    assert!(workspaces.end(handle.id(), generation).is_none());
    // The second did not replace what the next sandbox waits for.
    let mut free = std::pin::pin!(workspaces.wait_for_the_last_one(handle.id()));
    assert!(futures::poll!(&mut free).is_pending());
    let mut next = std::pin::pin!(world.use_sandbox(&world.admin, handle.id()));
    assert!(futures::poll!(&mut next).is_pending());
    drop(guard);
    free.await;
    next.await;
}

#[tokio::test]
async fn a_shutdown_loses_no_sandbox() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, _) = with_sandbox(&world).await;
    world.app.shutdown().await;
    assert_eq!(world.inner().workspaces.count(), 0);
    assert_eq!(ends(&world, handle.id()).await, []);
}

/// How many sandboxes there are, and how many have a place.
async fn counts(world: &World) -> (usize, usize) {
    let alive = greenroom_sandbox::SandboxProvider::list(world.sandboxes.as_ref()).await.unwrap();
    (alive.len(), world.inner().workspaces.count())
}

#[tokio::test]
async fn a_sandbox_that_came_while_its_session_was_deleted_ends_with_it() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, _) = with_sandbox(&world).await;
    let workspace = world.inner().storage.workspace(&handle.id().to_string());
    assert!(workspace.exists());
    // As when a call of its turn began it after the deletion had ended the one before.
    world.inner().erase(handle.id()).await.unwrap();
    assert_eq!(counts(&world).await, (0, 0));
    assert!(!workspace.exists());
}

#[tokio::test]
async fn a_deletion_and_a_call_that_begins_a_sandbox_meanwhile_do_not_wait_for_each_other() {
    let world = World::start(Bounds::without_pool()).await;
    let (handle, _) = with_sandbox(&world).await;
    let track = world.inner().snapshots.track(handle.id());
    let copying = track.turn.lock().await;
    let mut deletion = std::pin::pin!(world.app.delete_session(&world.admin, handle.id()));
    until("the first sandbox is ended", async || {
        assert!(futures::poll!(&mut deletion).is_pending(), "it waits for the copy");
        counts(&world).await == (0, 0)
    })
    .await;
    let mut second = std::pin::pin!(world.inner().ensure_sandbox(&handle));
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(counts(&world).await, (0, 1));
    drop(copying);
    // It gets one for a moment, or is told that there is no such session.
    let (deleted, _second) = tokio::join!(deletion, second);
    deleted.unwrap();
    until("nothing is left of it", async || counts(&world).await == (0, 0)).await;
    assert!(!world.inner().storage.workspace(&handle.id().to_string()).exists());
}

#[tokio::test]
async fn what_a_session_that_is_gone_left_behind_gives_its_place_back() {
    let world = World::start(Bounds { max_sandboxes: 1, ..Bounds::without_pool() }).await;
    let (handle, _) = with_sandbox(&world).await;
    world.inner().sessions().remove(handle.id()).await.unwrap();
    let row = world.inner().repository_row(&"sample".parse().unwrap()).await.unwrap();
    let next = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, next).await;
    assert_eq!(counts(&world).await, (1, 1));
    world.inner().sessions().remove(next).await.unwrap();
    world.inner().end_idle(Instant::now() + Duration::from_secs(3600)).await;
    assert_eq!(counts(&world).await, (0, 0));
}
