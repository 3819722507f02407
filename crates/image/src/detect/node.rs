//! Node: `package.json`, installed by the program whose lockfile is there, npm where there is none.

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
            place.inputs(&[
                "package.json",
                "package-lock.json",
                "npm-shrinkwrap.json",
                "pnpm-lock.yaml",
                "pnpm-workspace.yaml",
                "yarn.lock",
                ".npmrc",
                ".yarnrc.yml",
                "**/package.json",
            ]),
        ));
    }
    for (script, name, minutes) in [("build", "node build", 30), ("test", "node tests", 20)] {
        if has_script(&package, script) {
            let run = format!("CI=1 {} run {script}\n", installer.program());
            part.checks.push(optional_check(place.name(name), place.script(&run), minutes));
        }
    }
    part
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
            "command -v yarn >/dev/null || corepack enable yarn || npm install --global yarn@1\n\
             yarn install --immutable\n"
                .into()
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
