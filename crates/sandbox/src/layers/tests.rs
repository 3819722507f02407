//! Tests of `layers`. Whiteouts are made as overlay makes them; as an ordinary user that needs no right either.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Layer {
    directory: tempfile::TempDir,
}

impl Layer {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn whiteout(self, path: &str) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        self
    }

    fn opaque(self, path: &str) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(&path).unwrap();
        rustix::fs::setxattr(&path, OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        self
    }
}

fn copied(layers: &[&Layer]) -> Layer {
    let copy = Layer::new();
    let target = copy.path().join("copy");
    let layers: Vec<&Path> = layers.iter().map(|layer| layer.path()).collect();
    let mut made = LayerCopy::new(&layers, &target).unwrap();
    made.update().unwrap();
    made.finish().unwrap();
    copy
}

fn text(layer: &Layer, path: &str) -> Option<String> {
    fs::read_to_string(layer.path().join("copy").join(path)).ok()
}

fn is_whited_out(layer: &Layer, path: &str) -> bool {
    rustix::fs::lstat(layer.path().join("copy").join(path)).is_ok_and(|facts| is_whiteout(&facts))
}

fn has_opaque(layer: &Layer, path: &str) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::getxattr(layer.path().join("copy").join(path), OPAQUE, &mut value) == Ok(1)
}

#[test]
fn the_uppermost_file_of_a_name_is_kept() {
    let low = Layer::new().file("root/a/one", "old").file("root/a/two", "two");
    let high = Layer::new().file("root/a/one", "new").file("root/three", "three");
    let copy = copied(&[&low, &high]);
    assert_eq!(text(&copy, "root/a/one").unwrap(), "new");
    assert_eq!(text(&copy, "root/a/two").unwrap(), "two");
    assert_eq!(text(&copy, "root/three").unwrap(), "three");
}

#[test]
fn a_whiteout_hides_what_is_below_and_goes_on_hiding_what_is_below_the_chain() {
    let low = Layer::new().file("root/a/gone", "x").file("root/tree/deep/file", "x");
    let high = Layer::new().whiteout("root/a/gone").whiteout("root/tree");
    let copy = copied(&[&low, &high]);
    assert!(is_whited_out(&copy, "root/a/gone"));
    assert!(is_whited_out(&copy, "root/tree"));
}

#[test]
fn a_file_over_a_whiteout_is_the_file() {
    let low = Layer::new().whiteout("root/back");
    let high = Layer::new().file("root/back", "again");
    assert_eq!(text(&copied(&[&low, &high]), "root/back").unwrap(), "again");
}

#[test]
fn an_opaque_directory_hides_its_lower_ones_and_stays_opaque() {
    let lowest = Layer::new().file("root/d/lowest", "x");
    let low = Layer::new().opaque("root/d").file("root/d/low", "x");
    let high = Layer::new().file("root/d/high", "x");
    let copy = copied(&[&lowest, &low, &high]);
    assert!(has_opaque(&copy, "root/d"));
    assert!(text(&copy, "root/d/low").is_some() && text(&copy, "root/d/high").is_some());
    assert!(text(&copy, "root/d/lowest").is_none());
    assert!(!has_opaque(&copy, "root"));
}

#[test]
fn a_directory_that_only_the_lowest_layer_of_the_chain_closes_stays_closed() {
    let low = Layer::new().opaque("root/d").file("root/d/low", "x");
    let high = Layer::new().file("root/d/high", "x");
    assert!(has_opaque(&copied(&[&low, &high]), "root/d"));
}

#[test]
fn a_directory_over_a_file_or_a_whiteout_of_the_chain_becomes_opaque() {
    let lowest = Layer::new().file("root/d/lowest", "x").file("root/e/lowest", "x");
    let low = Layer::new().whiteout("root/d").file("root/e", "a file");
    // The middle layer's directory `e` cannot be: its own name is a file there.
    let high = Layer::new().file("root/d/high", "x").file("root/e/high", "x");
    let copy = copied(&[&lowest, &low, &high]);
    assert!(has_opaque(&copy, "root/d") && has_opaque(&copy, "root/e"));
    assert!(text(&copy, "root/d/lowest").is_none() && text(&copy, "root/e/lowest").is_none());
    assert!(text(&copy, "root/d/high").is_some());
}

#[test]
fn one_layer_is_copied_as_it_is() {
    let layer = Layer::new().file("root/a", "text").opaque("root/d").whiteout("root/w").file(".work/x", "x");
    let path = layer.path().join("root");
    fs::hard_link(path.join("a"), path.join("b")).unwrap();
    symlink("/etc/passwd", path.join("link")).unwrap();
    rustix::fs::mknodat(CWD, path.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    fs::set_permissions(path.join("a"), fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(path.join("a"), "user.mine", b"value", rustix::fs::XattrFlags::empty()).unwrap();
    let sparse = fs::File::create(path.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    let old = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000));
    fs::File::open(path.join("a")).unwrap().set_times(old).unwrap();
    fs::File::open(&path).unwrap().set_times(old).unwrap();

    let copy = copied(&[&layer]);
    let of = |name: &str| copy.path().join("copy/root").join(name);
    let facts = fs::metadata(of("a")).unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.nlink(), facts.mtime()), (0o4751, 2, 1_000_000));
    assert_eq!(facts.ino(), fs::metadata(of("b")).unwrap().ino());
    assert_eq!(fs::metadata(of("")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::read_link(of("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::symlink_metadata(of("fifo")).is_ok() && fs::symlink_metadata(of("socket")).is_err());
    let mut value = [0u8; 5];
    rustix::fs::getxattr(of("a"), "user.mine", &mut value).unwrap();
    assert_eq!(&value, b"value");
    let sparse = fs::metadata(of("sparse")).unwrap();
    assert!(sparse.len() == 64 << 20 && sparse.blocks() * 512 < 1 << 20, "{}", sparse.blocks());
    assert!(fs::read(of("sparse")).unwrap().ends_with(b"end"));
    assert!(has_opaque(&copy, "root/d") && is_whited_out(&copy, "root/w"));
    assert!(!copy.path().join("copy/.work").exists());
}

#[test]
fn a_second_pass_brings_the_copy_up_to_date() {
    let layer = Layer::new()
        .file("root/same", "same")
        .file("root/changed", "before")
        .file("root/gone/deep", "x")
        .file("root/becomes", "a file")
        .file("root/was/a", "directory")
        .file("root/moved/file", "x");
    let path = layer.path().join("root");
    fs::hard_link(path.join("changed"), path.join("twin")).unwrap();
    let copy = Layer::new();
    let mut made = LayerCopy::new(&[layer.path()], &copy.path().join("copy")).unwrap().remembering();
    made.update().unwrap();
    let same = fs::metadata(copy.path().join("copy/root/same")).unwrap();

    fs::write(path.join("changed"), "after").unwrap();
    fs::remove_dir_all(path.join("gone")).unwrap();
    fs::remove_file(path.join("becomes")).unwrap();
    fs::create_dir(path.join("becomes")).unwrap();
    fs::write(path.join("becomes/new"), "new").unwrap();
    fs::remove_dir_all(path.join("was")).unwrap();
    fs::write(path.join("was"), "a file").unwrap();
    fs::rename(path.join("moved"), path.join("here")).unwrap();
    made.update().unwrap();
    made.finish().unwrap();

    assert_eq!(text(&copy, "root/changed").unwrap(), "after");
    assert_eq!(text(&copy, "root/twin").unwrap(), "after");
    assert!(!copy.path().join("copy/root/gone").exists());
    assert_eq!(text(&copy, "root/becomes/new").unwrap(), "new");
    assert_eq!(text(&copy, "root/was").unwrap(), "a file");
    assert_eq!(text(&copy, "root/here/file").unwrap(), "x");
    assert!(!copy.path().join("copy/root/moved").exists());
    assert_eq!(text(&copy, "root/same").unwrap(), "same");
    let changed = fs::metadata(copy.path().join("copy/root/changed")).unwrap();
    assert_eq!(changed.nlink(), 2);
    assert!(fs::metadata(copy.path().join("copy/root/same")).unwrap().len() == same.len());
}

#[test]
fn no_link_leads_out_even_one_that_takes_a_directorys_place() {
    let outside = Layer::new().file("secret", "secret");
    let layer = Layer::new().file("root/d/secret", "mine").file("root/z", "x");
    let copy = Layer::new();
    let mut made = LayerCopy::new(&[layer.path()], &copy.path().join("copy")).unwrap().remembering();
    made.update().unwrap();
    fs::remove_dir_all(layer.path().join("root/d")).unwrap();
    symlink(outside.path(), layer.path().join("root/d")).unwrap();
    let opened = open_below(&made.sources[0], Path::new("root/d"));
    assert!(opened.is_err(), "a link is no directory");
    made.update().unwrap();
    made.finish().unwrap();
    assert!(fs::symlink_metadata(copy.path().join("copy/root/d")).unwrap().is_symlink());
}

#[test]
fn closed_directories_are_copied_with_what_is_in_them() {
    let layer = Layer::new().file("root/closed/file", "x").file("root/closed/secret", "y");
    let closed = layer.path().join("root/closed");
    fs::set_permissions(closed.join("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let copy = copied(&[&layer]);
    let target = copy.path().join("copy/root/closed");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o500);
    assert_eq!(fs::metadata(target.join("secret")).unwrap().mode() & 0o777, 0);
    assert_eq!(fs::metadata(target.join("file")).unwrap().len(), 1);
    for path in [&target, &closed] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
