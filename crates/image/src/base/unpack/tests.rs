//! Tests of `unpack`: hostile archives above all.

use super::*;
use std::fs;
use std::io::Write;
use tar::{Builder, Header};

pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// The path is written as it is, however wrong.
    pub(super) fn add(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        let raw = header.as_old_mut();
        raw.name[..path.len()].copy_from_slice(path.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(EntryType::Regular, path, "", content.as_bytes())
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, b"")
    }

    fn directory(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }
}

/// A root below a directory that holds what nothing may touch.
pub(super) struct Place {
    pub(super) directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("outside"), "kept").unwrap();
        Self { directory }
    }

    pub(super) fn apply(&self, layers: Vec<Layer>) -> io::Result<u64> {
        let mut root = Root::open(&self.directory.path().join("root"))?;
        for layer in layers {
            let path = self.directory.path().join("layer");
            fs::write(&path, layer.0.into_inner()?)?;
            root.apply(&path)?;
        }
        Ok(root.left_out())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.path().join("root").join(path))
            .unwrap_or_else(|error| error.to_string())
    }

    fn has(&self, path: &str) -> bool {
        self.directory.path().join("root").join(path).symlink_metadata().is_ok()
    }
}

#[test]
fn later_layers_win_and_whiteouts_remove_what_is_below() {
    let place = Place::new();
    let lower = Layer::new()
        .directory("etc")
        .file("etc/a", "1")
        .file("etc/b", "1")
        .file("opt/old/x", "1")
        .directory("usr/bin")
        .link("bin", "usr/bin")
        .file("gone", "1");
    let upper = Layer::new()
        .file("etc/.wh.a", "")
        .file("etc/b", "2")
        .file("opt/old/new", "2")
        .file("opt/old/.wh..wh..opq", "")
        .file("bin/tool", "2")
        .file(".wh.gone", "");
    place.apply(vec![lower, upper]).unwrap();
    assert_eq!(place.read("etc/b"), "2");
    assert_eq!(place.read("opt/old/new"), "2");
    assert_eq!(place.read("usr/bin/tool"), "2", "a link of the image is followed inside of it");
    for gone in ["etc/a", "opt/old/x", "gone", "etc/.wh.a"] {
        assert!(!place.has(gone), "{gone}");
    }
}

#[test]
fn nothing_is_written_outside_of_the_root() {
    for layers in [
        vec![Layer::new().file("../outside", "evil")],
        vec![Layer::new().file("a/../../outside", "evil")],
        vec![Layer::new().link("up", "..").file("up/outside", "evil")],
        vec![Layer::new().link("up", "../..").add(EntryType::Link, "copy", "up/outside", b"")],
        vec![Layer::new().link("abs", "/").file("abs/../outside", "evil")],
        vec![Layer::new().link("up", "..").file("up/.wh.outside", "")],
        vec![Layer::new().file(".wh...", "")],
        vec![Layer::new().add(EntryType::Link, "copy", "../outside", b"")],
    ] {
        let place = Place::new();
        let _ = place.apply(layers);
        let outside = place.directory.path().join("outside");
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
        assert!(!place.has("copy"));
    }
}

#[test]
fn links_lead_inside_whatever_they_say() {
    let place = Place::new();
    let target = place.directory.path().join("outside");
    let layer = Layer::new()
        .link("passwd", target.to_str().unwrap())
        .link("home", "/../..")
        .file("home/x", "inside")
        .link("file", "/outside-link");
    // A file over a link replaces the link.
    let over = Layer::new().file("passwd", "mine").file("file", "mine");
    place.apply(vec![layer, over]).unwrap();
    assert_eq!(place.read("x"), "inside");
    assert_eq!(place.read("passwd"), "mine");
    assert_eq!(fs::read_to_string(target).unwrap(), "kept");
}

#[test]
fn devices_and_pipes_are_left_out_and_counted() {
    let place = Place::new();
    let layer = Layer::new()
        .add(EntryType::Char, "dev/null", "", b"")
        .add(EntryType::Block, "dev/sda", "", b"")
        .add(EntryType::Fifo, "run/pipe", "", b"")
        .file("etc/x", "1");
    assert_eq!(place.apply(vec![layer]).unwrap(), 3);
    assert!(!place.has("dev/null") && !place.has("run/pipe") && place.has("etc/x"));
}

#[test]
fn hard_links_and_modes_are_kept() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let layer = Layer::new().file("bin/a", "x").add(EntryType::Link, "bin/b", "bin/a", b"");
    place.apply(vec![layer]).unwrap();
    let inode = |path: &str| fs::metadata(place.directory.path().join("root").join(path)).unwrap().ino();
    assert_eq!(inode("bin/a"), inode("bin/b"));
    assert_eq!(place.read("bin/b"), "x");
}

#[test]
fn a_cut_archive_is_refused() {
    let place = Place::new();
    let mut bytes = Layer::new().file("a", &"x".repeat(5000)).0.into_inner().unwrap();
    bytes.truncate(2000);
    let path = place.directory.path().join("layer");
    fs::write(&path, bytes).unwrap();
    Root::open(&place.directory.path().join("root")).unwrap().apply(&path).unwrap_err();
}

/// Of an archive of a few kilobytes, which unfolds to far more than the bound.
#[test]
fn a_name_or_an_attribute_without_end_is_refused_before_it_fills_the_memory() {
    const CLAIMED: u64 = 64 << 30;
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let place = Place::new();
        let path = place.directory.path().join("layer");
        let mut packed =
            flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(CLAIMED);
        header.set_path("././@LongLink").unwrap();
        header.set_cksum();
        packed.write_all(header.as_bytes()).unwrap();
        for _ in 0..4 {
            packed.write_all(&[b'a'; 1 << 20]).unwrap();
        }
        packed.finish().unwrap();
        let refused = Root::open(&place.directory.path().join("root")).unwrap().apply(&path).unwrap_err();
        assert!(refused.to_string().contains("longer than 1024 KiB"), "{kind:?}: {refused}");
    }
}

#[test]
fn a_tree_that_links_made_deeper_than_any_path_is_hidden_by_one_whiteout() {
    let place = Place::new();
    let step = "d/".repeat(120);
    let mut layer = Layer::new().directory(&step[..80]);
    let mut to = "d/".repeat(40);
    for number in 0..40 {
        // Each link leads forty levels further down than the one before.
        let name = format!("l{number}");
        layer = layer.link(&name, to.trim_end_matches('/')).directory(&format!("{name}/{}", &step[..80]));
        to = format!("{name}/{}", "d/".repeat(40));
        if to.len() > 99 {
            to.truncate(99);
        }
    }
    place.apply(vec![layer, Layer::new().file(".wh.d", "")]).unwrap();
    assert!(!place.has("d"));
}
