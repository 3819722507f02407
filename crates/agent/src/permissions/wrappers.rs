//! Commands that run what they are given: another command's words, or a shell line.

use super::shell::Word;

/// What a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Words(Vec<Word>),
    Line(String),
    /// Something, and nobody knows what.
    Opaque,
}

/// How a program that runs the rest of its words is called.
struct Wrapper {
    names: &'static [&'static str],
    /// Options whose value is a word of its own.
    valued: &'static [&'static str],
    /// Words before the command.
    operands: usize,
}

const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        names: &["nohup", "setsid", "command", "builtin", "coproc", "busybox", "time", "unshare", "fakeroot"],
        valued: &["-f", "-o", "--output", "--format"],
        operands: 0,
    },
    Wrapper { names: &["exec"], valued: &["-a"], operands: 0 },
    Wrapper {
        names: &["sudo", "doas"],
        valued: &["-u", "-g", "-h", "-p", "-C", "-T", "-R", "-D", "-r", "-t", "-U", "--user", "--group"],
        operands: 0,
    },
    Wrapper { names: &["nice"], valued: &["-n", "--adjustment"], operands: 0 },
    Wrapper { names: &["ionice"], valued: &["-c", "-n", "-p", "-P", "-u"], operands: 0 },
    Wrapper { names: &["stdbuf"], valued: &["-i", "-o", "-e"], operands: 0 },
    Wrapper { names: &["timeout"], valued: &["-k", "-s", "--kill-after", "--signal"], operands: 1 },
    Wrapper { names: &["flock", "chroot", "taskset", "chrt"], valued: &["-w", "-E"], operands: 1 },
    Wrapper { names: &["strace", "ltrace"], valued: &["-e", "-o", "-p", "-s", "-u", "-P"], operands: 0 },
    Wrapper { names: &["env"], valued: &["-u", "-C", "--unset", "--chdir"], operands: 0 },
    Wrapper {
        names: &["xargs"],
        valued: &["-I", "-n", "-P", "-L", "-d", "-a", "-s", "-E", "--max-args", "--max-procs", "--arg-file"],
        operands: 0,
    },
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "ash", "rbash", "fish", "su"];
/// Their second word says what they do.
const WITH_SUBCOMMANDS: &[&str] = &[
    "git",
    "cargo",
    "npm",
    "pnpm",
    "yarn",
    "bun",
    "go",
    "docker",
    "podman",
    "kubectl",
    "pip",
    "uv",
    "poetry",
    "make",
    "just",
    "gradle",
    "mvn",
    "dotnet",
    "bundle",
    "rails",
    "composer",
    "apt",
    "apt-get",
    "brew",
    "gh",
    "terraform",
    "helm",
    "systemctl",
];
/// Their third word says more.
const SUBCOMMANDS_OF_TWO: &[&str] = &["run", "compose", "exec", "remote", "stash", "pr", "x"];

/// The last part of its path.
pub(super) fn program(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

pub(super) fn inside(words: &[Word]) -> Vec<Inside> {
    let Some((first, rest)) = words.split_first() else { return vec![] };
    match program(&first.text) {
        "eval" | "watch" => line(rest),
        "trap" => trap(rest),
        "find" => find(rest),
        "." | "source" if rest.first().is_some_and(|file| !file.is_certain()) => vec![Inside::Opaque],
        shell if SHELLS.contains(&shell) => script(rest),
        name => match WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name)) {
            Some(wrapper) => wrapper.inside(name, rest),
            None => vec![],
        },
    }
}

impl Wrapper {
    fn inside(&self, name: &str, words: &[Word]) -> Vec<Inside> {
        let mut rest = words;
        let mut operands = self.operands;
        while let Some((word, after)) = rest.split_first() {
            let text = word.text.as_str();
            if text == "--" {
                rest = after;
                continue;
            }
            if matches!(name, "env")
                && (text == "-S" || text.starts_with("--split-string") || text.starts_with("-S"))
            {
                return vec![Inside::Opaque];
            }
            // `command -v x` only says where it is.
            if matches!(name, "command") && matches!(text, "-v" | "-V") {
                return vec![];
            }
            if text.starts_with('-') {
                if !word.is_certain() {
                    return vec![Inside::Opaque];
                }
                rest = if self.valued.contains(&text) { after.get(1..).unwrap_or_default() } else { after };
                continue;
            }
            if matches!(name, "env" | "sudo" | "doas") && is_assignment(text) {
                rest = after;
                continue;
            }
            if operands > 0 {
                operands -= 1;
                rest = after;
                continue;
            }
            break;
        }
        if rest.is_empty() {
            return vec![];
        }
        let mut inner = rest.to_vec();
        if name == "xargs" {
            inner.push(Word::uncertain());
        }
        vec![Inside::Words(inner)]
    }
}

fn is_assignment(text: &str) -> bool {
    let name = text.split_once('=').map(|(name, _)| name).unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The words together are a line.
fn line(words: &[Word]) -> Vec<Inside> {
    let words: Vec<&Word> = words.iter().skip_while(|word| word.text.starts_with('-')).collect();
    if words.is_empty() {
        return vec![];
    }
    if words.iter().any(|word| !word.is_certain()) {
        return vec![Inside::Opaque];
    }
    vec![Inside::Line(words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "))]
}

fn trap(words: &[Word]) -> Vec<Inside> {
    match words.iter().find(|word| !word.text.starts_with('-')) {
        Some(word) if word.is_certain() => vec![Inside::Line(word.text.clone())],
        Some(_) => vec![Inside::Opaque],
        None => vec![],
    }
}

/// Of a shell: the line after `-c`. A file of commands is judged by its name; what comes by its input nobody knows.
fn script(words: &[Word]) -> Vec<Inside> {
    let mut is_line = false;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = word.text.as_str();
        if !word.is_certain() {
            return vec![Inside::Opaque];
        }
        match text {
            "--command" => is_line = true,
            "-o" | "+o" | "-O" | "+O" | "--rcfile" | "--init-file" => drop(rest.next()),
            "--version" | "--help" => return vec![],
            "-" | "--" => {}
            _ if text.starts_with("--") => {}
            _ if text.starts_with(['-', '+']) => is_line |= text.contains('c'),
            _ if is_line => return vec![Inside::Line(text.to_owned())],
            _ => return vec![],
        }
    }
    vec![Inside::Opaque]
}

fn find(words: &[Word]) -> Vec<Inside> {
    let mut found = vec![];
    let mut rest = words;
    while let Some(at) =
        rest.iter().position(|word| matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir"))
    {
        let after = &rest[at + 1..];
        let end = after.iter().position(|word| matches!(word.text.as_str(), ";" | "+"));
        let (command, others) = after.split_at(end.unwrap_or(after.len()));
        let path = |word: &Word| if word.text.contains("{}") { Word::uncertain() } else { word.clone() };
        found.push(Inside::Words(command.iter().map(path).collect()));
        rest = others;
    }
    found
}

/// What would allow the like of a command: the same subcommand with anything, or exactly this command.
pub(super) fn grant(words: &[Word], is_certain: bool) -> Option<String> {
    let program = &words.first()?.text;
    let is_plain = |word: &&Word| {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        word.is_certain()
            && word.text.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.text.chars().all(is_letter)
    };
    if WITH_SUBCOMMANDS.contains(&program.as_str())
        && let Some(second) = words.get(1).filter(is_plain)
    {
        let is_of_two = SUBCOMMANDS_OF_TWO.contains(&second.text.as_str());
        return match words.get(2).filter(is_plain) {
            Some(third) if is_of_two => Some(format!("{program} {} {} *", second.text, third.text)),
            _ if is_of_two && words.len() > 2 => None,
            _ => Some(format!("{program} {} *", second.text)),
        };
    }
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    (is_certain && !text.contains(['*', '?'])).then_some(text)
}
