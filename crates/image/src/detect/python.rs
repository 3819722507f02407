//! Python: requirements files, `pyproject.toml`, `setup.py`, or just modules. Everything is installed into a virtual
//! environment outside of the workspace, first on the path of steps and sessions.

use super::place::quote;
use super::toolchain::VERSIONS;
use super::{Part, Place, Read, optional_check, step};
use crate::recipe::Step;
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

const VENV: &str = "/opt/venv";
/// Extras and groups that people use for development.
const DEVELOPMENT: [&str; 6] = ["dev", "develop", "development", "test", "tests", "testing"];

pub(super) fn is_marker(name: &str) -> bool {
    matches!(name, "pyproject.toml" | "setup.py" | "setup.cfg" | "requirements.txt")
}

/// Enough only at the root, and where nothing is declared.
pub(super) fn is_module(name: &str) -> bool {
    name.ends_with(".py") && !name.starts_with('.')
}

pub(super) fn part(place: &Place<'_>, read: Read<'_>) -> Part {
    let project = Project::read(place, read);
    let mut run = format!("test -x {VENV}/bin/python || python3 -m venv {VENV}\n");
    let (mut notes, mut steps) = (vec![], vec![]);
    match &project.lock {
        Some(lock) => {
            notes.push(format!("{} comes from the package index", lock.program()));
            steps.push(lock.toolchain(place));
            run.push_str(&locked(lock, &project.pip()));
        }
        None => run.push_str(&project.pip()),
    }
    if project.has_tests {
        run.push_str(
            "python -c 'import pytest' 2>/dev/null || python -m pip install pytest \
             || echo 'greenroom: pytest could not be installed; unittest is used'\n",
        );
    }
    let mut part = Part { steps, env: environment(), notes, ..Part::default() };
    let inputs = place.inputs(&[
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "uv.lock",
        "poetry.lock",
        "*requirements*.txt",
        "requirements/*.txt",
        "constraints*.txt",
        ".python-version",
    ]);
    part.steps.push(step(place.name("python dependencies"), place.script(&run), inputs));
    if project.has_tests {
        let run = "if python -c 'import pytest' 2>/dev/null; then python -m pytest -q\n\
                   else python -m unittest discover; fi\n";
        part.checks.push(optional_check(place.name("python tests"), place.script(run), 20));
    }
    part
}

fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("PATH".to_owned(), format!("{VENV}/bin:${{PATH}}")),
        ("PIP_DISABLE_PIP_VERSION_CHECK".to_owned(), "1".to_owned()),
        ("VIRTUAL_ENV".to_owned(), VENV.to_owned()),
    ])
}

fn locked(lock: &Lock, pip: &str) -> String {
    let program = lock.program();
    let install = match lock {
        Lock::Uv => format!("UV_PROJECT_ENVIRONMENT={VENV} UV_LINK_MODE=copy {program} sync --frozen"),
        Lock::Poetry => format!("{program} install --no-interaction"),
    };
    let otherwise: String = pip.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    });
    let obtain = lock.obtain();
    format!(
        "if {obtain}; then\n  {install}\nelse\n  \
         echo 'greenroom: {program} could not be had; pip installs what is declared, without the lock'\n{otherwise}fi\n"
    )
}

impl Lock {
    /// A step of its own, so that a changed lock does not install its program again. One that fails is made good by the
    /// dependencies' step.
    fn toolchain(&self, place: &Place<'_>) -> Step {
        let (program, obtain) = (self.program(), self.obtain());
        let run = format!("{obtain} \\\n  || echo 'greenroom: {program} could not be installed'\n");
        step(place.name("python toolchain"), run, place.inputs(&VERSIONS))
    }

    /// In an environment of its own, so that it is not part of the project's.
    fn obtain(&self) -> String {
        let program = self.program();
        format!(
            "command -v {program} >/dev/null || {{ python3 -m venv /opt/{program} \\\n  \
             && /opt/{program}/bin/python -m pip install --quiet {program} \\\n  \
             && ln -sf /opt/{program}/bin/{program} /usr/local/bin/{program}; }}"
        )
    }

    fn program(&self) -> &'static str {
        match self {
            Self::Uv => "uv",
            Self::Poetry => "poetry",
        }
    }
}

enum Lock {
    Uv,
    Poetry,
}

struct Project {
    lock: Option<Lock>,
    /// Requirements files: the main one must install, the others may fail.
    requirements: Vec<String>,
    is_installable: bool,
    extras: Vec<String>,
    group: Vec<String>,
    has_tests: bool,
}

impl Project {
    fn read(place: &Place<'_>, read: Read<'_>) -> Self {
        let text = read(&place.path("pyproject.toml")).unwrap_or_default();
        let pyproject: Table = String::from_utf8_lossy(&text).parse().unwrap_or_default();
        Self {
            lock: if place.has("uv.lock") {
                Some(Lock::Uv)
            } else if place.has("poetry.lock") {
                Some(Lock::Poetry)
            } else {
                None
            },
            requirements: requirements(place),
            is_installable: is_installable(place, &pyproject, read),
            extras: development_keys(at(&pyproject, &["project", "optional-dependencies"])),
            group: group_requirements(&pyproject),
            has_tests: place.files().any(is_test),
        }
    }

    fn pip(&self) -> String {
        let mut run = String::new();
        for file in &self.requirements {
            let _ = write!(run, "python -m pip install -r {}", quote(file));
            if file == "requirements.txt" {
                run.push('\n');
            } else {
                let note = quote(&format!("greenroom: {file} could not be installed; the build goes on"));
                let _ = writeln!(run, " || echo {note}");
            }
        }
        if self.is_installable {
            if !self.extras.is_empty() {
                let _ = write!(
                    run,
                    "python -m pip install -e {} || ",
                    quote(&format!(".[{}]", self.extras.join(",")))
                );
            }
            run.push_str("python -m pip install -e .\n");
        }
        if !self.group.is_empty() {
            let words: Vec<String> = self.group.iter().map(|requirement| quote(requirement)).collect();
            let _ = writeln!(
                run,
                "python -m pip install {} || echo 'greenroom: the development group could not be installed'",
                words.join(" ")
            );
        }
        run
    }
}

fn requirements(place: &Place<'_>) -> Vec<String> {
    const MOST: usize = 8;
    let mut found: Vec<String> = place
        .files()
        .filter(|path| match path.rsplit_once('/') {
            None => path.contains("requirements") && path.ends_with(".txt"),
            Some(("requirements", name)) => {
                let stem = name.strip_suffix(".txt").unwrap_or_default();
                stem == "base" || DEVELOPMENT.contains(&stem)
            }
            Some(_) => false,
        })
        .filter(|path| path.len() <= 200 && !path.chars().any(char::is_control))
        .map(str::to_owned)
        .collect();
    found.sort_by_key(|path| (path != "requirements.txt", path.clone()));
    found.truncate(MOST);
    found
}

/// A `pyproject.toml` that only configures tools is nothing to install.
fn is_installable(place: &Place<'_>, pyproject: &Table, read: Read<'_>) -> bool {
    let declares = ["project", "build-system"].iter().any(|key| pyproject.contains_key(*key));
    let cfg = || read(&place.path("setup.cfg")).is_some_and(|text| text.starts_with(b"[metadata]"));
    declares || at(pyproject, &["tool", "poetry"]).is_some() || place.has("setup.py") || cfg()
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter().try_fold(table, |table, key| table.get(*key)?.as_table())
}

fn development_keys(table: Option<&Table>) -> Vec<String> {
    let keys = table.into_iter().flat_map(Table::keys);
    keys.filter(|key| DEVELOPMENT.contains(&key.as_str())).cloned().collect()
}

/// Requirements of development groups (PEP 735). pip reads groups itself only since 25.1, so they are listed.
fn group_requirements(pyproject: &Table) -> Vec<String> {
    const MOST: usize = 64;
    let Some(groups) = at(pyproject, &["dependency-groups"]) else { return Vec::new() };
    let mut pending = development_keys(Some(groups));
    let mut seen = Vec::new();
    let mut requirements = Vec::new();
    while let Some(name) = pending.pop() {
        if seen.contains(&name) || requirements.len() >= MOST {
            continue;
        }
        for entry in groups.get(&name).and_then(Value::as_array).into_iter().flatten() {
            match entry {
                Value::String(requirement) if is_requirement(requirement) => {
                    requirements.push(requirement.clone());
                }
                Value::Table(include) => {
                    pending.extend(include.get("include-group").and_then(Value::as_str).map(str::to_owned));
                }
                _ => {}
            }
        }
        seen.push(name);
    }
    requirements.truncate(MOST);
    requirements
}

/// Not an option of pip, and short.
fn is_requirement(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.chars().any(char::is_control)
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    (name.starts_with("test_") || name.starts_with("tests.") || name.ends_with("_test.py"))
        && name.ends_with(".py")
}
