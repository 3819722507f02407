//! Packs the source that this program is built from, for agents to read: the files that git tracks, or, in an unpacked
//! source archive, everything of the project's own directories. Sorted and without times, so that equal sources give equal
//! bytes. Nothing that is built, fetched or secret is in it.

use flate2::{Compression, write::GzEncoder};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What an unpacked source archive consists of.
const OWN: [&str; 16] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "bench",
    "crates",
    "docs",
    "extensions",
    "tests",
    "web",
    "xtask",
];
/// Never packed, whoever tracks them.
const NOT_SOURCE: [&str; 6] = [".git", "target", "node_modules", "dist", "artifacts", "test-results"];
const SECRET_ENDINGS: [&str; 4] = [".env", ".pem", ".key", ".p12"];
/// A file larger than this is no source.
const MAX_FILE: u64 = 4 << 20;

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = here.join("../..").canonicalize().expect("the workspace is two directories up");
    let mut files = tracked(&root).unwrap_or_else(|| own_files(&root));
    files.retain(|path| is_source(&root, path));
    println!("cargo::rerun-if-changed=build.rs");
    for path in &files {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let archive = pack(&root, &files).expect("the source can be read and packed");
    fs::write(out.join("source.tar.gz"), archive).expect("OUT_DIR can be written");
}

/// None where this is no checkout, or git is missing or refuses it.
fn tracked(root: &Path) -> Option<BTreeSet<PathBuf>> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok())?
    };
    // A checkout around an unpacked archive tracks other things.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(top.trim_end()).canonicalize().ok()? != root {
        return None;
    }
    let names = git(&["ls-files", "-z"])?;
    Some(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn own_files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending: Vec<PathBuf> = OWN.iter().map(PathBuf::from).collect();
    while let Some(path) = pending.pop() {
        let Ok(entries) = fs::read_dir(root.join(&path)) else {
            found.insert(path);
            continue;
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter(|name| !NOT_SOURCE.iter().any(|not| name == *not));
        pending.extend(names.map(|name| path.join(name)));
    }
    found
}

fn is_source(root: &Path, path: &Path) -> bool {
    let is_excluded = path.iter().any(|part| NOT_SOURCE.iter().any(|not| part == *not));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_secret = name.starts_with(".env") || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending));
    let facts = fs::symlink_metadata(root.join(path));
    !is_excluded && !is_secret && facts.is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_FILE)
}

fn pack(root: &Path, files: &BTreeSet<PathBuf>) -> std::io::Result<Vec<u8>> {
    // Compressing takes an unoptimised build seconds, and there is nothing to save.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let level = if is_release { Compression::best() } else { Compression::none() };
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), level));
    for path in files {
        let bytes = fs::read(root.join(path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, path, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()
}
