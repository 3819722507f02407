//! The shape of the workspace, as design and style have it: dependencies between crates point downwards only, pure
//! crates stay pure, `unsafe` stays where it is allowed, every file says what it is for.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate with those it may use, from the bottom up: a crate may only name crates above its own line.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("sandbox", &[]),
    ("stage", &[]),
    ("tasks", &[]),
    ("wire", &["domain"]),
    ("client", &["domain", "wire"]),
    ("telemetry", &["domain", "tasks"]),
    ("vault", &["domain"]),
    ("directory", &["domain"]),
    ("model", &["domain", "tasks"]),
    ("session", &["domain", "tasks"]),
    ("forge", &["domain"]),
    ("backup", &["domain"]),
    ("archive", &["domain"]),
    ("sandboxd", &["sandbox", "stage", "tasks"]),
    ("image", &["domain", "sandbox", "forge"]),
    ("broker", &["domain", "sandbox", "forge"]),
    ("agent", &["domain", "model", "sandbox"]),
    ("simulation", &["domain", "model", "sandbox", "session", "agent"]),
    (
        "app",
        &[
            "domain",
            "wire",
            "session",
            "directory",
            "model",
            "agent",
            "sandbox",
            "vault",
            "image",
            "broker",
            "forge",
            "telemetry",
            "archive",
            "tasks",
        ],
    ),
    ("api", &["domain", "wire", "app", "telemetry", "tasks"]),
    (
        "greenroom",
        &[
            "backup",
            "domain",
            "wire",
            "client",
            "session",
            "directory",
            "model",
            "agent",
            "sandbox",
            "sandboxd",
            "vault",
            "image",
            "broker",
            "forge",
            "app",
            "api",
            "telemetry",
            "tasks",
        ],
    ),
    ("xtask", &[]),
];

/// Crates from outside that would bring I/O, a clock or randomness into a pure crate.
const IMPURE: &[&str] = &[
    "tokio",
    "rusqlite",
    "http",
    "hyper",
    "reqwest",
    "axum",
    "rustix",
    "libc",
    "getrandom",
    "rand",
    "tracing",
];
const PURE: &[&str] = &["domain", "wire"];
const MAY_BE_UNSAFE: &[&str] = &["sandboxd", "stage"];

struct Package {
    name: String,
    folder: PathBuf,
    /// Normal and build dependencies; those of tests may point anywhere.
    uses: BTreeSet<String>,
}

fn short(name: &str) -> &str {
    name.strip_prefix("greenroom-").unwrap_or(name)
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn package(value: &Value) -> Package {
    let manifest = Path::new(value["manifest_path"].as_str().unwrap());
    let dependencies = value["dependencies"].as_array().unwrap();
    let uses = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    Package {
        name: short(value["name"].as_str().unwrap()).to_owned(),
        folder: manifest.parent().unwrap().to_owned(),
        uses: uses.map(|dependency| short(dependency["name"].as_str().unwrap()).to_owned()).collect(),
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_table_itself_points_downwards() {
    for (at, (name, allowed)) in LAYERS.iter().enumerate() {
        let above: BTreeSet<&str> = LAYERS[..at].iter().map(|(name, _)| *name).collect();
        for other in *allowed {
            assert!(above.contains(other), "{name} may not be above {other}");
        }
    }
}

#[test]
fn crates_depend_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for package in packages() {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            panic!("{} is not in the table of layers", package.name)
        };
        let own = package.uses.iter().filter(|name| LAYERS.iter().any(|(known, _)| known == name));
        let wrong: Vec<_> = own.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{} may not depend on {wrong:?}", package.name);
    }
}

#[test]
fn pure_crates_know_no_io() {
    for package in packages().into_iter().filter(|package| PURE.contains(&package.name.as_str())) {
        let wrong: Vec<_> = package.uses.iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{} is pure and may not depend on {wrong:?}", package.name);
    }
}

#[test]
fn unsafe_code_stays_in_sandboxd_and_stage() {
    // Put together here so that this file does not find itself.
    let allowing = ["(unsafe", "_code"].concat();
    for package in packages().into_iter().filter(|package| !MAY_BE_UNSAFE.contains(&package.name.as_str())) {
        for file in sources(&package.folder) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains(&allowing), "{} turns a lint off", file.display());
        }
        let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} leaves out the lints", package.name);
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = packages()
        .iter()
        .flat_map(|package| sources(&package.folder))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no `//!` purpose: {silent:?}");
}
