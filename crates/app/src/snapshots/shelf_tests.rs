//! Tests of `shelf`.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn id(number: u128) -> SessionId {
    SessionId::from_parts(1, number)
}

fn place(owner: u128, snapshot: u128) -> Place {
    Place { owner: id(owner), snapshot: SnapshotId::from_parts(1, snapshot) }
}

fn description() -> Description {
    Description::new(id(1), ImageId::from_parts(1, 1), "overlay-1", None, 5)
}

fn put(shelf: &Shelf, place: Place) {
    shelf.open_mark(place).unwrap();
    fs::create_dir(shelf.path(place)).unwrap();
    shelf.describe(place, &description()).unwrap();
}

fn shelf(root: &Path) -> Shelf {
    Shelf::open(Storage::plain(root).unwrap()).unwrap()
}

#[test]
fn a_snapshot_that_is_not_whole_or_not_of_this_runtime_is_refused_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path());
    let here = place(1, 1);
    assert!(shelf.check(here, "overlay-1").unwrap_err().message.contains("gone"));
    put(&shelf, here);
    assert_eq!(shelf.check(here, "overlay-1").unwrap(), description());
    let other = shelf.check(here, "overlay-2").unwrap_err();
    assert_eq!(other.code, ErrorCode::SnapshotDamaged);
    assert!(other.message.contains("overlay-1") && other.message.contains("overlay-2"), "{other}");
    fs::write(shelf.beside(here, ".json"), "{").unwrap();
    assert!(shelf.check(here, "overlay-1").unwrap_err().message.contains("description"));
}

#[test]
fn what_a_fork_needs_outlives_its_parent_and_goes_with_the_fork() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path());
    let (needed, other) = (place(1, 1), place(1, 2));
    put(&shelf, needed);
    put(&shelf, other);
    shelf.need(id(2), needed).unwrap();
    shelf.discard_session(id(1), |_| false).unwrap();
    assert!(shelf.path(needed).exists() && !shelf.path(other).exists());

    // As after a restart.
    let shelf = Shelf::open(Storage::plain(root.path()).unwrap()).unwrap();
    assert_eq!(shelf.base_of(id(2)), Some(needed));
    shelf.check(needed, "overlay-1").unwrap();
    shelf.discard_session(id(2), |_| false).unwrap();
    assert!(!shelf.directory(id(1)).exists() && !shelf.directory(id(2)).exists());
    assert_eq!(shelf.sessions().unwrap(), []);
}

#[test]
fn a_fork_that_goes_leaves_its_living_parents_snapshots() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path());
    put(&shelf, place(1, 1));
    shelf.close_mark(place(1, 1));
    shelf.need(id(2), place(1, 1)).unwrap();
    shelf.discard_session(id(2), |session| session == id(1)).unwrap();
    assert_eq!(shelf.snapshots(id(1)).unwrap(), [(place(1, 1).snapshot, false)]);
}

#[test]
fn what_was_being_made_or_dropped_is_marked() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path());
    put(&shelf, place(1, 1));
    put(&shelf, place(1, 2));
    shelf.close_mark(place(1, 2));
    let found = shelf.snapshots(id(1)).unwrap();
    assert_eq!(found, [(place(1, 1).snapshot, true), (place(1, 2).snapshot, false)]);
    shelf.discard(place(1, 1)).unwrap();
    assert_eq!(shelf.snapshots(id(1)).unwrap().len(), 1);
}

#[test]
fn a_session_needs_the_snapshot_its_files_began_from_until_it_begins_from_another() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path());
    let (first, second) = (place(1, 1), place(1, 2));
    shelf.need(id(1), first).unwrap();
    shelf.need(id(1), place(7, 7)).unwrap();
    shelf.need(id(1), second).unwrap();
    assert!(!shelf.is_needed(first) && shelf.is_needed(second));
    let again = Shelf::open(Storage::plain(root.path()).unwrap()).unwrap();
    assert!(!again.is_needed(first) && again.is_needed(second));
    assert_eq!(again.base_of(id(1)), Some(place(7, 7)));
}
