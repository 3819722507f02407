//! Tests of `exchange`: one layer out and in again. Whole images are in `tests/exchange.rs`.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tokio_util::sync::CancellationToken;

fn whiteout(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::empty(), 0).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let at = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, at).unwrap();
}

/// Everything that a layer can hold.
fn layer(at: &Path) {
    let long = "x".repeat(200);
    fs::create_dir_all(at.join("root/dir/opaque")).unwrap();
    fs::create_dir_all(at.join(format!("root/{long}/{long}"))).unwrap();
    fs::write(at.join(format!("root/{long}/{long}/deep")), "deep").unwrap();
    fs::write(at.join("root/a\nname"), "of two lines").unwrap();
    fs::write(at.join(std::ffi::OsStr::from_bytes(b"root/\xff")), "no text").unwrap();
    symlink("./relative//as/it/is", at.join("root/link")).unwrap();
    symlink(format!("/{long}\n/{long}"), at.join("root/long-link")).unwrap();
    whiteout(&at.join("root/gone"));
    whiteout(&at.join("root/gone-too"));
    attribute(&at.join("root/dir/opaque"), "user.overlay.opaque", b"y");
    fs::write(at.join("root/one"), "shared").unwrap();
    fs::hard_link(at.join("root/one"), at.join("root/dir/other")).unwrap();
    fs::hard_link(at.join("root/one"), at.join("root/two")).unwrap();
    attribute(&at.join("root/one"), "user.a=b %\u{e9}", b"two\nlines\0");
    fs::set_permissions(at.join("root/one"), fs::Permissions::from_mode(0o4751)).unwrap();
    let holes = File::create(at.join("root/holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", 50 << 20).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("root/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    time(&at.join("root/one"), -3, 500_000_001);
    time(&at.join("root/link"), 1, 999_999_999);
    fs::set_permissions(at.join("root/dir"), fs::Permissions::from_mode(0o1555)).unwrap();
    time(&at.join("root/dir"), 2, 7);
    time(&at.join("root"), 3, 8);
}

/// All that is known of each entry.
fn facts(at: &Path) -> BTreeMap<PathBuf, String> {
    let mut reader = greenroom_sandbox::LayerReader::open(at).unwrap();
    let (mut found, mut first) = (BTreeMap::new(), std::collections::HashMap::new());
    while let Some((path, stat)) = reader.advance().unwrap() {
        let full = at.join(&path);
        let kind = fs::symlink_metadata(&full).unwrap().file_type();
        let mut line = format!(
            "{:o} {} {} {}.{}",
            stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec
        );
        if kind.is_file() {
            let first = first.entry(stat.st_ino).or_insert_with(|| path.clone());
            let digest = fs::read(&full)
                .unwrap()
                .iter()
                .fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            line += &format!(" {} {digest} {}", stat.st_size, first.display());
        }
        if kind.is_symlink() {
            line += &format!(" {:?}", fs::read_link(&full).unwrap());
        } else if kind.is_file() || kind.is_dir() {
            let opened = if kind.is_dir() { reader.directory(&path) } else { reader.file(&path) }.unwrap();
            line += &format!(" {:?}", reader.attributes(&opened).unwrap());
        }
        found.insert(path, line);
    }
    found
}

pub(super) fn packed(layer: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(layer, Owners::of(true), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_layer_is_the_same_once_it_was_packed_and_unpacked() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    layer(from.path());
    let bytes = packed(from.path());
    assert!(bytes.len() < 1 << 20, "holes cost nothing");
    unpack(bytes.as_slice(), to.path(), Owners::of(true), &CancellationToken::new()).unwrap();
    assert_eq!(facts(to.path()), facts(from.path()));
    assert!(facts(to.path()).len() > 15);
    assert!(fs::metadata(to.path().join("root/holes")).unwrap().blocks() < 100, "holes are holes");
    assert_eq!(packed(to.path()), bytes, "the same layer is the same bytes");
}

#[test]
fn owners_are_those_inside_whatever_the_disk_has() {
    use super::pack::Owners::{AsTheyAre, One, Shifted};
    let base = greenroom_sandbox::ID_BASE;
    for (owners, inside, on_disk) in [(Shifted, 7, Some(base + 7)), (AsTheyAre, 7, Some(7)), (One, 0, None)] {
        assert_eq!(owners.inside(on_disk.unwrap_or(1000)), inside);
        assert_eq!(owners.on_disk(inside.into()), on_disk);
    }
    for outside in [0, base - 1, base + 65_536] {
        assert_eq!(Shifted.inside(outside), 65_534, "{outside} is nobody's");
    }
    assert_eq!(Shifted.on_disk(1 << 40), Some(base + 65_534));
    assert_eq!(AsTheyAre.on_disk(70_000), Some(65_534));
}

#[test]
fn only_attributes_that_a_sandbox_can_set_are_kept() {
    let mut inside = vec![0; 24];
    inside[3] = 3;
    inside[20..].copy_from_slice(&greenroom_sandbox::ID_BASE.to_le_bytes());
    assert!(attribute_is_kept(b"user.overlay.opaque", b"y"));
    assert!(attribute_is_kept(CAPABILITY, &inside));
    let mut of_the_host = inside.clone();
    of_the_host[20..].fill(0);
    let version_two = &inside[..20];
    for (name, value) in [
        (CAPABILITY, of_the_host.as_slice()),
        (CAPABILITY, version_two),
        (b"trusted.overlay.opaque", b"y"),
        (b"security.selinux", b"x"),
        (b"system.posix_acl_access", b"x"),
    ] {
        assert!(!attribute_is_kept(name, value), "{}", String::from_utf8_lossy(name));
    }
}
