//! What bounds a person's reservations: how many, how often, how long.

use super::*;
use crate::testing::{Bounds, World, until};
use greenroom_directory::RepositoryRow;

async fn warm(world: &World, by: &Person, row: &RepositoryRow) -> WarmState {
    let view = world.app.warm(by, &row.name, WarmRepository { base_branch: None }).await.unwrap();
    let left_ms = view.expires_at_ms - world.inner().now_ms();
    assert!((1..=60_000).contains(&left_ms), "a reservation lasts a minute, not {left_ms} ms");
    view.state
}

async fn reserved(world: &World, row: &RepositoryRow) -> u64 {
    world.pool(&row.name).await.reserved
}

#[tokio::test]
async fn a_person_has_two_reservations_and_the_oldest_makes_room() {
    let world = World::start(Bounds::pool(0, 0, 8)).await;
    let rows = [
        world.add_repository("one").await,
        world.add_repository("two").await,
        world.add_repository("three").await,
    ];
    let (writer, other) = (world.member("writer").await, world.member("other").await);
    assert_eq!(warm(&world, &other, &rows[0]).await, WarmState::Preparing);
    for row in &rows {
        assert_ne!(warm(&world, &writer, row).await, WarmState::Unavailable);
    }
    until("the writer's first is given back, the other's is not", async || {
        [reserved(&world, &rows[0]).await, reserved(&world, &rows[1]).await, reserved(&world, &rows[2]).await]
            == [1, 1, 1]
    })
    .await;
    assert_eq!(world.inner().pool.reservations_of(writer.id), PER_PERSON);
}

#[tokio::test]
async fn calling_again_extends_the_same_reservation() {
    let world = World::start(Bounds::pool(0, 0, 8)).await;
    let row = world.add_repository("sample").await;
    world.sandboxes.set_open(false);
    for _ in 0..3 * RATE {
        assert_eq!(warm(&world, &world.admin, &row).await, WarmState::Preparing);
    }
    assert_eq!((world.inner().pool.count(), reserved(&world, &row).await), (1, 1));
    world.sandboxes.set_open(true);
    until("it is ready", async || warm(&world, &world.admin, &row).await == WarmState::Ready).await;
}

#[tokio::test]
async fn what_is_not_used_in_time_goes_back_and_others_may_have_it() {
    let world = World::start(Bounds::pool(1, 1, 8)).await;
    let row = world.add_repository("sample").await;
    world.wait_for_ready(&[&row], &[1]).await;
    let (late, other) = (world.member("late").await, world.member("other").await);
    let reserve = async |person: PersonId, expires: Instant| {
        let reservation = Reservation { person, expires };
        world.inner().warm_up(row.clone(), row.default_branch.clone(), reservation).await.unwrap()
    };
    assert_eq!(reserve(late.id, Instant::now()).await, WarmState::Ready);
    assert_eq!(reserved(&world, &row).await, 0, "it is over");
    assert_eq!(reserve(other.id, Instant::now() + LASTS).await, WarmState::Ready);
    assert_eq!(reserved(&world, &row).await, 1);
}

#[test]
fn a_person_reserves_twelve_times_a_minute_and_no_other_pays_for_it() {
    let (warm_ups, start) = (WarmUps::default(), Instant::now());
    let (busy, other) = (PersonId::from_parts(1, 1), PersonId::from_parts(1, 2));
    let second = |n: u64| start + Duration::from_secs(n);
    assert_eq!((0..50).filter(|n| warm_ups.may_reserve(busy, second(*n))).count(), RATE);
    assert!(warm_ups.may_reserve(other, second(50)));
    assert!(!warm_ups.may_reserve(busy, second(59)));
    assert!(warm_ups.may_reserve(busy, second(60)), "the first was a minute ago");
    assert!(!warm_ups.may_reserve(busy, second(60)));
}

#[tokio::test]
async fn past_the_rate_there_is_no_reservation_and_no_error() {
    let world = World::start(Bounds::pool(0, 0, 8)).await;
    let row = world.add_repository("sample").await;
    assert!((0..RATE).all(|_| world.inner().warm_ups.may_reserve(world.admin.id, Instant::now())));
    assert_eq!(warm(&world, &world.admin, &row).await, WarmState::Unavailable);
    assert_eq!(world.inner().pool.count(), 0);
}
