//! Node: `package.json`, installed by the program whose lockfile is there, npm where there is none. pnpm and yarn come
//! from the registry as packages (`pnpm`, `yarn`, `@yarnpkg/cli-dist`), in the version that the project declares or that
//! writes its lockfile: corepack is not part of every Node, and fetches by itself.

use super::place::quote;
use super::{Part, Place, Read, optional_check, step};
use serde_json::Value;

pub(super) fn is_marker(name: &str) -> bool {
    name == "package.json"
}

#[derive(Clone, Copy, PartialEq)]
enum Installer {
    NpmLocked,
    Npm,
    Pnpm,
    YarnClassic,
    YarnModern,
}

pub(super) fn part(place: &Place<'_>, read: Read<'_>) -> Part {
    let package: Value = read(&place.path("package.json"))
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let installer = installer(place, &package);
    let mut part = Part::default();
    if installer != Installer::Npm || has_dependencies(&package) {
        part.steps.push(step(
            place.name("node dependencies"),
            place.script(&install(installer, place, &package, read)),
            inputs(place, &package),
        ));
        part.notes.extend(
            obtained(installer, place, &package, read)
                .map(|how| format!("{how} {}", place.name("for node dependencies"))),
        );
    }
    if installer != Installer::Npm && has_script(&package, "prepare") {
        // Ran with the installation, whose layer later commits share; what it makes of the sources is made anew.
        let run = format!("CI=1 {} run prepare\n", installer.program());
        part.checks.push(optional_check(place.name("node prepare"), place.script(&run), 20));
    }
    for (script, name, minutes) in [("build", "node build", 30), ("test", "node tests", 20)] {
        if has_script(&package, script) {
            let run = format!("CI=1 {} run {script}\n", installer.program());
            part.checks.push(optional_check(place.name(name), place.script(&run), minutes));
        }
    }
    if has_script(&package, "start") && installer != Installer::Npm {
        // A server does not end by itself: having run for a while is a pass.
        let run =
            format!("CI=1 timeout {START_SECONDS} {} run start || [ $? -eq 124 ]\n", installer.program());
        part.checks.push(optional_check(place.name("node start"), place.script(&run), 5));
    }
    part
}

const START_SECONDS: u32 = 10;

/// Declarations and locks, and what the package's own install scripts name.
fn inputs(place: &Place<'_>, package: &Value) -> Vec<String> {
    let mut inputs = place.inputs(&[
        "package.json",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "pnpm-lock.yaml",
        "pnpm-workspace.yaml",
        ".pnpmfile.cjs",
        "yarn.lock",
        ".npmrc",
        ".nvmrc",
        ".yarnrc",
        ".yarnrc.yml",
        ".yarn/patches/**",
        ".yarn/plugins/**",
        ".yarn/releases/**",
        "patches/**",
        "prisma/**",
        "**/package.json",
    ]);
    for name in ["preinstall", "install", "postinstall", "prepare"] {
        let script =
            package.get("scripts").and_then(|scripts| scripts.get(name)?.as_str()).unwrap_or_default();
        for word in script.split_whitespace().map(|word| word.trim_start_matches("./")) {
            if place.has(word) && !word.contains(['*', '?', '[', '{']) {
                inputs.extend(place.inputs(&[word]));
            }
        }
    }
    inputs.sort();
    inputs.dedup();
    inputs.truncate(crate::recipe::limit::INPUTS);
    inputs
}

/// How the installer is had, for the log.
fn obtained(installer: Installer, place: &Place<'_>, package: &Value, read: Read<'_>) -> Option<String> {
    match installer {
        Installer::Npm | Installer::NpmLocked => None,
        Installer::Pnpm => {
            Some(format!("pnpm {} comes from npm's registry", pnpm_version(place, package, read)))
        }
        Installer::YarnClassic => Some("yarn 1 comes from npm's registry".into()),
        Installer::YarnModern if yarn_release(place).is_some() => None,
        Installer::YarnModern => Some(format!(
            "yarn {} comes from npm's registry (@yarnpkg/cli-dist)",
            yarn_version(place, package, read)
        )),
    }
}

/// A yarn that the repository carries.
fn yarn_release(place: &Place<'_>) -> Option<String> {
    let is_release = |path: &&str| {
        let name = path.strip_prefix(".yarn/releases/").unwrap_or_default();
        name.starts_with("yarn-") && (name.ends_with(".cjs") || name.ends_with(".js")) && !name.contains('/')
    };
    place.files().filter(is_release).filter(|path| path.len() < 200).max().map(str::to_owned)
}

/// The declared version, else the one that writes the lockfile's format.
fn yarn_version(place: &Place<'_>, package: &Value, read: Read<'_>) -> String {
    if let Some(version) = package_manager(package, "yarn") {
        return version;
    }
    let lock = read(&place.path("yarn.lock")).unwrap_or_default();
    let lock = String::from_utf8_lossy(&lock[..lock.len().min(4096)]).into_owned();
    let mut lines = lock.lines().skip_while(|line| !line.starts_with("__metadata:")).skip(1);
    let format = lines.find_map(|line| line.trim().strip_prefix("version:")).unwrap_or_default();
    match format.trim().parse::<u32>() {
        Ok(0..=4) => "2".into(),
        Ok(5..=6) => "3".into(),
        // Later ones would rewrite the lock.
        Ok(7..=8) => "4.9".into(),
        _ => "4".into(),
    }
}

impl Installer {
    fn program(self) -> &'static str {
        match self {
            Self::Npm | Self::NpmLocked => "npm",
            Self::Pnpm => "pnpm",
            Self::YarnClassic | Self::YarnModern => "yarn",
        }
    }
}

fn installer(place: &Place<'_>, package: &Value) -> Installer {
    if place.has("pnpm-lock.yaml") {
        Installer::Pnpm
    } else if place.has("yarn.lock") {
        let is_declared_classic = package_manager(package, "yarn").is_none_or(|v| v.starts_with("1."));
        if place.has(".yarnrc.yml") || !is_declared_classic {
            Installer::YarnModern
        } else {
            Installer::YarnClassic
        }
    } else if place.has("package-lock.json") || place.has("npm-shrinkwrap.json") {
        Installer::NpmLocked
    } else {
        Installer::Npm
    }
}

fn install(installer: Installer, place: &Place<'_>, package: &Value, read: Read<'_>) -> String {
    match installer {
        Installer::NpmLocked => "npm ci --no-audit --no-fund\n".into(),
        // Without a lockfile nobody promised that the packages' own scripts work on a bare checkout.
        Installer::Npm => "npm install --no-audit --no-fund || {\n  \
             echo 'greenroom: installing again without install scripts'\n  \
             npm install --no-audit --no-fund --ignore-scripts\n}\n"
            .into(),
        Installer::Pnpm => {
            let wanted = quote(&format!("pnpm@{}", pnpm_version(place, package, read)));
            format!(
                "command -v pnpm >/dev/null || npm install --global {wanted}\n\
                 CI=1 pnpm install --frozen-lockfile\n"
            )
        }
        Installer::YarnClassic => "command -v yarn >/dev/null || npm install --global yarn@1\n\
             yarn install --frozen-lockfile --non-interactive\n"
            .into(),
        Installer::YarnModern => {
            let obtain = match yarn_release(place) {
                Some(path) => format!(
                    "printf '#!/bin/sh\\nexec node \"%s\" \"$@\"\\n' \"$PWD/\"{0} >/usr/local/bin/yarn && chmod 755 /usr/local/bin/yarn\n",
                    quote(&path)
                ),
                None => {
                    let wanted = quote(&format!("@yarnpkg/cli-dist@{}", yarn_version(place, package, read)));
                    format!("npm install --global {wanted}\n")
                }
            };
            format!("{obtain}export YARN_ENABLE_TELEMETRY=0\nyarn install --immutable\n")
        }
    }
}

/// The declared version, else the one that writes the lockfile's format.
fn pnpm_version(place: &Place<'_>, package: &Value, read: Read<'_>) -> String {
    if let Some(version) = package_manager(package, "pnpm") {
        return version;
    }
    let lock = read(&place.path("pnpm-lock.yaml")).unwrap_or_default();
    let lock = String::from_utf8_lossy(&lock[..lock.len().min(4096)]).into_owned();
    let format = lock.lines().find_map(|line| line.strip_prefix("lockfileVersion:")).unwrap_or_default();
    match format.trim().trim_matches(['\'', '"']).split('.').next() {
        Some("5") => "7".into(),
        Some("6") => "8".into(),
        _ => "9".into(),
    }
}

/// The version in `"packageManager": "pnpm@8.6.0+sha512…"`.
fn package_manager(package: &Value, program: &str) -> Option<String> {
    let declared = package.get("packageManager")?.as_str()?;
    let (name, version) = declared.split_once('@')?;
    let version = version.split('+').next().unwrap_or_default();
    let is_plain = (1..=32).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    (name == program && is_plain).then(|| version.to_owned())
}

fn has_dependencies(package: &Value) -> bool {
    ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "workspaces"]
        .iter()
        .filter_map(|key| package.get(key))
        .any(|value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        })
}

/// npm's placeholder is no test script.
fn has_script(package: &Value, name: &str) -> bool {
    package
        .get("scripts")
        .and_then(|scripts| scripts.get(name)?.as_str())
        .is_some_and(|script| !script.trim().is_empty() && !script.contains("no test specified"))
}
