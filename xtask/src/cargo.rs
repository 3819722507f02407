//! Cargo, as this program was started by it.

use crate::{process, root};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

pub(crate) fn cargo(verb: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.arg(verb).current_dir(root());
    command
}

/// Whether `cargo VERB` is installed.
pub(crate) fn has(verb: &str) -> bool {
    cargo(verb).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Builds the `greenroom` program and says where it is.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo("build");
    command.args(["--package", "greenroom"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    program(profile)
}

/// Where a build puts the `greenroom` program.
pub(crate) fn program(profile: Profile) -> Result<PathBuf> {
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    Ok(target_dir()?.join(folder).join("greenroom"))
}

/// `CARGO_TARGET_DIR` and cargo's own settings respected: cargo is asked.
fn target_dir() -> Result<PathBuf> {
    let metadata =
        process::output(cargo("metadata").args(["--no-deps", "--offline", "--format-version", "1"]))?;
    let (_, rest) =
        metadata.split_once("\"target_directory\":\"").context("cargo names no target directory")?;
    let path = rest.split('"').next().unwrap_or_default();
    Ok(PathBuf::from(path.replace("\\\\", "\\")))
}
