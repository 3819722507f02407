//! `test`, `check` and `e2e`. One invocation of cargo builds and runs every test, so that nothing is built twice.

use crate::cargo::{cargo, has};
use crate::generate;
use crate::packages::{self, Purpose};
use crate::process::{run, run_reading, stage};
use crate::web::{self, Page};
use anyhow::{Result, bail};
use std::process::Command;

pub(crate) fn test() -> Result<()> {
    stage("what the machine must have", || packages::install(Purpose::Tests))?;
    if has("fmt") {
        stage("formatting", || run(cargo("fmt").args(["--all", "--check"])))?;
    } else {
        println!("rustfmt is not installed: formatting is not checked.");
    }
    let page = stage("web page", web::build)?;
    let total = stage("Rust tests, end to end included", || {
        rust_tests(cargo("test").args(["--workspace", "--no-fail-fast"]))
    })?;
    if page == Page::Built {
        stage("web tests", || web::npm(&["run", "--silent", "check"]))?;
        stage("types of the web client", generate::check_schema)?;
    }
    println!("{}", total.line());
    Ok(())
}

pub(crate) fn e2e(arguments: &[String]) -> Result<()> {
    packages::install(Purpose::Tests)?;
    web::build()?;
    rust_tests(cargo("test").args(["--package", "greenroom", "--test", "*"]).args(arguments)).map(drop)
}

pub(crate) fn check() -> Result<()> {
    stage("formatting", || run(cargo("fmt").args(["--all", "--check"])))?;
    let clippy = ["--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    stage("clippy", || run(cargo("clippy").args(clippy)))?;
    if has("deny") {
        stage("licences, advisories, bans", || run(cargo("deny").arg("check")))?;
    } else {
        println!("cargo-deny is not installed: licences and advisories are not checked.");
    }
    Ok(())
}

/// Sums of cargo's closing lines.
#[derive(Debug, Default, PartialEq)]
struct Total {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Total {
    /// Takes in a line such as `test result: ok. 6 passed; 0 failed; 1 ignored; …`; any other is not counted.
    fn count(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        let Self { passed, failed, ignored } = self;
        format!("test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored")
    }
}

fn rust_tests(command: &mut Command) -> Result<Total> {
    let mut total = Total::default();
    let is_good = run_reading(command, |line| total.count(line))?;
    if !is_good {
        println!("{}", total.line());
        bail!("cargo test did not end well; its output above says which test or build failed");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::Total;

    #[test]
    fn closing_lines_are_summed() {
        let mut total = Total::default();
        total.count("running 6 tests");
        total.count(
            "test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        total.count(
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        assert_eq!(total, Total { passed: 8, failed: 1, ignored: 1 });
        assert_eq!(total.line(), "test result: FAILED. 8 passed; 1 failed; 1 ignored");
    }
}
