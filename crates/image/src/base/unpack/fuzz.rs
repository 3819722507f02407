//! Archives of every shape. `cargo test` takes the same few cases each time; `cargo xtask soak fuzz` many.

use super::tests::{Layer, Place};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::fs;

/// One entry: kind, path, link, content. Few names, so that entries meet each other.
type Made = (EntryType, String, String, Vec<u8>);

fn path() -> impl Strategy<Value = String> {
    let part = select(vec![
        "a",
        "b",
        "c",
        ".",
        "..",
        "",
        "outside",
        ".wh.a",
        ".wh..wh..opq",
        ".wh.",
        ".wh..",
        ".wh...",
    ]);
    vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = Made> {
    let kind = select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::Continuous,
    ]);
    let target = prop_oneof![
        path(),
        select(vec!["/", "/..", "../outside", "../../outside", "/proc/self/cwd"]).prop_map(str::to_owned)
    ];
    (kind, path(), target, vec(any::<u8>(), 0..600))
}

fn layer(entries: Vec<Made>) -> Layer {
    entries
        .into_iter()
        .fold(Layer::new(), |layer, (kind, path, link, content)| layer.add(kind, &path, &link, &content))
}

/// Beside the root there is what was there before.
fn is_contained(place: &Place) {
    let mut beside: Vec<_> =
        fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.retain(|name| name != "layer");
    beside.sort();
    assert_eq!(beside, ["outside", "root"]);
    assert_eq!(fs::read_to_string(place.directory.path().join("outside")).unwrap(), "kept");
    is_plain(&place.directory.path().join("root"));
}

/// Files, directories and links, nothing else.
fn is_plain(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{entry:?}");
        if kind.is_dir() {
            is_plain(&entry.path());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_archive_holds_stays_below_the_root(lower in vec(entry(), 0..12), upper in vec(entry(), 0..12)) {
        let place = Place::new();
        // Taken or refused.
        let _ = place.apply(vec![layer(lower), layer(upper)]);
        is_contained(&place);
    }

    #[test]
    fn a_damaged_archive_stays_below_the_root(
        entries in vec(entry(), 1..8), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), is_packed in any::<bool>(),
    ) {
        let place = Place::new();
        let mut bytes = layer(entries).bytes();
        if is_packed {
            let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            io::Write::write_all(&mut packed, &bytes).unwrap();
            bytes = packed.finish().unwrap();
        }
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let path = place.directory.path().join("layer");
        fs::write(&path, bytes).unwrap();
        let _ = Root::open(&place.directory.path().join("root")).unwrap().apply(&path);
        is_contained(&place);
    }

    #[test]
    fn files_come_out_as_they_went_in(
        files in proptest::collection::btree_map("(d[a-z]{1,3}/){0,3}f[a-z]{1,5}", vec(any::<u8>(), 0..5000), 0..12),
    ) {
        let place = Place::new();
        let made = files.iter().fold(Layer::new(), |layer, (path, content)| {
            layer.add(EntryType::Regular, path, "", content)
        });
        place.apply(vec![made]).unwrap();
        for (path, content) in &files {
            let found = fs::read(place.directory.path().join("root").join(path)).unwrap();
            prop_assert_eq!(&found, content);
        }
    }
}
