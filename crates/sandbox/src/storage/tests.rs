//! Tests of `storage`.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_discarded_is_gone_at_once_and_links_in_it_are_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    let storage = Storage::plain(root.path()).unwrap();
    let workspace = storage.workspace("one");
    fs::create_dir_all(workspace.join("closed")).unwrap();
    std::os::unix::fs::symlink(&outside, workspace.join("link")).unwrap();
    std::os::unix::fs::symlink(root.path(), workspace.join("directory")).unwrap();
    fs::set_permissions(workspace.join("closed"), Permissions::from_mode(0o0)).unwrap();
    storage.discard(&workspace).unwrap();
    assert!(!workspace.exists());
    storage.discard(&workspace).unwrap();
    eventually("the trash is emptied", || root.path().join("trash").read_dir().unwrap().count() == 0);
    assert_eq!(fs::read(&outside).unwrap(), b"kept");
}

#[test]
fn the_trash_of_a_crash_is_emptied_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("trash/0-left/deep")).unwrap();
    let _storage = Storage::plain(root.path()).unwrap();
    eventually("the trash is emptied", || root.path().join("trash").read_dir().unwrap().count() == 0);
}

#[test]
fn workspaces_that_nobody_keeps_go_with_their_snapshots() {
    let root = tempfile::tempdir().unwrap();
    let storage = Storage::plain(root.path()).unwrap();
    for name in ["kept", "left"] {
        fs::create_dir(storage.workspace(name)).unwrap();
        fs::create_dir_all(storage.snapshots(name).join("first")).unwrap();
    }
    storage.retain_workspaces(|name| name == "kept").unwrap();
    assert!(storage.workspace("kept").exists() && storage.snapshots("kept").exists());
    assert!(!storage.workspace("left").exists() && !storage.snapshots("left").exists());
}

/// As a loop of `mkdir` and `cd` makes it: no path names its end.
fn dig(top: &Path, depth: usize) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let mut here = openat(CWD, top, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..depth {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        if level % 100 == 0 {
            openat(&here, ".deep-1", flags, Mode::RUSR).unwrap();
        }
        here = openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[test]
fn a_tree_deeper_than_any_stack_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let top = root.path().join("top");
    fs::create_dir_all(top.join("closed")).unwrap();
    dig(&top, 3_000);
    fs::set_permissions(top.join("closed"), Permissions::from_mode(0o0)).unwrap();
    fs::write(top.join(".deep-2"), "in the way").unwrap();
    // A recursion would need more than this, and a descriptor for each level more than a process may have.
    let removal = std::thread::Builder::new().stack_size(96 * 1024).spawn(move || remove_tree(&top));
    removal.unwrap().join().unwrap().unwrap();
    assert_eq!(root.path().read_dir().unwrap().count(), 0);
}
