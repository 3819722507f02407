//! A restore over a directory that knows more than the logs, and one that is cut off.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::create::{Wanted, create};
use greenroom_directory::{
    Directory, Fact, Onlooker, Part, PartKind, Projected, Projection, ReadRow, SearchQuery, SessionRow,
    SessionStatus, StatisticsQuery, What,
};
use greenroom_domain::money::Usage;
use greenroom_domain::statistics::{Figures, StatisticsBy};
use greenroom_domain::{Consumer, Person, PersonId, RepositoryId, Role, SessionId};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

const LOGGED: u64 = 3;

thread_local! {
    /// Files that are still copied before the process dies.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Nothing that follows is done, as when a process is killed.
pub(super) fn die_where_told() {
    match LEFT.get() {
        Some(0) => panic!("killed"),
        left => LEFT.set(left.map(|left| left - 1)),
    }
}

fn session() -> SessionId {
    SessionId::from_parts(1, 1)
}

fn ada() -> PersonId {
    PersonId::from_parts(1, 1)
}

fn row(head_seq: u64) -> SessionRow {
    SessionRow {
        id: session(),
        repository: RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().unwrap(),
        title: "A title".into(),
        status: SessionStatus::Idle,
        created_by: ada(),
        created_by_name: "Ada".into(),
        branch: "greenroom/x".parse().unwrap(),
        model: None,
        queued_prompts: 0,
        usage: Usage::default(),
        change: None,
        news_seq: 1,
        head_seq,
        created_at_ms: 1,
        updated_at_ms: 9,
        team_access: Default::default(),
        participants: vec![],
        is_archived: false,
        open_asks: 0,
        parent: None,
    }
}

/// What a log says to the directory whose prompts these are, one entry each.
fn projection(prompts: &[&str], after: u64) -> Projection {
    let numbered = || prompts.iter().zip(1u64..).filter(|(_, seq)| *seq > after);
    let fact = |(prompt, seq): (&&str, u64)| Fact {
        seq,
        at_ms: 10,
        what: What::Prompted { prompt: (*prompt).to_owned(), by: ada() },
    };
    let part = |(prompt, seq): (&&str, u64)| Part::Put {
        kind: PartKind::Prompt,
        subject: (*prompt).to_owned(),
        seq,
        text: (*prompt).to_owned(),
    };
    let upto = prompts.len() as u64;
    let (facts, parts) = (numbered().map(fact).collect(), numbered().map(part).collect());
    Projection { row: row(upto), after, upto, facts, parts, unconcerned: vec![] }
}

async fn known(data: &Path) -> Directory {
    Directory::open(&data.join("greenroom.db")).await.unwrap()
}

async fn figures(directory: &Directory) -> Figures {
    let query = StatisticsQuery {
        from_ms: 0,
        until_ms: 100,
        repository: None,
        person: None,
        by: StatisticsBy::Day,
        onlooker: Onlooker::All,
    };
    directory.statistics(query).await.unwrap().totals
}

async fn is_found(directory: &Directory, word: &str) -> bool {
    let onlooker = Onlooker::All;
    let search = SearchQuery { onlooker, words: vec![word.to_owned()], repository: None };
    !directory.search(search).await.unwrap().is_empty()
}

/// A data directory whose log ends at `LOGGED`, and whose directory has seen three entries more.
async fn data_ahead(data: &Path) {
    let below = data.join("sessions").join(session().to_string());
    std::fs::create_dir_all(&below).unwrap();
    let log = Connection::open(below.join("session.db")).unwrap();
    log.execute_batch("CREATE TABLE entries (seq INTEGER PRIMARY KEY)").unwrap();
    for seq in 1..=LOGGED {
        log.execute("INSERT INTO entries VALUES (?)", [i64::try_from(seq).unwrap()]).unwrap();
    }
    let directory = known(data).await;
    let person = Person {
        id: ada(),
        login: "ada".parse().unwrap(),
        name: "Ada".into(),
        email: "ada@example.org".into(),
        role: Role::Member,
    };
    directory.add_person(person, 1).await.unwrap();
    let seen = projection(&["one", "two", "three", "lost", "gone", "vanished"], 0);
    assert_eq!(directory.project(seen).await.unwrap(), Projected::Done);
    directory.move_cursor(session(), Consumer::Collector, 6).await.unwrap();
    directory.put_reads(vec![ReadRow { person: ada(), session: session(), seq: 6 }]).await.unwrap();
}

fn backup_of(data: &Path, to: &Path) -> PathBuf {
    create(&Wanted { data, to, with_key: false, version: "test" }).unwrap().path
}

#[tokio::test]
async fn what_the_directory_took_from_entries_that_are_gone_is_taken_anew() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    data_ahead(&data).await;
    let backup = backup_of(&data, &place.path().join("backups"));
    let restored = place.path().join("restored");
    restore(&backup, &restored, None).unwrap();

    let directory = known(&restored).await;
    assert_eq!(
        directory.cursor(session(), Consumer::Directory).await.unwrap(),
        0,
        "from the log's beginning"
    );
    assert_eq!(directory.cursor(session(), Consumer::Collector).await.unwrap(), LOGGED);
    assert_eq!(directory.read_position(ada(), session()).await.unwrap(), Some(LOGGED));
    assert_eq!(directory.owed().await.unwrap(), [(session(), Consumer::Forge)]);
    // The session goes on otherwise.
    let prompts = ["one", "two", "three", "other"];
    directory.project(projection(&prompts, 0)).await.unwrap();
    let of_the_log = place.path().join("of_the_log");
    std::fs::create_dir(&of_the_log).unwrap();
    let of_the_log = known(&of_the_log).await;
    of_the_log.project(projection(&prompts, 0)).await.unwrap();
    assert_eq!(figures(&directory).await, figures(&of_the_log).await);
    assert_eq!(figures(&directory).await.prompts, 4);
    assert!(is_found(&directory, "other").await);
    assert!(!is_found(&directory, "vanished").await);
}

#[tokio::test]
async fn a_restore_that_is_cut_off_leaves_no_data_directory_and_the_next_one_is_whole() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    data_ahead(&data).await;
    let backup = backup_of(&data, &place.path().join("backups"));
    let count = Manifest::read(&backup).unwrap().files.len();
    assert!(count >= 2);
    for copied in 0..count {
        let restored = place.path().join(format!("restored-{copied}"));
        // As somebody made it for the server.
        std::fs::create_dir(&restored).unwrap();
        LEFT.set(Some(copied));
        catch_unwind(AssertUnwindSafe(|| restore(&backup, &restored, None))).unwrap_err();
        LEFT.set(None);
        assert_eq!(std::fs::read_dir(&restored).unwrap().count(), 0, "after {copied} files");
        restore(&backup, &restored, None).unwrap();
        assert_eq!(files::walk(&restored, "").unwrap().len(), count);
        assert!(!beside(&restored).unwrap().exists());
        assert!(matches!(restore(&backup, &restored, None), Err(Error::NotEmpty { .. })));
    }
}

#[test]
fn a_log_that_cannot_be_read_is_no_session_that_was_only_begun() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("session.db");
    let database = Connection::open(&log).unwrap();
    assert!(!crate::create::has_log(&log).unwrap(), "begun");
    database.execute_batch("CREATE TABLE entries (seq INTEGER PRIMARY KEY)").unwrap();
    assert!(crate::create::has_log(&log).unwrap());
    drop(database);
    std::fs::write(&log, "this is no database, and long enough to be seen as none".repeat(100)).unwrap();
    crate::create::has_log(&log).unwrap_err();
}
