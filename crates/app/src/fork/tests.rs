//! Which files a fork begins from, and that it waits for those that are on their way.

use super::*;
use crate::testing::{Bounds, World, until};
use greenroom_domain::SnapshotId;
use greenroom_domain::access::unknown_session;
use greenroom_domain::event::TurnOutcome;

fn turn(n: u128) -> TurnId {
    TurnId::from_parts(1, n)
}

fn kept(n: u128, of: u128, reason: SnapshotReason) -> SnapshotRef {
    SnapshotRef { snapshot: SnapshotId::from_parts(1, n), turn: Some(turn(of)), reason, at_ms: 1 }
}

#[test]
fn the_snapshot_of_a_turns_own_end_is_preferred_then_the_newest_that_holds_its_work() {
    let (one, two) = (kept(1, 1, SnapshotReason::Turn), kept(2, 1, SnapshotReason::Exit));
    let three = kept(3, 3, SnapshotReason::Turn);
    let all = [one, two, three];
    let turns = [(turn(1), true), (turn(2), false), (turn(3), true)];
    assert_eq!(files_after(&turns[..1], &all), Files::Snapshot(one));
    assert_eq!(files_after(&turns[..2], &all), Files::Snapshot(two));
    assert_eq!(files_after(&turns, &all), Files::Snapshot(three));
}

#[test]
fn work_whose_snapshot_was_dropped_is_gone_and_no_work_needs_none() {
    let old = kept(1, 1, SnapshotReason::Turn);
    assert_eq!(files_after(&[(turn(1), true), (turn(2), true)], &[old]), Files::Gone);
    assert_eq!(files_after(&[(turn(2), false)], &[old]), Files::Unchanged);
}

#[test]
fn a_fork_of_a_fork_is_called_a_fork_once() {
    assert_eq!(fork_title("Fix it"), "Fix it (fork)");
    assert_eq!(fork_title("Fix it (fork)"), "Fix it (fork)");
    assert_eq!(fork_title(&"x".repeat(200)).chars().count(), 80);
}

#[tokio::test]
async fn a_fork_waits_for_the_snapshot_of_a_turn_that_has_just_ended() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let ada = world.member("ada").await;
    let session = world.session(&ada, &row).await;
    world.use_sandbox(&ada, session).await;
    let handle = world.inner().sessions().get(session).await.unwrap();
    let track = world.inner().snapshots.track(session);
    let ending = track.begin_ending();
    let ended = turn(1);
    handle
        .record(vec![
            Event::TurnStarted { turn: ended, prompts: vec![] },
            Event::ToolStarted {
                turn: ended,
                call: "call".into(),
                name: "bash".into(),
                title: "true".into(),
            },
            Event::TurnFinished {
                turn: ended,
                outcome: TurnOutcome::Completed,
                usage: Default::default(),
                duration_ms: 1,
            },
        ])
        .await
        .unwrap();
    let asked = tokio::spawn({
        let (app, ada) = (world.app.clone(), ada.clone());
        let key: CommandId = "fork-000000000000000000000000000000001".parse().unwrap();
        let body = ForkSession { turn: Some(ended), title: None, prompt: None };
        async move { app.fork_session(&ada, &key, session, body).await }
    });
    until("the fork waits", async || asked.is_finished() || track.is_waited_for()).await;
    assert!(!asked.is_finished(), "{:?}", asked.await);
    let place = world.inner().new_place(session);
    let shelf = &world.inner().snapshots.shelf;
    std::fs::create_dir_all(shelf.path(place)).unwrap();
    let state = handle.state().await.unwrap();
    shelf.describe(place, &world.inner().description(session, &state, Some(ended)).unwrap()).unwrap();
    let taken = Event::SnapshotTaken {
        snapshot: place.snapshot,
        reason: SnapshotReason::Turn,
        turn: Some(ended),
        freeze_us: 1,
        duration_ms: 1,
    };
    handle.record(vec![taken]).await.unwrap();
    drop(ending);
    let made = asked.await.unwrap().unwrap();
    assert!(made.forked_from.unwrap().snapshot.is_some());
}

/// A turn that ended and changed nothing, so that the session can be forked. It never began, so that nothing runs it.
async fn end_a_turn(world: &World, session: SessionId) {
    let handle = world.inner().sessions().get(session).await.unwrap();
    let outcome = TurnOutcome::Completed;
    let ended = Event::TurnFinished { turn: turn(1), outcome, usage: Default::default(), duration_ms: 1 };
    handle.record(vec![ended]).await.unwrap();
}

#[tokio::test]
async fn a_repeated_key_does_not_bring_back_what_was_deleted() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let ada = world.member("ada").await;
    let create = || crate::testing::new_session(&row);
    let made_by: CommandId = "made".parse().unwrap();
    let session = world.app.create_session(&ada, &made_by, create()).await.unwrap().id;
    assert_eq!(world.app.create_session(&ada, &made_by, create()).await.unwrap().id, session);
    end_a_turn(&world, session).await;
    let body = || ForkSession { turn: Some(turn(1)), title: None, prompt: None };
    let forked_by: CommandId = "forked".parse().unwrap();
    let fork = world.app.fork_session(&ada, &forked_by, session, body()).await.unwrap().id;
    world.app.delete_session(&ada, fork).await.unwrap();
    let again = world.app.fork_session(&ada, &forked_by, session, body()).await;
    assert_eq!(again.unwrap_err(), unknown_session());
    world.app.delete_session(&ada, session).await.unwrap();
    let again = world.app.create_session(&ada, &made_by, create()).await;
    assert_eq!(again.unwrap_err(), unknown_session());
    assert!(!world.inner().has_log(session) && !world.inner().has_log(fork));
}

#[tokio::test]
async fn a_fork_that_is_refused_leaves_nothing_behind() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let (ada, ben) = (world.member("ada").await, world.member("ben").await);
    let session = world.session(&ada, &row).await;
    end_a_turn(&world, session).await;
    let close = greenroom_wire::SubmitCommand {
        key: "close".parse().unwrap(),
        command: Command::SetTeamAccess { access: greenroom_domain::TeamAccess::None },
    };
    world.app.submit_command(&ada, session, close).await.unwrap();
    let snapshots = &world.inner().snapshots;
    snapshots.track(session);
    let known = snapshots.known();
    let key: CommandId = "ben".parse().unwrap();
    let body = |turn| ForkSession { turn: Some(turn), title: None, prompt: None };
    let refused = world.app.fork_session(&ben, &key, session, body(turn(1))).await;
    assert_eq!(refused.unwrap_err(), unknown_session());
    let directory = &world.inner().directory;
    let scope = format!("fork-session/{}", ben.id);
    assert!(!directory.is_remembered(scope, "ben".into()).await.unwrap());
    assert_eq!(snapshots.known(), known);
    // Whoever may, and names a turn that is none.
    let refused = world.app.fork_session(&ada, &key, session, body(turn(9))).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::TurnUnknown);
    assert_eq!(snapshots.known(), known);
}
