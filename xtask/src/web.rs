//! The web page: its packages and its build, both only when something changed.

use crate::process::{self, find};
use crate::root;
use anyhow::{Context, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Node that the build runs on.
const OLDEST_NODE: (u32, u32) = (20, 19);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Built,
    /// No page in this clone, or no usable npm: the program is built without it.
    LeftOut,
}

/// Installs the packages where the lockfile changed, then builds where a source changed.
pub(crate) fn build() -> Result<Page> {
    if !is_possible()? {
        return Ok(Page::LeftOut);
    }
    install()?;
    let stamp = folder().join("node_modules/.build-stamp");
    let sources = fingerprint(&folder())?;
    let is_current = fs::read_to_string(&stamp).is_ok_and(|built| built == sources);
    if !is_current || !folder().join("dist/index.html").exists() {
        eprintln!("Building the web page.");
        process::run(&mut script("build"))?;
        fs::write(&stamp, sources)?;
    }
    Ok(Page::Built)
}

/// A script of `web/package.json`.
pub(crate) fn script(name: &str) -> Command {
    npm(&["run", "--silent", name])
}

fn npm(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder());
    command
}

pub(crate) fn folder() -> PathBuf {
    root().join("web")
}

fn is_possible() -> Result<bool> {
    if !folder().join("package-lock.json").exists() {
        println!("This clone has no web page.");
        return Ok(false);
    }
    if find("npm").is_none() || find("node").is_none() {
        println!("npm is missing: going on without the web page.");
        return Ok(false);
    }
    let version = process::output(Command::new("node").arg("--version"))?;
    let is_new_enough = node_version(&version).is_some_and(|found| found >= OLDEST_NODE);
    if !is_new_enough {
        let (major, minor) = OLDEST_NODE;
        println!("Node {} is older than {major}.{minor}: going on without the web page.", version.trim());
    }
    Ok(is_new_enough)
}

fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The lockfile itself is the stamp: what is installed is what it says.
fn install() -> Result<()> {
    let lockfile = fs::read(folder().join("package-lock.json"))?;
    let stamp = folder().join("node_modules/.stamp");
    if fs::read(&stamp).is_ok_and(|installed| installed == lockfile) {
        return Ok(());
    }
    eprintln!("Installing the web page's packages (npm ci).");
    process::run(&mut npm(&["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    fs::write(&stamp, lockfile).context("stamping web/node_modules")
}

/// Of every file that the build may read.
fn fingerprint(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_unread = ["node_modules", "dist", "e2e"].iter().any(|unread| name == *unread);
        if entry.file_type()?.is_dir() && !is_unread {
            collect(&entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_version_is_read() {
        assert_eq!(node_version("v20.19.2\n"), Some((20, 19)));
        assert!(node_version("v18.20.4") < Some(OLDEST_NODE));
        assert_eq!(node_version("?"), None);
    }
}
