//! Exported layers of every shape. `cargo test` takes the same few cases each time; `cargo xtask soak fuzz` many.

use super::tests::{Line, TOP, archive, refusal};
use crate::exchange::tests::packed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::fs;
use tar::EntryType;

/// Few names, so that entries meet each other.
fn line() -> impl Strategy<Value = Line<'static>> {
    let kind = select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
    ]);
    let path =
        select(vec![".", "a", "a/b", "a/b/c", "b", "b/a", "a/..", "../outside", "/outside", "a//b", ""]);
    let link = select(vec!["", "a", "a/b", "..", "/", "../outside", "../../outside", "b/outside"]);
    (kind, path, link)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    /// `refusal` looks at what lies beside the layer.
    #[test]
    fn no_list_of_entries_reaches_outside(lines in vec(line(), 0..12)) {
        refusal(&archive(&[vec![TOP], lines].concat()));
    }

    /// Changed before they are compressed, so that zstd's own checks do not end it first.
    #[test]
    fn changed_bytes_never_reach_outside(changes in vec((any::<Index>(), any::<u8>()), 1..8)) {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("d")).unwrap();
        fs::write(source.path().join("d/f"), "text").unwrap();
        std::os::unix::fs::symlink("../..", source.path().join("d/l")).unwrap();
        let mut plain = zstd::decode_all(packed(source.path()).as_slice()).unwrap();
        for (at, byte) in changes {
            let at = at.index(plain.len());
            plain[at] = byte;
        }
        refusal(&zstd::encode_all(plain.as_slice(), 1).unwrap());
    }

    #[test]
    fn files_come_out_as_they_went_in(
        files in proptest::collection::btree_map("(d[a-z]{1,3}/){0,3}f[a-z]{1,5}", vec(any::<u8>(), 0..9000), 0..12),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in &files {
            let path = from.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let bytes = packed(from.path());
        let cancel = tokio_util::sync::CancellationToken::new();
        super::unpack(bytes.as_slice(), to.path(), super::Owners::of(true), &cancel).unwrap();
        for (path, content) in &files {
            prop_assert_eq!(&fs::read(to.path().join(path)).unwrap(), content);
        }
        prop_assert_eq!(packed(to.path()), bytes);
    }
}
