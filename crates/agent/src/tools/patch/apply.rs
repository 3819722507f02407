//! Where the chunks of a patch go. Each is searched below the one before it: first as written, then with blanks at line
//! ends, blanks around lines and finally typographic characters made plain. The lenient ways demand a single match.

use super::parse::Chunk;
use std::borrow::Cow;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) is_exact: bool,
    /// What to put where, in the file's order.
    pub(super) edits: Vec<(Range<usize>, String)>,
}

/// The error is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotFound {
    #[error("`{line}`, named by `@@`, is not in it below line {after}")]
    Below { line: String, after: usize },
    #[error("these lines are not in it below line {after}; read it again and copy them exactly:\n{lines}\n")]
    Lines { lines: String, after: usize },
    #[error(
        "these lines are not in it as written, and without looking at blanks they are there {count} times; add an `@@` line or more context:\n{lines}\n"
    )]
    Several { lines: String, count: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Exact,
    TrailingBlanks,
    LineTrimmed,
    Plain,
}

const LENIENT: [Way; 3] = [Way::TrailingBlanks, Way::LineTrimmed, Way::Plain];
const SHOWN_LINES: usize = 12;

/// `text` has plain line endings.
pub(super) fn find(text: &str, chunks: &[Chunk]) -> Result<Found, NotFound> {
    let file = File::of(text);
    let mut found = Found { is_exact: true, edits: Vec::new() };
    let mut from = 0;
    for chunk in chunks {
        let mut at = from;
        for line in &chunk.below {
            let (place, is_exact) = file.line(line, at)?;
            found.is_exact &= is_exact;
            at = place + 1;
        }
        if chunk.old.is_empty() {
            // Without a place it goes to the end, as where these patches come from.
            let at = if chunk.below.is_empty() || chunk.is_at_end { file.lines.len() } else { at };
            found.edits.push(file.insert(at, &chunk.new));
            from = at;
            continue;
        }
        let (place, is_exact) = file.block(chunk, at)?;
        found.is_exact &= is_exact;
        from = place + chunk.old.len();
        let (mut range, new) = file.replace(place..from, &chunk.new);
        // The break before it may have gone with the line before it.
        range.start = range.start.max(found.edits.last().map_or(0, |(before, _)| before.end));
        found.edits.push((range, new));
    }
    Ok(found)
}

struct File<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl<'a> File<'a> {
    fn of(text: &'a str) -> Self {
        let lines: Vec<&str> = match text.strip_suffix('\n').unwrap_or(text) {
            "" if !text.contains('\n') => Vec::new(),
            body => body.split('\n').collect(),
        };
        let mut starts = Vec::with_capacity(lines.len());
        let mut at = 0;
        for line in &lines {
            starts.push(at);
            at += line.len() + 1;
        }
        Self { text, lines, starts }
    }

    /// A line that `@@` names: as written, or as the file's line begins.
    fn line(&self, wanted: &str, from: usize) -> Result<(usize, bool), NotFound> {
        let rest = || (from..self.lines.len()).map(|at| (at, self.lines[at]));
        if let Some((at, _)) = rest().find(|(_, line)| line.trim() == wanted) {
            return Ok((at, true));
        }
        let starts: Vec<usize> =
            rest().filter(|(_, line)| line.trim().starts_with(wanted)).map(|(at, _)| at).collect();
        match starts.as_slice() {
            [at] => Ok((*at, false)),
            _ => Err(NotFound::Below { line: wanted.to_owned(), after: from }),
        }
    }

    fn block(&self, chunk: &Chunk, from: usize) -> Result<(usize, bool), NotFound> {
        let exact = self.places(chunk, from, Way::Exact);
        let first = if chunk.is_at_end { exact.last() } else { exact.first() };
        if let Some(place) = first {
            return Ok((*place, true));
        }
        let shown = || chunk.old.iter().take(SHOWN_LINES).map(String::as_str).collect::<Vec<_>>().join("\n");
        for way in LENIENT {
            match self.places(chunk, from, way).as_slice() {
                [] => {}
                [place] => return Ok((*place, false)),
                several => return Err(NotFound::Several { lines: shown(), count: several.len() }),
            }
        }
        Err(NotFound::Lines { lines: shown(), after: from })
    }

    fn places(&self, chunk: &Chunk, from: usize, way: Way) -> Vec<usize> {
        let wanted: Vec<Cow<'_, str>> = chunk.old.iter().map(|line| key(line, way)).collect();
        let Some(last) = self.lines.len().checked_sub(wanted.len()) else { return Vec::new() };
        let is_there = |at: &usize| {
            wanted.iter().zip(&self.lines[*at..]).all(|(wanted, line)| *wanted == key(line, way))
        };
        let from = if chunk.is_at_end { last.max(from) } else { from };
        (from..=last).filter(is_there).collect()
    }

    /// Before line `at`, counted from 0.
    fn insert(&self, at: usize, new: &[String]) -> (Range<usize>, String) {
        let mut text = new.join("\n");
        if let Some(start) = self.starts.get(at) {
            text.push('\n');
            return (*start..*start, text);
        }
        let end = self.text.len();
        if self.text.is_empty() || self.text.ends_with('\n') {
            text.push('\n');
        } else {
            text.insert(0, '\n');
        }
        (end..end, text)
    }

    fn replace(&self, lines: Range<usize>, new: &[String]) -> (Range<usize>, String) {
        let start = self.starts[lines.start];
        let last = lines.end - 1;
        let end = self.starts[last] + self.lines[last].len();
        if !new.is_empty() {
            return (start..end, new.join("\n"));
        }
        // Whole lines go: with the break behind them, or the one before them at the end of a file without one.
        match end < self.text.len() {
            true => (start..end + 1, String::new()),
            false => (start.saturating_sub(1)..end, String::new()),
        }
    }
}

fn key(line: &str, way: Way) -> Cow<'_, str> {
    match way {
        Way::Exact => line.into(),
        Way::TrailingBlanks => line.trim_end().into(),
        Way::LineTrimmed => line.trim().into(),
        Way::Plain => line.trim().chars().map(plain).collect::<String>().into(),
    }
}

/// Models write plain dashes, quotes and blanks where a file has others.
fn plain(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(below: &[&str], old: &[&str], new: &[&str]) -> Chunk {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Chunk { below: owned(below), old: owned(old), new: owned(new), is_at_end: false }
    }

    fn applied(text: &str, chunks: &[Chunk]) -> Result<(String, bool), NotFound> {
        let found = find(text, chunks)?;
        let mut out = text.to_owned();
        for (range, new) in found.edits.iter().rev() {
            out.replace_range(range.clone(), new);
        }
        Ok((out, found.is_exact))
    }

    #[test]
    fn chunks_are_found_one_below_the_other() {
        let text = "a\nx\nb\nx\nc\nx\n";
        let chunks = [chunk(&["b"], &["x"], &["1"]), chunk(&[], &["x"], &["2"])];
        assert_eq!(applied(text, &chunks), Ok(("a\nx\nb\n1\nc\n2\n".into(), true)));
        let upwards = [chunk(&["c"], &["x"], &["1"]), chunk(&[], &["b"], &["2"])];
        assert_eq!(
            applied(text, &upwards),
            Err(NotFound::Lines { lines: "b".into(), after: 6 }),
            "never above the last"
        );
        let at_end = Chunk { is_at_end: true, ..chunk(&[], &["x"], &["end"]) };
        assert_eq!(applied(text, &[at_end]), Ok(("a\nx\nb\nx\nc\nend\n".into(), true)));
    }

    #[test]
    fn lines_are_added_below_what_is_named_or_at_the_end() {
        let add = |below: &[&str]| [chunk(below, &[], &["new"])];
        assert_eq!(applied("a\nb\n", &add(&["a"])).unwrap().0, "a\nnew\nb\n");
        assert_eq!(applied("a\nb\n", &add(&[])).unwrap().0, "a\nb\nnew\n");
        assert_eq!(applied("a\nb", &add(&[])).unwrap().0, "a\nb\nnew");
        assert_eq!(applied("", &add(&[])).unwrap().0, "new\n");
    }

    #[test]
    fn removed_lines_take_their_break_along() {
        let gone = [chunk(&[], &["b"], &[])];
        assert_eq!(applied("a\nb\nc\n", &gone).unwrap().0, "a\nc\n");
        assert_eq!(applied("a\nb\n", &gone).unwrap().0, "a\n");
        assert_eq!(applied("a\nb", &gone).unwrap().0, "a");
        assert_eq!(applied("b\n", &gone).unwrap().0, "");
        assert_eq!(applied("b", &gone).unwrap().0, "");
        let both = [gone[0].clone(), gone[0].clone()];
        assert_eq!(applied("b\nb", &both).unwrap().0, "");
        assert_eq!(applied("a\nb\nb", &both).unwrap().0, "a\n");
    }

    #[test]
    fn lenient_ways_demand_a_single_match() {
        let text = "if x:  \n    say(\u{201c}a \u{2013} b\u{201d})\n";
        let dashes = [chunk(&[], &["say(\"a - b\")"], &["    pass"])];
        assert_eq!(applied(text, &dashes), Ok(("if x:  \n    pass\n".into(), false)));
        assert_eq!(applied(text, &[chunk(&[], &["if x:"], &["if y:"])]).unwrap().1, false);
        let twice = applied("  x\n x\n", &[chunk(&[], &["x"], &["y"])]);
        assert_eq!(twice, Err(NotFound::Several { lines: "x".into(), count: 2 }));
        let twice = applied("x\nx\n", &[chunk(&[], &["x"], &["y"])]);
        assert_eq!(twice, Ok(("y\nx\n".into(), true)), "as written, the first one is meant");
    }

    #[test]
    fn what_at_names_may_be_the_beginning_of_one_line() {
        let text = "def f(a, b):\n    x\n\ndef g():\n    x\n";
        assert_eq!(
            applied(text, &[chunk(&["def g"], &["    x"], &["    y"])]),
            Ok(("def f(a, b):\n    x\n\ndef g():\n    y\n".into(), false))
        );
        let error = applied(text, &[chunk(&["def"], &["    x"], &[])]).unwrap_err();
        assert_eq!(error, NotFound::Below { line: "def".into(), after: 0 });
    }

    proptest::proptest! {
        #[test]
        fn edits_stay_in_order_and_inside(text in "([ab]{0,2}\n){0,8}[ab]?", old in "([ab]{0,2}\n){1,3}", new in "([ab]{0,2}\n){0,3}") {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            let one = Chunk { below: vec![], old: lines(&old), new: lines(&new), is_at_end: false };
            if let Ok(found) = find(&text, &[one.clone(), one]) {
                let [(first, _), (second, _)] = &found.edits[..] else { panic!("two") };
                proptest::prop_assert!(first.start <= first.end && first.end <= second.start && second.end <= text.len());
            }
        }
    }
}
