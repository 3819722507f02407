//! What the fake's sandboxes can run without a script: a few commands of a shell, and the patterns of searches.

use super::{Files, Outcome};
use crate::{ExecSpec, ExitReason};

const MISSING: ExitReason = ExitReason::NotStarted { errno: 2 };

/// `sh -c` with `echo`, `cat`, `pwd`, `true`, `false`, `exit`, separated by `;`, with `>`, `>>`, `>&2` and `$NAME`, from the run's
/// environment or the sandbox's.
pub(super) fn interpret(spec: &ExecSpec, env: &[(String, String)], files: &mut Files) -> Outcome {
    let [shell, flag, script] = spec.argv.as_slice() else { return (Vec::new(), MISSING) };
    if !shell.ends_with("sh") || flag != "-c" {
        return (Vec::new(), MISSING);
    }
    let mut output = Vec::new();
    let mut code = 0;
    for command in script.split(';').map(str::trim).filter(|command| !command.is_empty()) {
        let words: Vec<String> = command.split_whitespace().map(|word| expand(word, spec, env)).collect();
        if words[0] == "exit" {
            code = words.get(1).and_then(|code| code.parse().ok()).unwrap_or(code);
            break;
        }
        code = simple(&words, spec, files, &mut output);
    }
    (output, ExitReason::Code { code })
}

fn expand(word: &str, spec: &ExecSpec, env: &[(String, String)]) -> String {
    let Some(name) = word.strip_prefix('$') else { return word.to_owned() };
    let mut env = spec.env.iter().chain(env);
    env.find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn simple(words: &[String], spec: &ExecSpec, files: &mut Files, output: &mut Vec<u8>) -> i32 {
    let end = words.iter().position(|word| word.starts_with('>')).unwrap_or(words.len());
    let (command, redirect) = words.split_at(end);
    let arguments = &command[1..];
    let (text, code) = match command[0].as_str() {
        "echo" => (format!("{}\n", arguments.join(" ")).into_bytes(), 0),
        "pwd" => (format!("{}\n", spec.cwd).into_bytes(), 0),
        "cat" if arguments.is_empty() => (spec.stdin.clone(), 0),
        "cat" => match arguments.iter().map(|path| files.get(path).cloned()).collect::<Option<Vec<_>>>() {
            Some(contents) => (contents.concat(), 0),
            None => (b"cat: no such file\n".to_vec(), 1),
        },
        "true" => (Vec::new(), 0),
        "false" => (Vec::new(), 1),
        name => (format!("sh: {name}: not found\n").into_bytes(), 127),
    };
    match redirect {
        [_, path] if spec.is_read_only && !path.starts_with("/tmp/") => {
            output.extend(format!("sh: cannot create {path}: Permission denied\n").into_bytes());
            return 2;
        }
        [append, path] if append == ">>" => files.entry(path.clone()).or_default().extend(text),
        [replace, path] if replace == ">" => drop(files.insert(path.clone(), text)),
        _ => output.extend(text),
    }
    code
}

/// `*` within a name, `**` across names; a pattern without `/` matches the last name.
pub(super) fn glob(pattern: &str, path: &str) -> bool {
    let path = if pattern.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
    matches(pattern.as_bytes(), path.as_bytes())
}

fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => {
            (0..=path.len()).any(|at| (at == 0 || path[at - 1] == b'/') && matches(rest, &path[at..]))
        }
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| matches(rest, &path[at..])),
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|at| !path[..*at].contains(&b'/'))
            .any(|at| matches(rest, &path[at..])),
        [first, rest @ ..] => path.first() == Some(first) && matches(rest, &path[1..]),
    }
}
