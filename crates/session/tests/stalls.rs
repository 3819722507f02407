//! A log that takes its time: nothing is taken for refused that is only late, and no turn is left without somebody who
//! runs it.

#![allow(clippy::unwrap_used)]

mod world;

use async_trait::async_trait;
use greenroom_domain::event::{BlockKind, TurnOutcome};
use greenroom_domain::money::Usage;
use greenroom_domain::{BlockId, Command, Delivery, Durability, Entry, ErrorCode, Event, Problem, SessionId};
use greenroom_session::{
    Append, Checkpoint, CommitLog, FileSessions, Hibernation, LogError, Ownership, SessionDirectory,
    StoredReceipt, Tidy, TurnEnded,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::{World, prompt, send};

/// Longer than anybody who asks the session has patience.
const STALL: Duration = Duration::from_secs(31);

/// Real files, whose next append takes its time.
#[derive(Debug)]
struct Slow {
    files: FileSessions,
    stalls: Arc<AtomicBool>,
}

#[derive(Debug)]
struct SlowLog {
    log: Arc<dyn CommitLog>,
    stalls: Arc<AtomicBool>,
}

impl Slow {
    fn slow(&self, ownership: Ownership) -> Ownership {
        let log = Arc::new(SlowLog { log: ownership.log, stalls: Arc::clone(&self.stalls) });
        Ownership { epoch: ownership.epoch, log }
    }
}

#[async_trait]
impl SessionDirectory for Slow {
    async fn create(
        &self,
        session: SessionId,
        at_ms: i64,
        events: Vec<Event>,
    ) -> Result<(Ownership, Vec<Entry>), LogError> {
        let (ownership, entries) = self.files.create(session, at_ms, events).await?;
        Ok((self.slow(ownership), entries))
    }
    async fn acquire(&self, session: SessionId) -> Result<Ownership, LogError> {
        Ok(self.slow(self.files.acquire(session).await?))
    }
    async fn head_seq(&self, session: SessionId) -> Result<u64, LogError> {
        self.files.head_seq(session).await
    }
    async fn remove(&self, session: SessionId) -> Result<(), LogError> {
        self.files.remove(session).await
    }
}

#[async_trait]
impl CommitLog for SlowLog {
    async fn append(&self, append: Append) -> Result<Vec<Entry>, LogError> {
        if self.stalls.swap(false, Ordering::Relaxed) {
            tokio::time::pause();
            tokio::time::sleep(STALL).await;
            tokio::time::resume();
        }
        self.log.append(append).await
    }
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(after, limit).await
    }
    async fn read_shown(&self, after: u64, text_after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read_shown(after, text_after, limit).await
    }
    async fn read_before(&self, before: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read_before(before, limit).await
    }
    async fn read_conversation(&self) -> Result<Vec<Entry>, LogError> {
        self.log.read_conversation().await
    }
    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        self.log.receipt(key).await
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>, LogError> {
        self.log.checkpoint().await
    }
    async fn save_checkpoint(&self, epoch: u64, checkpoint: Checkpoint, tidy: Tidy) -> Result<(), LogError> {
        self.log.save_checkpoint(epoch, checkpoint, tidy).await
    }
}

fn slow_world() -> (World, Arc<AtomicBool>) {
    let stalls = Arc::new(AtomicBool::new(false));
    let directory = tempfile::tempdir().unwrap();
    let files = FileSessions::open(directory.path()).unwrap();
    let slow = Slow { files, stalls: Arc::clone(&stalls) };
    (World::of(directory, Arc::new(slow), Hibernation::default()), stalls)
}

#[tokio::test]
async fn a_commit_that_is_late_is_not_refused() {
    let (world, stalls) = slow_world();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    let opened =
        Event::BlockOpened { turn: turn.turn(), block: BlockId::from_parts(1, 1), kind: BlockKind::Text };
    stalls.store(true, Ordering::Relaxed);
    assert_eq!(turn.commit(vec![opened], Durability::Synced).await, Ok(()));
    stalls.store(true, Ordering::Relaxed);
    turn.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    assert!(handle.state().await.unwrap().running.is_none());
}

#[tokio::test]
async fn a_prompt_that_joins_late_is_answered_by_the_turn() {
    let (world, stalls) = slow_world();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    let insert = Command::Prompt { text: "two".into(), delivery: Delivery::Insert, attachments: vec![] };
    send(&handle, "2", insert).await;
    stalls.store(true, Ordering::Relaxed);
    let inserted = turn.take_inserts().await.unwrap();
    assert_eq!(inserted.iter().map(|prompt| prompt.text.as_str()).collect::<Vec<_>>(), ["two"]);
    world.registry.close().await;
    assert_eq!(turn.take_inserts().await, Err(TurnEnded), "nobody knows: that is not none");
}

#[tokio::test]
async fn a_turn_that_is_given_up_is_begun_again_from_the_log_and_fails_in_the_end() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (first, _) = world.turn().await;
    let block = BlockId::from_parts(1, 1);
    let opened = Event::BlockOpened { turn: first.turn(), block, kind: BlockKind::Text };
    first.commit(vec![opened], Durability::Synced).await.unwrap();
    first.give_up().await;
    let (mut again, state) = world.turn().await;
    assert_eq!(again.turn(), first.turn());
    assert!(state.running.unwrap().open_blocks.is_empty(), "what was open is withdrawn");
    for _ in 0..2 {
        again.give_up().await;
        again = world.turn().await.0;
    }
    again.give_up().await;
    let state = handle.state().await.unwrap();
    assert!(state.running.is_none());
    assert!(matches!(state.last_outcome, Some(TurnOutcome::Failed { .. })), "{:?}", state.last_outcome);
    // One that has ended is nobody's to give up.
    send(&handle, "2", prompt("two")).await;
    let (second, _) = world.turn().await;
    again.give_up().await;
    send(&handle, "3", Command::Stop { hold_queue: false }).await;
    second.give_up().await;
    let state = handle.state().await.unwrap();
    assert_eq!(state.last_outcome, Some(TurnOutcome::Stopped));
}

#[tokio::test]
async fn a_turn_whose_runner_died_has_failed_at_once_and_the_next_prompt_is_answered() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (dead, _) = world.turn().await;
    let block = BlockId::from_parts(1, 1);
    let opened = Event::BlockOpened { turn: dead.turn(), block, kind: BlockKind::Text };
    dead.commit(vec![opened], Durability::Synced).await.unwrap();
    let insert = Command::Prompt { text: "two".into(), delivery: Delivery::Insert, attachments: vec![] };
    send(&handle, "2", insert).await;
    let problem = Problem::new(ErrorCode::Internal, "It died.");
    dead.fail(problem.clone()).await;
    let (next, state) = world.turn().await;
    assert_ne!(next.turn(), dead.turn(), "it is not begun again");
    assert_eq!(state.last_outcome, Some(TurnOutcome::Failed { problem }));
    let running = state.running.unwrap();
    assert_eq!(running.prompts.iter().map(|prompt| prompt.text.as_str()).collect::<Vec<_>>(), ["two"]);
    assert!(running.open_blocks.is_empty(), "what was open is withdrawn");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_actor_panics_in_mid_turn_goes_on_from_its_log_without_being_asked_but_not_for_ever()
{
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (first, _) = world.turn().await;
    let mut viewer = handle.subscribe(0).await.unwrap();
    let mut running = first.clone();
    for falls in 1..=4 {
        let panicked = handle.decide(|_| panic!("as tests do")).await.unwrap_err();
        assert_eq!(panicked.code, ErrorCode::ShuttingDown, "{panicked}");
        running.cancelled().cancelled().await;
        if falls < 4 {
            running = world.turn().await.0;
            assert_eq!(running.turn(), first.turn());
        }
    }
    while viewer.next().await.unwrap().is_some() {}
    assert!(world.turns.lock().await.try_recv().is_err(), "nobody began it a fourth time");
    // Whoever needs the session wakes it.
    assert!(handle.state().await.unwrap().running.is_some());
    world.turn().await.0.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    assert!(handle.state().await.unwrap().running.is_none());
}
