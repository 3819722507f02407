//! What the pool promises, with a whole app: fair shares, nothing stale or unsynced, and sessions first.

use super::pressure::Pressure;
use super::*;
use crate::testing::{Bounds, World, until};
use greenroom_directory::RepositoryRow;
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{Event, SessionId};
use std::collections::BTreeSet;

/// As if so many sessions of it had begun just now.
fn demand(world: &World, row: &RepositoryRow, starts: usize) {
    let now_ms = world.inner().now_ms();
    world.inner().pool.with(|state| {
        let demand = state.demand.entry(row.id).or_default();
        (0..starts).for_each(|_| demand.started(now_ms, false));
    });
    world.inner().pool.wake();
}

impl Pool {
    pub(crate) fn reservations_of(&self, person: PersonId) -> usize {
        self.with(|state| state.entries.values().filter(|entry| entry.is_reserved_for(person)).count())
    }
}

/// What living entries are over.
fn images(world: &World) -> Vec<ImageId> {
    world.inner().pool.with(|state| state.entries.values().map(|entry| entry.image).collect())
}

async fn alive(world: &World) -> BTreeSet<String> {
    use greenroom_sandbox::SandboxProvider;
    world.sandboxes.list().await.unwrap().into_iter().collect()
}

/// Whether its sandbox was a warm one: those are announced by their readiness alone.
async fn was_warm(world: &World, session: SessionId) -> bool {
    let claims = |event: &Event| matches!(event, Event::SandboxChanged { state: SandboxPhase::Claiming, .. });
    !world.log(session).await.iter().any(|entry| claims(&entry.event))
}

#[tokio::test]
async fn a_busy_repository_takes_no_other_ones_place() {
    let world = World::start(Bounds::pool(1, 4, 4)).await;
    let (busy, calm, rare) = (
        world.add_repository("busy").await,
        world.add_repository("calm").await,
        world.add_repository("rare").await,
    );
    demand(&world, &busy, 20);
    world.wait_for_ready(&[&busy, &calm, &rare], &[2, 1, 1]).await;
    // The calm one is asked for more now: what is beyond an even share is shared anew.
    demand(&world, &calm, 40);
    world.wait_for_ready(&[&busy, &calm, &rare], &[1, 2, 1]).await;
    assert_eq!(alive(&world).await.len(), 4, "those beyond their share have ended");
}

#[tokio::test]
async fn a_new_image_replaces_what_stands_on_the_old_one() {
    let world = World::start(Bounds::pool(2, 2, 4)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[2]).await;
    let (before, old) = (alive(&world).await, images(&world));
    let new = world.publish_image(&row).await;
    until("all stand on the new image", async || {
        world.settled(&[&row]).await == [2] && images(&world) == [new, new]
    })
    .await;
    assert!(!old.contains(&new));
    until("the old ones have ended", async || alive(&world).await.is_disjoint(&before)).await;
}

#[tokio::test]
async fn an_entry_behind_its_branch_is_not_given_and_is_synced_again() {
    let world = World::start(Bounds::pool(1, 1, 4)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[1]).await;
    world.advance(&row);
    // At once, before the pool has heard of it.
    let session = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, session).await;
    let log = world.log(session).await;
    let stands_at = log.iter().rev().find_map(|entry| match &entry.event {
        Event::SandboxChanged { state: SandboxPhase::Ready, commit, .. } => commit.clone(),
        _ => None,
    });
    assert_eq!(stands_at, Some(head(&world, &row).await));
    // What is offered from now on stands there too.
    until("the entry follows", async || {
        let warm = world.inner().pool.with(|state| state.entries.values().next().and_then(Entry::warm));
        match warm {
            Some(warm) => *warm.commit() == head(&world, &row).await,
            None => false,
        }
    })
    .await;
    let next = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, next).await;
    assert!(was_warm(&world, next).await, "{:#?}", world.log(next).await);
}

async fn head(world: &World, row: &RepositoryRow) -> CommitHash {
    world.inner().forge.branch_head(row.id, &row.default_branch).await.unwrap().unwrap()
}

#[tokio::test]
async fn sessions_take_places_of_the_pool_and_it_keeps_out_of_theirs() {
    let world = World::start(Bounds { max_sandboxes: 3, ..Bounds::pool(2, 2, 8) }).await;
    let row = world.add_repository("sample").await;
    let other = world.add_repository("other").await;
    let places = async || world.inner().workspaces.count() + world.inner().pool.count();
    until("every place is taken", async || {
        places().await == 3 && world.settled(&[&row, &other]).await.len() == 2
    })
    .await;
    for _ in 0..3 {
        let session = world.session(&world.admin, &row).await;
        world.use_sandbox(&world.admin, session).await;
        assert!(places().await <= 3);
    }
    assert_eq!(world.inner().workspaces.count(), 3);
    until("the pool has given way", async || alive(&world).await.len() == 3).await;
    assert_eq!(world.inner().pool.count(), 0);
}

#[tokio::test]
async fn short_memory_stops_the_pool_and_less_makes_it_smaller_the_reserved_last() {
    let world = World::start(Bounds::pool(2, 2, 8)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[2]).await;
    let reservation =
        Reservation { person: world.admin.id, expires: Instant::now() + std::time::Duration::from_secs(600) };
    // The keeper of this app looks at the machine's own memory: it rests from here on.
    world.inner().pool.turn_off();
    let oldest = world.inner().pool.with(|state| {
        let (number, entry) = state.entries.iter_mut().next().unwrap();
        entry.reserved = Some(reservation);
        *number
    });
    let numbers = || world.inner().pool.with(|state| state.entries.keys().copied().collect::<Vec<_>>());
    // A reservation leaves room for another beside it, but none is begun.
    world.inner().tend_under(Pressure::High).await.unwrap();
    assert_eq!(numbers().len(), 2);
    world.inner().tend_under(Pressure::Severe).await.unwrap();
    assert_eq!(numbers(), [oldest], "one fewer at a time, the reserved one last");
    world.inner().tend_under(Pressure::Severe).await.unwrap();
    assert!(numbers().is_empty());
    world.inner().tend_under(Pressure::High).await.unwrap();
    assert!(numbers().is_empty());
    world.inner().tend_under(Pressure::None).await.unwrap();
    assert_eq!(numbers().len(), 2);
}

#[tokio::test]
async fn a_removed_repository_leaves_nothing_in_the_pool() {
    let world = World::start(Bounds::pool(1, 1, 4)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[1]).await;
    let admin = world.admin.clone();
    world.app.remove_repository(&admin, &row.name).await.unwrap();
    until("its sandbox has ended", async || alive(&world).await.is_empty()).await;
    assert_eq!(world.inner().pool.count(), 0);
}

#[tokio::test]
async fn one_that_dies_in_the_pool_is_replaced() {
    let world = World::start(Bounds::pool(1, 1, 4)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[1]).await;
    let before = alive(&world).await;
    world.sandboxes.lose("pool-").await;
    until("another is there", async || {
        world.settled(&[&row]).await == [1] && alive(&world).await.is_disjoint(&before)
    })
    .await;
}

#[tokio::test]
async fn what_a_warm_sandbox_was_refused_is_told_by_the_session_it_becomes() {
    use greenroom_broker::{Denial, DenyReason};
    let world = World::start(Bounds::pool(1, 1, 4)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[1]).await;
    let warm = world.inner().pool.with(|state| state.entries.values().next().and_then(Entry::warm)).unwrap();
    let denial = Denial {
        sandbox: warm.sandbox.id().to_owned(),
        owner: warm.fence.session.clone(),
        session: None,
        host: "telemetry.test".into(),
        port: 443,
        reason: DenyReason::NotAllowed,
    };
    world.app.record_denial(denial).await;
    let session = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, session).await;
    assert!(was_warm(&world, session).await);
    let told = Event::EgressDenied {
        host: "telemetry.test".into(),
        port: 443,
        reason: Some(DenyReason::NotAllowed),
    };
    let log = world.log(session).await;
    assert_eq!(log.iter().filter(|entry| entry.event == told).count(), 1, "{log:#?}");
}
