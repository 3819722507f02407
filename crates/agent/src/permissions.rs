//! Whether a tool call may run: the rules of the installation, those of the repository, which only make it stricter, and
//! what people have granted for the session. Pure.
//!
//! Rules are for what a model does by itself. What code in a sandbox can reach at all is the sandbox's boundary: a program
//! that a command starts is not seen here.

mod shell;
mod wrappers;

use greenroom_domain::Grant;
use greenroom_domain::permission::{Action, PATTERN_LIMIT, Rule, matches, may_match, must_match};
use shell::{Command, Part};

/// Subjects that people are shown of one call.
const SUBJECTS_LIMIT: usize = 20;
const SUBJECT_LIMIT_CHARS: usize = 2000;

/// Without rules everything is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub installation: Vec<Rule>,
    /// Where it is laxer than the installation it says nothing.
    pub repository: Vec<Rule>,
    /// Make of an `ask` an `allow`, and of nothing else.
    pub grants: Vec<Grant>,
    pub unattended: Unattended,
}

/// What becomes of a turn when nobody answers what it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unattended {
    /// The model is told, and does without.
    #[default]
    GoOn,
    /// It has failed, and the next prompt goes on from there.
    EndTurn,
}

/// What a tool call does, in the words of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) permission: String,
    pub(crate) subjects: Subjects,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Each command of a shell line is judged.
    Shell(String),
    Each(Vec<String>),
}

/// What the rules say of a call, and of what in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) action: Action,
    /// What asks, or is denied.
    pub(crate) subjects: Vec<String>,
    /// What would have to be granted for the same not to ask again. Empty: nothing general would do.
    pub(crate) grants: Vec<Grant>,
}

/// What the rules say of one subject.
struct Judged<'a> {
    action: Action,
    /// The pattern of the rule that says so.
    pattern: Option<&'a str>,
}

impl Permissions {
    /// Whether every use of it is denied.
    pub(crate) fn is_hidden(&self, permission: &str) -> bool {
        self.sources().into_iter().any(|rules| {
            let last =
                of(rules, permission).find(|rule| rule.action != Action::Deny || is_anything(&rule.pattern));
            last.is_some_and(|rule| rule.action == Action::Deny)
        })
    }

    pub(crate) fn judge(&self, needs: &Needs) -> Verdict {
        let permission = needs.permission.as_str();
        let stricter = |rules: &[Rule]| of(rules, permission).any(|rule| rule.action != Action::Allow);
        if !self.sources().into_iter().any(stricter) {
            return Verdict { action: Action::Allow, subjects: vec![], grants: vec![] };
        }
        let each: Vec<(String, Action, Option<String>)> = match &needs.subjects {
            Subjects::Each(subjects) => {
                subjects.iter().map(|subject| self.judge_subject(permission, subject)).collect()
            }
            Subjects::Shell(line) => {
                shell::parts(line).iter().map(|part| self.judge_part(permission, part)).collect()
            }
        };
        let action = each.iter().map(|(_, action, _)| *action).max().unwrap_or(Action::Allow);
        let strictest: Vec<_> = each.into_iter().filter(|(_, of, _)| *of == action).collect();
        let grants: Option<Vec<String>> = strictest.iter().map(|(_, _, pattern)| pattern.clone()).collect();
        let grant = |pattern| Grant { permission: permission.to_owned(), pattern };
        let subjects = strictest.into_iter().map(|(subject, _, _)| subject);
        Verdict {
            action,
            subjects: unique(subjects.map(|text| text.chars().take(SUBJECT_LIMIT_CHARS).collect())),
            grants: match action {
                Action::Ask => {
                    unique(grants.unwrap_or_default().into_iter()).into_iter().map(grant).collect()
                }
                Action::Allow | Action::Deny => vec![],
            },
        }
    }

    fn sources(&self) -> [&[Rule]; 2] {
        [&self.installation, &self.repository]
    }

    fn judge_subject(&self, permission: &str, subject: &str) -> (String, Action, Option<String>) {
        let of_source = |rules| last(rules, permission, |pattern| matches(pattern, subject));
        let judged = strictest(self.sources().map(of_source));
        let pattern = judged.pattern.map(str::to_owned);
        let is_granted = self.is_granted(permission, |pattern| matches(pattern, subject));
        (subject.to_owned(), granted(judged.action, is_granted), pattern)
    }

    fn judge_part(&self, permission: &str, part: &Part) -> (String, Action, Option<String>) {
        match part {
            Part::Command(command) => {
                let action = self.command_action(permission, command);
                let is_granted = self.is_granted(permission, |pattern| match &command.known {
                    None => matches(pattern, &command.text),
                    Some(known) => must_match(pattern, known),
                });
                let pattern = command.grant.clone().filter(|pattern| pattern.len() <= PATTERN_LIMIT);
                (command.text.clone(), granted(action, is_granted), pattern)
            }
            Part::Opaque(text) => (text.clone(), self.opaque_action(permission), None),
        }
    }

    /// A command is also judged by its program's bare name: `/bin/rm` is `rm`.
    fn command_action(&self, permission: &str, command: &Command) -> Action {
        let names = [&command.text, &command.bare];
        let of_source = |rules: &[Rule]| {
            let whole = names.map(|text| last(rules, permission, |pattern| matches(pattern, text)).action);
            let known =
                command.known.as_deref().map_or(Action::Allow, |known| unknown_end(rules, permission, known));
            whole.into_iter().chain([known]).max().unwrap_or_default()
        };
        self.sources().map(of_source).into_iter().max().unwrap_or_default()
    }

    /// Of what cannot be read: it asks, and is denied where only a list is allowed.
    fn opaque_action(&self, permission: &str) -> Action {
        let of_source = |rules: &[Rule]| {
            let base = of(rules, permission).find(|rule| is_anything(&rule.pattern)).map(|rule| rule.action);
            match base {
                Some(Action::Deny) => Action::Deny,
                _ if of(rules, permission).any(|rule| rule.action != Action::Allow) => Action::Ask,
                _ => Action::Allow,
            }
        };
        self.sources().map(of_source).into_iter().max().unwrap_or_default()
    }

    fn is_granted(&self, permission: &str, covers: impl Fn(&str) -> bool) -> bool {
        self.grants.iter().any(|grant| grant.permission == permission && covers(&grant.pattern))
    }
}

fn granted(action: Action, is_granted: bool) -> Action {
    if action == Action::Ask && is_granted { Action::Allow } else { action }
}

/// The rules for a permission, the last first.
fn of<'a>(rules: &'a [Rule], permission: &'a str) -> impl Iterator<Item = &'a Rule> {
    rules.iter().rev().filter(move |rule| matches(&rule.permission, permission))
}

fn last<'a>(rules: &'a [Rule], permission: &'a str, is_match: impl Fn(&str) -> bool) -> Judged<'a> {
    match of(rules, permission).find(|rule| is_match(&rule.pattern)) {
        Some(rule) => Judged { action: rule.action, pattern: Some(&rule.pattern) },
        None => Judged { action: Action::Allow, pattern: None },
    }
}

fn strictest<'a>(judged: [Judged<'a>; 2]) -> Judged<'a> {
    let [installation, repository] = judged;
    if repository.action > installation.action { repository } else { installation }
}

/// Of a command whose end is known only when it runs: where a stricter rule could turn out to match, it asks.
fn unknown_end(rules: &[Rule], permission: &str, known: &str) -> Action {
    let mut could = Action::Allow;
    for rule in of(rules, permission) {
        if must_match(&rule.pattern, known) {
            return could.max(rule.action);
        }
        if rule.action != Action::Allow && may_match(&rule.pattern, known) {
            could = Action::Ask;
        }
    }
    could
}

fn is_anything(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.chars().all(|c| c == '*')
}

fn unique(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for text in texts {
        if unique.len() < SUBJECTS_LIMIT && !unique.contains(&text) {
            unique.push(text);
        }
    }
    unique
}

#[cfg(test)]
#[path = "permissions/tests.rs"]
mod tests;
