//! Rules about which tools may run: ordered, and the last one that matches counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Rules of one source.
pub const RULES_LIMIT: usize = 200;
/// Of a rule's names, in bytes.
pub const PATTERN_LIMIT: usize = 500;

/// From the laxest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    #[default]
    Allow,
    Ask,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A pattern over the names of permissions: `bash`, `read`, `edit`, `open_change`, `*`.
    pub permission: String,
    /// A pattern over what is done: a command, a path.
    #[serde(default = "anything")]
    pub pattern: String,
    pub action: Action,
}

fn anything() -> String {
    "*".to_owned()
}

/// Why these rules cannot be used, as one sentence.
pub fn check(rules: &[Rule]) -> Result<(), String> {
    if rules.len() > RULES_LIMIT {
        return Err(format!("There are {} rules; at most {RULES_LIMIT} are taken.", rules.len()));
    }
    let is_name = |text: &str| !text.trim().is_empty() && text.len() <= PATTERN_LIMIT;
    match rules.iter().position(|rule| !is_name(&rule.permission) || !is_name(&rule.pattern)) {
        Some(at) => Err(format!("Rule {}: permission and pattern have 1 to {PATTERN_LIMIT} bytes.", at + 1)),
        None => Ok(()),
    }
}

/// Whether all of `text` matches: `*` is anything, also nothing, and `?` one character. `x *` matches `x` too.
pub fn matches(pattern: &str, text: &str) -> bool {
    let alive = run(pattern, text);
    let ends = |pattern: &[char]| pattern.iter().all(|c| *c == '*') || *pattern == [' ', '*'];
    let pattern: Vec<char> = pattern.chars().collect();
    alive.into_iter().any(|at| ends(&pattern[at..]))
}

/// Whether something that begins with `text` can match.
pub fn may_match(pattern: &str, text: &str) -> bool {
    !run(pattern, text).is_empty()
}

/// Whether everything that begins with `text` matches.
pub fn must_match(pattern: &str, text: &str) -> bool {
    let places = run(pattern, text);
    let pattern: Vec<char> = pattern.chars().collect();
    places.into_iter().any(|at| at < pattern.len() && pattern[at..].iter().all(|c| *c == '*'))
}

/// Where in the pattern one can be after this text, each place once.
fn run(pattern: &str, text: &str) -> Vec<usize> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    skip(&pattern, &mut places);
    for c in text.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, _) in places.iter().enumerate().filter(|(_, is_here)| **is_here) {
            match pattern.get(at) {
                Some('*') => next[at] = true,
                Some('?') => next[at + 1] = true,
                Some(wanted) if *wanted == c => next[at + 1] = true,
                _ => {}
            }
        }
        skip(&pattern, &mut next);
        places = next;
    }
    places.iter().enumerate().filter(|(_, is_here)| **is_here).map(|(at, _)| at).collect()
}

/// A star may stand for nothing.
fn skip(pattern: &[char], places: &mut [bool]) {
    for at in 0..pattern.len() {
        if places[at] && pattern[at] == '*' {
            places[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_they_read() {
        let yes = [
            ("*", ""),
            ("*", "rm -rf y"),
            ("git *", "git"),
            ("git *", "git push origin"),
            ("git push?", "git pushx"),
            ("*.env", "config/.env"),
            ("src/*/x", "src/a/b/x"),
            ("a*b*c", "aXbYbZc"),
            ("[x]", "[x]"),
            ("é?", "éö"),
        ];
        let no = [
            ("git *", "gitk"),
            ("git push", "git push origin"),
            ("?", ""),
            ("a*b", "ac"),
            ("[x]", "x"),
            ("", "x"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_known_to_its_end_can_match_or_must() {
        assert!(may_match("git push --force*", "git push "));
        assert!(!may_match("git push --force*", "git pull "));
        assert!(must_match("git *", "git push "));
        assert!(must_match("*", ""));
        assert!(!must_match("git push --force*", "git push "));
        assert!(!must_match("git", "git"));
    }

    #[test]
    fn rules_have_bounds() {
        let rule =
            |pattern: &str| Rule { permission: "bash".into(), pattern: pattern.into(), action: Action::Ask };
        assert_eq!(check(&vec![rule("*"); RULES_LIMIT]), Ok(()));
        assert!(check(&vec![rule("*"); RULES_LIMIT + 1]).is_err());
        assert!(check(&[rule("*"), rule("")]).unwrap_err().contains("Rule 2"));
        assert!(check(&[rule(&"x".repeat(PATTERN_LIMIT + 1))]).is_err());
        assert!(Action::Allow < Action::Ask && Action::Ask < Action::Deny);
    }
}
