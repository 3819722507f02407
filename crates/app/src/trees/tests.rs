//! The scripts with a real git, in a clone that does its worst; and what a log says is left to keep.

use super::*;
use greenroom_domain::CommitHash;
use greenroom_domain::event::ToolOutcome;
use greenroom_domain::state::StepRef;
use greenroom_wire::ExecResult;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn new() -> Self {
        let clone = Self { folder: tempfile::tempdir().unwrap() };
        clone.git(&["init", "-q", "-b", "main"]);
        clone.write("kept.txt", b"kept\n");
        clone.write("gone.txt", b"gone\n");
        clone.write("old name.txt", b"some\nlines\nthat\nmove\n");
        clone.write(".gitignore", b"ignored/\n");
        clone.git(&["add", "-A"]);
        clone.git(&["commit", "-q", "-m", "Before"]);
        clone
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Eve", "-c", "user.email=eve@test.invalid"]).args(arguments);
        self.run(command).output.trim().to_owned()
    }

    fn run(&self, mut command: Command) -> ExecResult {
        command.current_dir(self.folder.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        ExecResult {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            exit_code: output.status.code(),
            ended_by: None,
            is_truncated: false,
            duration_ms: 0,
        }
    }

    fn script(&self, script: &scripts::Script) -> ExecResult {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script.command]).envs(script.env.iter().cloned());
        self.run(command)
    }

    fn keep(&self, at: Option<&StepRef>) -> Option<scripts::Kept> {
        scripts::read_kept(&self.script(&scripts::keep(at))).unwrap()
    }

    fn step(&self, at: Option<&StepRef>) -> StepRef {
        let kept = self.keep(at).expect("something changed");
        StepRef { step: at.map_or(0, |at| at.step + 1), commit: kept.commit }
    }

    fn revert(&self, to: &StepRef, from: &StepRef, marks: &[CommitHash]) -> Result<scripts::PutBack> {
        scripts::read_put_back(&self.script(&scripts::revert(&to.commit, &from.commit, marks)))
    }

    /// Paths with what changed, as a person is shown it.
    fn diff(&self, a: Option<&StepRef>, b: &StepRef) -> Vec<(String, Option<String>, u64, u64, bool)> {
        let found = self.script(&scripts::diff(a.map(|a| &a.commit), &b.commit));
        let (counts, patches) = scripts::read_diff(&found).unwrap();
        let files = greenroom_forge::read_diff(counts.as_bytes(), patches, false);
        let told = |file: greenroom_forge::FileDiff| {
            assert!(!file.is_truncated, "{file:?}");
            (file.path, file.old_path, file.additions, file.deletions, file.is_binary)
        };
        files.into_iter().map(told).collect()
    }

    /// Everything but git's own: kind, mode and content, by path.
    fn files(&self) -> Vec<(Vec<u8>, String, Vec<u8>)> {
        fn walk(root: &Path, at: &Path, found: &mut Vec<(Vec<u8>, String, Vec<u8>)>) {
            for entry in at.read_dir().unwrap().flatten() {
                let path = entry.path();
                if entry.file_name() == ".git" {
                    continue;
                }
                let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
                let kind = entry.file_type().unwrap();
                if kind.is_symlink() {
                    let to = path.read_link().unwrap().as_os_str().as_bytes().to_vec();
                    found.push((name, "link".into(), to));
                } else if kind.is_dir() {
                    walk(root, &path, found);
                } else {
                    let is_program = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                    let kind = if is_program { "program" } else { "file" };
                    found.push((name, kind.into(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = vec![];
        walk(self.folder.path(), self.folder.path(), &mut found);
        found.sort();
        found
    }

    /// Changes of every kind.
    fn upheaval(&self) {
        std::fs::remove_file(self.path("gone.txt")).unwrap();
        std::fs::rename(self.path("old name.txt"), self.path("new name.txt")).unwrap();
        self.write("deep/er/binary.bin", &[0, 1, 2, 255, 0, 10]);
        self.write("run.sh", b"#!/bin/sh\n");
        std::fs::set_permissions(self.path("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("nowhere/at all", self.path("link")).unwrap();
        for odd in
            [&b"odd \xff\xfe\n\ttab"[..], b"-dash", b"back\\slash \"quote\"", b"git~1", b"a$(touch ran)b"]
        {
            std::fs::write(self.folder.path().join(OsStr::from_bytes(odd)), odd).unwrap();
        }
        // A file where a directory will be, and the other way round.
        std::fs::remove_file(self.path("kept.txt")).unwrap();
        self.write("kept.txt/inside", b"now a directory\n");
    }
}

#[test]
fn files_of_every_kind_go_back_and_forward_and_ignored_ones_stay() {
    let clone = Clone::new();
    clone.write("ignored/cache", b"mine");
    let begin = clone.step(None);
    let before = clone.files();
    clone.upheaval();
    clone.write("ignored/cache", b"changed");
    let after = clone.files();
    let left = clone.step(Some(&begin));
    assert_eq!(clone.keep(Some(&left)), None, "nothing changed since");

    let head = clone.git(&["rev-parse", "HEAD"]);
    let back = clone.revert(&begin, &left, &[]).unwrap();
    let mut expected = before.clone();
    expected.iter_mut().find(|file| file.0 == b"ignored/cache").unwrap().2 = b"changed".to_vec();
    assert_eq!(clone.files(), expected);
    assert!(back.changed.contains(&"deep/er/binary.bin".to_owned()), "{back:?}");
    assert!(!clone.path("deep").exists() && !clone.path("ran").exists());
    assert_eq!(back.changed_count, 13);

    clone.revert(&left, &begin, &[]).unwrap();
    assert_eq!(clone.files(), after);
    // Twice is once.
    clone.revert(&left, &begin, &[]).unwrap();
    assert_eq!(clone.files(), after);
    assert_eq!(clone.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(clone.git(&["diff", "--cached", "--name-only"]), "", "nothing is staged");
    assert_eq!(clone.git(&["branch", "-a", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_step_shows_what_it_changed_and_a_revert_what_it_would() {
    let clone = Clone::new();
    let begin = clone.step(None);
    clone.upheaval();
    let kept = clone.keep(Some(&begin)).unwrap();
    assert!(kept.is_compared && kept.counts.0 == 12, "{kept:?}");
    let left = StepRef { step: 1, commit: kept.commit };
    let shown = clone.diff(Some(&begin), &left);
    assert_eq!(shown.len(), 12, "{shown:?}");
    let of =
        |path: &str| shown.iter().find(|file| file.0 == path).unwrap_or_else(|| panic!("{path}: {shown:?}"));
    assert_eq!(of("new name.txt").1.as_deref(), Some("old name.txt"));
    assert!(of("deep/er/binary.bin").4);
    assert_eq!((of("gone.txt").2, of("gone.txt").3), (0, 1));
    assert!(clone.diff(Some(&left), &left).is_empty());
    // From the files as they are, which no step has.
    clone.write("later.txt", b"a\nb\n");
    let shown = clone.diff(None, &left);
    assert_eq!(shown, [("later.txt".to_owned(), None, 0, 2, false)]);
    assert_eq!(clone.keep(Some(&left)).unwrap().counts, (1, 2, 0), "a look keeps nothing");
}

#[test]
fn what_a_clone_configures_or_breaks_neither_runs_nor_stops_a_step() {
    let clone = Clone::new();
    let evil = clone.path(".git/evil.sh");
    std::fs::write(&evil, "#!/bin/sh\ntouch \"$(dirname \"$0\")/ran\"\n").unwrap();
    std::fs::set_permissions(&evil, PermissionsExt::from_mode(0o755)).unwrap();
    let evil = evil.to_str().unwrap();
    for (key, value) in [
        ("core.fsmonitor", evil),
        ("core.hooksPath", clone.path(".git").to_str().unwrap()),
        ("core.sparseCheckout", "true"),
        ("core.fileMode", "false"),
        ("diff.external", evil),
    ] {
        clone.git(&["config", key, value]);
    }
    std::fs::copy(evil, clone.path(".git/reference-transaction")).unwrap();
    std::fs::copy(evil, clone.path(".git/post-index-change")).unwrap();
    // A clone in the clone that has no commit yet; a run that was cut off; an index that is not one.
    std::fs::create_dir(clone.path("inner")).unwrap();
    clone.git(&["init", "-q", "inner"]);
    clone.write("inner/file", b"x");
    let _ = std::fs::remove_file(clone.path(".git/ran"));
    let begin = clone.step(None);
    clone.write("run.sh", b"#!/bin/sh\n");
    std::fs::set_permissions(clone.path("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    clone.write(".git/greenroom-steps.index.lock", b"");
    let left = clone.step(Some(&begin));
    clone.write(".git/greenroom-steps.index", b"no index");
    clone.write("more.txt", b"more\n");
    let more = clone.step(Some(&left));
    assert_eq!(clone.diff(Some(&left), &more), [("more.txt".to_owned(), None, 1, 0, false)]);
    clone.revert(&begin, &more, &[]).unwrap();
    clone.revert(&left, &more, &[]).unwrap();
    let mode = clone.path("run.sh").metadata().unwrap().permissions().mode();
    assert!(mode & 0o100 != 0 && !clone.path("more.txt").exists() && clone.path("inner/file").exists());
    assert!(!clone.path(".git/ran").exists(), "nothing of the clone's ran");
}

#[test]
fn steps_outlive_a_collection_of_garbage_and_what_is_gone_is_said_to_be() {
    let clone = Clone::new();
    let begin = clone.step(None);
    clone.write("a", b"a");
    let one = clone.step(Some(&begin));
    let mark = clone.git(&["commit-tree", "-m", "A mark", &format!("{}^{{tree}}", one.commit)]);
    clone.git(&["update-ref", "refs/greenroom/marks", &mark]);
    let back = clone.revert(&begin, &one, &[mark.parse().unwrap()]).unwrap();
    assert!(back.is_new_mark, "the files are not as that mark");
    clone.write("b", b"b");
    let two = clone.step(Some(&begin));
    clone.git(&["reflog", "expire", "--expire=now", "--all"]);
    clone.git(&["gc", "-q", "--prune=now"]);
    for step in [&begin, &one, &two] {
        clone.revert(step, &two, &[]).unwrap();
    }
    assert_eq!(clone.git(&["cat-file", "-t", &mark]), "commit", "a forward revert stands on it again");
    let again = clone.revert(&one, &two, &[mark.parse().unwrap()]).unwrap();
    assert_eq!((again.mark.unwrap().as_str(), again.is_new_mark), (mark.as_str(), false));

    let gone = StepRef { step: 9, commit: "f".repeat(40).parse().unwrap() };
    let before = clone.files();
    assert_eq!(clone.revert(&gone, &two, &[]).unwrap_err().code, greenroom_domain::ErrorCode::StepUnknown);
    assert_eq!(clone.files(), before);
    let kept = clone.keep(Some(&gone)).unwrap();
    assert!(!kept.is_compared, "files begin here for all that is known");
}

#[test]
fn calls_that_may_have_written_and_have_no_tree_are_found_in_the_log() {
    let turn = TurnId::from_parts(1, 1);
    let started = |call: &str, name: &str| Event::ToolStarted {
        turn,
        call: call.into(),
        name: name.into(),
        title: String::new(),
    };
    let done = |call: &str| Event::ToolFinished {
        turn,
        call: call.into(),
        outcome: ToolOutcome::Unknown,
        text: String::new(),
        display: None,
        duration_ms: 0,
    };
    let tree = Event::StepTree {
        step: 0,
        from: None,
        commit: "a".repeat(40).parse().unwrap(),
        of: StepOf::Outside,
        files: 0,
        additions: 0,
        deletions: 0,
    };
    let found = |events: &[Event]| {
        let entry = |event: &Event| Entry { seq: 0, at_ms: 0, epoch: 1, event: event.clone() };
        without_tree(&events.iter().map(entry).collect::<Vec<_>>())
    };
    let cut = [started("r", "read"), done("r"), started("w", "bash"), done("w")];
    assert_eq!(found(&cut), Some((turn, vec!["w".to_owned()])));
    assert_eq!(found(&[&cut[..], std::slice::from_ref(&tree)].concat()), None);
    let begun = Event::TurnStarted { turn, prompts: vec![] };
    assert_eq!(found(&[&cut[..], &[begun]].concat()), None, "another turn's are no calls of this one");
    // The look before its first call is no tree of its work.
    assert_eq!(found(&[&cut[..3], &[tree], &cut[3..]].concat()), Some((turn, vec!["w".to_owned()])));
}
