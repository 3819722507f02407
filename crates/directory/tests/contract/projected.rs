//! What the outbox writes: a session's line with its cursor, and what is owed to a session.

use crate::{fresh, person, put, repository, session};
use greenroom_directory::{
    Directory, DraftPlace, DraftRow, Error, Projected, Projection, ReadRow, SettledRow, ShareLinkRow,
};
use greenroom_domain::{BlobDigest, Consumer, SessionId, ShareKind, ShareLinkId};

#[tokio::test]
async fn what_was_projected_from_an_entry_on_is_not_projected_from_there_again() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    put(&directory, row.clone()).await;
    let late = Projection {
        row: row.clone(),
        after: 0,
        upto: 99,
        facts: vec![],
        parts: vec![],
        unconcerned: vec![],
    };
    assert_eq!(directory.project(late).await.unwrap(), Projected::Moved);
    assert_eq!(directory.cursor(row.id, Consumer::Directory).await.unwrap(), row.head_seq);
}

#[tokio::test]
async fn nothing_of_a_removed_session_comes_back() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    put(&directory, row.clone()).await;
    directory.remove_session(row.id, 5).await.unwrap();
    let late = Projection {
        row: row.clone(),
        after: 0,
        upto: row.head_seq,
        facts: vec![],
        parts: vec![],
        unconcerned: vec![],
    };
    assert_eq!(directory.project(late).await.unwrap(), Projected::Removed);
    directory.move_cursor(row.id, Consumer::Collector, 3).await.unwrap();
    let stamp = String::new();
    directory.settle(vec![SettledRow { session: row.id, seq: 3, stamp }]).await.unwrap();
    assert_eq!(directory.session(row.id).await.unwrap(), None);
    assert_eq!(directory.cursors(row.id).await.unwrap(), []);
    assert_eq!(directory.settled().await.unwrap(), []);
    let month = 31 * 24 * 3_600_000;
    directory.forget_removed(6, vec![]).await.unwrap();
    assert_eq!(directory.remembered_deletions().await.unwrap(), [row.id]);
    directory.forget_removed(6 + month, vec![row.id]).await.unwrap();
    assert_eq!(directory.remembered_deletions().await.unwrap(), [row.id], "something is left of it");
    directory.forget_removed(6 + month, vec![]).await.unwrap();
    assert_eq!(directory.remembered_deletions().await.unwrap(), [], "forgotten at last");
}

#[tokio::test]
async fn what_people_still_do_in_a_removed_session_leaves_no_row() {
    let directory = fresh().await;
    let ada = person(1, "ada");
    directory.add_person(ada.clone(), 1).await.unwrap();
    let id = SessionId::from_parts(1, 1);
    let digest: BlobDigest = "0".repeat(64).parse().unwrap();
    directory.count_file(ada.id, None, digest.clone(), 7, 1, None).await.unwrap();
    directory.remove_session(id, 5).await.unwrap();

    directory.put_reads(vec![ReadRow { person: ada.id, session: id, seq: 3 }]).await.unwrap();
    assert_eq!(directory.read_position(ada.id, id).await.unwrap(), None);
    let place = DraftPlace::Session(id);
    let draft = directory.write_draft(ada.id, place, "text".into(), 0, 6).await;
    assert_eq!(draft.unwrap_err(), Error::SessionRemoved);
    assert_eq!(directory.draft(ada.id, place).await.unwrap(), DraftRow::default());
    let link = ShareLinkRow {
        id: ShareLinkId::from_parts(1, 1),
        session: id,
        kind: ShareKind::TakePart,
        made_by: ada.id,
        made_by_name: ada.name.clone(),
        made_at_ms: 6,
        expires_at_ms: 99,
        revoked_at_ms: None,
    };
    assert_eq!(directory.add_share_link([1; 32], link, 9).await.unwrap_err(), Error::SessionRemoved);
    assert_eq!(directory.share_links(id).await.unwrap(), []);
    let counted = directory.count_file(ada.id, Some(id), digest.clone(), 7, 6, None).await;
    assert_eq!(counted.unwrap_err(), Error::SessionRemoved);
    assert_eq!(directory.stored_bytes(ada.id).await.unwrap(), 7, "the upload that waits");
    directory.files_taken(ada.id, id, vec![digest]).await.unwrap();
    assert_eq!(directory.stored_bytes(ada.id).await.unwrap(), 0);
    directory.owe(id, Consumer::Forge, 1).await.unwrap();
    assert_eq!(directory.owed().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_owed_to_a_session_outlives_the_process() {
    let directory = fresh().await;
    let id = SessionId::from_parts(1, 1);
    directory.owe(id, Consumer::Forge, 1).await.unwrap();
    directory.owe(id, Consumer::Forge, 2).await.unwrap();
    directory.owe_no_more(id, Consumer::Forge, 1).await.unwrap();
    let again = Directory::open(&directory.folder.path().join("greenroom.db")).await.unwrap();
    assert_eq!(again.owed().await.unwrap(), [(id, Consumer::Forge)]);
    assert_eq!(again.mark_of_debt(id, Consumer::Forge).await.unwrap(), Some(2), "the later one stays");
    again.owe_no_more(id, Consumer::Forge, 2).await.unwrap();
    assert_eq!(again.owed().await.unwrap(), []);
}
