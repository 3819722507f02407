//! `cargo xtask VERB`: everything that is done with a clone of this repository. Standard library and `anyhow` only, so
//! that it is there in seconds; installs what a verb needs and says so in one line each.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for the terminal")]

mod cargo;
mod demo;
mod generate;
mod newcomer;
mod packages;
mod process;
mod schema;
mod simulation;
mod suite;
mod web;

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask VERB

  demo [--once] [ARGUMENT…]  install what is missing, build, run the demonstration
  test                       install what is missing, build, run every test
  check                      formatting, clippy, and cargo-deny where it is installed
  e2e [page]                 only the end-to-end tests of the program and of the page, or of the page alone
  bench [ARGUMENT…]          release build, then `greenroom bench ARGUMENT…`
  soak crash                 release build, then 1,000 kills at random moments under load
  soak images                every ecosystem and base built for real, with what apt-get and the registries give
  soak schema                ten minutes of requests that the API's document allows, and many that it does not
  soak simulation            release build, then 10,000 histories of sessions with crashes and faults
  soak mutations             whether those histories find mistakes: each of five, made in a copy of the core
  simulate SEED              one of those histories again, and what went wrong in it
  soak fuzz                  release build, then 50,000 cases for each property of what reads hostile bytes
  soak frames                release build, then 50,000 connections that send what no client sends
  generate                   write docs/cli.md, docs/settings.md, docs/openapi.json, web/src/api/schema.ts anew
  newcomer [demo|test|both]  demo and tests as a new machine would: fresh clone, empty home, empty caches";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    match perform(&verb, &arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask {verb}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: &str, arguments: &[String]) -> Result<()> {
    match verb {
        "demo" => demo::run(arguments),
        "test" => suite::test(),
        "check" => suite::check(),
        "e2e" => suite::e2e(arguments),
        "bench" => demo::bench(arguments),
        "simulate" => simulation::simulate(arguments),
        "soak" => suite::soak(arguments),
        "generate" => generate::write(),
        "newcomer" => newcomer::perform(arguments.first().map_or("both", String::as_str)),
        "" | "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no such verb\n\n{HELP}"),
    }
}

/// The repository's folder.
fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask lies in the repository").to_owned()
}
