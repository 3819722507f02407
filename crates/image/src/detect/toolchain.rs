//! A step that makes an ecosystem's programs be there: nothing where the base has them, Debian's packages where it has not,
//! and otherwise words that say what provides them.

use super::place::quote;
use super::{Place, step};
use crate::recipe::Step;

/// What provides an ecosystem's programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Toolchain {
    pub(super) name: &'static str,
    pub(super) programs: &'static [&'static str],
    /// Debian's.
    pub(super) packages: &'static str,
    pub(super) base: &'static str,
}

pub(super) const GO: Toolchain =
    Toolchain { name: "go toolchain", programs: &["go"], packages: "golang-go", base: "oci:golang:1" };
pub(super) const MAVEN: Toolchain = Toolchain {
    name: "java toolchain",
    programs: &["java", "mvn"],
    packages: "default-jdk-headless maven",
    base: "oci:maven:3",
};
pub(super) const GRADLE: Toolchain = Toolchain {
    name: "java toolchain",
    programs: &["java", "gradle"],
    packages: "default-jdk-headless gradle",
    base: "oci:gradle:8",
};
/// The project brings its own Maven or Gradle.
pub(super) const JAVA: Toolchain = Toolchain {
    name: "java toolchain",
    programs: &["java"],
    packages: "default-jdk-headless",
    base: "oci:eclipse-temurin:21",
};
pub(super) const RUBY: Toolchain = Toolchain {
    name: "ruby toolchain",
    programs: &["ruby", "bundle"],
    packages: "ruby-full bundler build-essential",
    base: "oci:ruby:3",
};
pub(super) const PHP: Toolchain = Toolchain {
    name: "php toolchain",
    programs: &["php", "composer"],
    packages: "php-cli php-xml php-mbstring php-curl composer unzip",
    base: "oci:composer:2",
};

/// Files that name versions of tools. Dependencies are no reason to look at a toolchain again: installing is slow.
pub(super) const VERSIONS: [&str; 2] = [".*-version", ".tool-versions*"];

impl Toolchain {
    pub(super) fn step(self, place: &Place<'_>) -> Step {
        let Self { programs, packages, base, name } = self;
        let wanted = programs.join(" ");
        let advice = quote(&format!(
            "greenroom: install {packages} on the machine, or set base = \"{base}\" in .greenroom/environment.toml"
        ));
        let run = format!(
            "missing=\n\
             for program in {wanted}; do command -v $program >/dev/null || missing=$program; done\n\
             if [ -z \"$missing\" ]; then exit 0; fi\n\
             echo \"greenroom: $missing is not on this base; installing {packages}\"\n\
             if command -v apt-get >/dev/null && apt-get update -q \\\n  \
             && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {packages}; then exit 0; fi\n\
             echo {advice}\n\
             echo \"$missing: not found\"\n\
             exit 127\n"
        );
        let mut step = step(place.name(name), run, place.inputs(&VERSIONS));
        step.timeout_minutes = 30;
        step
    }
}
