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
fn a_toolchain_is_not_installed_again_for_another_dependency() {
    let project =
        of(&[("go.mod", ""), ("pom.xml", ""), ("Gemfile", ""), ("composer.json", ""), (".go-version", "1")]);
    let toolchains: Vec<_> =
        project.recipe.steps.iter().filter(|step| step.name.ends_with("toolchain")).collect();
    assert_eq!(toolchains.len(), 4);
    for step in toolchains {
        let globs: Vec<_> = step.inputs.iter().map(|glob| crate::recipe::glob(glob).unwrap()).collect();
        let has = |path: &str| globs.iter().any(|glob| glob.is_match(path));
        assert!([".go-version", ".tool-versions", ".ruby-version"].into_iter().all(has), "{step:?}");
        assert!(!["go.mod", "pom.xml", "Gemfile", "composer.json"].into_iter().any(has), "{step:?}");
    }
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
fn pnpm_and_yarn_come_from_the_registry_in_the_version_of_the_lock() {
    let package = ("package.json", r#"{"dependencies":{"a":"1"}}"#);
    let lock = |version: u32| format!("# yarn\n\n__metadata:\n  version: {version}\n  cacheKey: 10\n");
    for (format, version) in [(4, "2"), (6, "3"), (8, "4.9"), (10, "4")] {
        let detected = of(&[package, ("yarn.lock", &lock(format)), (".yarnrc.yml", "")]);
        let run = step_text(&detected, "node dependencies");
        assert!(run.contains(&format!("npm install --global '@yarnpkg/cli-dist@{version}'")), "{run}");
        assert!(detected.notes[0].contains(&format!("yarn {version} comes from npm's registry")));
    }
    let carried =
        of(&[package, ("yarn.lock", &lock(8)), (".yarn/releases/yarn-4.1.0.cjs", ""), (".yarnrc.yml", "")]);
    let run = step_text(&carried, "node dependencies");
    assert!(run.contains(".yarn/releases/yarn-4.1.0.cjs") && !run.contains("npm install"), "{run}");
    assert!(carried.notes.is_empty());
    let pnpm = of(&[package, ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n")]);
    assert!(pnpm.notes[0].starts_with("pnpm 9 comes from npm's registry"));
}

#[test]
fn what_install_scripts_name_is_an_input() {
    let package = r#"{"dependencies":{"a":"1"},"scripts":{"postinstall":"node ./scripts/setup.js --x","prepare":"tsc"}}"#;
    let files = [
        ("package.json", package),
        ("package-lock.json", "{}"),
        ("scripts/setup.js", ""),
        ("src/index.ts", ""),
        ("patches/a.patch", ""),
    ];
    let detected = of(&files);
    let step = &detected.recipe.steps[0];
    let is_touched = |path: &str| step.is_touched_by(&[path.to_owned()]);
    assert!(
        is_touched("scripts/setup.js") && is_touched("package-lock.json") && is_touched("patches/a.patch")
    );
    assert!(is_touched("packages/b/package.json") && !is_touched("src/index.ts"));
    assert_eq!(detected.recipe.checks[0].name, "node prepare", "made anew at each commit");
}

#[test]
fn java_ruby_and_php_are_found_with_their_tools() {
    let detected = of(&[("pom.xml", ""), ("build.gradle", "")]);
    assert_eq!(detected.ecosystems, [Ecosystem::Java]);
    assert!(step_text(&detected, "java toolchain").contains("for program in java mvn;"));
    assert!(step_text(&detected, "java dependencies").starts_with("mvn -B -ntp dependency:go-offline"));
    let wrapped = of(&[("pom.xml", ""), ("mvnw", ""), (".mvn/wrapper/maven-wrapper.properties", "")]);
    assert!(step_text(&wrapped, "java toolchain").contains("for program in java;"));
    assert!(step_text(&wrapped, "java dependencies").starts_with("sh ./mvnw -B"));
    let gradle =
        of(&[("settings.gradle.kts", ""), ("gradlew", ""), ("gradle/wrapper/gradle-wrapper.properties", "")]);
    assert!(step_text(&gradle, "java dependencies").starts_with("sh ./gradlew --no-daemon"));
    let inputs = &gradle.recipe.steps[1];
    assert!(
        inputs.is_touched_by(&["app/build.gradle.kts".into()])
            && !inputs.is_touched_by(&["app/A.java".into()])
    );

    let ruby = of(&[("Gemfile", ""), ("Gemfile.lock", ""), ("spec/a_spec.rb", "")]);
    assert!(step_text(&ruby, "ruby dependencies").starts_with("BUNDLE_FROZEN=true bundle install"));
    assert_eq!(ruby.recipe.checks[0].run, "bundle exec rspec\n");
    assert_eq!(ruby.recipe.env["BUNDLE_PATH"], "/opt/bundle");
    let php = of(&[("composer.json", ""), ("phpunit.xml.dist", "")]);
    assert!(step_text(&php, "php dependencies").starts_with("composer install"));
    assert_eq!(php.recipe.checks[0].run, "vendor/bin/phpunit\n");
    let scripted = of(&[("composer.json", r#"{"scripts":{"test":"pest"}}"#)]);
    assert_eq!(scripted.recipe.checks[0].run, "composer run-script test\n");
    assert!(of(&[("composer.json", r#"{"scripts":{"lint":"x"}}"#)]).recipe.checks.is_empty());
    assert!(
        step_text(&of(&[("go.mod", "")]), "go toolchain")
            .contains("install -q -y --no-install-recommends golang-go")
    );
}

/// Inputs decide when a layer is shared: no detected step may depend on the whole commit.
#[test]
fn every_detected_step_names_its_inputs() {
    let detected = of(&[
        ("Cargo.toml", ""),
        ("go.mod", ""),
        ("pom.xml", ""),
        ("Gemfile", ""),
        ("composer.json", ""),
        ("requirements.txt", ""),
        ("package.json", r#"{"dependencies":{"a":"1"}}"#),
    ]);
    assert_eq!(detected.ecosystems.len(), 7);
    assert!(detected.recipe.steps.iter().all(|step| !step.inputs.is_empty()));
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
fn a_python_lock_is_installed_by_its_own_program() {
    let detected = of(&[("pyproject.toml", "[project]\nname='x'"), ("uv.lock", "")]);
    let run = step_text(&detected, "python dependencies");
    let toolchain = step_text(&detected, "python toolchain");
    assert!(toolchain.contains("/opt/uv/bin/python -m pip install --quiet uv"), "{toolchain}");
    assert!(run.contains("/opt/uv/bin/python -m pip install --quiet uv"), "{run}");
    assert!(
        run.contains(
            "then\n  UV_PROJECT_ENVIRONMENT=/opt/venv UV_LINK_MODE=copy uv sync --frozen\nelse\n  echo"
        ),
        "{run}"
    );
    assert_eq!(detected.notes, ["uv comes from the package index"]);
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
                ("pom.xml", ""),
                ("it's/build.gradle", ""),
                ("Gemfile", ""),
                ("Gemfile.lock", ""),
                ("spec/a", ""),
                ("composer.json", ""),
                (".yarn/releases/yarn-4.1.0.cjs", ""),
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
