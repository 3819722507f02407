//! Tests of `store`.

use super::*;
use std::time::{Duration, Instant};

pub(super) fn key(digit: char) -> LayerKey {
    digit.to_string().repeat(64).parse().unwrap()
}

pub(super) fn made(data: &Path, text: &str) -> PathBuf {
    let directory = data.join("builds").join(text);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("file"), text).unwrap();
    directory
}

fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_published_layer_is_found_again() {
    let data = tempfile::tempdir().unwrap();
    let store = LayerStore::open(data.path()).unwrap();
    assert!(store.get(&key('a')).is_none());
    let meta = store.publish(&key('a'), &made(data.path(), "one"), "deps", Vec::new(), 7).unwrap();
    assert_eq!(fs::read(store.path(&key('a')).join("file")).unwrap(), b"one");
    let store = LayerStore::open(data.path()).unwrap();
    assert_eq!(store.get(&key('a')), Some(meta.clone()));
    assert_eq!(store.total_bytes().unwrap(), meta.size_bytes);
    assert!(meta.size_bytes > 0);
}

#[test]
fn the_first_layer_of_a_key_stays() {
    let data = tempfile::tempdir().unwrap();
    let store = LayerStore::open(data.path()).unwrap();
    store.publish(&key('a'), &made(data.path(), "one"), "first", Vec::new(), 1).unwrap();
    let meta = store.publish(&key('a'), &made(data.path(), "two"), "second", Vec::new(), 2).unwrap();
    assert_eq!(meta.step, "first");
    assert_eq!(fs::read(store.path(&key('a')).join("file")).unwrap(), b"one");
    assert!(!data.path().join("builds/two").exists());
}

#[test]
fn leftovers_of_a_crash_are_swept_and_layers_kept() {
    let data = tempfile::tempdir().unwrap();
    let store = LayerStore::open(data.path()).unwrap();
    store.publish(&key('a'), &made(data.path(), "good"), "s", Vec::new(), 1).unwrap();
    drop(store);
    let layers = data.path().join("layers");
    fs::create_dir(layers.join("b".repeat(64))).unwrap();
    fs::write(layers.join(format!("{}.json", "c".repeat(64))), "{}").unwrap();
    fs::write(layers.join(".writing-x"), "").unwrap();
    fs::create_dir_all(data.path().join("images/img_1")).unwrap();
    fs::write(data.path().join("images/img_1/.writing-y"), "").unwrap();
    fs::write(data.path().join("images/img_1/build.log"), "").unwrap();
    made(data.path(), "unfinished");
    let store = LayerStore::open(data.path()).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(layers.read_dir().unwrap().count(), 2);
    assert_eq!(data.path().join("builds").read_dir().unwrap().count(), 0);
    assert_eq!(data.path().join("images/img_1").read_dir().unwrap().count(), 1);
    eventually("the trash is emptied", || data.path().join("trash").read_dir().unwrap().count() == 0);
}

#[test]
fn a_removed_layer_is_gone_at_once_and_links_in_it_are_not_followed() {
    let data = tempfile::tempdir().unwrap();
    let outside = data.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    let store = LayerStore::open(data.path()).unwrap();
    let directory = made(data.path(), "one");
    std::os::unix::fs::symlink(&outside, directory.join("link")).unwrap();
    std::os::unix::fs::symlink(data.path(), directory.join("directory")).unwrap();
    store.publish(&key('a'), &directory, "s", Vec::new(), 1).unwrap();
    store.remove(&key('a')).unwrap();
    store.remove(&key('a')).unwrap();
    assert!(store.get(&key('a')).is_none());
    eventually("the trash is emptied", || data.path().join("trash").read_dir().unwrap().count() == 0);
    assert_eq!(fs::read(&outside).unwrap(), b"kept");
}
