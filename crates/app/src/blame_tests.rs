//! The scripts with a real git, in a clone that does its worst; and what is made of their answer.

use super::*;
use greenroom_domain::{Delivery, PersonId, PromptId, TurnId, Via};
use std::path::Path;
use std::process::Command;

fn author(n: u128, name: &str) -> Author {
    let email = format!("{}@test.invalid", name.to_lowercase());
    Author { on_behalf_of: PersonId::from_parts(1, n), via: Via::Person, name: name.into(), email }
}

fn prompt(n: u128) -> PromptId {
    PromptId::from_parts(1, n)
}

fn turn(n: u128, prompts: &[u128]) -> MarkedFor {
    MarkedFor::Turn { turn: TurnId::from_parts(1, n), prompts: prompts.iter().map(|n| prompt(*n)).collect() }
}

/// A session's clone, with the marks that its log would know.
struct Clone {
    folder: tempfile::TempDir,
    base: CommitHash,
    log: Vec<Entry>,
}

impl Clone {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = "0".repeat(40).parse().unwrap();
        let mut clone = Self { folder, base, log: vec![] };
        clone.git(&["init", "-q", "-b", "main"]);
        files.iter().for_each(|(name, text)| clone.write(name, text));
        clone.git(&["add", "-A"]);
        clone.git(&["commit", "-q", "-m", "Before"]);
        clone.base = clone.git(&["rev-parse", "HEAD"]).trim().parse().unwrap();
        clone
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Eve", "-c", "user.email=eve@test.invalid"]).args(arguments);
        self.run(command).1
    }

    fn run(&self, mut command: Command) -> (Option<i32>, String) {
        let command = command.current_dir(self.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn known(&self) -> Vec<String> {
        let commit = |entry: &Entry| match &entry.event {
            Event::FilesMarked { commit, .. } => Some(commit.to_string()),
            _ => None,
        };
        self.log.iter().rev().filter_map(commit).collect()
    }

    fn script(&self, tail: &str, work: &Work, path: &str) -> (Option<i32>, String) {
        let mut command = Command::new("/bin/sh");
        let first = &work.authors[0];
        command
            .args(["-c", &[TIP, tail].concat()])
            .envs(git_identity(&first.name, &first.email))
            .env("MARK_BASE", self.base.as_str())
            .env("MARK_KNOWN", self.known().join(" "))
            .env("MARK_MESSAGE", work.message())
            .env("BLAME_PATH", path);
        self.run(command)
    }

    /// Whether there was something to mark.
    fn mark(&mut self, of: MarkedFor, authors: &[Author]) -> bool {
        let work = Work { of: of.clone(), authors: authors.to_vec() };
        let (code, output) = self.script(MARK, &work, "");
        assert_eq!(code, Some(0), "{output}");
        if output.is_empty() {
            return false;
        }
        self.tell(Event::FilesMarked { commit: output.parse().unwrap(), of });
        true
    }

    fn tell(&mut self, event: Event) {
        self.log.push(Entry { seq: self.log.len() as u64 + 1, at_ms: 1, epoch: 1, event });
    }

    fn blame(&self, path: &str, running: Option<MarkedFor>) -> Result<Blame, Option<i32>> {
        let work = Work { of: turn(99, &[]), authors: vec![author(9, "Nobody")] };
        let (code, output) = self.script(BLAME, &work, path);
        if code != Some(0) {
            return Err(code);
        }
        let (tip, lines) = porcelain::read(&output).expect("git's own words are read");
        Ok(blame(path, &tip, lines, running, &self.log))
    }
}

/// Each line with a word for where it is from.
fn told(blame: &Blame) -> Vec<(String, String)> {
    let word = |by: &BlamedOn| match by {
        BlamedOn::BeforeSession { summary, .. } => summary.clone(),
        BlamedOn::Prompts { prompts, is_running, .. } => {
            let numbers = (1..10u128).filter(|n| prompts.contains(&prompt(*n))).map(|n| n.to_string());
            format!("{}{}", numbers.collect::<Vec<_>>().join("+"), if *is_running { " now" } else { "" })
        }
        BlamedOn::Command { name, .. } => format!("{name}'s command"),
        BlamedOn::Unmarked => "unmarked".into(),
    };
    let line = |part: &BlamePart| {
        let by = word(&part.by);
        part.lines.iter().map(move |text| (text.clone(), by.clone())).collect::<Vec<_>>()
    };
    blame.parts.iter().flat_map(line).collect()
}

fn lines(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(text, by)| ((*text).to_owned(), (*by).to_owned())).collect()
}

#[test]
fn each_line_names_the_prompts_of_whoever_asked_for_it() {
    let (ada, ben) = (author(1, "Ada"), author(2, "Ben"));
    let mut clone = Clone::new(&[("a.txt", "one\ntwo\n")]);
    for (n, by) in [(1, &ada), (2, &ben), (3, &ada)] {
        clone.tell(Event::PromptAccepted {
            prompt: prompt(n),
            author: by.clone(),
            text: format!("ask {n}\nat length"),
            delivery: Delivery::Queue,
            attachments: vec![],
        });
    }
    clone.write("a.txt", "one\ntwo\nadas\n");
    assert!(clone.mark(turn(1, &[1]), std::slice::from_ref(&ada)));
    clone.write("a.txt", "ONE\ntwo\nadas\n");
    // Ben's prompt joined Ada's turn: what comes from then on is both's.
    assert!(clone.mark(turn(2, &[3, 2]), &[ada.clone(), ben.clone()]));
    assert!(!clone.mark(turn(2, &[3, 2]), &[ada.clone(), ben.clone()]), "nothing changed since");
    clone.write("a.txt", "ONE\ntwo\nadas\nbens\n");
    clone.mark(turn(3, &[2]), std::slice::from_ref(&ben));
    clone.write("a.txt", "ONE\ntwo\nadas\nbens\nhand\n");
    let command = Work::command(&Person {
        id: ben.on_behalf_of,
        login: "ben".parse().unwrap(),
        name: "Ben".into(),
        email: ben.email.clone(),
        role: greenroom_domain::Role::Member,
    });
    clone.mark(command.of, &command.authors);
    clone.write("a.txt", "ONE\ntwo\nadas\nbens\nhand\nlast\n");
    let expected = |last| {
        lines(&[
            ("ONE", "2+3"),
            ("two", "Before"),
            ("adas", "1"),
            ("bens", "2"),
            ("hand", "Ben's command"),
            ("last", last),
        ])
    };
    let shown = clone.blame("a.txt", None).unwrap();
    assert_eq!(told(&shown), expected("unmarked"));
    assert_eq!(told(&clone.blame("a.txt", Some(turn(4, &[1]))).unwrap()), expected("1 now"));
    let asked: Vec<_> = shown.prompts.iter().map(|of| (of.author.name.as_str(), of.text.as_str())).collect();
    assert_eq!(asked, [("Ada", "ask 1"), ("Ben", "ask 2"), ("Ada", "ask 3")]);
    let log = clone.git(&["log", "-3", "--format=%an|%b", "refs/greenroom/marks"]);
    assert!(log.contains(&format!("Ada|Prompt: {}\nPrompt: {}\n", prompt(3), prompt(2))), "{log}");
    assert!(log.contains("Co-authored-by: Ben <ben@test.invalid>"), "{log}");
}

#[test]
fn what_a_clone_configures_neither_runs_nor_hides_a_line() {
    let mut clone = Clone::new(&[("a.txt", "one\n"), (".gitattributes", "*.txt diff=evil\n")]);
    let evil = clone.path().join("evil.sh");
    clone.write("evil.sh", "#!/bin/sh\ntouch \"$(dirname \"$0\")/ran\"\necho changed\n");
    std::fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let evil = evil.to_str().unwrap();
    for (key, value) in [
        ("core.fsmonitor", evil),
        ("diff.evil.textconv", evil),
        ("core.hooksPath", clone.path().to_str().unwrap()),
        ("blame.ignoreRevsFile", ".git/ignored"),
    ] {
        clone.git(&["config", key, value]);
    }
    std::fs::copy(evil, clone.path().join("reference-transaction")).unwrap();
    clone.write("a.txt", "one\ntwo\n");
    assert!(clone.mark(turn(1, &[1]), &[author(1, "Ada")]));
    let marked = clone.known().remove(0);
    std::fs::write(clone.path().join(".git/ignored"), format!("{marked}\n")).unwrap();
    // A replaced mark is not looked at either.
    let empty = clone.git(&["commit-tree", "-m", "forged", &format!("{}^{{tree}}", clone.base)]);
    clone.git(&[
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "replace",
        &marked,
        empty.trim(),
    ]);
    let _ = std::fs::remove_file(clone.path().join("ran"));
    clone.write("a.txt", "one\ntwo\nthree\n");
    assert!(clone.mark(turn(2, &[2]), &[author(2, "Ben")]));
    let shown = clone.blame("a.txt", None).unwrap();
    assert_eq!(told(&shown), lines(&[("one", "Before"), ("two", "1"), ("three", "2")]));
    assert!(!clone.path().join("ran").exists(), "nothing of the clone's ran");
}

#[test]
fn lines_of_a_base_that_was_synced_later_are_not_a_prompts() {
    let mut clone = Clone::new(&[("a.txt", "one\ntwo\nthree\n")]);
    clone.write("a.txt", "one\ntwo\nthree\nasked\n");
    clone.mark(turn(1, &[1]), &[author(1, "Ada")]);
    clone.git(&["stash", "-q"]);
    clone.write("a.txt", "ONE\ntwo\nthree\n");
    clone.git(&["commit", "-q", "-am", "Others'"]);
    clone.base = clone.git(&["rev-parse", "HEAD"]).trim().parse().unwrap();
    clone.write("a.txt", "ONE\ntwo\nthree\nasked\nmore\n");
    clone.mark(turn(2, &[2]), &[author(1, "Ada")]);
    let shown = clone.blame("a.txt", None).unwrap();
    let before = |text| (text, "Before");
    let expected = [("ONE", "Others'"), before("two"), before("three"), ("asked", "1"), ("more", "2")];
    assert_eq!(told(&shown), lines(&expected));
}

#[test]
fn a_clone_that_lacks_the_last_marks_goes_on_from_the_newest_it_has() {
    let mut clone = Clone::new(&[("a.txt", "one\n")]);
    clone.write("a.txt", "one\ntwo\n");
    clone.mark(turn(1, &[1]), &[author(1, "Ada")]);
    let lost = "f".repeat(40).parse().unwrap();
    clone.tell(Event::FilesMarked { commit: lost, of: turn(2, &[2]) });
    clone.write("a.txt", "one\ntwo\nthree\n");
    clone.mark(turn(3, &[3]), &[author(1, "Ada")]);
    assert_eq!(
        told(&clone.blame("a.txt", None).unwrap()),
        lines(&[("one", "Before"), ("two", "1"), ("three", "3")])
    );
}

#[test]
fn what_is_no_file_or_too_large_is_said_to_be_so() {
    let clone = Clone::new(&[("a.txt", "one\n"), ("empty", "")]);
    clone.write("large", &"x\n".repeat(600 * 1024));
    assert_eq!(clone.blame("none.txt", None).unwrap_err(), Some(NO_FILE));
    assert_eq!(clone.blame("large", None).unwrap_err(), Some(LARGE_FILE));
    assert_eq!(clone.blame("empty", None).unwrap().parts, []);
    for path in ["", "/etc/passwd", "../a", "a/../b", "a//b", ".git/config", "a\nb", &"x".repeat(5000)] {
        assert_eq!(check_path(path).unwrap_err().code, ErrorCode::InvalidRequest, "{path:?}");
    }
    for path in ["a.txt", "src/main.rs", ":(top)a", "-x", "ä b"] {
        check_path(path).unwrap();
    }
}

#[test]
fn commands_wait_to_be_marked_once_for_each_person_and_not_beside_a_turn() {
    let person = |n: u128, name: &str| Person {
        id: PersonId::from_parts(1, n),
        login: name.to_lowercase().parse().unwrap(),
        name: name.into(),
        email: format!("{n}@test.invalid"),
        role: greenroom_domain::Role::Member,
    };
    let (ada, ben) = (Work::command(&person(1, "Ada")), Work::command(&person(2, "Ben")));
    let mut unmarked = Unmarked::default();
    assert!(unmarked.add(ada.clone()), "somebody has to see to it");
    assert!(!unmarked.add(ada.clone()) && !unmarked.add(ben.clone()), "somebody does");
    assert_eq!(
        unmarked.commands.iter().map(|work| work.authors[0].name.as_str()).collect::<Vec<_>>(),
        ["Ada", "Ben"]
    );
    unmarked.commands.clear();
    unmarked.turn = Some(TurnId::from_parts(1, 1));
    assert!(!unmarked.add(ada.clone()) && unmarked.commands.is_empty(), "the turn's mark covers it");
    unmarked.turn = None;
    assert!(unmarked.add(ada));
}
