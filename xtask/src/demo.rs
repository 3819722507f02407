//! `demo` and `bench`: make the machine ready, build, and become the program.

use crate::cargo::{self, Profile};
use crate::packages::{self, Purpose};
use crate::web;
use anyhow::{Result, anyhow};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let program = ready(Profile::Debug)?;
    Err(become_program(&program, "demo", arguments))
}

pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let program = ready(Profile::Release)?;
    Err(become_program(&program, "bench", arguments))
}

fn ready(profile: Profile) -> Result<PathBuf> {
    packages::install(Purpose::Demo)?;
    web::build()?;
    eprintln!("Building greenroom.");
    cargo::build(profile)
}

/// Comes back only when the program cannot be started.
fn become_program(program: &Path, verb: &str, arguments: &[String]) -> anyhow::Error {
    let error = Command::new(program).arg(verb).args(arguments).exec();
    anyhow!(error).context(format!("starting {}", program.display()))
}
