//! `simulate SEED`, `soak simulation` and `soak mutations`: histories of chance, and whether they find mistakes. A mutation
//! is a line of the core made wrong in a copy of the repository, where some history must then break a promise.

use crate::cargo::cargo;
use crate::process::{run, stage};
use crate::root;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is made wrong, where, and how.
struct Mutation {
    name: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const MUTATIONS: [Mutation; 5] = [
    Mutation {
        name: "a command is acknowledged before it is synced",
        file: "crates/session/src/actor.rs",
        right: "match self.commit(events, Durability::Synced, Some(receipt.clone())).await {",
        wrong: "match self.commit(events, Durability::Buffered, Some(receipt.clone())).await {",
    },
    Mutation {
        name: "the newest prompt is answered first",
        file: "crates/domain/src/state/queue.rs",
        right: "match self.queue.iter().find(|queued| !queued.is_held) {",
        wrong: "match self.queue.iter().rfind(|queued| !queued.is_held) {",
    },
    Mutation {
        name: "viewers are told what is not synced",
        file: "crates/session/src/actor.rs",
        right: "if durability == Durability::Synced {",
        wrong: "if durability == durability {",
    },
    Mutation {
        name: "a cut-off call is run again",
        file: "crates/domain/src/state.rs",
        right: "std::iter::once(interrupted).chain(resets).chain(unknown).collect()",
        wrong: "std::iter::once(interrupted).chain(resets).chain(unknown.take(0)).collect()",
    },
    Mutation {
        name: "a repeated command is carried out again",
        file: "crates/session/src/actor.rs",
        right: "Err(LogError::Repeated) => self.known_receipt(&key, digest).await,",
        wrong: "Err(LogError::Repeated) => self.commit(self.state.decide(command, asking, ids)?, Durability::Synced, None).await\
                .map(|()| receipt).map_err(problem_of_log),",
    },
];

const HISTORIES: [&str; 6] =
    ["--package", "greenroom-simulation", "--test", "histories", "--", "--nocapture"];

pub(crate) fn simulate(arguments: &[String]) -> Result<()> {
    let [seed] = arguments else { bail!("say which seed: cargo xtask simulate SEED") };
    let mut test = cargo("test");
    run(test.args(HISTORIES).args(["--ignored", "--exact", "one_history"]).env("GREENROOM_SEED", seed))
}

pub(crate) fn soak() -> Result<()> {
    let mut test = cargo("test");
    test.arg("--release").args(HISTORIES).args(["--ignored", "ten_thousand"]);
    stage("ten thousand histories", || run(&mut test))
}

/// Fails when a mutation breaks no promise.
pub(crate) fn mutations() -> Result<()> {
    let copy = root().join("target/mutations/source");
    let mut missed = vec![];
    for mutation in &MUTATIONS {
        let is_caught = stage(mutation.name, || is_caught(mutation, &copy))?;
        println!("{}: {}", mutation.name, if is_caught { "caught" } else { "NOT CAUGHT" });
        if !is_caught {
            missed.push(mutation.name);
        }
    }
    println!("{} passed, {} failed", MUTATIONS.len() - missed.len(), missed.len());
    if missed.is_empty() { Ok(()) } else { bail!("nothing tells of: {}", missed.join("; ")) }
}

fn is_caught(mutation: &Mutation, copy: &Path) -> Result<bool> {
    copy_sources(copy)?;
    let file = copy.join(mutation.file);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", mutation.file))?;
    if text.matches(mutation.right).count() != 1 {
        bail!("{} does not hold this line once: {}", mutation.file, mutation.right);
    }
    fs::write(&file, text.replace(mutation.right, mutation.wrong))?;
    let mut test = cargo("test");
    test.args(HISTORIES).arg("five_hundred").current_dir(copy).env("RUST_BACKTRACE", "0");
    let output = test.env("CARGO_TARGET_DIR", root().join("target/mutations/build")).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !said.contains("broke a promise") {
        bail!("the mutated sources were not tested:\n{said}");
    }
    Ok(!output.status.success())
}

/// What cargo needs to build one crate of the workspace.
fn copy_sources(copy: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(copy);
    fs::create_dir_all(copy)?;
    let names = ["Cargo.toml", "Cargo.lock", ".cargo", "crates", "xtask"];
    let from: Vec<PathBuf> = names.iter().map(|name| root().join(name)).collect();
    run(Command::new("cp").arg("-r").args(from).arg(copy))
}
