//! A state that is read from a checkpoint and the entries after it is the state of the whole log; files of earlier
//! versions are brought to this one.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod world;

use greenroom_domain::event::{SandboxPhase, TurnOutcome};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Command, Delivery, Durability, Entry, ErrorCode, Event, Ids, PromptId, SessionId, SessionState, TurnId,
};
use greenroom_session::{
    Append, Checkpoint, FileSessions, Folded, LogError, SessionDirectory, StoredReceipt, Tidy,
};
use proptest::prelude::*;
use std::path::Path;
use world::{World, asking, created, prompt, session};

fn ids(n: u64) -> Ids {
    Ids { prompt: PromptId::from_parts(n, 1), turn: TurnId::from_parts(n, 2) }
}

/// What a session can be made to do, by number.
fn act(state: &SessionState, choice: u8, n: u64) -> Vec<Event> {
    let running = state.running.as_ref().map(|running| running.turn);
    let first = state.queue.first().map(|queued| queued.prompt);
    let command = |command| state.decide(&command, &asking(u128::from(n % 3)), ids(n)).unwrap_or_default();
    match (choice % 9, running, first) {
        (0, ..) => command(Command::Prompt {
            text: format!("prompt {n}"),
            delivery: Delivery::Queue,
            attachments: vec![],
        }),
        (1, ..) => command(Command::Prompt {
            text: format!("join {n}"),
            delivery: Delivery::Insert,
            attachments: vec![],
        }),
        (2, _, Some(prompt)) => command(Command::EditPrompt { prompt, text: format!("edited {n}") }),
        (3, _, Some(prompt)) => command(Command::WithdrawPrompt { prompt }),
        (4, ..) => command(Command::Stop { hold_queue: false }),
        (5, Some(turn), _) => {
            vec![Event::ToolStarted { turn, call: format!("c{n}"), name: "bash".into(), title: "Run".into() }]
        }
        (6, Some(turn), _) => {
            let finished = Event::TurnFinished {
                turn,
                outcome: TurnOutcome::Completed,
                usage: Usage::default(),
                duration_ms: n,
            };
            let mut after = state.clone();
            let _ = after.step(&entry(state.head_seq + 1, finished.clone()));
            [vec![finished], after.next_turn(ids(n).turn, Some("model"))].concat()
        }
        (7, ..) => {
            vec![Event::SandboxChanged {
                state: SandboxPhase::Ready,
                image: None,
                commit: None,
                problem: None,
            }]
        }
        (_, Some(_), _) => state.inserts(),
        _ => vec![Event::TitleChanged { title: format!("title {n}"), by: None }],
    }
}

fn entry(seq: u64, event: Event) -> Entry {
    Entry { seq, at_ms: i64::try_from(seq).unwrap(), epoch: 1, event }
}

fn log_of(choices: &[u8]) -> Vec<Entry> {
    let mut state = SessionState::default();
    let mut log = vec![];
    let mut append = |state: &mut SessionState, events: Vec<Event>| {
        for event in events {
            let entry = entry(state.head_seq + 1, event);
            let _ = state.step(&entry);
            log.push(entry);
        }
    };
    append(&mut state, vec![created()]);
    for (choice, n) in choices.iter().zip(1..) {
        let events = act(&state, *choice, n);
        append(&mut state, events);
    }
    log
}

fn replayed(mut folded: Folded, entries: &[Entry]) -> Folded {
    entries.iter().for_each(|entry| folded.step(entry));
    folded
}

proptest! {
    #[test]
    fn a_checkpoint_and_the_tail_lead_where_the_whole_log_does(
        choices in proptest::collection::vec(any::<u8>(), 0..80), cut in any::<proptest::sample::Index>(),
    ) {
        let log = log_of(&choices);
        let (before, after) = log.split_at(cut.index(log.len() + 1));
        let saved = Checkpoint::of(&replayed(Folded::default(), before));
        let folded = saved.folded().expect("it was just written");
        prop_assert_eq!(replayed(folded, after), replayed(Folded::default(), &log));
    }

    #[test]
    fn a_checkpoint_that_was_touched_anywhere_is_not_read(
        choices in proptest::collection::vec(any::<u8>(), 0..20), part in 0..4, byte in any::<proptest::sample::Index>(),
    ) {
        let whole = Checkpoint::of(&replayed(Folded::default(), &log_of(&choices)));
        let flip = |text: &str| {
            let at = byte.index(text.len());
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut touched = whole.clone();
        match part {
            0 => touched.seq += 1,
            1 => touched.version = flip(&whole.version),
            2 => touched.state = flip(&whole.state),
            _ => touched.digest[byte.index(32)] ^= 1,
        }
        prop_assert_eq!(touched.folded(), None);
    }
}

async fn files_with(directory: &Path, log: &[Entry]) -> FileSessions {
    let files = FileSessions::open(directory).unwrap();
    let events = log.iter().map(|entry| entry.event.clone()).collect();
    let (owned, entries) = files.create(session(), 1, events).await.unwrap();
    let checkpoint = Checkpoint::of(&replayed(Folded::default(), &entries));
    owned.log.save_checkpoint(owned.epoch, checkpoint, Tidy::Journal).await.unwrap();
    files
}

fn database(directory: &Path) -> rusqlite::Connection {
    let id: SessionId = session();
    rusqlite::Connection::open(directory.join(id.to_string()).join("session.db")).unwrap()
}

#[tokio::test]
async fn opening_reads_only_what_came_after_the_checkpoint() {
    let world = World::new();
    drop(files_with(world.directory.path(), &log_of(&[0, 6, 0, 6])).await);
    let before = world.registry.get(session()).await.unwrap().state().await.unwrap();
    let world = world.restart();
    // Who reads the whole log stumbles over it.
    database(world.directory.path())
        .execute("update entries set body = 'unreadable' where seq = 1", [])
        .unwrap();
    let handle = world.registry.get(session()).await.unwrap();
    assert_eq!(handle.state().await.unwrap(), before);
}

#[tokio::test]
async fn a_checkpoint_of_no_use_is_made_up_for_by_the_log() {
    for damage in [
        "update checkpoint set version = 'another'",
        "update checkpoint set state = '{'",
        "update checkpoint set state = x'00ff', digest = 7",
        "update checkpoint set seq = 99",
        "delete from checkpoint",
    ] {
        let world = World::new();
        let log = log_of(&[0, 6, 7, 0, 6]);
        drop(files_with(world.directory.path(), &log).await);
        database(world.directory.path()).execute(damage, []).unwrap();
        let state = world.registry.get(session()).await.unwrap().state().await.unwrap();
        assert_eq!(state.head_seq, log.len() as u64, "{damage}");
        assert_eq!(state.turns, 2, "{damage}");
    }
}

#[tokio::test]
async fn a_checkpoint_of_a_fenced_owner_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = FileSessions::open(directory.path()).unwrap();
    let (old, entries) = files.create(session(), 1, vec![created()]).await.unwrap();
    let new = files.acquire(session()).await.unwrap();
    let checkpoint = Checkpoint::of(&replayed(Folded::default(), &entries));
    let saved = old.log.save_checkpoint(old.epoch, checkpoint, Tidy::No).await;
    assert!(matches!(saved, Err(LogError::Fenced { owner }) if owner == new.epoch), "{saved:?}");
    assert_eq!(new.log.checkpoint().await.unwrap(), None);
}

/// As version 1 of the file left it: written with that version's own words.
fn version_1(directory: &Path) {
    let place = directory.join(session().to_string());
    std::fs::create_dir_all(&place).unwrap();
    let file = rusqlite::Connection::open(place.join("session.db")).unwrap();
    file.execute_batch(include_str!("version-1.sql")).unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_is_migrated_with_all_that_it_holds() {
    let world = World::new();
    version_1(world.directory.path());
    let handle = world.registry.get(session()).await.unwrap();
    let state = handle.state().await.unwrap();
    assert_eq!((state.head_seq, state.title.as_str(), state.turns), (4, "Written by version 1", 1));
    let again = handle.command("first".parse().unwrap(), prompt("another"), asking(1)).await;
    assert_eq!(again.unwrap_err().code, ErrorCode::KeyReused, "its receipts are known");
}

#[tokio::test]
async fn a_migration_that_was_cut_off_is_done_by_the_next_opening() {
    let world = World::new();
    version_1(world.directory.path());
    // The step's own words, but the version that goes with them was not committed.
    let mut file = database(world.directory.path());
    let cut_off = file.transaction().unwrap();
    cut_off
        .execute_batch("create table checkpoint (id integer primary key); pragma user_version = 2")
        .unwrap();
    drop(cut_off);
    let version: i64 = file.query_row("pragma user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1, "a step and its version are one");
    drop(file);
    let handle = world.registry.get(session()).await.unwrap();
    assert_eq!(handle.state().await.unwrap().head_seq, 4);
    let version: i64 =
        database(world.directory.path()).query_row("pragma user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn the_oldest_receipts_are_forgotten_beyond_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let files = FileSessions::open(directory.path()).unwrap();
    let (owned, _) = files.create(session(), 1, vec![created()]).await.unwrap();
    // As if as many had been given as are kept.
    database(directory.path())
        .execute_batch(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
             insert into receipts (key, digest) select 'k' || i, zeroblob(32) from n",
        )
        .unwrap();
    let receipt = StoredReceipt { key: "newest".into(), digest: [0; 32], seq: None, problem: None };
    let append = Append {
        epoch: owned.epoch,
        expected_head: 1,
        at_ms: 1,
        events: vec![],
        durability: Durability::Buffered,
        receipt: Some(receipt),
    };
    owned.log.append(append).await.unwrap();
    assert!(owned.log.receipt("newest").await.unwrap().is_some());
    assert!(owned.log.receipt("k2").await.unwrap().is_some());
    assert!(owned.log.receipt("k1").await.unwrap().is_none());
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_as_it_is() {
    let world = World::new();
    drop(files_with(world.directory.path(), &log_of(&[])).await);
    database(world.directory.path()).pragma_update(None, "user_version", 3).unwrap();
    let refused = world.registry.get(session()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionTooNew, "{refused}");
    let (version, epoch): (i64, i64) = database(world.directory.path())
        .query_row(
            "select (select user_version from pragma_user_version), (select value from meta)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!((version, epoch), (3, 1));
}

/// The file was open when it was moved into place.
#[tokio::test]
async fn a_long_journal_is_folded_into_the_file_beside_which_it_is_and_others_read_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let files = FileSessions::open(directory.path()).unwrap();
    let log = log_of(&[0, 6, 0, 6]);
    let events: Vec<Event> = log.iter().map(|entry| entry.event.clone()).collect();
    let (owned, mut entries) = files.create(session(), 1, events).await.unwrap();
    let folder = directory.path().join(session().to_string());
    let journal = || std::fs::metadata(folder.join("session.db-wal")).unwrap().len();
    let title = |length: usize| Event::TitleChanged { title: "x".repeat(length), by: None };
    for length in [64 * 1024, 64 * 1024, 64 * 1024, 64 * 1024, 1] {
        let append = Append {
            epoch: owned.epoch,
            expected_head: entries.len() as u64,
            at_ms: 1,
            events: vec![title(length)],
            durability: Durability::Synced,
            receipt: None,
        };
        entries.extend(owned.log.append(append).await.unwrap());
        assert_eq!(files.head_seq(session()).await.unwrap(), entries.len() as u64, "another reader sees it");
    }
    assert!(journal() > 256 * 1024, "it lies in the session's own directory");
    let checkpoint = Checkpoint::of(&replayed(Folded::default(), &entries));
    owned.log.save_checkpoint(owned.epoch, checkpoint, Tidy::Journal).await.unwrap();
    assert!(journal() < 128 * 1024, "{}", journal());
    drop(owned);
    let again = files.acquire(session()).await.unwrap();
    assert_eq!(again.log.read(0, 100).await.unwrap(), entries);
}
