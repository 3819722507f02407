//! Properties: what is written is read back, and whatever else comes is refused without a trace.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::tests::{entries, log_of, manifest, opened, packed};
use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_session_comes_back_as_it_was(
        titles in prop::collection::vec(any::<String>(), 0..8),
        blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 0..5),
        bundle in prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)),
    ) {
        let entries = entries(&titles);
        let (manifest, bytes) = manifest(&log_of(&entries), entries.len(), &blobs, bundle.as_deref());
        let (unpacked, _directory) = opened(&packed(&manifest, &bytes)).unwrap();
        prop_assert_eq!(&unpacked.manifest, &manifest);
        prop_assert_eq!(&unpacked.entries, &entries);
        for digest in unpacked.blobs() {
            prop_assert_eq!(&std::fs::read(unpacked.blob_path(&digest)).unwrap(), &bytes[&format!("blobs/{digest}")]);
        }
        let found = unpacked.bundle_path().map(|path| std::fs::read(path).unwrap());
        prop_assert_eq!(found, bundle);
    }

    /// In the tar, where a changed byte is not already a broken frame.
    #[test]
    fn a_changed_byte_changes_no_content_unseen(at in any::<prop::sample::Index>(), by in 1u8..) {
        let entries = entries(&["one".into()]);
        let (manifest, bytes) = manifest(&log_of(&entries), 2, &[b"blob".to_vec()], Some(b"bundle"));
        let mut plain = zstd::decode_all(packed(&manifest, &bytes).as_slice()).unwrap();
        let at = at.index(plain.len());
        plain[at] ^= by;
        if let Ok((unpacked, _directory)) = opened(&zstd::encode_all(plain.as_slice(), 1).unwrap()) {
            // Only the manifest's own words can differ: everything else has a digest there.
            prop_assert_eq!(unpacked.entries, entries);
            prop_assert_eq!(unpacked.manifest.members, manifest.members);
        }
    }

    #[test]
    fn any_bytes_end_in_words(bytes in prop::collection::vec(any::<u8>(), 0..2000), is_framed: bool) {
        let archive = if is_framed { zstd::encode_all(bytes.as_slice(), 1).unwrap() } else { bytes };
        let is_refused = matches!(opened(&archive), Err(Error::Damaged { .. }));
        prop_assert!(is_refused);
    }
}
