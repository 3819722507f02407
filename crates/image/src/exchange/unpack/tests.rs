//! Tests of `unpack` with what nobody's `pack` wrote.

use super::*;
use std::fs;
use tar::{Builder, Header};

/// One entry: kind, path, link.
pub(super) type Line<'a> = (EntryType, &'a str, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIRECTORY: EntryType = EntryType::Directory;
pub(super) const TOP: Line<'static> = (DIRECTORY, ".", "");

fn archive_with(lines: &[Line<'_>], records: &[(&str, &[u8])], change: impl Fn(&mut Header)) -> Vec<u8> {
    let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (kind, path, link) in lines {
        archive.append_pax_extensions(records.iter().copied()).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        change(&mut header);
        header.set_cksum();
        archive.append(&header, io::empty()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

pub(super) fn archive(lines: &[Line<'_>]) -> Vec<u8> {
    archive_with(lines, &[(MTIME, b"1.000000000")], |_| {})
}

/// Answers the reason; what lies beside the layer must be as it was.
pub(super) fn refusal(bytes: &[u8]) -> Option<String> {
    let room = tempfile::tempdir().unwrap();
    fs::write(room.path().join("outside"), "kept").unwrap();
    let layer = room.path().join("layer");
    fs::create_dir(&layer).unwrap();
    let end = unpack(bytes, &layer, Owners::of(false), &CancellationToken::new());
    assert_eq!(fs::read(room.path().join("outside")).unwrap(), b"kept");
    assert_eq!(room.path().read_dir().unwrap().count(), 2);
    end.err().map(|error| error.to_string())
}

#[test]
fn what_pack_would_not_have_written_is_refused() {
    let link = (EntryType::Symlink, "out", "..");
    assert_eq!(refusal(&archive(&[TOP, (DIRECTORY, "d", ""), (FILE, "d/f", ""), link])), None);
    let refused: [&[Line<'_>]; 15] = [
        &[],
        &[(FILE, "f", "")],
        &[TOP, TOP],
        &[TOP, (FILE, "../outside", "")],
        &[TOP, (FILE, "/outside", "")],
        &[TOP, (FILE, "d/../../outside", "")],
        &[TOP, (FILE, "missing/f", "")],
        &[TOP, (FILE, "f", ""), (FILE, "f", "")],
        &[TOP, link, (FILE, "out/outside", "")],
        &[TOP, (DIRECTORY, "d", ""), (FILE, "f", ""), (FILE, "d/late", "")],
        &[TOP, (EntryType::Link, "l", "../outside")],
        &[TOP, link, (EntryType::Link, "l", "out/outside")],
        &[TOP, (EntryType::Symlink, "l", "")],
        &[TOP, (EntryType::Block, "b", "")],
        &[TOP, (EntryType::Regular, "", "")],
    ];
    for lines in refused {
        assert!(refusal(&archive(lines)).is_some(), "{lines:?}");
    }
}

#[test]
fn devices_attributes_of_the_host_and_unknown_records_are_refused() {
    let device = |header: &mut Header| header.set_device_minor(3).unwrap();
    let lines = [TOP, (EntryType::Char, "null", "")];
    assert_eq!(
        refusal(&archive_with(&lines, &[(MTIME, b"1.000000000")], device)).unwrap(),
        "it has a device"
    );
    let host = concat!("LIBARCHIVE.xattr.", "trusted.overlay.opaque");
    for record in [(host, "eQ=="), ("SCHILY.xattr.user.a", "b"), (MTIME, "soon"), (MTIME, "1.5"), (MTIME, "")]
    {
        let records: [(&str, &[u8]); 2] = [(MTIME, b"1.000000000"), (record.0, record.1.as_bytes())];
        assert!(refusal(&archive_with(&[TOP], &records, |_| {})).is_some(), "{record:?}");
    }
    assert_eq!(refusal(&archive_with(&[TOP], &[], |_| {})).unwrap(), "an entry has no time");
}

#[test]
fn bytes_behind_the_end_and_a_file_larger_than_any_are_refused() {
    let whole = archive(&[TOP]);
    assert_eq!(refusal(&[whole.as_slice(), b"x"].concat()).unwrap(), "it goes on behind its end");
    assert!(refusal(&whole[..whole.len() - 1]).is_some());
    let padded = |zeros: usize| {
        let plain = zstd::decode_all(whole.as_slice()).unwrap();
        zstd::encode_all([plain, vec![0; zeros]].concat().as_slice(), 1).unwrap()
    };
    assert_eq!(refusal(&padded(512)), None);
    assert_eq!(refusal(&padded(MOST_PADDING as usize)).unwrap(), "it goes on behind its last entry");
    let mut plain = Vec::new();
    let mut header = Header::new_gnu();
    header.set_size(MOST_BYTES + 1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_path("f").unwrap();
    header.set_cksum();
    let mut top = Builder::new(&mut plain);
    top.append_pax_extensions([(MTIME, b"1.000000000".as_slice())]).unwrap();
    let mut of_top = Header::new_gnu();
    of_top.set_entry_type(DIRECTORY);
    of_top.set_mode(0o755);
    of_top.set_uid(0);
    of_top.set_gid(0);
    of_top.set_size(0);
    of_top.as_old_mut().name[0] = b'.';
    of_top.set_cksum();
    top.append(&of_top, io::empty()).unwrap();
    top.append_pax_extensions([(MTIME, b"1.000000000".as_slice())]).unwrap();
    drop(top);
    // Without the two empty blocks that ended the archive.
    plain.truncate(plain.len() - 1024);
    plain.extend(header.as_bytes());
    let bytes = zstd::encode_all(plain.as_slice(), 1).unwrap();
    assert_eq!(refusal(&bytes).unwrap(), "it has more than 64 GiB");
}

#[test]
fn a_cancelled_one_ends() {
    let (room, cancel) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    cancel.cancel();
    let error = unpack(archive(&[TOP]).as_slice(), room.path(), Owners::of(false), &cancel).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
}
