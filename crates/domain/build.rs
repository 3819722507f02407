//! Names the state machine by its source, so that a checkpoint of a session's state is only ever read by the code that
//! wrote it. Any change counts: reading a log again from its beginning is cheap beside a wrong state.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut files = vec![];
    collect(Path::new("src"), &mut files);
    files.sort();
    let mut digest = DefaultHasher::new();
    for file in files {
        let text = fs::read(&file).expect("the crate's own source can be read");
        digest.write(file.as_os_str().as_encoded_bytes());
        digest.write(&text);
    }
    println!("cargo::rustc-env=GREENROOM_STATE_VERSION={:016x}", digest.finish());
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the crate's own source can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
