//! Sessions that leave memory: nobody notices, nothing is said twice or lost, and there is one owner at a time.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod world;

use greenroom_domain::event::TurnOutcome;
use greenroom_domain::money::Usage;
use greenroom_domain::{BlockId, Command, Durability, Event, SessionId};
use greenroom_session::{Hibernation, Live, SessionHandle};
use std::time::Duration;
use world::{World, asking, created, next, prompt, send, session};

/// Nothing leaves by itself for want of use soon, but only one session may stay.
fn one_at_a_time() -> Hibernation {
    Hibernation { idle: Duration::from_secs(3600), most_awake: 1 }
}

fn at_once() -> Hibernation {
    Hibernation { idle: Duration::from_millis(1), most_awake: 256 }
}

async fn until_asleep(world: &World) {
    let asleep = async {
        while world.registry.awake() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asleep).await.expect("every session leaves memory");
}

/// Open session files of this process.
fn open_files(world: &World) -> usize {
    let root = world.directory.path().canonicalize().unwrap();
    let opened = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = opened.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    paths.filter(|path| path.starts_with(&root) && !path.to_string_lossy().contains(".spare")).count()
}

fn title(text: &str) -> Vec<Event> {
    vec![Event::TitleChanged { title: text.into(), by: None }]
}

async fn caught_up(handle: &SessionHandle, after: u64) -> greenroom_session::Subscription {
    let mut viewer = handle.subscribe(after).await.unwrap();
    while !matches!(next(&mut viewer).await, Live::CaughtUp { .. }) {}
    viewer
}

#[tokio::test]
async fn an_idle_session_closes_its_file_and_the_next_message_wakes_it() {
    let world = World::with(at_once());
    let mut awake = world.registry.follow_awake();
    let handle = world.create().await;
    until_asleep(&world).await;
    assert!(awake.has_changed().unwrap() && *awake.borrow_and_update() == 0, "who follows it is told");
    let closed = async {
        while open_files(&world) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("its file is closed");
    let epoch = handle.epoch();
    let stopped = send(&handle, "k", Command::Stop { hold_queue: false }).await;
    assert!(stopped.problem.is_some(), "it answers: nothing runs");
    assert!(handle.epoch() > epoch, "the woken owner fences the one before");
    until_asleep(&world).await;
    assert_eq!(
        send(&handle, "k", Command::Stop { hold_queue: false }).await,
        stopped,
        "receipts outlive hibernation"
    );
}

#[tokio::test]
async fn a_viewer_gets_every_entry_once_however_often_the_session_sleeps() {
    let world = World::with(at_once());
    let handle = world.create().await;
    let mut viewer = caught_up(&handle, 0).await;
    for n in 2..8 {
        until_asleep(&world).await;
        handle.record(title(&format!("{n}"))).await.unwrap();
        match next(&mut viewer).await {
            Live::Entry(entry) => {
                assert_eq!((entry.seq, entry.event.clone()), (n, title(&format!("{n}"))[0].clone()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_has_all_there_is_follows_a_sleeping_session_without_waking_it() {
    let world = World::with(at_once());
    let handle = world.create().await;
    until_asleep(&world).await;
    let (again, epoch) = (world.registry.get(session()).await.unwrap(), handle.epoch());
    let mut viewer = caught_up(&again, 1).await;
    assert_eq!((world.registry.awake(), viewer.head_seq), (0, 1));
    again.record(title("two")).await.unwrap();
    assert!(matches!(next(&mut viewer).await, Live::Entry(entry) if entry.seq == 2));
    assert_eq!(handle.epoch(), epoch + 1);
    until_asleep(&world).await;
    let mut late = handle.subscribe(0).await.unwrap();
    for seq in 1..=2 {
        assert!(matches!(next(&mut late).await, Live::Entry(entry) if entry.seq == seq));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_while_another_leaves_leaves_too() {
    let world = World::with(at_once());
    let first = world.create().await;
    let second = world.registry.create(SessionId::from_parts(1, 2), vec![created()]).await.unwrap();
    until_asleep(&world).await;
    for n in 0..40 {
        first.record(title(&format!("{n}"))).await.unwrap();
        // Some of the waits end while the first is leaving.
        tokio::time::sleep(Duration::from_micros(100 * n)).await;
        second.record(title(&format!("{n}"))).await.unwrap();
        until_asleep(&world).await;
    }
}

#[tokio::test]
async fn a_session_with_a_running_turn_stays() {
    let world = World::with(at_once());
    let handle = world.create().await;
    let other = world.registry.create(SessionId::from_parts(1, 2), vec![created()]).await.unwrap();
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    let epoch = handle.epoch();
    let other_sleeps = async {
        while world.registry.awake() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), other_sleeps).await.expect("the idle one leaves");
    // Several more looks at the busy one.
    for n in 0..5 {
        other.record(title(&format!("{n}"))).await.unwrap();
        while world.registry.awake() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(handle.epoch(), epoch);
    let reset = Event::BlockReset { block: BlockId::from_parts(1, 1) };
    turn.commit(vec![reset], Durability::Synced).await.unwrap();
    turn.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    until_asleep(&world).await;
    assert!(handle.state().await.unwrap().running.is_none());
}

#[tokio::test]
async fn a_session_whose_queue_is_held_back_sleeps_and_still_holds_it_when_woken() {
    let world = World::with(at_once());
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    send(&handle, "2", prompt("two")).await;
    send(&handle, "3", Command::Stop { hold_queue: true }).await;
    turn.finish(TurnOutcome::Stopped, Usage::default(), 1).await;
    until_asleep(&world).await;
    let state = handle.state().await.unwrap();
    assert!(state.running.is_none() && state.queue.iter().all(|queued| queued.is_held), "{state:?}");
    send(&handle, "4", Command::ReleaseQueue {}).await;
    assert_eq!(world.turn().await.1.running.unwrap().prompts[0].text, "two");
}

#[tokio::test]
async fn beyond_the_bound_the_sessions_used_least_recently_leave() {
    let world = World::with(one_at_a_time());
    let mut handles = vec![];
    for n in 0..6 {
        handles.push(world.registry.create(SessionId::from_parts(1, n), vec![created()]).await.unwrap());
    }
    let bounded = async {
        while world.registry.awake() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), bounded).await.expect("the bound is kept");
    for handle in &handles {
        assert_eq!(handle.state().await.unwrap().head_seq, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_meet_a_session_on_its_way_to_sleep_are_carried_out_once() {
    let world = World::with(Hibernation { idle: Duration::from_micros(1), most_awake: 1 });
    let handle = world.create().await;
    let other = world.registry.create(SessionId::from_parts(1, 2), vec![created()]).await.unwrap();
    let mut viewer = caught_up(&handle, 0).await;
    let (writers, rounds) = (4, 40);
    let write = |writer: u64| {
        let (handle, other) = (handle.clone(), other.clone());
        async move {
            for round in 0..rounds {
                handle.record(title(&format!("{writer}-{round}"))).await.unwrap();
                // Pushes the first one out.
                other.state().await.unwrap();
                let key = format!("{writer}-{round}").parse().unwrap();
                handle.command(key, Command::Stop { hold_queue: false }, asking(1)).await.unwrap();
            }
        }
    };
    tokio::join!(write(0), write(1), write(2), write(3));
    let head = 1 + writers * rounds;
    let mut titles = std::collections::HashSet::new();
    for seq in 2..=head {
        match next(&mut viewer).await {
            Live::Entry(entry) if entry.seq == seq => {
                assert!(titles.insert(format!("{:?}", entry.event)), "{entry:?} twice");
            }
            other => panic!("{other:?} instead of entry {seq}"),
        }
    }
    let log = handle.entries(0, 1000).await.unwrap();
    assert_eq!(log.len() as u64, head);
    assert!(log.is_sorted_by_key(|entry| entry.epoch), "no owner writes after the next one took over");
    assert!(handle.epoch() > 2, "it slept in between");
}

#[tokio::test]
async fn a_removed_session_stays_gone_for_those_who_still_hold_it() {
    let world = World::with(at_once());
    let handle = world.create().await;
    let mut viewer = caught_up(&handle, 0).await;
    until_asleep(&world).await;
    world.registry.remove(session()).await.unwrap();
    assert!(viewer.next().await.unwrap().is_none());
    let refused = handle.state().await.unwrap_err();
    assert_eq!(refused.code, greenroom_domain::ErrorCode::SessionUnknown);
}
