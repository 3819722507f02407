//! From TOML text to a recipe: the shape is checked by serde with unknown fields refused (`raw`), each value by `check`,
//! and every complaint is given the line and column of what it is about.

use super::raw::RawRecipe;
use super::{Recipe, limit};
use crate::recipe::RECIPE_PATH;
use greenroom_domain::{ErrorCode, Problem};
use std::ops::Range;

/// A complaint and the bytes of the text it is about.
pub(super) struct Complaint {
    pub(super) reason: String,
    pub(super) at: Option<Range<usize>>,
}

pub(super) type Checked<T> = Result<T, Complaint>;

pub(super) fn parse(bytes: &[u8]) -> Result<Recipe, Problem> {
    if bytes.len() > limit::TEXT_BYTES {
        return Err(problem(&format!("the file is larger than {} KiB", limit::TEXT_BYTES / 1024), None));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let before = std::str::from_utf8(valid).expect("valid up to here by the error's own word");
        problem("the text is not UTF-8", Some(line_and_column(before, before.len())))
    })?;
    let raw: RawRecipe = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| line_and_column(text, span.start));
        problem(&one_line(error.message()), at)
    })?;
    raw.check().map_err(|complaint| {
        let at = complaint.at.map(|span| line_and_column(text, span.start));
        problem(&complaint.reason, at)
    })
}

/// Both counted from 1, the column in characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn problem(reason: &str, at: Option<(usize, usize)>) -> Problem {
    problem_in(RECIPE_PATH, reason, at)
}

/// A complaint about a file of the repository that says what its environment is.
pub(crate) fn problem_in(path: &str, reason: &str, at: Option<(usize, usize)>) -> Problem {
    let place = at.map(|(line, column)| format!(", line {line}, column {column}")).unwrap_or_default();
    Problem::new(ErrorCode::RecipeInvalid, format!("{path}{place}: {reason}."))
        .hint("Correct the file, commit it, and build the image again; the last good image stays in use.")
}

fn one_line(message: &str) -> String {
    shorten(&message.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
