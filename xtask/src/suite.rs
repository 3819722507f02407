//! `test`, `check` and `e2e`. One invocation of cargo builds and runs every Rust test, so that nothing is built twice;
//! the browser's tests then use the program that it left.

use crate::cargo::{self, Profile, cargo, has};
use crate::generate;
use crate::packages::{self, Purpose};
use crate::process::{run, run_reading, stage};
use crate::schema;
use crate::simulation;
use crate::web::{self, Page};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// The stage program is a feature, since the server only needs its protocol; its tests are wanted all the same.
const WHOLE: [&str; 2] = ["--features", "greenroom-stage/program"];

/// Crates with properties in modules named `fuzz`.
const FUZZED: [&str; 6] = [
    "greenroom-domain",
    "greenroom-stage",
    "greenroom-broker",
    "greenroom-forge",
    "greenroom-image",
    "greenroom-archive",
];
const FUZZ_CASES: &str = "50000";
/// Of `.cargo/config.toml`.
const SAME_SEED: &str = "1";

pub(crate) fn test() -> Result<()> {
    stage("what the machine must have", || packages::install(Purpose::Tests))?;
    if has("fmt") {
        stage("formatting", || run(cargo("fmt").args(["--all", "--check"])))?;
    } else {
        println!("rustfmt is not installed: formatting is not checked.");
    }
    let page = stage("web page", web::build)?;
    let mut total = Total::default();
    stage("Rust tests, end to end included", || {
        counted(cargo("test").args(["--workspace", "--no-fail-fast"]).args(WHOLE), &mut total)
    })?;
    if page == Page::Built {
        stage("web tests", || counted(&mut web::script("check"), &mut total))?;
        stage("types of the web client", generate::check_schema)?;
        stage("browser tests", || counted(&mut browser_tests(&cargo::program(Profile::Debug)?), &mut total))?;
    }
    println!("{}", total.line());
    Ok(())
}

/// The program's own end-to-end tests, then the browser's; `page` for the latter alone.
pub(crate) fn e2e(arguments: &[String]) -> Result<()> {
    packages::install(Purpose::Tests)?;
    let page = web::build()?;
    let mut total = Total::default();
    if arguments.first().is_none_or(|first| first != "page") {
        let mut tests = cargo("test");
        counted(tests.args(["--package", "greenroom", "--test", "*"]).args(arguments), &mut total)?;
    }
    if page == Page::Built {
        let program = cargo::build(Profile::Debug)?;
        stage("browser tests", || counted(&mut browser_tests(&program), &mut total))?;
    }
    println!("{}", total.line());
    Ok(())
}

const CRASH: [&str; 9] =
    ["--release", "--package", "greenroom", "--test", "e2e", "--", "--ignored", "--nocapture", "soak_crash"];
/// What is measured there is done by other programs, in sandboxes: an optimised build would only take longer.
const IMAGES: [&str; 10] = [
    "--package",
    "greenroom-image",
    "--test",
    "real",
    "--test",
    "bases",
    "--",
    "--include-ignored",
    "--nocapture",
    "--test-threads=1",
];

/// The long form of tests that are short in `test`.
pub(crate) fn soak(arguments: &[String]) -> Result<()> {
    let (purpose, which) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["crash"] => (Purpose::Tests, &CRASH[..]),
        ["images"] => (Purpose::Images, &IMAGES[..]),
        ["fuzz"] => return fuzz("fuzz", &FUZZED),
        ["frames"] => return fuzz("frames", &["greenroom-api"]),
        ["schema"] => return schema::soak(600),
        ["simulation"] => return simulation::soak(),
        ["mutations"] => return simulation::mutations(),
        _ => {
            bail!("say which: cargo xtask soak crash, images, schema, simulation, mutations, fuzz or frames")
        }
    };
    packages::install(purpose)?;
    let mut total = Total::default();
    stage("soak", || counted(cargo("test").args(which), &mut total))?;
    println!("{}", total.line());
    Ok(())
}

/// Parsers of hostile bytes, over many times the cases that `test` takes, and others each time.
fn fuzz(which: &str, packages: &[&str]) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().filter(|seed| seed != SAME_SEED);
    let seed = seed.unwrap_or_else(|| now.as_nanos().to_string().split_off(8));
    let cases = std::env::var("PROPTEST_CASES").unwrap_or_else(|_| FUZZ_CASES.to_owned());
    println!(
        "{cases} cases for each property. The same ones again: PROPTEST_RNG_SEED={seed} cargo xtask soak {which}"
    );
    let mut tests = cargo("test");
    tests.args(["--release", "--no-fail-fast"]);
    tests.args(packages.iter().flat_map(|package| ["--package", package]));
    tests.args(["--", &format!("{which}::")]).env("PROPTEST_RNG_SEED", seed).env("PROPTEST_CASES", cases);
    let mut total = Total::default();
    stage("soak", || counted(&mut tests, &mut total))?;
    println!("{}", total.line());
    Ok(())
}

/// Chromium against the real program, see `web/e2e/`.
fn browser_tests(program: &Path) -> Command {
    let mut command = web::script("e2e");
    command.env("GREENROOM_PROGRAM", program);
    command
}

pub(crate) fn check() -> Result<()> {
    stage("formatting", || run(cargo("fmt").args(["--all", "--check"])))?;
    let mut clippy = cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--quiet"]).args(WHOLE).args(["--", "-D", "warnings"]);
    stage("clippy", || run(&mut clippy))?;
    if has("deny") {
        stage("licences, advisories, bans", || run(cargo("deny").arg("check")))?;
    } else {
        println!("cargo-deny is not installed: licences and advisories are not checked.");
    }
    Ok(())
}

/// Sums of the closing lines of cargo, and of the web tests, which close alike.
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

fn counted(command: &mut Command, total: &mut Total) -> Result<()> {
    let is_good = run_reading(command, |line| total.count(line))?;
    if !is_good {
        println!("{}", total.line());
        bail!("the tests did not end well; the output above says which test or build failed");
    }
    Ok(())
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
