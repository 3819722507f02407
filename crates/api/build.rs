//! Has the crate built again when the web page was.

use std::path::Path;

fn main() {
    let dist = Path::new("../../web/dist");
    // Cargo takes a missing path as changed at every build. Where it cannot be made, the page cannot be built either.
    if std::fs::create_dir_all(dist).is_ok() {
        println!("cargo::rerun-if-changed={}", dist.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
}
