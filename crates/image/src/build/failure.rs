//! Why a build failed, in words that a person can act on.

use crate::manifest::ManifestError;
use crate::store::StoreError;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::{Error as SandboxError, ExitReason};
use std::io;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BuildFailure {
    pub problem: Problem,
    /// `clone`, a step's or check's name, `finish`; `None` before the first sandbox.
    pub step: Option<String>,
}

impl From<Problem> for BuildFailure {
    fn from(problem: Problem) -> Self {
        Self { problem, step: None }
    }
}

const KEPT: &str = "The last good image stays in use.";

pub(super) fn cancelled() -> Problem {
    Problem::new(ErrorCode::Interrupted, "The build was cancelled.").hint(KEPT)
}

/// What ran: it chooses the code and the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    Clone { repository: &'a str },
    Step,
    Check,
    Finish,
}

/// A program of the build that did not end well. `tail` is the end of its output.
pub(super) fn exit(what: What<'_>, name: &str, reason: ExitReason, minutes: u32, tail: &str) -> Problem {
    let (code, subject) = match what {
        What::Clone { repository } => {
            (ErrorCode::CloneFailed, format!("Cloning {repository} into the sandbox"))
        }
        What::Step => (ErrorCode::StepFailed, format!("The step {name:?}")),
        What::Check => (ErrorCode::CheckFailed, format!("The check {name:?}")),
        What::Finish => (ErrorCode::StepFailed, "Bringing the tree back to the commit".to_owned()),
    };
    if is_disk_full(tail) {
        return disk_full(&format!("{subject} ran out of disk space.")).detail(tail);
    }
    if let (ExitReason::Code { code: 127 }, Some(program)) = (reason, missing_program(tail)) {
        return Problem::new(code, format!("{subject} needs {program}, which is not in the sandbox."))
            .hint(format!("{} {KEPT}", provider(program)))
            .detail(tail);
    }
    Problem::new(code, format!("{subject} {}.", ending(reason, minutes)))
        .hint(hint(what, reason))
        .detail(tail)
}

/// What provides a program: the package of Debian, and a base that has it.
const PROVIDERS: [(&str, &str, &str); 17] = [
    ("bundle", "bundler", "oci:ruby:3"),
    ("cargo", "cargo", "oci:rust:1"),
    ("composer", "composer", "oci:composer:2"),
    ("gcc", "build-essential", "oci:buildpack-deps:stable"),
    ("git", "git", "oci:buildpack-deps:stable"),
    ("go", "golang-go", "oci:golang:1"),
    ("gradle", "gradle", "oci:gradle:8"),
    ("java", "default-jdk-headless", "oci:eclipse-temurin:21"),
    ("make", "build-essential", "oci:buildpack-deps:stable"),
    ("mvn", "maven", "oci:maven:3"),
    ("node", "nodejs", "oci:node:24"),
    ("npm", "npm", "oci:node:24"),
    ("php", "php-cli", "oci:php:8"),
    ("pip", "python3-pip", "oci:python:3"),
    ("psql", "postgresql-client", "oci:postgres:18"),
    ("python3", "python3-venv", "oci:python:3"),
    ("ruby", "ruby-full", "oci:ruby:3"),
];

fn provider(program: &str) -> String {
    let recipe = crate::recipe::RECIPE_PATH;
    match PROVIDERS.iter().find(|(name, _, _)| *name == program) {
        Some((_, package, base)) => format!(
            "Install it on the machine (apt-get install {package}), install it by a step, or set base = \"{base}\" in {recipe}."
        ),
        None => format!(
            "Install {program} on the machine (the sandbox shows its programs), or by a step before this one in {recipe}."
        ),
    }
}

fn ending(reason: ExitReason, minutes: u32) -> String {
    match reason {
        ExitReason::Code { code } => format!("failed with exit code {code}"),
        ExitReason::Signal { signal } => format!("was ended by signal {signal}"),
        ExitReason::TimedOut => format!("did not finish within {minutes} minutes"),
        ExitReason::Cancelled => "was cancelled".to_owned(),
        ExitReason::OutOfMemory => "ran out of memory".to_owned(),
        ExitReason::NotStarted { errno } => {
            format!("could not be started: {}", io::Error::from_raw_os_error(errno))
        }
    }
}

fn hint(what: What<'_>, reason: ExitReason) -> String {
    let recipe = crate::recipe::RECIPE_PATH;
    match (what, reason) {
        (What::Clone { .. }, _) => format!("Its output is the detail. {KEPT}"),
        (_, ExitReason::TimedOut) => format!("Raise timeout_minutes in {recipe}. {KEPT}"),
        (_, ExitReason::OutOfMemory) => format!("Raise memory_mb under [resources] in {recipe}. {KEPT}"),
        _ => format!(
            "The last lines of its output are the detail; steps and checks can be set in {recipe}. {KEPT}"
        ),
    }
}

/// The shells say `bash: line 1: npm: command not found`, `sh: 1: npm: not found` or `env: 'node': No such file or
/// directory`.
fn missing_program(tail: &str) -> Option<&str> {
    tail.lines().rev().take(20).find_map(|line| {
        let before = line
            .strip_suffix(": command not found")
            .or_else(|| line.strip_suffix(": not found"))
            .or_else(|| line.strip_prefix("env: ")?.strip_suffix(": No such file or directory"))?;
        let program = before.rsplit(": ").next()?.trim_matches(['\'', '\u{2018}', '\u{2019}']);
        let is_word = (1..=64).contains(&program.len()) && !program.contains(char::is_whitespace);
        is_word.then_some(program)
    })
}

fn is_disk_full(tail: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "ENOSPC"].iter().any(|words| tail.contains(words))
}

fn disk_full(sentence: &str) -> Problem {
    Problem::new(ErrorCode::DiskFull, sentence)
        .hint(format!("Free space on the disk of the data directory. {KEPT}"))
}

/// The provider's trouble, not the recipe's.
pub(super) fn sandbox(error: &SandboxError) -> Problem {
    let sentence = format!("The build's sandbox failed: {error}.");
    match error {
        SandboxError::Unsupported { remedy, .. } => {
            let problem = Problem::new(ErrorCode::SandboxUnsupported, sentence);
            match remedy {
                Some(remedy) => problem.hint(remedy.clone()),
                None => problem.hint("`greenroom doctor` tells what is missing."),
            }
        }
        SandboxError::DiskFull => disk_full("The disk is full."),
        SandboxError::System { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            disk_full("The disk is full.")
        }
        SandboxError::Deadline { .. } => Problem::new(ErrorCode::Deadline, sentence).hint(KEPT),
        SandboxError::Ended { .. } => Problem::new(ErrorCode::SandboxLost, sentence).hint(KEPT),
        _ => Problem::new(ErrorCode::SandboxFailed, sentence).hint(KEPT),
    }
}

pub(super) fn lost(name: &str, tail: &str) -> Problem {
    Problem::new(ErrorCode::SandboxLost, format!("The sandbox ended while {name:?} ran in it."))
        .hint(format!("It may have run out of memory. {KEPT}"))
        .detail(tail)
}

pub(super) fn deadline(what: &str, seconds: u64) -> Problem {
    Problem::new(ErrorCode::Deadline, format!("{what} did not finish within {seconds} s.")).hint(KEPT)
}

pub(super) fn store(error: &StoreError) -> Problem {
    io(&error.source, &error.to_string())
}

pub(super) fn manifest(error: &ManifestError) -> Problem {
    error.problem()
}

pub(super) fn io(error: &io::Error, what: &str) -> Problem {
    if error.kind() == io::ErrorKind::StorageFull {
        return disk_full("The disk is full.");
    }
    Problem::new(ErrorCode::Internal, format!("The build cannot write its files: {what}.")).hint(KEPT)
}

pub(super) fn forge(error: greenroom_forge::Error) -> Problem {
    match error {
        greenroom_forge::Error::Refused(problem) => problem,
        error => Problem::new(ErrorCode::CloneFailed, format!("The repository cannot be read: {error}."))
            .hint(KEPT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        for (output, program) in [
            ("x\nbash: line 3: npm: command not found\n", "npm"),
            ("sh: 1: cargo: not found", "cargo"),
            ("env: 'node': No such file or directory\n", "node"),
            ("/bin/sh: pip: not found", "pip"),
        ] {
            let problem = exit(What::Step, "deps", ExitReason::Code { code: 127 }, 1, output);
            assert_eq!(
                problem.message,
                format!("The step \"deps\" needs {program}, which is not in the sandbox.")
            );
            assert_eq!(problem.code, ErrorCode::StepFailed);
            assert!(problem.hint.is_some());
        }
        let hint = |output| exit(What::Step, "deps", ExitReason::Code { code: 127 }, 1, output).hint.unwrap();
        assert!(hint("sh: 1: go: not found").contains("apt-get install golang-go"));
        assert!(hint("sh: 1: go: not found").contains("oci:golang:1"));
        assert!(hint("sh: 1: zig: not found").starts_with("Install zig on the machine"));
        let other = exit(What::Step, "deps", ExitReason::Code { code: 1 }, 1, "npm: not found");
        assert_eq!(other.message, "The step \"deps\" failed with exit code 1.");
    }

    #[test]
    fn a_full_disk_is_told_as_that() {
        let problem = exit(What::Check, "t", ExitReason::Code { code: 1 }, 1, "tar: No space left on device");
        assert_eq!(problem.code, ErrorCode::DiskFull);
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let error = SandboxError::System { operation: "write", path: "x".into(), source };
        assert_eq!(sandbox(&error).code, ErrorCode::DiskFull);
    }
}
