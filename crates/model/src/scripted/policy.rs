//! The plan: look, run the tests, read what failed, try small repairs one after the other with a real test run each,
//! propose what helped, or say that nothing did.

use super::failure::{Failure, Report};
use super::project::{Project, TestCommand, is_test_file};
use super::python::{Source, code_only, used_names};
use super::repair::{Candidate, Suspect, candidates, edit_texts};
use super::replay::{Replay, Stop, Wish, first_lines};
use super::{since_last_prompt, summary};
use greenroom_domain::message::{Content, Message, ToolCall};
use serde_json::json;

/// Changes that are tried for one failing test, failing tests that are worked on, files that are read.
const TRY_LIMIT: usize = 32;
const ROUND_LIMIT: usize = 4;
const FILE_LIMIT: usize = 8;
const CALL_DEPTH: u32 = 3;

/// What the scripted provider says next. Pure: the same conversation gives the same words.
pub fn next(messages: &[Message]) -> Vec<Content> {
    let (prompt, since) = since_last_prompt(messages);
    let mut replay = Replay::new(since);
    let text = |text: String| Content::Text { text };
    if summary::is_asked_for(prompt) {
        return vec![text(summary::of(messages))];
    }
    match plan(prompt, &mut replay) {
        Ok(words) | Err(Stop::Over(words)) => vec![text(words)],
        Err(Stop::Ask { say, wishes }) => {
            let (number, mark) = (1 + count_calls(messages), summary::mark(messages));
            let calls = (number..).zip(wishes).map(|(number, wish)| {
                let id = format!("scripted_{mark}{number}");
                Content::ToolCall(ToolCall { id, name: wish.tool.to_owned(), input: wish.input })
            });
            std::iter::once(text(say)).chain(calls).collect()
        }
    }
}

fn count_calls(messages: &[Message]) -> usize {
    let contents = messages.iter().map(|message| match message {
        Message::Assistant { content, .. } => content.as_slice(),
        _ => &[],
    });
    contents.flatten().filter(|part| matches!(part, Content::ToolCall(_))).count()
}

fn plan(prompt: &str, replay: &mut Replay<'_>) -> Result<String, Stop> {
    if let Some(path) = file_to_publish(prompt) {
        let input = json!({ "path": path, "title": "What you asked for" });
        let said = replay.call("I'll publish it.", "publish", input)?;
        return Ok(format!("The tool says: {}", first_lines(said)));
    }
    if !prompt.to_lowercase().contains("test") {
        return Ok(
            "I am a script that stands in for a model, and I know one job only: making a failing test pass. \
            For anything else, connect a model with `greenroom model add`."
                .to_owned(),
        );
    }
    let listing = replay.call(
        "I'll look at the files of the repository first.",
        "glob",
        json!({ "pattern": "**/*" }),
    )?;
    let project = Project::from_listing(listing);
    let Some(command) = project.test_command() else {
        return Ok(format!(
            "I found no tests that I know how to run. This is what the listing showed:\n\n{}",
            first_lines(listing)
        ));
    };
    let say = format!("{} I'll run them to see what fails.", command.because);
    let report = run_tests(replay, &say, &command)?;
    if report.is_success {
        return Ok(format!("All tests pass already ({}), so there is nothing to change.", report.summary));
    }
    Job { replay, project, command, sources: Vec::new(), kept: Vec::new() }.repair(report)
}

/// Of a prompt that begins with `publish PATH`.
fn file_to_publish(prompt: &str) -> Option<&str> {
    let mut words = prompt.split_whitespace();
    words.next().filter(|first| first.eq_ignore_ascii_case("publish"))?;
    words.next()
}

fn run_tests(replay: &mut Replay<'_>, say: &str, command: &TestCommand) -> Result<Report, Stop> {
    let output = replay.call(say, "bash", json!({ "command": command.command }))?;
    if !command.is_python {
        return Err(Stop::Over(format!(
            "I ran `{}`, but I can only read and repair plain Python. It ended so:\n\n{}\n\nI propose no change.",
            command.command,
            last_lines(output)
        )));
    }
    let report = Report::parse(output);
    let is_understood = match report.ran {
        Some(0) => false,
        Some(_) => report.is_success || !report.failures.is_empty(),
        None => false,
    };
    if is_understood {
        return Ok(report);
    }
    Err(Stop::Over(format!(
        "The output of `{}` is not what I expected from a test run:\n\n{}\n\nI stop here, without proposing a change.",
        command.command,
        last_lines(output)
    )))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("\n").chars().take(600).collect()
}

struct Job<'a, 'b> {
    replay: &'b mut Replay<'a>,
    project: Project,
    command: TestCommand,
    /// Files as they are now, with the kept changes.
    sources: Vec<Source>,
    kept: Vec<(Candidate, Failure)>,
}

/// What came of the changes tried for one failure.
enum Round {
    AllPass(Report),
    Better(Report),
    Nothing { tried: usize },
}

impl Job<'_, '_> {
    fn repair(mut self, mut report: Report) -> Result<String, Stop> {
        for _ in 0..ROUND_LIMIT {
            let failure = report.failures[0].clone();
            self.read_files(&failure, report.failures.len())?;
            match self.try_changes(&failure, &report)? {
                Round::AllPass(report) => return self.propose(&report),
                Round::Better(better) => report = better,
                Round::Nothing { tried } => return Ok(self.admit(&failure, tried)),
            }
        }
        let failure = report.failures[0].clone();
        Ok(self.admit(&failure, 0))
    }

    /// The failing test's file, then the files that it imports, then what those import.
    fn read_files(&mut self, failure: &Failure, count: usize) -> Result<(), Stop> {
        let Some(test_path) = self.test_path(failure) else {
            return Err(Stop::Over(format!(
                "`{}` fails ({}), but its traceback names no file of this repository. I stop here, without proposing \
                 a change.",
                failure.test, failure.message
            )));
        };
        let more =
            if count > 1 { format!(" ({count} tests fail; I take this one first.)") } else { String::new() };
        let say = format!("{}{more} I'll read the test.", described(failure));
        self.read(&say, std::slice::from_ref(&test_path))?;
        let mut frontier = vec![test_path];
        while !frontier.is_empty() && self.sources.len() < FILE_LIMIT {
            let mut imported: Vec<String> = Vec::new();
            for path in &frontier {
                let source = self.sources.iter().find(|source| source.path == *path);
                imported.extend(source.map(|source| source.imports(&self.project)).unwrap_or_default());
            }
            imported
                .retain(|path| !is_test_file(path) && self.sources.iter().all(|source| source.path != *path));
            imported.dedup();
            imported.truncate(FILE_LIMIT - self.sources.len());
            if !imported.is_empty() {
                let names = imported.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
                self.read(&format!("The code under test is imported from {names}."), &imported)?;
            }
            frontier = imported;
        }
        Ok(())
    }

    fn test_path(&self, failure: &Failure) -> Option<String> {
        let mut paths = failure.frames.iter().filter_map(|frame| self.project.find(&frame.path));
        paths.find(|path| is_test_file(path)).map(str::to_owned)
    }

    /// Reads files that were not read yet.
    fn read(&mut self, say: &str, paths: &[String]) -> Result<(), Stop> {
        let is_new = |path: &&String| self.sources.iter().all(|source| source.path != **path);
        let new: Vec<String> = paths.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let wishes = new.iter().map(|path| Wish { tool: "read", input: json!({ "path": path }) });
        let outputs = self.replay.calls(say, wishes.collect())?;
        for (path, output) in new.iter().zip(outputs) {
            let source = Source::from_read(path, output);
            // An empty `__init__.py` has no line to show.
            let source = source.unwrap_or_else(|| Source { path: path.clone(), lines: Vec::new() });
            self.sources.push(source);
        }
        Ok(())
    }

    fn try_changes(&mut self, failure: &Failure, before: &Report) -> Result<Round, Stop> {
        let found = {
            let suspects = suspects(&self.sources, &self.project, failure);
            candidates(&suspects, failure, TRY_LIMIT)
        };
        for (index, candidate) in found.iter().enumerate() {
            let at = self.sources.iter().position(|source| source.path == candidate.path);
            let Some(at) = at else { continue };
            let (old, new) = edit_texts(&self.sources[at].lines, candidate.line, &candidate.after);
            let is_next_failure = index == 0 && !self.kept.is_empty();
            let before_it = if is_next_failure {
                format!("That repaired one. {} ", described(failure))
            } else {
                String::new()
            };
            let say = before_it + &suggestion(index, candidate);
            self.edit(&say, &candidate.path, &old, &new)?;
            let report = run_tests(self.replay, "Does that help? I'll run the tests again.", &self.command)?;
            if report.is_success || report.improves(before, failure) {
                candidate.after.clone_into(&mut self.sources[at].lines[candidate.line]);
                self.kept.push((candidate.clone(), failure.clone()));
                let is_done = report.is_success;
                return Ok(if is_done { Round::AllPass(report) } else { Round::Better(report) });
            }
            let now = report.failures.iter().find(|now| now.id == failure.id);
            let outcome = now.map_or_else(|| report.summary.clone(), |now| now.message.clone());
            self.edit(&format!("No: {outcome}. I take it back."), &candidate.path, &new, &old)?;
        }
        Ok(Round::Nothing { tried: found.len() })
    }

    fn edit(&mut self, say: &str, path: &str, old: &str, new: &str) -> Result<(), Stop> {
        self.replay.call(say, "edit", json!({ "path": path, "old": old, "new": new })).map(drop)
    }

    fn propose(self, report: &Report) -> Result<String, Stop> {
        let (first, failure) = &self.kept[0];
        let place = if first.function.is_empty() { &first.path } else { &first.function };
        let title = match self.kept.len() {
            1 => format!("Fix {place} so that {} passes", failure.test),
            count => format!("Fix {count} mistakes that made tests fail"),
        };
        let changes: Vec<String> =
            self.kept.iter().map(|(candidate, failure)| explained(candidate, failure)).collect();
        let body = format!(
            "{}\n\nThe tests after the change, run with `{}`: {}.",
            changes.join("\n\n"),
            self.command.command,
            report.summary
        );
        let say = format!("All tests pass now: {}. I'll propose the change.", report.summary);
        let answer = self.replay.call(&say, "open_change", json!({ "title": title, "body": body }))?;
        let lines: Vec<String> = self.kept.iter().map(|(candidate, _)| in_words(candidate)).collect();
        Ok(format!("Done. {} {}\n\n{}", lines.join(" "), report.summary, first_lines(answer)))
    }

    /// The honest end.
    fn admit(&self, failure: &Failure, tried: usize) -> String {
        let tries = match tried {
            0 => "I found no small change that could repair it.".to_owned(),
            1 => {
                "I tried the one small change I could think of, and took it back: it did not help.".to_owned()
            }
            count => format!(
                "I tried {count} small changes, each with a test run, and took them all back: none helped."
            ),
        };
        let kept = if self.kept.is_empty() {
            "The files are as they were.".to_owned()
        } else {
            let lines: Vec<String> = self.kept.iter().map(|(candidate, _)| in_words(candidate)).collect();
            format!("What I changed before and left in the workspace: {}", lines.join(" "))
        };
        format!(
            "I could not make `{}` pass. It still fails with: {}\n\n{tries} {kept} I propose no change.",
            failure.test, failure.message
        )
    }
}

fn described(failure: &Failure) -> String {
    let place = failure.frames.last().map(|frame| {
        let name = frame.path.rsplit('/').next().unwrap_or(&frame.path);
        format!(" at {name}:{}", frame.line)
    });
    let place = place.unwrap_or_default();
    match failure.comparison() {
        Some((got, expected)) => {
            format!("`{}` fails{place}: it expected {expected} and got {got}.", failure.test)
        }
        None => format!("`{}` fails{place}: {}.", failure.test, failure.message.trim_end_matches('.')),
    }
}

fn suggestion(index: usize, candidate: &Candidate) -> String {
    let place =
        if candidate.function.is_empty() { String::new() } else { format!(" in `{}`", candidate.function) };
    let begin = if index == 0 { "Line" } else { "Next guess: line" };
    format!(
        "{begin} {} of {}{place}: {}. I'll try `{}` instead of `{}`.",
        candidate.line + 1,
        candidate.path,
        candidate.kind.words(),
        candidate.after.trim(),
        candidate.before.trim()
    )
}

fn in_words(candidate: &Candidate) -> String {
    format!(
        "In {} line {}, `{}` is now `{}`.",
        candidate.path,
        candidate.line + 1,
        candidate.before.trim(),
        candidate.after.trim()
    )
}

fn explained(candidate: &Candidate, failure: &Failure) -> String {
    format!(
        "`{}` failed with `{}`. In `{}`, {}:\n\n```diff\n-{}\n+{}\n```",
        failure.test,
        failure.message,
        candidate.path,
        candidate.kind.words(),
        candidate.before,
        candidate.after
    )
}

/// The code that the failing test runs, most likely culprit first: where the traceback ends, what the failing line
/// calls, what the test calls, what those call.
fn suspects<'a>(sources: &'a [Source], project: &Project, failure: &Failure) -> Vec<Suspect<'a>> {
    let mut found: Vec<Suspect<'a>> = Vec::new();
    let code: Vec<&Source> = sources.iter().filter(|source| !is_test_file(&source.path)).collect();
    for frame in failure.frames.iter().rev() {
        let path = project.find(&frame.path).unwrap_or_default();
        let Some(source) = code.iter().find(|source| source.path == path) else { continue };
        let inside = |lines: &std::ops::Range<usize>| lines.contains(&frame.line.saturating_sub(1));
        for function in source.functions().into_iter().filter(|function| inside(&function.lines)) {
            add(&mut found, source, function, 0);
        }
    }
    let (failing_line, test) = test_code(sources, failure);
    add_named(&mut found, &code, &failing_line, 0);
    add_named(&mut found, &code, &test, 1);
    let mut from = 0;
    for depth in 1..=CALL_DEPTH {
        let reached = found.len();
        for index in from..reached {
            let suspect = found[index].clone();
            let body = code_only(&suspect.source.lines)[suspect.lines.clone()].join("\n");
            add_named(&mut found, &code, &body, suspect.rank.max(depth) + 1);
            add_constants(&mut found, suspect.source, &body, suspect.rank + 1);
        }
        from = reached;
    }
    found
}

fn add<'a>(found: &mut Vec<Suspect<'a>>, source: &'a Source, function: super::python::Function, rank: u32) {
    let is_known =
        |suspect: &Suspect<'_>| suspect.source.path == source.path && suspect.lines == function.lines;
    if !found.iter().any(is_known) {
        let lines = function.lines.clone();
        found.push(Suspect { source, function: Some(function), lines, rank });
    }
}

/// Functions that a piece of code names, and the constructors of classes that it names.
fn add_named<'a>(found: &mut Vec<Suspect<'a>>, code: &[&'a Source], text: &str, rank: u32) {
    let names = used_names(text);
    for source in code {
        for function in source.functions() {
            let is_constructor = function.name.starts_with("__")
                && function.class.as_deref().is_some_and(|class| names.contains(&class));
            if is_constructor || names.contains(&function.name.as_str()) {
                add(found, source, function, rank);
            }
        }
    }
}

/// Assignments of the module that a piece of code mentions.
fn add_constants<'a>(found: &mut Vec<Suspect<'a>>, source: &'a Source, text: &str, rank: u32) {
    let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    for (at, line) in source.lines.iter().enumerate() {
        let name = line.split(['=', ':']).next().unwrap_or_default().trim_end();
        let is_constant = line.contains('=') && !name.is_empty() && words.contains(&name);
        let lines = at..at + 1;
        if is_constant && !found.iter().any(|s| s.source.path == source.path && s.lines == lines) {
            found.push(Suspect { source, function: None, lines, rank });
        }
    }
}

/// The failing line and the whole test function with the fixture that runs before it, without strings and comments.
fn test_code(sources: &[Source], failure: &Failure) -> (String, String) {
    let is_here = |source: &&Source| {
        is_test_file(&source.path) && failure.frames.iter().any(|frame| frame.path.ends_with(&source.path))
    };
    let Some(source) = sources.iter().find(is_here) else { return Default::default() };
    let code = code_only(&source.lines);
    let frame = failure.frames.iter().find(|frame| frame.path.ends_with(&source.path));
    let line = frame.and_then(|frame| code.get(frame.line.checked_sub(1)?)).cloned().unwrap_or_default();
    let functions = source.functions();
    let run = functions.iter().filter(|function| function.name == failure.test || function.name == "setUp");
    let test = run.map(|function| code[function.lines.clone()].join("\n")).collect::<Vec<_>>().join("\n");
    (line, test)
}
