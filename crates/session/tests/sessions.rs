//! A session against its real log: what is acknowledged is durable, commands run once, viewers miss nothing, and a
//! restart goes on where the process before stopped.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use async_trait::async_trait;
use greenroom_domain::event::{BlockKind, ToolOutcome, TurnOutcome};
use greenroom_domain::money::{Budget, Usage};
use greenroom_domain::{
    Asking, Author, BlockId, Command, Delivery, Durability, Entry, ErrorCode, Event, PersonId, RepositoryId,
    SessionId, SessionState, Via,
};
use greenroom_session::{
    Append, Effects, FileSessions, Live, LogError, Registry, SessionDirectory, SessionHandle, Subscription,
    Summary, SystemClock, TurnEnded, TurnHandle,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Hands started turns to the test instead of an agent.
#[derive(Debug)]
struct Hold {
    turns: mpsc::UnboundedSender<Started>,
}

type Started = (TurnHandle, SessionState, Option<Vec<Entry>>);

#[async_trait]
impl Effects for Hold {
    fn run_turn(&self, turn: TurnHandle, state: SessionState, conversation: Option<Vec<Entry>>) {
        self.turns.send((turn, state, conversation)).expect("the test listens");
    }
    fn publish(&self, _: Summary) {}
    async fn model_of(&self, _: &SessionState) -> Option<String> {
        Some("test".into())
    }
}

struct World {
    directory: tempfile::TempDir,
    registry: Registry,
    turns: Mutex<mpsc::UnboundedReceiver<Started>>,
}

impl World {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(directory: tempfile::TempDir) -> Self {
        let (sender, turns) = mpsc::unbounded_channel();
        let files = FileSessions::open(directory.path()).unwrap();
        let registry =
            Registry::new(Arc::new(files), Arc::new(Hold { turns: sender }), Arc::new(SystemClock));
        Self { directory, registry, turns: Mutex::new(turns) }
    }

    /// The next process over the same files. The one before is left as a kill leaves it: nothing is closed.
    fn restart(self) -> Self {
        Self::over(self.directory)
    }

    async fn create(&self) -> SessionHandle {
        self.registry.create(session(), vec![created()]).await.unwrap()
    }

    async fn started(&self) -> Started {
        let mut turns = self.turns.lock().await;
        tokio::time::timeout(Duration::from_secs(20), turns.recv()).await.expect("a turn starts").unwrap()
    }

    async fn turn(&self) -> (TurnHandle, SessionState) {
        let (turn, state, _) = self.started().await;
        (turn, state)
    }
}

fn session() -> SessionId {
    SessionId::from_parts(1, 1)
}

fn author(n: u128) -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, n),
        via: Via::Person,
        name: format!("Person {n}"),
        email: format!("p{n}@example.org"),
    }
}

fn asking(n: u128) -> Asking {
    Asking { author: author(n), is_admin: false, model: Some("test".into()) }
}

fn created() -> Event {
    Event::SessionCreated {
        repository: RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().unwrap(),
        title: "t".into(),
        author: author(1),
        branch: "greenroom/x".parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        model: None,
        budget: Budget::default(),
        image: None,
        forked_from: None,
    }
}

fn prompt(text: &str) -> Command {
    Command::Prompt { text: text.into(), delivery: Delivery::Queue }
}

async fn send(handle: &SessionHandle, key: &str, command: Command) -> greenroom_session::StoredReceipt {
    handle.command(key.parse().unwrap(), command, asking(1)).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Live {
    let frame =
        tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("a frame comes");
    frame.unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn a_repeated_key_answers_the_same_receipt_and_runs_nothing_twice() {
    let world = World::new();
    let handle = world.create().await;
    let first = send(&handle, "k", prompt("do it")).await;
    let second = send(&handle, "k", prompt("do it")).await;
    assert_eq!(first, second);
    assert_eq!(handle.state().await.unwrap().head_seq, first.seq.unwrap());
    let other = handle.command("k".parse().unwrap(), prompt("something else"), asking(1)).await;
    assert_eq!(other.unwrap_err().code, ErrorCode::KeyReused);
}

#[tokio::test]
async fn a_key_is_remembered_over_a_restart_and_a_refusal_too() {
    let world = World::new();
    let handle = world.create().await;
    let refused = send(&handle, "stop", Command::Stop { hold_queue: false }).await;
    assert_eq!(refused.problem.as_ref().unwrap().code, ErrorCode::NotRunning);
    let accepted = send(&handle, "k", prompt("do it")).await;
    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    assert_eq!(send(&handle, "k", prompt("do it")).await, accepted);
    assert_eq!(send(&handle, "stop", Command::Stop { hold_queue: false }).await, refused);
}

#[tokio::test]
async fn a_restart_in_mid_turn_says_what_was_cut_off_and_runs_the_turn_again() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    let block = BlockId::from_parts(1, 1);
    let started =
        Event::ToolStarted { turn: turn.turn(), call: "c".into(), name: "bash".into(), title: "Run".into() };
    let opened = Event::BlockOpened { turn: turn.turn(), block, kind: BlockKind::Text };
    turn.commit(vec![opened, started], Durability::Synced).await.unwrap();

    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    let (again, state) = world.turn().await;
    assert_eq!(again.turn(), turn.turn());
    assert!(state.running.unwrap().open_calls.is_empty());
    let entries = handle.entries(0, 100).await.unwrap();
    let has = |test: fn(&Event) -> bool| entries.iter().any(|entry| test(&entry.event));
    assert!(has(|event| matches!(event, Event::TurnInterrupted { open_calls, .. } if open_calls == &["c"])));
    assert!(has(|event| matches!(event, Event::BlockReset { .. })));
    assert!(has(|event| matches!(event, Event::ToolFinished { outcome: ToolOutcome::Unknown, .. })));
    assert!(handle.epoch() > 1, "the new owner has a higher epoch");
}

#[tokio::test]
async fn the_owner_before_is_fenced_by_the_one_that_took_the_session() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    let (old, _) = files.create(session(), 1, vec![created()]).await.unwrap();
    let new = files.acquire(session()).await.unwrap();
    let append = |epoch| Append {
        epoch,
        expected_head: 1,
        at_ms: 1,
        events: vec![created()],
        durability: Durability::Synced,
        receipt: None,
    };
    assert!(
        matches!(old.log.append(append(old.epoch)).await, Err(LogError::Fenced { owner }) if owner == new.epoch)
    );
    assert_eq!(new.log.append(append(new.epoch)).await.unwrap().len(), 1);
    let wrong_head = Append { expected_head: 7, ..append(new.epoch) };
    assert!(matches!(new.log.append(wrong_head).await, Err(LogError::Unknown { .. })));
}

#[tokio::test]
async fn many_sessions_are_made_at_once_more_than_are_made_in_advance() {
    let world = World::new();
    let ids: Vec<_> = (0..40).map(|number| SessionId::from_parts(7, number)).collect();
    let made = ids.iter().map(|id| world.registry.create(*id, vec![created()]));
    for handle in futures::future::join_all(made).await {
        assert_eq!(handle.unwrap().state().await.unwrap().head_seq, 1);
    }
    let world = world.restart();
    for id in ids {
        assert_eq!(world.registry.get(id).await.unwrap().state().await.unwrap().head_seq, 1);
    }
}

#[tokio::test]
async fn a_session_that_was_only_begun_is_none_and_one_that_was_made_stays() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    // As a kill leaves it between its place and its first entry.
    let spare = world.directory.path().join(".spare").read_dir().unwrap().next().unwrap().unwrap().path();
    std::fs::rename(spare, files.directory(session())).unwrap();
    assert!(matches!(files.acquire(session()).await, Err(LogError::Missing)));
    let (_, entries) = files.create(session(), 1, vec![created()]).await.unwrap();
    assert_eq!(entries.len(), 1);
    let again = files.create(session(), 2, vec![created()]).await;
    assert!(matches!(again, Err(LogError::Exists)), "{again:?}");
    let log = files.acquire(session()).await.unwrap().log;
    assert_eq!(log.read(0, 10).await.unwrap(), entries);
}

#[tokio::test]
async fn a_session_that_this_version_cannot_read_is_never_made_over() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    drop(files.create(session(), 1, vec![created()]).await.unwrap());
    let path = files.directory(session()).join("session.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = files.create(session(), 2, vec![created()]).await;
    assert!(matches!(refused, Err(LogError::Unavailable { .. })), "{refused:?}");
    let file = rusqlite::Connection::open(&path).unwrap();
    let entries: u64 = file.query_row("select count(*) from entries", [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn a_viewer_gets_every_entry_once_from_wherever_it_begins() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    for after in [0, 2, 99] {
        let mut viewer = handle.subscribe(after).await.unwrap();
        let head = viewer.head_seq;
        let mut seen = after.min(head);
        loop {
            match next(&mut viewer).await {
                Live::Entry(entry) => {
                    assert_eq!(entry.seq, seen + 1);
                    seen = entry.seq;
                }
                Live::CaughtUp { seq } => break assert_eq!((seq, seen), (head, head)),
                other => panic!("{other:?} during replay"),
            }
        }
        let block = BlockId::from_parts(1, u128::from(after));
        turn.commit(vec![Event::BlockReset { block }], Durability::Buffered).await.unwrap();
        turn.delta(block, 0, "live");
        assert!(matches!(next(&mut viewer).await, Live::Entry(entry) if entry.seq == head + 1));
        assert!(matches!(next(&mut viewer).await, Live::Delta { .. }));
    }
}

#[tokio::test]
async fn a_viewer_who_comes_while_a_tool_runs_is_told_what_it_printed_so_far() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    turn.output("c1", 0, "one ");
    let mut early = handle.subscribe(0).await.unwrap();
    turn.output("c1", 4, "two");
    let mut late = handle.subscribe(0).await.unwrap();
    turn.output("c1", 7, " three");
    for (viewer, expected) in
        [(&mut early, ["one ", "two", " three"].as_slice()), (&mut late, &["one two", " three"])]
    {
        while !matches!(next(viewer).await, Live::CaughtUp { .. }) {}
        for text in expected {
            assert!(matches!(next(viewer).await, Live::Output { text: told, .. } if &*told == *text));
        }
    }
    let finished = TurnOutcome::Completed;
    turn.finish(finished, Usage::default(), 1).await;
    let mut after = handle.subscribe(0).await.unwrap();
    while !matches!(next(&mut after).await, Live::CaughtUp { .. }) {}
    send(&handle, "2", prompt("two")).await;
    assert!(matches!(next(&mut after).await, Live::Entry(_)), "nothing of what the log has now");
}

#[tokio::test]
async fn a_viewer_that_is_too_slow_is_told_where_to_go_on() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    let mut viewer = handle.subscribe(0).await.unwrap();
    while !matches!(next(&mut viewer).await, Live::CaughtUp { .. }) {}
    for n in 0..5000 {
        turn.delta(BlockId::from_parts(1, 1), n, "x");
    }
    let head = handle.state().await.unwrap().head_seq;
    assert_eq!(next(&mut viewer).await, Live::Lagged { after_seq: head });
    assert_eq!(viewer.next().await.unwrap(), None);
}

#[tokio::test]
async fn waiting_prompts_run_in_order_and_stop_reaches_the_turn() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    send(&handle, "2", prompt("two")).await;
    let (first, _) = world.turn().await;
    send(&handle, "3", Command::Stop { hold_queue: false }).await;
    first.cancelled().cancelled().await;
    first.finish(TurnOutcome::Stopped, Usage::default(), 1).await;
    let (second, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "two");
    assert!(!second.cancelled().is_cancelled());
    assert_eq!(
        first.commit(vec![], Durability::Synced).await,
        Ok(()),
        "nothing to append is nothing to refuse"
    );
    let late =
        Event::BlockOpened { turn: first.turn(), block: BlockId::from_parts(1, 1), kind: BlockKind::Text };
    assert_eq!(first.commit(vec![late], Durability::Synced).await, Err(TurnEnded));
}

#[tokio::test]
async fn the_queue_is_answered_in_the_order_it_was_given_and_what_a_stop_held_waits_over_a_restart() {
    let world = World::new();
    let handle = world.create().await;
    for (key, text) in [("1", "one"), ("2", "two"), ("3", "three"), ("4", "now")] {
        send(&handle, key, prompt(text)).await;
    }
    let (first, _) = world.turn().await;
    let waiting =
        |state: &SessionState| -> Vec<_> { state.queue.iter().map(|q| (q.prompt, q.text.clone())).collect() };
    let before = waiting(&handle.state().await.unwrap());
    let ids: Vec<_> = before.iter().map(|(prompt, _)| *prompt).collect();
    send(&handle, "5", Command::MovePrompt { prompt: ids[1], before: Some(ids[0]) }).await;
    send(&handle, "6", Command::SetDelivery { prompt: ids[2], delivery: Delivery::Insert }).await;
    let other =
        handle.command("7".parse().unwrap(), Command::WithdrawPrompt { prompt: ids[0] }, asking(2)).await;
    assert_eq!(other.unwrap().problem.unwrap().code, ErrorCode::NotAllowed);
    let inserted = first.take_inserts().await;
    assert_eq!(inserted.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["now"]);
    send(&handle, "8", Command::Stop { hold_queue: true }).await;
    first.finish(TurnOutcome::Stopped, Usage::default(), 1).await;

    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    let state = handle.state().await.unwrap();
    assert!(state.running.is_none(), "what is held is not answered");
    assert_eq!(state.queue.iter().map(|q| q.text.as_str()).collect::<Vec<_>>(), ["three", "two"]);
    send(&handle, "9", Command::ReleaseQueue {}).await;
    let (second, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "three");
    second.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    let (_, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "two");
}

#[tokio::test]
async fn a_turn_is_handed_the_conversation_that_the_log_holds() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (first, _, conversation) = world.started().await;
    assert_eq!(conversation, Some(handle.conversation().await.unwrap()), "young: at hand, and the same");
    let text = |offset| Event::BlockText { block: BlockId::from_parts(1, 1), offset, text: "x".into() };
    first.commit((0..50).map(text).collect(), Durability::Buffered).await.unwrap();
    first.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    send(&handle, "2", prompt("two")).await;
    let (second, _, conversation) = world.started().await;
    assert_eq!(conversation, Some(handle.conversation().await.unwrap()), "streamed text is no part of it");
    let many = (0..200).map(|n| Event::BlockReset { block: BlockId::from_parts(1, n) });
    second.commit(many.collect(), Durability::Buffered).await.unwrap();
    second.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    send(&handle, "3", prompt("three")).await;
    assert_eq!(world.started().await.2, None, "grown: the log is asked");
}

#[tokio::test]
async fn a_removed_session_is_gone_with_its_files() {
    let world = World::new();
    world.create().await;
    world.registry.remove(session()).await.unwrap();
    world.registry.remove(session()).await.unwrap();
    assert_eq!(world.registry.get(session()).await.unwrap_err().code, ErrorCode::SessionUnknown);
    assert!(!world.directory.path().join(session().to_string()).exists());
}

#[tokio::test]
async fn a_session_that_was_never_acknowledged_does_not_exist() {
    let world = World::new();
    let directory = world.directory.path().join(session().to_string());
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("session.db"), b"").unwrap();
    assert_eq!(world.registry.get(session()).await.unwrap_err().code, ErrorCode::SessionUnknown);
}

#[tokio::test]
async fn a_log_that_begins_with_another_sessions_turns_runs_none_of_them_again() {
    let world = World::new();
    let turn = |n| greenroom_domain::TurnId::from_parts(1, n);
    let accepted = |n| Event::PromptAccepted {
        prompt: greenroom_domain::PromptId::from_parts(1, n),
        author: author(n),
        text: "go".into(),
        delivery: Delivery::Queue,
    };
    let started =
        |n| Event::TurnStarted { turn: turn(n), prompts: vec![greenroom_domain::PromptId::from_parts(1, n)] };
    let ended = Event::TurnFinished {
        turn: turn(1),
        outcome: TurnOutcome::Completed,
        usage: Usage::default(),
        duration_ms: 1,
    };
    let events = vec![created(), accepted(1), started(1), ended, accepted(2), started(2)];
    world.registry.create(session(), events).await.unwrap();
    let (running, state) = world.turn().await;
    assert_eq!((running.turn(), state.last_turn), (turn(2), Some(turn(1))));
    assert!(world.turns.lock().await.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_closed_registry_makes_nothing_more_in_the_directory() {
    let world = World::new();
    let spares = || world.directory.path().join(".spare").read_dir().unwrap().count();
    let before = spares();
    world.create().await;
    world.registry.close().await;
    // By then the spare that the session took would have been made again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(spares(), before - 1);
}
