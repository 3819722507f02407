//! Recipes and `devcontainer.json` as a hostile repository writes them. `cargo test` takes the same few cases each time;
//! `cargo xtask soak fuzz` many.

use crate::devcontainer;
use crate::recipe::{Recipe, limit};
use greenroom_domain::{ErrorCode, Problem};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const RECIPE: &str = r#"
base = "oci:docker.io/library/node:24"
secrets = ["TOKEN"]
[env]
A = "b"
[[steps]]
name = "dependencies"
run = "npm ci"
inputs = ["package.json", "*.lock"]
timeout_minutes = 5
[[checks]]
name = "tests"
run = "npm test"
optional = true
[[services]]
name = "db"
run = "postgres"
ready = { port = 5432, within_seconds = 60 }
restart = true
[[ports]]
port = 3000
name = "web"
[egress]
allow = ["api.example.org", "db.example.org:5432"]
[resources]
memory_mb = 512
cpus = 1.5
processes = 64
"#;
const DEVCONTAINER: &str = r#"{
    // A comment.
    "image": "mcr.microsoft.com/devcontainers/rust:1",
    "onCreateCommand": "echo one", "updateContentCommand": ["echo", "two"],
    "postCreateCommand": { "three": "echo three", "four": ["echo", "four"] },
    "forwardPorts": [3000, "db:5432"], "portsAttributes": { "3000": { "label": "web" } },
    "containerEnv": { "A": "b" }, "remoteEnv": { "C": "${containerEnv:A}" }, "customizations": { "vscode": [] },
}"#;

/// In one short sentence of a known code, with what to do.
fn is_refusal(problem: &Problem) {
    assert_eq!(problem.code, ErrorCode::RecipeInvalid);
    assert!(problem.message.ends_with('.') && problem.message.len() < 4000, "{problem:?}");
    assert!(!problem.message.contains('\n') && problem.hint.is_some(), "{problem:?}");
}

fn is_bounded(recipe: &Recipe) {
    assert!(recipe.steps.len() <= limit::STEPS && recipe.checks.len() <= limit::CHECKS);
    assert!(recipe.services.len() <= limit::SERVICES && recipe.ports.len() <= limit::PORTS);
    assert!(recipe.env.len() <= limit::ENV && recipe.egress_allow.len() <= limit::EGRESS);
    assert!(recipe.secrets.len() <= limit::SECRETS);
    let runs = recipe.steps.iter().map(|step| (&step.name, &step.run));
    let runs = runs.chain(recipe.services.iter().map(|service| (&service.name, &service.run)));
    for (name, run) in runs.chain(recipe.checks.iter().map(|check| (&check.name, &check.run))) {
        assert!((1..=limit::NAME_CHARS).contains(&name.chars().count()), "{name:?}");
        assert!(run.len() <= limit::RUN_BYTES && !run.contains('\0') && !run.trim().is_empty(), "{run:?}");
    }
    for step in &recipe.steps {
        assert!(limit::TIMEOUT_MINUTES.contains(&i64::from(step.timeout_minutes)), "{step:?}");
        assert!(step.inputs.iter().all(|input| !input.split('/').any(|part| part == "..")), "{step:?}");
    }
    assert!(recipe.resources.cpus.is_none_or(|cpus| limit::CPUS.contains(&cpus)));
}

fn recipe_is_taken_or_refused(text: &[u8]) {
    match Recipe::parse(text) {
        Ok(recipe) => {
            is_bounded(&recipe);
            let kept = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&kept).unwrap(), recipe, "it is kept as it was read");
        }
        Err(problem) => is_refusal(&problem),
    }
}

fn devcontainer_is_taken_or_refused(text: &[u8]) {
    match devcontainer::parse(".devcontainer/devcontainer.json", text) {
        Ok(read) => is_bounded(&read.recipe),
        Err(problem) => is_refusal(&problem),
    }
}

/// Lines and words of an honest file, in another order, and some that are not honest.
fn shuffled(honest: &'static str) -> impl Strategy<Value = String> {
    let odd = select(vec![
        "name = \"../..\"",
        "port = -1",
        "port = 99999999999999999999",
        "cpus = nan",
        "cpus = inf",
        "run = \"\"",
        "inputs = [\"../x\"]",
        "base = \"archive:../../etc/passwd\"",
        "base = \"oci:\"",
        "[[steps]]",
        "[steps]",
        "\"a\".\"b\" = 1",
        "x = '''",
        "\u{0}",
        "\u{202e}",
        "\"image\": null,",
        "\"forwardPorts\": [1e400],",
        "\"containerEnv\": {\"A\\u0000\": \"b\"},",
        "/*",
        "{",
        "}",
        "[",
        "]",
        ",",
    ]);
    let line = prop_oneof![4 => select(honest.lines().collect::<Vec<_>>()), 1 => odd];
    vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

fn damaged(honest: &'static str) -> impl Strategy<Value = Vec<u8>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..6).prop_map(move |damage| {
        let mut bytes = honest.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_recipe_is_bounded_or_refused_in_words(
        any in vec(any::<u8>(), 0..400), shuffled in shuffled(RECIPE), damaged in damaged(RECIPE),
    ) {
        recipe_is_taken_or_refused(&any);
        recipe_is_taken_or_refused(shuffled.as_bytes());
        recipe_is_taken_or_refused(&damaged);
    }

    #[test]
    fn a_devcontainer_is_bounded_or_refused_in_words(
        any in vec(any::<u8>(), 0..400), shuffled in shuffled(DEVCONTAINER), damaged in damaged(DEVCONTAINER),
    ) {
        devcontainer_is_taken_or_refused(&any);
        devcontainer_is_taken_or_refused(shuffled.as_bytes());
        devcontainer_is_taken_or_refused(&damaged);
    }
}

#[test]
fn what_these_begin_from_is_taken() {
    assert_eq!(Recipe::parse(RECIPE.as_bytes()).unwrap().steps.len(), 1);
    let read = devcontainer::parse("devcontainer.json", DEVCONTAINER.as_bytes()).unwrap();
    assert!(!read.recipe.steps.is_empty() && !read.recipe.ports.is_empty());
}

#[test]
fn files_that_are_nothing_but_nesting_are_refused() {
    // On no more stack than a thread of the server has.
    let nested = |open: &str, close: &str, before: &str| {
        let times = (limit::TEXT_BYTES - before.len()) / (open.len() + close.len());
        [before, &open.repeat(times), &close.repeat(times)].concat().into_bytes()
    };
    let open = |open: &str, before: &str| {
        [before, &open.repeat((limit::TEXT_BYTES - before.len()) / open.len())].concat()
    };
    let parsed = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for text in [
            nested("[", "]", "a = "),
            open("[", "a = ").into_bytes(),
            open("{a=", "a = ").into_bytes(),
            open("a.", "").into_bytes(),
        ] {
            is_refusal(&Recipe::parse(&text).unwrap_err());
        }
        for text in [
            nested("[", "]", "{\"image\": "),
            open("[", "").into_bytes(),
            open("{\"a\":", "").into_bytes(),
            open("/*", "").into_bytes(),
        ] {
            is_refusal(&devcontainer::parse("devcontainer.json", &text).unwrap_err());
        }
    });
    parsed.unwrap().join().unwrap();
}
