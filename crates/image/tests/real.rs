//! Detected recipes of real, small projects, built on this machine with dependencies from the registries. Needs root or
//! user namespaces, and the registries: without them it fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;

use greenroom_image::ImageManifest;
use greenroom_sandbox::ExitReason;
use machine::{Machine, project};

const DONE: ExitReason = ExitReason::Code { code: 0 };

/// What a session says of its first seconds: tests pass with nothing fetched, and git sees a clean tree.
async fn assert_ready(machine: &Machine, image: &ImageManifest, tests: &str) {
    let log = machine.log(image);
    for check in &image.checks {
        assert!(check.has_passed(), "{check:?}\n{log}");
    }
    let script =
        format!("{tests} 2>&1 && git status --porcelain && echo clean:$(git status --porcelain | wc -l)");
    let (exit, output) = machine.run(image, &script).await;
    assert_eq!(exit, DONE, "{output}\n{log}");
    assert!(output.trim_end().ends_with("clean:0"), "{output}\n{log}");
}

fn names(image: &ImageManifest, is_reused: bool) -> Vec<&str> {
    let parts = image.parts.iter().filter(|part| part.is_reused == is_reused);
    parts.map(|part| part.name.as_str()).collect()
}

/// Built, used, and built again after a change of something that no step depends on.
async fn tell(name: &str, step: &str, tests: &str) {
    let machine = Machine::new(&project(name)).await;
    let first = machine.built(None).await;
    assert_eq!(names(&first, true), [""; 0]);
    assert_ready(&machine, &first, tests).await;
    machine.push(&[("README.md", "changed\n")]);
    let second = machine.built(Some(&first)).await;
    assert_eq!(names(&second, true), [step], "{}", machine.log(&second));
    assert_ready(&machine, &second, tests).await;
}

#[tokio::test]
async fn a_rust_project_is_ready_to_work_on() {
    tell("rust", "rust dependencies", "cargo test --offline").await;
}

#[tokio::test]
async fn an_npm_project_is_ready_to_work_on() {
    tell("npm", "node dependencies", "npm test").await;
}

#[tokio::test]
async fn a_pnpm_project_is_ready_to_work_on() {
    tell("pnpm", "node dependencies", "pnpm test").await;
}

#[tokio::test]
async fn a_yarn_project_is_ready_to_work_on() {
    tell("yarn", "node dependencies", "yarn test").await;
}

#[tokio::test]
async fn a_project_of_the_newer_yarn_is_ready_to_work_on() {
    tell("yarn-modern", "node dependencies", "yarn test").await;
}

#[tokio::test]
async fn a_pip_project_is_ready_to_work_on() {
    tell("pip", "python dependencies", "python -m pytest -q").await;
}

#[tokio::test]
async fn a_uv_project_is_ready_to_work_on() {
    tell("uv", "python dependencies", "uv --version && python -m pytest -q").await;
}

/// Go is not on this machine: a step of the recipe installs it in the sandbox.
#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_go_project_gets_its_toolchain_by_apt() {
    let files = [
        ("go.mod", "module example.com/sample\n\ngo 1.19\n"),
        ("main.go", "package main\n\nfunc main() {}\n"),
        ("main_test.go", "package main\n\nimport \"testing\"\n\nfunc TestIt(t *testing.T) { main() }\n"),
    ];
    let files: Vec<_> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let machine = Machine::new(&files).await;
    let first = machine.built(None).await;
    assert_ready(&machine, &first, "go test ./...").await;
    machine.push(&[("README.md", "changed\n")]);
    let second = machine.built(Some(&first)).await;
    assert_eq!(names(&second, true), ["go toolchain", "go dependencies"], "{}", machine.log(&second));
}
