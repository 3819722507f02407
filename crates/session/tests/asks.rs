//! What a turn asks of people, over a real log: the first answer reaches the turn, whenever it comes, and nobody is waited
//! for beyond their time.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod world;

use greenroom_domain::state::AskEnd;
use greenroom_domain::{Answer, AskId, Asked, Command, Durability, ErrorCode, Event};
use greenroom_session::{Live, SessionHandle, Subscription, TurnEnded, TurnHandle};
use std::time::Duration;
use world::{World, next, prompt, send, session};

const LONG: Duration = Duration::from_secs(600);

fn leave() -> Asked {
    Asked::Permission {
        permission: "bash".into(),
        title: "Run `make`".into(),
        subjects: vec!["make".into()],
        grants: vec![],
    }
}

fn once(ask: AskId) -> Command {
    Command::Answer { ask, answer: Answer::Once {} }
}

async fn opened(entries: &mut Subscription) -> AskId {
    loop {
        if let Live::Entry(entry) = next(entries).await
            && let Event::AskOpened { ask, .. } = entry.event
        {
            return ask;
        }
    }
}

fn asking(turn: &TurnHandle, patience: Duration) -> tokio::task::JoinHandle<Result<AskEnd, TurnEnded>> {
    let turn = turn.clone();
    tokio::spawn(async move { turn.ask_people("c", leave(), patience).await })
}

async fn count_opened(handle: &SessionHandle) -> usize {
    let entries = handle.entries(0, 100).await.unwrap();
    entries.iter().filter(|entry| matches!(entry.event, Event::AskOpened { .. })).count()
}

fn is_once(end: &AskEnd) -> bool {
    matches!(end, AskEnd::Answered { answer: Answer::Once {}, .. })
}

#[tokio::test]
async fn the_first_answer_reaches_the_turn_and_a_second_is_refused() {
    let world = World::new();
    let handle = world.create().await;
    let mut entries = handle.subscribe(0).await.unwrap();
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    let waiting = asking(&turn, LONG);
    let ask = opened(&mut entries).await;
    let receipt = send(&handle, "a", once(ask)).await;
    assert_eq!(receipt.problem, None);
    assert!(is_once(&waiting.await.unwrap().unwrap()));
    assert_eq!(send(&handle, "a", once(ask)).await, receipt, "a repeated key is no second answer");
    let late = send(&handle, "b", once(ask)).await;
    assert_eq!(late.problem.unwrap().code, ErrorCode::AskClosed);
}

#[tokio::test]
async fn an_ask_outlives_the_server_whether_the_answer_comes_before_or_after() {
    for is_answered_before in [true, false] {
        let world = World::new();
        let handle = world.create().await;
        let mut entries = handle.subscribe(0).await.unwrap();
        send(&handle, "k", prompt("do it")).await;
        let (turn, _) = world.turn().await;
        let waiting = asking(&turn, LONG);
        let ask = opened(&mut entries).await;
        if is_answered_before {
            send(&handle, "a", once(ask)).await;
        }
        waiting.abort();
        drop(entries);

        let world = world.restart();
        let handle = world.registry.get(session()).await.unwrap();
        let (again, state) = world.turn().await;
        assert_eq!(again.turn(), turn.turn());
        assert_eq!(state.running.unwrap().asks.len(), 1);
        if !is_answered_before {
            // Nobody waits for it yet.
            assert_eq!(send(&handle, "a", once(ask)).await.problem, None);
        }
        assert!(is_once(&again.ask_people("c", leave(), LONG).await.unwrap()));
        assert_eq!(count_opened(&handle).await, 1);
    }
}

#[tokio::test]
async fn who_waits_again_after_a_restart_is_told_too() {
    let world = World::new();
    let handle = world.create().await;
    let mut entries = handle.subscribe(0).await.unwrap();
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    let waiting = asking(&turn, LONG);
    let ask = opened(&mut entries).await;
    let second = asking(&turn, LONG);
    // In the mailbox after the second one's wait.
    turn.commit(vec![], Durability::Synced).await.unwrap();
    send(&handle, "a", once(ask)).await;
    assert!(is_once(&waiting.await.unwrap().unwrap()) && is_once(&second.await.unwrap().unwrap()));
    assert_eq!(count_opened(&handle).await, 1);
}

#[tokio::test]
async fn nobody_is_waited_for_beyond_their_time() {
    let world = World::new();
    let handle = world.create().await;
    let mut entries = handle.subscribe(0).await.unwrap();
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    assert_eq!(turn.ask_people("c", leave(), Duration::from_millis(1)).await.unwrap(), AskEnd::Expired);
    let ask = opened(&mut entries).await;
    let late = send(&handle, "a", once(ask)).await;
    assert_eq!(late.problem.unwrap().code, ErrorCode::AskClosed);
}

#[tokio::test]
async fn a_stop_closes_the_ask_and_a_turn_that_ended_is_told_nothing() {
    let world = World::new();
    let handle = world.create().await;
    let mut entries = handle.subscribe(0).await.unwrap();
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    let waiting = asking(&turn, LONG);
    let ask = opened(&mut entries).await;
    send(&handle, "s", Command::Stop { hold_queue: false }).await;
    assert!(turn.cancelled().is_cancelled());
    assert_eq!(send(&handle, "a", once(ask)).await.problem.unwrap().code, ErrorCode::AskClosed);
    let outcome = greenroom_domain::event::TurnOutcome::Stopped;
    turn.finish(outcome, greenroom_domain::money::Usage::default(), 1).await;
    assert_eq!(waiting.await.unwrap(), Err(TurnEnded));
    assert_eq!(turn.ask_people("d", leave(), LONG).await, Err(TurnEnded));
}
