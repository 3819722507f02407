//! Tests of `run`.

use super::super::WORKSPACE;
use super::super::scripts::{CLONE as CLONE_SCRIPT, FINISH as FINISH_SCRIPT, SHELL, UPDATE as UPDATE_SCRIPT};
use super::*;
use std::fs;
use std::process::Command;

fn git(directory: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
    let output = Command::new("git").arg("-C").arg(directory).args(identity).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The build's own script as a sandbox would run it, with a directory of the test as the workspace.
fn run(script: &str, workspace: &Path, source: &Path, commit: &str) -> bool {
    let script = script.replace(WORKSPACE, workspace.to_str().unwrap());
    let output = Command::new("/bin/sh")
        .args(["-c", SHELL, "sh", &script])
        .env("GREENROOM_CLONE_URL", source)
        .env("GREENROOM_BRANCH", "topic/a")
        .env("GREENROOM_COMMIT", commit)
        .output()
        .unwrap();
    output.status.success()
}

#[test]
fn a_session_starts_from_a_clean_tree_at_the_commit_whatever_steps_did() {
    let directory = tempfile::tempdir().unwrap();
    let (source, workspace) = (directory.path().join("source"), directory.path().join("workspace"));
    fs::create_dir(&source).unwrap();
    git(&source, &["init", "-q", "-b", "topic/a"]);
    fs::write(source.join("tracked"), "1").unwrap();
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "-q", "-m", "one"]);
    let commit = git(&source, &["rev-parse", "HEAD"]);
    git(&source, &["commit", "-q", "--allow-empty", "-m", "later than the plan"]);

    assert!(run(CLONE_SCRIPT, &workspace, &source, &commit));
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(git(&workspace, &["config", "core.checkStat"]), "minimal");

    fs::write(workspace.join("tracked"), "2").unwrap();
    for name in ["made", "#made", "!made", "ma[d]e*?", "with space", "back\\slash", "é", "two\nlines"] {
        fs::write(workspace.join(name), "").unwrap();
    }
    fs::create_dir_all(workspace.join("target/deep")).unwrap();
    fs::write(workspace.join("target/deep/file"), "").unwrap();
    git(&workspace, &["checkout", "-q", "--detach"]);
    git(&workspace, &["commit", "-q", "--allow-empty", "-m", "by a step"]);

    assert!(run(FINISH_SCRIPT, &workspace, &source, &commit));
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(git(&workspace, &["rev-parse", "HEAD"]), commit);
    assert_eq!(git(&workspace, &["symbolic-ref", "--short", "HEAD"]), "topic/a");
    assert_eq!(git(&workspace, &["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/topic/a");
    assert_eq!(fs::read_to_string(workspace.join("tracked")).unwrap(), "1");
    fs::write(workspace.join("new"), "").unwrap();
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "?? new");
}

#[test]
fn an_update_writes_only_what_changed_since() {
    let directory = tempfile::tempdir().unwrap();
    let (source, workspace) = (directory.path().join("source"), directory.path().join("workspace"));
    fs::create_dir(&source).unwrap();
    git(&source, &["init", "-q", "-b", "topic/a"]);
    fs::write(source.join("kept"), "1").unwrap();
    fs::write(source.join("gone"), "1").unwrap();
    fs::write(source.join("changed"), "1").unwrap();
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "-q", "-m", "one"]);
    let first = git(&source, &["rev-parse", "HEAD"]);
    assert!(run(CLONE_SCRIPT, &workspace, &source, &first));
    let kept = fs::metadata(workspace.join("kept")).unwrap().modified().unwrap();
    fs::write(source.join("changed"), "2").unwrap();
    fs::remove_file(source.join("gone")).unwrap();
    // Rewritten history is followed as well.
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "-q", "--amend", "-m", "other"]);
    let second = git(&source, &["rev-parse", "HEAD"]);
    assert!(run(UPDATE_SCRIPT, &workspace, &source, &second));
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(git(&workspace, &["rev-parse", "HEAD"]), second);
    assert_eq!(fs::read_to_string(workspace.join("changed")).unwrap(), "2");
    assert!(!workspace.join("gone").exists());
    assert_eq!(fs::metadata(workspace.join("kept")).unwrap().modified().unwrap(), kept);
    assert_eq!(git(&workspace, &["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/topic/a");
}

#[test]
fn a_step_stops_at_its_first_failure_pipes_included() {
    let ends_well =
        |script| Command::new("/bin/sh").args(["-c", SHELL, "sh", script]).status().unwrap().success();
    assert!(ends_well("true"));
    assert!(!ends_well("false\ntrue"));
    assert!(!ends_well("false | true"));
}
