//! Three repositories that are not ours, made from published sources: each with its suite run inside the sandbox, one
//! change from a prompt to the merge, and the result cloned. Needs the package registries: without them it fails.

use crate::support::{
    Asked, Model, Server, bash, both, call, commit_all, email_of, git, name_of, outcomes, path_text,
};
use greenroom_domain::event::TurnOutcome;
use greenroom_model::testing::Turn;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is done with one of them.
struct Story {
    name: &'static str,
    /// Runs its test suite.
    tests: &'static str,
    /// What the suite prints when it passed.
    passes: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}:\n{}", both(&output));
}

/// The only entry of a directory that is a directory.
fn only_directory(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let mut directories = entries.filter(|path| path.is_dir());
    let found = directories.next().expect("something was unpacked");
    assert!(directories.next().is_none(), "more than one was unpacked");
    found
}

#[test]
fn a_rust_crate() {
    let story = Story {
        name: "itoa",
        tests: "cargo test 2>&1",
        passes: "test result: ok.",
        file: "README.md",
        old: "itoa\n====",
        new: "itoa, by Greenroom\n====",
    };
    let place = tempfile::tempdir().unwrap();
    // A package whose only dependency is the crate: `cargo vendor` gives its published source.
    let manifest = "[package]\nname = \"wants\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n\
                    [dependencies]\nitoa = \"=1.0.18\"\n[workspace]\n";
    std::fs::write(place.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::write(place.path().join("lib.rs"), "").unwrap();
    run("cargo", &["vendor", "--quiet", "vendor"], place.path());
    let source = place.path().join("vendor/itoa");
    for left_out in [".cargo-checksum.json", "Cargo.lock"] {
        let _ = std::fs::remove_file(source.join(left_out));
    }
    tell(&story, &source);
}

#[test]
fn an_npm_package() {
    let story = Story {
        name: "concat-map",
        tests: "npm test 2>&1",
        passes: "# pass  5",
        file: "index.js",
        old: "module.exports = function",
        new: "// Maps, then joins.\nmodule.exports = function",
    };
    let place = tempfile::tempdir().unwrap();
    run("npm", &["pack", "--silent", "concat-map@0.0.1"], place.path());
    run("tar", &["--no-same-owner", "-xzf", "concat-map-0.0.1.tgz"], place.path());
    tell(&story, &only_directory(place.path()));
}

#[test]
fn a_python_package() {
    let story = Story {
        name: "six",
        // The machine's Python may be built without its optional databases.
        tests: "python -m pytest -q -k 'not dbm' test_six.py 2>&1",
        passes: " passed",
        file: "six.py",
        old: "\"\"\"Utilities for writing code that runs on Python 2 and 3\"\"\"",
        new: "\"\"\"Utilities for code that runs on Python 2 and 3\"\"\"",
    };
    let place = tempfile::tempdir().unwrap();
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "six==1.16.0"];
    run("python3", &download, place.path());
    run("tar", &["--no-same-owner", "-xzf", "six-1.16.0.tar.gz"], place.path());
    tell(&story, &only_directory(place.path()));
}

fn tell(story: &Story, source: &Path) {
    commit_all(source);
    let server = Server::start();
    let Story { tests, file, old, new, .. } = *story;
    let model = Model::new(move |asked| turn(asked, tests, file, old, new));
    server.use_model(&model);
    server.cli(&["repository", "add", story.name, path_text(source), "--wait"]);
    let (ann, bob) = (server.member("ann"), server.member("bob"));

    let session = server.json_as(&ann, &["run", story.name, "make it ours", "--detach"]);
    let id = session["id"].as_str().unwrap();
    let log = server.settled(id.parse().unwrap());
    assert_eq!(outcomes(&log), [TurnOutcome::Completed], "{log:#?}");
    let suite = server.cli_as(&bob, &["session", "exec", id, "--timeout", "300", "--", tests]);
    let text = both(&suite);
    assert!(suite.status.success() && text.contains(story.passes), "{text}");

    let change = format!("{}#1", story.name);
    let refused = server.cli_as(&ann, &["--json", "change", "approve", &change]);
    assert!(both(&refused).contains("self_approval"), "{}", both(&refused));
    server.json_as(&bob, &["change", "approve", &change]);
    let merged = server.json_as(&bob, &["change", "merge", &change]);
    assert_eq!(merged["state"], "merged", "{merged}");
    assert_result(&server, &bob, story);
}

/// The words of the model: look, edit, test, propose. Each waits for what the step before gave.
fn turn(asked: &Asked, tests: &str, file: &str, old: &str, new: &str) -> Turn {
    match asked.step {
        0 => call("read", &json!({ "path": file })).and_text("I look first."),
        1 => call("edit", &json!({ "path": file, "old": old, "new": new })),
        2 => bash(tests),
        3 if asked.results.contains("exit 0") || !asked.results.contains("exit") => {
            call("open_change", &json!({ "title": "Make it ours", "body": "As asked." }))
        }
        _ => Turn::text(format!("It ended so: {}", asked.results)),
    }
}

/// What anybody clones afterwards.
fn assert_result(server: &Server, token: &str, story: &Story) {
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["clone", "-q", &server.clone_url("bob", token, story.name), "result"]);
    let result = place.path().join("result");
    let text = std::fs::read_to_string(result.join(story.file)).unwrap();
    assert!(text.contains(story.new), "{text}");
    let by = git(&result, &["log", "-1", "--format=%an <%ae>", "--", story.file]);
    assert_eq!(by.trim(), format!("{} <{}>", name_of("ann"), email_of("ann")));
    let touched = git(&result, &["log", "--no-merges", "--format=", "--name-only", "-1"]);
    assert_eq!(touched.trim(), story.file, "nothing but the edit is in the change");
}
