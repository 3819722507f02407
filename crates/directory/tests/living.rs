//! Drafts and read positions, as every directory keeps them.

#![allow(clippy::unwrap_used)]

use greenroom_directory::{DRAFTS, Directory, DraftPlace, DraftRow, Error, ReadRow, ReaderRow, WrittenDraft};
use greenroom_domain::{Person, PersonId, RepositoryId, Role, SessionId};
use proptest::prelude::*;
use std::path::Path;

fn person(n: u128, login: &str) -> Person {
    Person {
        id: PersonId::from_parts(1, n),
        login: login.parse().unwrap(),
        name: format!("Person {n}"),
        email: format!("{login}@example.org"),
        role: Role::Member,
    }
}

fn session(n: u128) -> SessionId {
    SessionId::from_parts(1, n)
}

async fn open(folder: &Path) -> Directory {
    Directory::open(&folder.join("greenroom.db")).await.unwrap()
}

async fn with_two() -> (tempfile::TempDir, Directory, PersonId, PersonId) {
    let folder = tempfile::tempdir().unwrap();
    let directory = open(folder.path()).await;
    let (ada, ben) = (person(1, "ada"), person(2, "ben"));
    directory.add_person(ada.clone(), 1).await.unwrap();
    directory.add_person(ben.clone(), 1).await.unwrap();
    (folder, directory, ada.id, ben.id)
}

async fn write(
    directory: &Directory,
    person: PersonId,
    place: DraftPlace,
    text: &str,
    on: u64,
) -> WrittenDraft {
    directory.write_draft(person, place, text.into(), on, 5).await.unwrap()
}

#[tokio::test]
async fn a_draft_is_its_persons_and_its_places_and_survives_a_restart() {
    let (folder, directory, ada, ben) = with_two().await;
    let places = [
        DraftPlace::Session(session(1)),
        DraftPlace::Session(session(2)),
        DraftPlace::Repository(RepositoryId::from_parts(1, 1)),
        DraftPlace::New,
    ];
    for (number, place) in places.into_iter().enumerate() {
        write(&directory, ada, place, &format!("text {number}"), 0).await;
    }
    drop(directory);
    let directory = open(folder.path()).await;
    for (number, place) in places.into_iter().enumerate() {
        assert_eq!(directory.draft(ada, place).await.unwrap().text, format!("text {number}"));
        assert_eq!(directory.draft(ben, place).await.unwrap(), DraftRow::default());
    }
}

#[tokio::test]
async fn of_two_clients_that_type_on_one_revision_the_second_is_refused_and_told_what_is_kept() {
    let (_folder, directory, ada, _) = with_two().await;
    let first = write(&directory, ada, DraftPlace::New, "phone", 0).await;
    assert!(first.is_changed && !first.is_refused);
    let second = write(&directory, ada, DraftPlace::New, "laptop", 0).await;
    assert_eq!(second, WrittenDraft { now: first.now.clone(), is_refused: true, is_changed: false });
    // The same text again is an answer that was lost, not another's.
    let again = write(&directory, ada, DraftPlace::New, "phone", 0).await;
    assert_eq!(again, WrittenDraft { now: first.now.clone(), is_refused: false, is_changed: false });
    let third = write(&directory, ada, DraftPlace::New, "laptop", first.now.revision).await;
    assert!(third.is_changed && third.now.revision > first.now.revision);
}

#[tokio::test]
async fn a_draft_that_was_sent_is_emptied_unless_it_says_something_else_by_now() {
    let (_folder, directory, ada, ben) = with_two().await;
    let place = DraftPlace::Session(session(1));
    let typed = write(&directory, ada, place, "do it \n", 0).await.now;
    assert_eq!(directory.take_draft(ada, place, "do something else".into(), 6).await.unwrap(), None);
    assert_eq!(directory.take_draft(ben, place, "do it".into(), 6).await.unwrap(), None);
    let taken = directory.take_draft(ada, place, "do it".into(), 6).await.unwrap().unwrap();
    assert!(taken.text.is_empty() && taken.revision > typed.revision);
    // Who was away and typed on is told that it was sent.
    let late = write(&directory, ada, place, "do it twice", typed.revision).await;
    assert_eq!((late.is_refused, late.now), (true, taken));
}

#[tokio::test]
async fn a_person_has_a_bounded_number_of_drafts_and_emptying_one_makes_room() {
    let (_folder, directory, ada, ben) = with_two().await;
    let place = |n| DraftPlace::Session(session(n));
    let mut last = 0;
    for n in 0..u128::from(DRAFTS) {
        last = write(&directory, ada, place(n), "text", 0).await.now.revision;
    }
    let more = directory.write_draft(ada, DraftPlace::New, "one more".into(), 0, 5).await;
    assert_eq!(more.unwrap_err(), Error::TooManyDrafts);
    write(&directory, ben, DraftPlace::New, "another's", 0).await;
    write(&directory, ada, place(u128::from(DRAFTS) - 1), "", last).await;
    assert!(write(&directory, ada, DraftPlace::New, "one more", 0).await.is_changed);
}

#[tokio::test]
async fn a_read_position_never_goes_back_and_readers_are_listed_by_how_far_they_are() {
    let (folder, directory, ada, ben) = with_two().await;
    let read = |person, seq| ReadRow { person, session: session(1), seq };
    directory.put_reads(vec![read(ada, 7), read(ben, 9), read(ada, 3)]).await.unwrap();
    directory.put_reads(vec![read(ada, 5), read(PersonId::from_parts(9, 9), 5)]).await.unwrap();
    drop(directory);
    let directory = open(folder.path()).await;
    assert_eq!(directory.read_position(ada, session(1)).await.unwrap(), Some(7));
    assert_eq!(directory.read_position(ada, session(2)).await.unwrap(), None);
    let reader = |person, n: u64, seq| ReaderRow { person, name: format!("Person {n}"), seq };
    let (readers, count) = directory.readers(session(1), 50).await.unwrap();
    assert_eq!((readers, count), (vec![reader(ben, 2, 9), reader(ada, 1, 7)], 2));
    let (readers, count) = directory.readers(session(1), 1).await.unwrap();
    assert_eq!((readers.len(), count), (1, 2));
    assert_eq!(directory.read_positions(ada, 10).await.unwrap(), [(session(1), 7)]);
}

#[tokio::test]
async fn with_a_session_go_its_drafts_and_read_positions() {
    let (_folder, directory, ada, _) = with_two().await;
    for n in [1, 2] {
        write(&directory, ada, DraftPlace::Session(session(n)), "text", 0).await;
        directory.put_reads(vec![ReadRow { person: ada, session: session(n), seq: 1 }]).await.unwrap();
    }
    directory.remove_session(session(1), 1).await.unwrap();
    let draft = async |n| directory.draft(ada, DraftPlace::Session(session(n))).await.unwrap().text;
    assert_eq!((draft(1).await, draft(2).await), (String::new(), "text".into()));
    assert_eq!(directory.read_positions(ada, 10).await.unwrap(), [(session(2), 1)]);
}

#[derive(Clone, Debug)]
enum Act {
    /// A client writes on the revision it last heard of.
    Write { client: usize, text: String },
    /// A client hears of everything that was told so far.
    Hear { client: usize },
    /// The text that a client last heard of is sent as a prompt.
    Send { client: usize },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = || 0..3_usize;
    let act = prop_oneof![
        (client(), "[ab]{0,2}").prop_map(|(client, text)| Act::Write { client, text }),
        client().prop_map(|client| Act::Hear { client }),
        client().prop_map(|client| Act::Send { client }),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Revisions only grow, a write on an old one changes nothing, and who hears all of it in any order has what is kept.
    #[test]
    fn all_clients_of_a_person_end_with_the_same_draft(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_folder, directory, ada, _) = with_two().await;
            let mut told = vec![DraftRow::default()];
            let mut known = vec![DraftRow::default(); 3];
            for act in acts {
                let newest = told.last().unwrap().clone();
                match act {
                    Act::Write { client, text } => {
                        let on = known[client].revision;
                        let written = write(&directory, ada, DraftPlace::New, &text, on).await;
                        prop_assert_eq!(written.is_changed, text != newest.text && on == newest.revision);
                        prop_assert_eq!(written.is_refused, text != newest.text && on != newest.revision);
                        if written.is_changed {
                            prop_assert!(written.now.revision > newest.revision && written.now.text == text);
                            told.push(written.now.clone());
                        } else {
                            prop_assert_eq!(&written.now, &newest);
                        }
                        known[client] = written.now;
                    }
                    // What was told last may arrive first.
                    Act::Hear { client } => {
                        known[client] = told.iter().max_by_key(|row| row.revision).unwrap().clone();
                    }
                    Act::Send { client } => {
                        let sent = known[client].text.clone();
                        let taken = directory.take_draft(ada, DraftPlace::New, sent.clone(), 6).await.unwrap();
                        let is_kept = !newest.text.is_empty() && sent == newest.text;
                        prop_assert_eq!(taken.is_some(), is_kept);
                        told.extend(taken);
                    }
                }
            }
            for client in known {
                let newest = told.iter().chain([&client]).max_by_key(|row| row.revision).unwrap().clone();
                prop_assert_eq!(directory.draft(ada, DraftPlace::New).await.unwrap(), newest);
            }
            Ok(())
        })?;
    }
}
