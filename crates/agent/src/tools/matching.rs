//! Where an edit goes. The text to replace is searched as written; when it is not there, line by line with trailing
//! blanks, indentation and then all blanks ignored. The lenient ways demand a single match and never guess by likeness.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Exact,
    TrailingBlanks,
    Indentation,
    LineTrimmed,
    Blanks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) way: Way,
    /// What to put where, in the file's order.
    pub(super) edits: Vec<(Range<usize>, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoMatch {
    #[error("`old` is empty; use write to make a file, or give the text to replace")]
    Empty,
    #[error("`old` and `new` are the same")]
    Same,
    #[error("`old` is not in the file; read it again and copy the text exactly, without the line numbers")]
    Missing,
    #[error(
        "`old` is in the file {count} times (lines {lines}); add lines around it until it is there once, or set replace_all"
    )]
    Several { count: usize, lines: String },
    #[error(
        "`old` is not in the file as written, and when {ignored} it is there {count} times (lines {lines}); copy the text exactly, with lines around it"
    )]
    SeveralAlike { ignored: &'static str, count: usize, lines: String },
}

impl Way {
    const LENIENT: [Self; 4] = [Self::TrailingBlanks, Self::Indentation, Self::LineTrimmed, Self::Blanks];

    pub(super) fn ignored(self) -> &'static str {
        match self {
            Self::Exact => "nothing is ignored",
            Self::TrailingBlanks => "blanks at line ends are ignored",
            Self::Indentation => "the depth of indentation is ignored",
            Self::LineTrimmed => "blanks around lines are ignored",
            Self::Blanks => "differences in blanks are ignored",
        }
    }
}

/// All three texts have plain line endings.
pub(super) fn find(text: &str, old: &str, new: &str, replace_all: bool) -> Result<Match, NoMatch> {
    if old.is_empty() {
        return Err(NoMatch::Empty);
    }
    if old == new {
        return Err(NoMatch::Same);
    }
    let exact: Vec<usize> = text.match_indices(old).map(|(at, _)| at).collect();
    match exact.len() {
        0 => lenient(text, old, new),
        1 => Ok(exact_match(&exact, old, new)),
        _ if replace_all => Ok(exact_match(&exact, old, new)),
        count => Err(NoMatch::Several { count, lines: lines_of(text, &exact) }),
    }
}

fn exact_match(at: &[usize], old: &str, new: &str) -> Match {
    let edits = at.iter().map(|at| (*at..at + old.len(), new.to_owned())).collect();
    Match { way: Way::Exact, edits }
}

fn lenient(text: &str, old: &str, new: &str) -> Result<Match, NoMatch> {
    let wanted: Vec<&str> = old.strip_suffix('\n').unwrap_or(old).split('\n').collect();
    if wanted.iter().all(|line| line.trim().is_empty()) {
        return Err(NoMatch::Missing);
    }
    let lines = Lines::of(text);
    for way in Way::LENIENT {
        let found = lines.windows_like(&wanted, way);
        match found.as_slice() {
            [] => {}
            [first] => {
                let range = lines.range(*first, wanted.len(), old.ends_with('\n'));
                let new = reindented(new, &wanted, &lines.text[*first..*first + wanted.len()]);
                return Ok(Match { way, edits: vec![(range, new)] });
            }
            several => {
                let lines = listed(several.iter().map(|line| line + 1));
                return Err(NoMatch::SeveralAlike { ignored: way.ignored(), count: several.len(), lines });
            }
        }
    }
    Err(NoMatch::Missing)
}

struct Lines<'a> {
    text: Vec<&'a str>,
    starts: Vec<usize>,
    end: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { text: text.split('\n').collect(), starts, end: text.len() }
    }

    fn windows_like(&self, wanted: &[&str], way: Way) -> Vec<usize> {
        let wanted_key = key(wanted, way);
        let windows = self.text.windows(wanted.len()).enumerate();
        windows.filter(|(_, window)| key(window, way) == wanted_key).map(|(at, _)| at).collect()
    }

    fn range(&self, first: usize, count: usize, with_newline: bool) -> Range<usize> {
        let last = first + count - 1;
        let end = if with_newline {
            self.starts.get(last + 1).copied().unwrap_or(self.end)
        } else {
            self.starts[last] + self.text[last].len()
        };
        self.starts[first]..end
    }
}

/// What two blocks must share to be alike in this way.
fn key(block: &[&str], way: Way) -> Vec<String> {
    let indent = if way == Way::Indentation { common_indent(block) } else { "" };
    let line_key = |line: &&str| match way {
        Way::Exact => (*line).to_owned(),
        Way::TrailingBlanks => line.trim_end().to_owned(),
        Way::Indentation => line.strip_prefix(indent).unwrap_or("").trim_end().to_owned(),
        Way::LineTrimmed => line.trim().to_owned(),
        Way::Blanks => line.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    block.iter().map(line_key).collect()
}

fn common_indent<'a>(block: &[&'a str]) -> &'a str {
    let mut lines = block.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line));
    let Some(first) = lines.next() else { return "" };
    let length = lines.fold(first.len(), |length, line| {
        first.bytes().zip(line.bytes()).take(length).take_while(|(a, b)| a == b).count()
    });
    &first[..length]
}

/// Blanks and tabs only: one byte each, so that any length of it is a character boundary.
fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// `new` moved to where the file's block is indented, when `old` was written at another depth.
fn reindented(new: &str, wanted: &[&str], found: &[&str]) -> String {
    let (from, to) = (common_indent(wanted), common_indent(found));
    if from == to {
        return new.to_owned();
    }
    let moved = |line: &str| match line.strip_prefix(from) {
        Some(rest) if !line.trim().is_empty() => format!("{to}{rest}"),
        _ => line.to_owned(),
    };
    new.split('\n').map(moved).collect::<Vec<_>>().join("\n")
}

fn lines_of(text: &str, at: &[usize]) -> String {
    listed(at.iter().map(|at| text[..*at].matches('\n').count() + 1))
}

fn listed(lines: impl Iterator<Item = usize>) -> String {
    let mut shown: Vec<String> = lines.take(6).map(|line| line.to_string()).collect();
    if shown.len() == 6 {
        shown[5] = "…".to_owned();
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, old: &str, new: &str) -> Result<(Way, String), NoMatch> {
        let found = find(text, old, new, false)?;
        let mut out = text.to_owned();
        for (range, new) in found.edits.iter().rev() {
            out.replace_range(range.clone(), new);
        }
        Ok((found.way, out))
    }

    #[test]
    fn each_way_finds_what_the_stricter_ones_miss() {
        let table = [
            ("exact", "a\nb\nc\n", "b\n", "B\n", Way::Exact, "a\nB\nc\n"),
            ("exact inside a line", "let x = 1;\n", "x = 1", "y = 2", Way::Exact, "let y = 2;\n"),
            ("trailing blanks", "a  \nb\t\nc\n", "a\nb", "A\nB", Way::TrailingBlanks, "A\nB\nc\n"),
            ("without last newline", "a \nb", "a\nb\n", "A\nB\n", Way::TrailingBlanks, "A\nB\n"),
            (
                "deeper in the file",
                "fn f() {\n        if x {\n            y\n        }\n}\n",
                "if x {\n    y\n}",
                "if z {\n    y\n}",
                Way::Indentation,
                "fn f() {\n        if z {\n            y\n        }\n}\n",
            ),
            (
                "shallower in the file",
                "if x:\n    y\n",
                "    if x:\n        y\n",
                "    if z:\n        y\n",
                Way::Indentation,
                "if z:\n    y\n",
            ),
            (
                "tabs in the file",
                "\tif x {\n\t\ty\n\t}\n",
                "if x {\n\ty\n}\n",
                "if z {\n\ty\n}\n",
                Way::Indentation,
                "\tif z {\n\t\ty\n\t}\n",
            ),
            (
                "uneven indentation",
                "  a\n      b\nc\n",
                "a\n  b\n",
                "a\n  B\n",
                Way::LineTrimmed,
                "  a\n    B\nc\n",
            ),
            ("blanks inside lines", "x  =   1\ny\n", "x = 1", "x = 2", Way::Blanks, "x = 2\ny\n"),
        ];
        for (name, text, old, new, way, expected) in table {
            assert_eq!(apply(text, old, new), Ok((way, expected.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_is_there_twice_is_refused_in_every_way() {
        let table = [
            ("exact", "a\na\n", "a"),
            ("trailing blanks", "a b \nx\na b  \n", "a b\t"),
            ("indentation", "  f(\n    1)\nx\n    f(\n      1)\n", "f(\n  1)"),
            ("trimmed", "  a\n   b\nx\n    a\n     b\n", "a\n      b"),
            ("blanks", "x  = 1\nx =  1\n", "x = 1"),
        ];
        for (name, text, old) in table {
            let error = apply(text, old, "new").unwrap_err();
            assert!(
                matches!(error, NoMatch::Several { .. } | NoMatch::SeveralAlike { .. }),
                "{name}: {error:?}"
            );
        }
    }

    #[test]
    fn likeness_is_not_enough() {
        assert_eq!(
            apply("fn main() {\n    one();\n}\n", "fn main() {\n    two();\n}\n", "x"),
            Err(NoMatch::Missing)
        );
        assert_eq!(apply("a\n\n\nb\n", "\n \n", "x"), Err(NoMatch::Missing));
        assert_eq!(apply("a", "", "x"), Err(NoMatch::Empty));
        assert_eq!(apply("a", "a", "a"), Err(NoMatch::Same));
    }

    #[test]
    fn several_exact_places_are_all_replaced_when_asked() {
        let found = find("a b a", "a", "x", true).unwrap();
        assert_eq!(found.edits, vec![(0..1, "x".to_owned()), (4..5, "x".to_owned())]);
    }

    #[test]
    fn the_error_names_the_lines() {
        let error = apply("x\na\ny\na\n", "a", "b").unwrap_err().to_string();
        assert!(error.contains("2 times (lines 2, 4)"), "{error}");
    }
}
