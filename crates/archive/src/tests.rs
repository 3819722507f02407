//! The format's contract, from outside of `write` and `read`.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use greenroom_domain::{BlobDigest, Entry, Event};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use tar::{Builder, EntryType, Header};

pub(crate) const LIMITS: Limits = Limits { bytes: 1 << 20 };

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn created() -> Event {
    serde_json::from_value(serde_json::json!({
        "type": "session_created", "repository": "rep_01JZZZZZZZZZZZZZZZZZZZZZZZ", "repository_name": "sample",
        "title": "t", "author": { "on_behalf_of": "per_01JZZZZZZZZZZZZZZZZZZZZZZZ", "via": "person",
        "name": "Ann", "email": "ann@example.com" }, "branch": "greenroom/x", "base_branch": "main", "model": null,
        "budget": { "tokens": 1, "cost_microusd": 1, "wall_ms": 1, "tool_calls": 1 }, "image": null,
    }))
    .unwrap()
}

pub(crate) fn entries(titles: &[String]) -> Vec<Entry> {
    let renamed = titles.iter().map(|title| Event::TitleChanged { title: title.clone(), by: None });
    let events = std::iter::once(created()).chain(renamed);
    events.zip(1..).map(|(event, seq)| Entry { seq, at_ms: 7, epoch: 1, event }).collect()
}

/// A manifest for these members, whose bytes are given by name.
pub(crate) fn manifest(
    log: &[u8],
    count: usize,
    blobs: &[Vec<u8>],
    bundle: Option<&[u8]>,
) -> (Manifest, HashMap<String, Vec<u8>>) {
    let mut members = vec![describe(Described::Log, log).unwrap()];
    let mut bytes = HashMap::from([(members[0].name.clone(), log.to_vec())]);
    for blob in blobs {
        let name: BlobDigest = digest(blob).parse().unwrap();
        let member = Member::blob(&name, blob.len() as u64);
        if bytes.insert(member.name.clone(), blob.clone()).is_none() {
            members.push(member);
        }
    }
    if let Some(bundle) = bundle {
        members.push(describe(Described::Bundle, bundle).unwrap());
        bytes.insert("work.bundle".into(), bundle.to_vec());
    }
    let manifest = Manifest {
        kind: KIND.into(),
        format: FORMAT,
        product: "test".into(),
        exported_at_ms: 1,
        exported_by: Exporter { login: "ann".parse().unwrap(), name: "Ann".into() },
        session: SessionFacts {
            id: "ses_01JZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap(),
            title: "t".into(),
            repository: "sample".parse().unwrap(),
            base_branch: "main".parse().unwrap(),
            entries: count as u64,
        },
        people: vec![],
        work: bundle.map(|_| Work { head: "a".repeat(40).parse().unwrap(), base: None }),
        missing: vec![],
        members,
    };
    (manifest, bytes)
}

pub(crate) fn log_of(entries: &[Entry]) -> Vec<u8> {
    let mut log = vec![];
    write_log(&mut log, entries).unwrap();
    log
}

pub(crate) fn packed(manifest: &Manifest, bytes: &HashMap<String, Vec<u8>>) -> Vec<u8> {
    let mut archive = vec![];
    write(&mut archive, manifest, |member| Ok(Cursor::new(bytes[&member.name].clone()))).unwrap();
    archive
}

fn whole() -> Vec<u8> {
    let entries = entries(&["one".into(), "two".into()]);
    let (manifest, bytes) = manifest(&log_of(&entries), 3, &[b"blob".to_vec()], Some(b"bundle"));
    packed(&manifest, &bytes)
}

pub(crate) fn opened(archive: &[u8]) -> Result<(Unpacked, tempfile::TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    read(archive, LIMITS, directory.path()).map(|unpacked| (unpacked, directory))
}

fn refusal(archive: &[u8]) -> String {
    match opened(archive) {
        Ok(_) => panic!("it was taken"),
        Err(Error::Damaged { reason }) => reason,
        Err(other) => panic!("{other:?}"),
    }
}

/// The tar inside, of records that are written as they are given.
fn tar_of(records: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(zstd::Encoder::new(vec![], 1).unwrap());
    for (name, kind, bytes) in records {
        let mut header = Header::new_ustar();
        let field = &mut header.as_mut_bytes()[..100];
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_entry_type(*kind);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn text(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).unwrap()
}

#[test]
fn the_manifest_is_the_first_member_and_says_what_follows() {
    let plain = zstd::decode_all(whole().as_slice()).unwrap();
    let mut archive = tar::Archive::new(plain.as_slice());
    let mut names = vec![];
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let name = member.path().unwrap().display().to_string();
        let mut bytes = vec![];
        member.read_to_end(&mut bytes).unwrap();
        if names.is_empty() {
            let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((&said["kind"], &said["format"]), (&"greenroom-session".into(), &1.into()));
            assert_eq!(said["members"][1]["sha256"], digest(b"blob"));
        }
        names.push(name);
    }
    assert_eq!(names, ["manifest.json", "log.ndjson", &format!("blobs/{}", digest(b"blob")), "work.bundle"]);
}

#[test]
fn what_was_written_is_read_back() {
    let (unpacked, _directory) = opened(&whole()).unwrap();
    assert_eq!(unpacked.entries, entries(&["one".into(), "two".into()]));
    let blob = unpacked.blobs().next().unwrap();
    assert_eq!(std::fs::read(unpacked.blob_path(&blob)).unwrap(), b"blob");
    assert_eq!(std::fs::read(unpacked.bundle_path().unwrap()).unwrap(), b"bundle");
}

#[test]
fn a_file_that_changed_under_the_export_is_not_exported() {
    let (manifest, _) = manifest(&log_of(&entries(&[])), 1, &[b"blob".to_vec()], None);
    let other = |member: &Member| {
        let log = log_of(&entries(&[]));
        Ok(Cursor::new(if member.is_log() { log } else { b"blab".to_vec() }))
    };
    assert!(matches!(write(&mut vec![], &manifest, other), Err(Error::Damaged { .. })));
}

#[test]
fn every_cut_and_every_other_file_is_refused() {
    let whole = whole();
    for length in 0..whole.len() {
        refusal(&whole[..length]);
    }
    refusal(&[whole.as_slice(), b"x"].concat());
    refusal(&zstd::encode_all(&b"not a tar"[..], 1).unwrap());
    assert_eq!(refusal(&tar_of(&[])), "it does not begin with a session's manifest");
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let text = br#"{"kind":"greenroom-session","format":2,"news":true}"#;
    let archive = tar_of(&[("manifest.json", EntryType::Regular, text)]);
    assert!(matches!(opened(&archive), Err(Error::TooNew { found: 2 })));
    let text = br#"{"kind":"greenroom-image","format":1}"#;
    assert_eq!(
        refusal(&tar_of(&[("manifest.json", EntryType::Regular, text)])),
        "it does not begin with a session's manifest"
    );
}

#[test]
fn nothing_but_what_the_manifest_names_at_its_place_is_unpacked() {
    let log = log_of(&entries(&[]));
    let (good, _) = manifest(&log, 1, &[b"blob".to_vec()], None);
    let blob = good.members[1].name.clone();
    let records = |second: (&str, EntryType, &[u8])| {
        let head = text(&good);
        tar_of(&[
            ("manifest.json", EntryType::Regular, &head),
            ("log.ndjson", EntryType::Regular, &log),
            (second.0, second.1, second.2),
        ])
    };
    assert!(opened(&records((&blob, EntryType::Regular, b"blob"))).is_ok());
    for (name, kind, bytes) in [
        (blob.as_str(), EntryType::Regular, &b"blab"[..]),
        (&blob, EntryType::Regular, b"blobs"),
        (&blob, EntryType::Symlink, b"blob"),
        (&blob, EntryType::GNULongName, b"blob"),
        (&blob, EntryType::GNUSparse, b"blob"),
        ("blobs/../../../etc/passwd", EntryType::Regular, b"blob"),
        ("/etc/passwd", EntryType::Regular, b"blob"),
        ("log.ndjson", EntryType::Regular, b"blob"),
    ] {
        refusal(&records((name, kind, bytes)));
    }
    let head = text(&good);
    let more = [
        ("manifest.json", EntryType::Regular, head.as_slice()),
        ("log.ndjson", EntryType::Regular, &log),
        (&blob, EntryType::Regular, b"blob"),
        ("more", EntryType::Regular, b"x"),
    ];
    assert_eq!(refusal(&tar_of(&more)), "it holds more than its manifest names");
}

#[test]
fn a_manifest_names_only_what_an_archive_may_hold_once() {
    let log = log_of(&entries(&[]));
    let bad = |change: &dyn Fn(&mut Manifest)| {
        let (mut manifest, _) = manifest(&log, 1, &[b"blob".to_vec()], None);
        change(&mut manifest);
        let head = text(&manifest);
        opened(&tar_of(&[("manifest.json", EntryType::Regular, &head)])).err().unwrap()
    };
    let is_damage = |error| matches!(error, Error::Damaged { .. });
    for name in ["../x", "/x", "blobs/", "blobs/../log.ndjson", "manifest.json", "blobs/AA", ""] {
        assert!(is_damage(bad(&|manifest| manifest.members[1].name = name.into())), "{name}");
    }
    assert!(is_damage(bad(&|manifest| manifest.members.push(manifest.members[1].clone()))));
    assert!(is_damage(bad(&|manifest| manifest.members.swap(0, 1))));
    assert!(is_damage(bad(&|manifest| manifest.members[1].sha256 = "0".repeat(64))));
    assert!(is_damage(bad(&|manifest| {
        manifest.work = Some(Work { head: "a".repeat(40).parse().unwrap(), base: None });
    })));
    let many = |manifest: &mut Manifest| {
        let blob = manifest.members[1].clone();
        manifest.members.extend(std::iter::repeat_n(blob, FILES_LIMIT));
    };
    assert!(is_damage(bad(&many)));
    let is_large = |error| matches!(error, Error::TooLarge { .. });
    assert!(is_large(bad(&|manifest| manifest.members[1].bytes = LIMITS.bytes)));
    assert!(is_large(bad(&|manifest| manifest.members[1].bytes = u64::MAX)));
    assert!(is_large(bad(&|manifest| manifest.members[0].bytes = LOG_LIMIT + 1)));
}

#[test]
fn a_bomb_is_left_before_it_unfolds() {
    let log = log_of(&entries(&[]));
    let (manifest, _) = manifest(&log, 1, &[], None);
    let plain = |archive: &[u8]| zstd::decode_all(archive).unwrap();
    let head = text(&manifest);
    let records =
        [("manifest.json", EntryType::Regular, head.as_slice()), ("log.ndjson", EntryType::Regular, &log)];
    let padded = [plain(&tar_of(&records)), vec![0; 64 << 20]].concat();
    assert_eq!(
        refusal(&zstd::encode_all(padded.as_slice(), 1).unwrap()),
        "it goes on behind its last member"
    );
    // A manifest that claims to be huge is not read.
    let mut header = Header::new_ustar();
    header.set_path("manifest.json").unwrap();
    header.set_size(1 << 40);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let endless = zstd::encode_all(&header.as_bytes()[..], 1).unwrap();
    assert_eq!(refusal(&endless), "it does not begin with a session's manifest");
    // What a reader would have to keep for it is bounded.
    let mut wide = zstd::Encoder::new(vec![], 1).unwrap();
    wide.long_distance_matching(true).unwrap();
    wide.window_log(27).unwrap();
    std::io::copy(&mut std::io::repeat(1).take(32 << 20), &mut wide).unwrap();
    refusal(&wide.finish().unwrap());
}

#[test]
fn a_log_is_gapless_known_and_whole() {
    let good = entries(&["one".into(), "two".into()]);
    let with = |log: &[u8], count| {
        let (manifest, bytes) = manifest(log, count, &[], None);
        packed(&manifest, &bytes)
    };
    assert!(opened(&with(&log_of(&good), 3)).is_ok());
    assert!(refusal(&with(&log_of(&good), 2)).contains("shorter or longer"));
    let gap: Vec<Entry> = good.iter().filter(|entry| entry.seq != 2).cloned().collect();
    assert_eq!(refusal(&with(&log_of(&gap), 2)), "entry 2 of its log says that it is number 3");
    let mut again = good.clone();
    again[1].event = good[0].event.clone();
    assert_eq!(refusal(&with(&log_of(&again), 3)), "entry 2 of its log is out of place");
    let mut headless = good.clone();
    headless[0].event = good[1].event.clone();
    assert_eq!(refusal(&with(&log_of(&headless), 3)), "entry 1 of its log is out of place");
    let unknown = br#"{"seq":4,"at_ms":1,"epoch":1,"event":{"type":"world_ended"}}"#;
    let more = [log_of(&good), unknown.to_vec(), b"\n".to_vec()].concat();
    assert!(refusal(&with(&more, 4)).starts_with("entry 4 of its log cannot be read: unknown variant"));
    let cut = log_of(&good);
    assert_eq!(refusal(&with(&cut[..cut.len() - 1], 3)), "its log ends within an entry");
    assert!(refusal(&with(b"", 0)).contains("log"));
}
