//! Derives a recipe for a repository that has none, from its paths and a few of its files. Pure. Steps install what is
//! declared; building and testing are optional checks, so that their caches are in the image and a repository whose
//! head is broken still gets one: mending it may be what the agent is asked for.

mod go;
mod java;
mod node;
mod php;
mod place;
mod python;
mod ruby;
mod rust;
mod toolchain;

use crate::recipe::{Check, DEFAULT_TIMEOUT_MINUTES, Recipe, Step};
use place::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The ecosystems found are told to people; the recipe is what is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detected {
    pub recipe: Recipe,
    pub ecosystems: Vec<Ecosystem>,
    /// Sentences for the build's log: how a tool is obtained, what was chosen where there was a choice.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ecosystem {
    Rust,
    Node,
    Python,
    Go,
    Java,
    Ruby,
    Php,
}

/// What one ecosystem adds.
#[derive(Debug, Default)]
struct Part {
    steps: Vec<Step>,
    checks: Vec<Check>,
    env: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// The file as bytes; `None` when it is missing or too large to look at.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// `paths` are all files of the commit, relative, `/` between parts.
pub fn detect(paths: &[String], read: Read<'_>) -> Detected {
    let mut detected = Detected::default();
    for (ecosystem, place) in places(paths) {
        let part = match ecosystem {
            Ecosystem::Rust => rust::part(&place),
            Ecosystem::Node => node::part(&place, read),
            Ecosystem::Python => python::part(&place, read),
            Ecosystem::Go => go::part(&place),
            Ecosystem::Java => java::part(&place),
            Ecosystem::Ruby => ruby::part(&place),
            Ecosystem::Php => php::part(&place, read),
        };
        detected.recipe.steps.extend(part.steps);
        detected.recipe.checks.extend(part.checks);
        detected.recipe.env.extend(part.env);
        detected.notes.extend(part.notes);
        if !detected.ecosystems.contains(&ecosystem) {
            detected.ecosystems.push(ecosystem);
        }
    }
    detected
}

/// The files that `detect` would read of these paths: a caller whose reading is slow or asynchronous fetches them first.
pub fn wanted(paths: &[String]) -> Vec<String> {
    const READ: [&str; 6] =
        ["package.json", "pnpm-lock.yaml", "yarn.lock", "pyproject.toml", "setup.cfg", "composer.json"];
    let mut wanted = Vec::new();
    for (_, place) in places(paths) {
        wanted.extend(READ.iter().filter(|name| place.has(name)).map(|name| place.path(name)));
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

fn places(paths: &[String]) -> Vec<(Ecosystem, Place<'_>)> {
    let mut found = Vec::new();
    for (ecosystem, is_marker) in [
        (Ecosystem::Rust, rust::is_marker as fn(&str) -> bool),
        (Ecosystem::Go, go::is_marker),
        (Ecosystem::Java, java::is_marker),
        (Ecosystem::Ruby, ruby::is_marker),
        (Ecosystem::Php, php::is_marker),
        (Ecosystem::Python, python::is_marker),
        (Ecosystem::Node, node::is_marker),
    ] {
        let mut places = place::find(paths, is_marker);
        if places.is_empty() && ecosystem == Ecosystem::Python {
            places = place::find(paths, python::is_module);
            places.retain(Place::is_root);
        }
        found.extend(places.into_iter().map(|place| (ecosystem, place)));
    }
    found
}

fn step(name: String, run: String, inputs: Vec<String>) -> Step {
    Step { name, run, inputs, services: vec![], timeout_minutes: DEFAULT_TIMEOUT_MINUTES }
}

fn optional_check(name: String, run: String, timeout_minutes: u32) -> Check {
    Check { name, run, is_optional: true, services: vec![], timeout_minutes }
}

#[cfg(test)]
mod tests;
