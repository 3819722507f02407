//! One bare repository: references at one instant, then every object.

use crate::files::{Kind, Target};
use crate::manifest::RepositoryCut;
use crate::{Error, Result, io};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// A repack moves objects while they are copied; it does not do so again and again.
const PASSES: usize = 10;

/// `None`: it was removed meanwhile.
pub(crate) fn copy(target: &mut Target<'_>, data: &Path, name: &str) -> Result<Option<RepositoryCut>> {
    let below = format!("repositories/{name}");
    let path = data.join(&below);
    let listed = git(&path, "for-each-ref", &["for-each-ref", "--format=%(objectname) %(refname)"]);
    let references = match listed {
        Ok(references) => references,
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(error),
    };
    for file in ["HEAD", "config", "description"] {
        target.copy(data, &format!("{below}/{file}"), Kind::Changing)?;
    }
    target.write(&format!("{below}/packed-refs"), &references)?;
    for directory in ["refs", "objects/info", "objects/pack"] {
        // Git takes a directory without them for no repository.
        let path = target.root.join(&below).join(directory);
        crate::files::make_directory(&path).map_err(io("making", &path))?;
    }
    let mut copied = std::collections::HashSet::new();
    for _ in 0..PASSES {
        let objects = objects(data, &below)?;
        let mut are_all_there = true;
        for object in objects {
            if copied.contains(&object) {
                continue;
            }
            are_all_there &= target.copy(data, &object, Kind::Immutable)?;
            copied.insert(object);
        }
        if are_all_there {
            return Ok(Some(RepositoryCut {
                name: name.to_owned(),
                references: references.lines().count() as u64,
            }));
        }
        if !path.exists() {
            return Ok(None);
        }
    }
    Err(Error::Git { what: "objects", path, said: "they are moved again and again".to_owned() })
}

/// Loose objects and packs, the packs' indexes last: whoever sees an index sees its pack.
fn objects(data: &Path, below: &str) -> Result<Vec<String>> {
    let root = format!("{below}/objects");
    let path = data.join(&root);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io("reading", &path)(error)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(io("reading", &path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_loose = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_loose {
            let files = crate::files::walk(data, &format!("{root}/{name}"))?;
            found.extend(
                files.into_iter().filter(|path| last(path).bytes().all(|byte| byte.is_ascii_hexdigit())),
            );
        }
    }
    let packs = crate::files::walk(data, &format!("{root}/pack"))?;
    let (indexes, packs): (Vec<_>, Vec<_>) = packs
        .into_iter()
        .filter(|path| last(path).starts_with("pack-"))
        .partition(|path| path.ends_with(".idx"));
    found.extend(packs);
    found.extend(indexes);
    Ok(found)
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Every object that a reference leads to is there and whole.
pub(crate) fn check(repository: &Path) -> Result<()> {
    git(repository, "fsck", &["fsck", "--full", "--no-dangling", "--no-progress"]).map(drop)
}

fn git(repository: &Path, what: &'static str, arguments: &[&str]) -> Result<String> {
    let failed = |said: String| Error::Git { what, path: repository.to_owned(), said };
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // Whoever asks has the whole data directory, as whichever user it is.
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*");
    command.arg("--git-dir").arg(repository).args(arguments);
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().chars().take(2000).collect()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
