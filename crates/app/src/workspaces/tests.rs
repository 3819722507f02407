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
