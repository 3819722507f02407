//! Builds the static program of crate `stage` with a cargo of its own, in a target directory of its own, and leaves it
//! where `program.rs` includes it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let stage = here.join("../stage");
    for path in ["Cargo.toml", "src"] {
        println!("cargo::rerun-if-changed={}", stage.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let built = build(&stage.join("Cargo.toml"), &target, &out.join("stage"));
    fs::copy(&built, out.join("greenroom-stage")).expect("the built program can be copied within OUT_DIR");
}

fn build(manifest: &Path, target: &str, directory: &Path) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .args(["build", "--quiet", "--release", "--package", "greenroom-stage", "--bin", "greenroom-stage"])
        .args(["--features", "program", "--target", target, "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(directory)
        .args(["--config", "profile.release.panic='abort'", "--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false", "--config", "profile.release.codegen-units=16"])
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    // The outer build's flags, wrappers (clippy) and coverage belong to the outer build.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "LLVM_PROFILE_FILE",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("cargo can be started again");
    assert!(status.success(), "building the static stage program failed ({status}); its errors are above");
    directory.join(target).join("release/greenroom-stage")
}
