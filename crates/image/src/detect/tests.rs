//! Tests of `detect`.

use super::*;
use std::collections::HashMap;

/// Detects over files given as (path, text), reading only what `wanted` announced.
fn of(files: &[(&str, &str)]) -> Detected {
    let paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let files: HashMap<&str, &str> = files.iter().copied().collect();
    let wanted = wanted(&paths);
    detect(&paths, &|path| {
        let text = files.get(path)?;
        assert!(wanted.iter().any(|wanted| wanted == path), "{path} was read unannounced");
        Some(text.as_bytes().to_vec())
    })
}

fn step_text(detected: &Detected, name: &str) -> String {
    let step = detected.recipe.steps.iter().find(|step| step.name == name);
    step.unwrap_or_else(|| panic!("no step {name} in {:?}", detected.recipe.steps)).run.clone()
}

#[test]
fn a_plain_repository_needs_nothing() {
    let detected = of(&[("README.md", "hello"), ("src/main.c", "")]);
    assert_eq!(detected, Detected::default());
}

#[test]
fn checks_of_a_detected_recipe_never_fail_the_build() {
    let detected = of(&[
        ("Cargo.toml", ""),
        ("go.mod", ""),
        ("test_a.py", ""),
        ("package.json", r#"{"scripts":{"test":"x"}}"#),
    ]);
    assert!(detected.recipe.checks.len() >= 5);
    assert!(detected.recipe.checks.iter().all(|check| check.is_optional));
    assert_eq!(detected.ecosystems, [Ecosystem::Rust, Ecosystem::Go, Ecosystem::Python, Ecosystem::Node]);
}

#[test]
fn the_lockfile_chooses_the_node_installer() {
    let package = ("package.json", r#"{"dependencies":{"a":"1"}}"#);
    for (lock, text, expected) in [
        ("package-lock.json", "{}", "npm ci"),
        ("yarn.lock", "", "yarn install --frozen-lockfile"),
        ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n", "'pnpm@8'"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "'pnpm@9'"),
        ("none", "", "npm install"),
    ] {
        let run = step_text(&of(&[package, (lock, text)]), "node dependencies");
        assert!(run.contains(expected), "{lock}: {run}");
    }
    let modern = of(&[("package.json", r#"{"packageManager":"yarn@4.1.0"}"#), ("yarn.lock", "")]);
    assert!(step_text(&modern, "node dependencies").contains("--immutable"));
    let declared =
        of(&[("package.json", r#"{"packageManager":"pnpm@8.6.0+sha512.ab"}"#), ("pnpm-lock.yaml", "")]);
    assert!(step_text(&declared, "node dependencies").contains("'pnpm@8.6.0'"));
}

#[test]
fn a_package_without_dependencies_or_tests_needs_no_install() {
    let placeholder = r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#;
    let detected = of(&[("package.json", placeholder)]);
    assert!(detected.recipe.steps.is_empty() && detected.recipe.checks.is_empty());
    assert_eq!(detected.ecosystems, [Ecosystem::Node]);
}

#[test]
fn python_goes_into_an_environment_outside_of_the_workspace() {
    let detected = of(&[("requirements.txt", "x"), ("requirements-dev.txt", "y"), ("tests/test_a.py", "")]);
    let run = step_text(&detected, "python dependencies");
    assert!(run.starts_with("test -x /opt/venv/bin/python || python3 -m venv /opt/venv\n"));
    assert!(run.contains("-r 'requirements.txt'\n"));
    assert!(run.contains("-r 'requirements-dev.txt' || echo"));
    assert_eq!(detected.recipe.env["PATH"], "/opt/venv/bin:${PATH}");
}

#[test]
fn a_python_project_is_installed_with_its_development_extras_and_groups() {
    let pyproject = r#"
        [project]
        name = "x"
        [project.optional-dependencies]
        test = ["pytest"]
        docs = ["sphinx"]
        [dependency-groups]
        dev = ["ruff>=0.4", {include-group = "lint"}, {include-group = "dev"}, "--index-url=evil"]
        lint = ["mypy; python_version > '3'"]
    "#;
    let run = step_text(&of(&[("pyproject.toml", pyproject)]), "python dependencies");
    assert!(run.contains("pip install -e '.[test]' || python -m pip install -e .\n"), "{run}");
    assert!(run.contains(r"pip install 'ruff>=0.4' 'mypy; python_version > '\''3'\''' ||"), "{run}");
    assert!(!run.contains("evil"));
}

#[test]
fn tool_settings_alone_are_not_installed() {
    let run = step_text(&of(&[("pyproject.toml", "[tool.ruff]\nline-length = 100")]), "python dependencies");
    assert!(!run.contains("pip install -e"), "{run}");
}

#[test]
fn a_python_lock_is_used_when_its_program_is_there() {
    let run =
        step_text(&of(&[("pyproject.toml", "[project]\nname='x'"), ("uv.lock", "")]), "python dependencies");
    assert!(run.contains("if command -v uv >/dev/null; then\n"), "{run}");
    assert!(run.contains("else\n  echo"), "{run}");
    let run =
        step_text(&of(&[("pyproject.toml", "[tool.poetry]"), ("poetry.lock", "")]), "python dependencies");
    assert!(run.contains("poetry install"), "{run}");
}

#[test]
fn a_project_below_the_root_is_entered_first() {
    let detected = of(&[("Cargo.toml", ""), ("web it's/package.json", r#"{"dependencies":{"a":"1"}}"#)]);
    assert!(step_text(&detected, "node dependencies (web it's)").starts_with("cd 'web it'\\''s'\n"));
    assert!(step_text(&detected, "rust dependencies").starts_with("cargo fetch"));
}

#[test]
fn projects_of_fixtures_and_dependencies_are_not_ours() {
    let detected =
        of(&[("tests/fixtures/Cargo.toml", ""), ("vendor/x/go.mod", ""), ("a/b/c/package.json", "")]);
    assert_eq!(detected, Detected::default());
}

#[test]
fn loose_modules_make_a_python_project_only_at_the_root() {
    assert_eq!(of(&[("Cargo.toml", ""), ("scripts/release.py", "")]).ecosystems, [Ecosystem::Rust]);
    let declared = of(&[("fabfile.py", ""), ("backend/pyproject.toml", "[project]\nname='x'")]);
    assert!(step_text(&declared, "python dependencies (backend)").contains("cd 'backend'"));
    assert_eq!(of(&[("calc.py", "")]).ecosystems, [Ecosystem::Python]);
}

/// Every detected recipe stays within what a written one may be.
#[test]
fn detected_recipes_obey_the_bounds_of_written_ones() {
    use crate::recipe::limit;
    let deep = format!("{}/requirements.txt", "d".repeat(190));
    let group: String = (0..90).map(|n| format!("\"{}{n}\",", "r".repeat(80))).collect();
    let pyproject = format!("[dependency-groups]\ndev = [{group}]");
    let detected =
        of(&[(&deep, ""), ("a/pyproject.toml", &pyproject), ("b/Cargo.toml", ""), ("c/package.json", "[")]);
    for step in &detected.recipe.steps {
        assert!(step.run.len() <= limit::RUN_BYTES, "{} has {}", step.name, step.run.len());
        assert!(step.inputs.len() <= limit::INPUTS);
    }
}

/// What is derived is shell text that both shells can read.
#[test]
fn detected_scripts_are_well_formed() {
    let python = "[project]\nname='x'\n[project.optional-dependencies]\ntest=[]\n[dependency-groups]\ndev=[\"a; b == 'c'\"]";
    let node = r#"{"dependencies":{"a":"1"},"scripts":{"build":"b","test":"t"}}"#;
    for lock in ["uv.lock", "poetry.lock", "none"] {
        for node_lock in ["package-lock.json", "yarn.lock", ".yarnrc.yml", "pnpm-lock.yaml", "none"] {
            let detected = of(&[
                ("it's/pyproject.toml", python),
                (&format!("it's/{lock}"), ""),
                ("it's/requirements-dev.txt", ""),
                ("it's/tests/test_a.py", ""),
                ("package.json", node),
                (node_lock, ""),
                ("yarn.lock", ""),
                ("Cargo.toml", ""),
                ("go.mod", ""),
            ]);
            let steps = detected.recipe.steps.iter().map(|step| &step.run);
            for run in steps.chain(detected.recipe.checks.iter().map(|check| &check.run)) {
                for shell in ["sh", "bash"] {
                    let status = std::process::Command::new(shell).args(["-n", "-c", run]).status().unwrap();
                    assert!(status.success(), "{shell}: {run}");
                }
            }
        }
    }
}
