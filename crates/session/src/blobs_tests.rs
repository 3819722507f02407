//! Blobs on a real disk: by digest, bounded, once.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use super::*;
use crate::{FileSessions, SessionDirectory};
use greenroom_domain::Event;

const MOST: u64 = 1000;

fn session(n: u128) -> SessionId {
    SessionId::from_parts(1, n)
}

async fn put(blobs: &Blobs, shelf: Shelf, bytes: &[u8]) -> Result<BlobDigest, BlobError> {
    let received = blobs.receive(bytes, 100).await?;
    let digest = received.digest.clone();
    blobs.keep(received, shelf, MOST).await?;
    Ok(digest)
}

fn names(directory: &Path) -> usize {
    files_below(directory).unwrap().len()
}

fn first() -> Vec<Event> {
    vec![Event::TitleChanged { title: "made".into(), by: None }]
}

#[tokio::test]
async fn the_same_bytes_are_kept_once_under_their_digest() {
    let data = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(data.path()).unwrap();
    let shelf = Shelf::Person(PersonId::from_parts(1, 1));
    let digest = put(&blobs, shelf, b"hello").await.unwrap();
    assert_eq!(digest.as_str(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(put(&blobs, shelf, b"hello").await.unwrap(), digest);
    assert_eq!(blobs.measure(shelf).unwrap(), (1, 5));
    let (_, bytes) = blobs.open_blob(shelf, &digest).await.unwrap();
    assert_eq!(bytes, 5);
    assert_eq!(names(&data.path().join("uploads").join(PARTIAL)), 0);
}

#[tokio::test]
async fn what_is_too_large_empty_or_broken_off_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(data.path()).unwrap();
    assert!(matches!(blobs.receive(&[1; 101][..], 100).await, Err(BlobError::TooLarge { limit: 100 })));
    assert!(matches!(blobs.receive(&[][..], 100).await, Err(BlobError::Empty)));
    let broken = tokio_test_reader();
    assert!(matches!(blobs.receive(broken, 100).await, Err(BlobError::BrokenOff { .. })));
    assert_eq!(fs::read_dir(data.path().join("uploads").join(PARTIAL)).unwrap().count(), 0);
}

/// Some bytes, then an error.
fn tokio_test_reader() -> impl AsyncRead + Unpin + Send {
    struct Broken(bool);
    impl AsyncRead for Broken {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            buffer.put_slice(b"some");
            std::task::Poll::Ready(Ok(()))
        }
    }
    Broken(false)
}

#[tokio::test]
async fn a_shelf_that_is_full_takes_nothing_more_but_what_it_has() {
    let data = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(data.path()).unwrap();
    let shelf = Shelf::Person(PersonId::from_parts(1, 1));
    for n in 0..10 {
        put(&blobs, shelf, &[n; 100]).await.unwrap();
    }
    assert!(!blobs.has_room(shelf, 1, MOST).await.unwrap());
    assert!(matches!(put(&blobs, shelf, b"x").await, Err(BlobError::Full)));
    put(&blobs, shelf, &[3; 100]).await.unwrap();
    put(&blobs, Shelf::Person(PersonId::from_parts(1, 2)), b"x").await.unwrap();
}

#[tokio::test]
async fn a_sessions_files_are_there_with_its_first_entry_and_go_with_it() {
    let data = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(data.path()).unwrap();
    let sessions = FileSessions::open(data.path().join("sessions")).unwrap();
    let person = Shelf::Person(PersonId::from_parts(1, 1));
    let digest = put(&blobs, person, b"hello").await.unwrap();
    blobs.share(person, Shelf::Coming(session(1)), vec![digest.clone()]).await.unwrap();
    sessions.create(session(1), 1, first()).await.unwrap();
    let own = Shelf::Session(session(1));
    blobs.open_blob(own, &digest).await.unwrap();

    // A fork has them too, and keeps them.
    blobs.share(own, Shelf::Coming(session(2)), vec![digest.clone()]).await.unwrap();
    sessions.create(session(2), 1, first()).await.unwrap();
    sessions.remove(session(1)).await.unwrap();
    assert!(matches!(blobs.open_blob(own, &digest).await, Err(BlobError::Missing)));
    blobs.open_blob(Shelf::Session(session(2)), &digest).await.unwrap();

    // An upload that is late does not bring the session's directory back.
    assert!(matches!(put(&blobs, own, b"late").await, Err(BlobError::Missing)));
    assert!(!sessions.directory(session(1)).exists());
}

#[tokio::test]
async fn what_waits_too_long_for_a_session_expires() {
    let data = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(data.path()).unwrap();
    let shelf = Shelf::Person(PersonId::from_parts(1, 1));
    put(&blobs, shelf, b"hello").await.unwrap();
    blobs.expire(SystemTime::now() - Duration::from_secs(3600)).await.unwrap();
    assert_eq!(blobs.measure(shelf).unwrap().0, 1);
    blobs.expire(SystemTime::now() + Duration::from_secs(3600)).await.unwrap();
    assert_eq!(blobs.measure(shelf).unwrap().0, 0);
}
