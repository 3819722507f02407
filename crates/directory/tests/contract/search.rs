//! What is found of sessions by their words.

use crate::{fresh, projection, repository, session};
use greenroom_directory::{
    Directory, MARK_BEGIN, MARK_END, Onlooker, Part, PartKind, SearchQuery, SessionRow,
};
use greenroom_domain::{RepositoryId, SessionId};

fn part(kind: PartKind, subject: &str, text: &str) -> Part {
    Part::Put { kind, subject: subject.into(), seq: 1, text: text.into() }
}

async fn found(directory: &Directory, words: &[&str]) -> Vec<SessionId> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let rows =
        directory.search(SearchQuery { onlooker: Onlooker::All, words, repository: None }).await.unwrap();
    let mut ids: Vec<_> = rows.into_iter().map(|row| row.session.id).collect();
    ids.dedup();
    ids
}

#[tokio::test]
async fn a_session_is_found_when_each_word_is_somewhere_in_it() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let (one, two) = (session(1, &sample), session(2, &sample));
    let parts = vec![
        part(PartKind::Title, "", "Mend the Größe parser"),
        part(PartKind::Prompt, "p1", "the flaky test in checkout fails"),
    ];
    directory.project(projection(&one, 0, vec![], parts)).await.unwrap();
    let parts = vec![part(PartKind::Prompt, "p1", "the checkout page is slow")];
    directory.project(projection(&two, 0, vec![], parts)).await.unwrap();
    assert_eq!(found(&directory, &["checkout"]).await.len(), 2);
    assert_eq!(found(&directory, &["parser", "flaky"]).await, [one.id], "in different parts");
    assert_eq!(found(&directory, &["flak"]).await, [one.id], "the last is a beginning");
    assert_eq!(found(&directory, &["flak", "test"]).await, [], "others are not");
    assert_eq!(found(&directory, &["grosse"]).await, [], "ß is its own letter");
    assert_eq!(found(&directory, &["größe"]).await, [one.id]);
    assert_eq!(found(&directory, &["NOT", "checkout"]).await, [], "it is a word like any other");
    for hostile in ["\"", "a\"b", "text:x", "x*", "(", "NEAR(", "-", "^x", "\u{0}"] {
        // Whatever it finds: it is no error.
        found(&directory, &[hostile]).await;
    }
    let rows = directory
        .search(SearchQuery { onlooker: Onlooker::All, words: vec!["flaky".into()], repository: None })
        .await
        .unwrap();
    assert_eq!(rows[0].snippet, format!("the {MARK_BEGIN}flaky{MARK_END} test in checkout fails"));
    let elsewhere = Some(RepositoryId::from_parts(1, 9));
    let rows = directory
        .search(SearchQuery { onlooker: Onlooker::All, words: vec!["flaky".into()], repository: elsewhere })
        .await
        .unwrap();
    assert_eq!(rows, []);
}

#[tokio::test]
async fn what_was_edited_withdrawn_or_deleted_is_not_found_any_more() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    let parts = vec![part(PartKind::Prompt, "p1", "before"), part(PartKind::Prompt, "p2", "withdrawn")];
    directory.project(projection(&row, 0, vec![], parts)).await.unwrap();
    let again = SessionRow { head_seq: row.head_seq + 1, ..row.clone() };
    let gone = Part::Remove { kind: PartKind::Prompt, subject: "p2".into() };
    let parts = vec![part(PartKind::Prompt, "p1", "afterwards"), gone];
    directory.project(projection(&again, row.head_seq, vec![], parts)).await.unwrap();
    assert_eq!(found(&directory, &["before"]).await, []);
    assert_eq!(found(&directory, &["withdrawn"]).await, []);
    assert_eq!(found(&directory, &["afterwards"]).await, [row.id]);
    directory.remove_session(row.id, 1).await.unwrap();
    assert_eq!(found(&directory, &["afterwards"]).await, []);
    let database = rusqlite::Connection::open(directory.folder.path().join("greenroom.db")).unwrap();
    database
        .execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)", [])
        .unwrap();
}

#[tokio::test]
async fn a_session_holds_a_bounded_number_of_parts_the_newest() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    let put = |n: u64| Part::Put {
        kind: PartKind::Prompt,
        subject: n.to_string(),
        seq: n,
        text: format!("word{n}"),
    };
    directory.project(projection(&row, 0, vec![], (1..=600).map(put).collect())).await.unwrap();
    assert_eq!(found(&directory, &["word100"]).await, [], "and nothing else begins so");
    assert_eq!(found(&directory, &["word600"]).await, [row.id]);
    let long = Part::Put {
        kind: PartKind::Prompt,
        subject: "long".into(),
        seq: 700,
        text: format!("{} end", "ä".repeat(20_000)),
    };
    let again = SessionRow { head_seq: row.head_seq + 1, ..row.clone() };
    directory.project(projection(&again, row.head_seq, vec![], vec![long])).await.unwrap();
    assert_eq!(found(&directory, &["end"]).await, [], "behind what is kept of a part");
}
