//! The patch's text into its parts.

use std::str::Lines;

const FILES_LIMIT: usize = 200;
const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As written.
    pub(super) path: String,
    pub(super) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Add { text: String },
    Delete,
    Update { to: Option<String>, chunks: Vec<Chunk> },
}

/// Lines of a file in one place, and what they become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Lines to pass on the way, one after the other.
    pub(super) below: Vec<String>,
    pub(super) old: Vec<String>,
    pub(super) new: Vec<String>,
    pub(super) is_at_end: bool,
}

/// The error is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPatch {
    #[error("the patch does not begin with `{BEGIN}`")]
    NoBegin,
    #[error("the patch does not end with `{END}`")]
    NoEnd,
    #[error(
        "the patch has no part; each begins with `*** Add File: `, `*** Update File: ` or `*** Delete File: `"
    )]
    Empty,
    #[error("the patch is for more than {FILES_LIMIT} files")]
    TooMany,
    #[error("line {line} of the patch, `{text}`, does not begin with {expected}")]
    Unexpected { line: usize, text: String, expected: &'static str },
    #[error("the part for {path} changes nothing")]
    NoChange { path: String },
}

struct Reader<'a> {
    lines: std::iter::Peekable<std::iter::Enumerate<Lines<'a>>>,
}

pub(super) fn parse(patch: &str) -> Result<Vec<Change>, BadPatch> {
    let body = body(patch)?;
    let mut reader = Reader { lines: body.lines().enumerate().peekable() };
    let mut changes = Vec::new();
    while let Some((at, line)) = reader.lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        changes.push(reader.change(at, line)?);
        if changes.len() > FILES_LIMIT {
            return Err(BadPatch::TooMany);
        }
    }
    if changes.is_empty() { Err(BadPatch::Empty) } else { Ok(changes) }
}

/// Between the first and the last line. Some models wrap the patch as a shell would want it.
fn body(patch: &str) -> Result<&str, BadPatch> {
    let begin = patch.find(BEGIN).ok_or(BadPatch::NoBegin)?;
    let before = patch[..begin].trim();
    if !before.is_empty() && !before.contains("<<") && before != "```" {
        return Err(BadPatch::NoBegin);
    }
    let rest = &patch[begin + BEGIN.len()..];
    let end = rest.rfind(END).filter(|end| rest[..*end].ends_with('\n')).ok_or(BadPatch::NoEnd)?;
    Ok(rest[..end].strip_prefix('\n').unwrap_or(&rest[..end]))
}

impl Reader<'_> {
    fn change(&mut self, at: usize, line: &str) -> Result<Change, BadPatch> {
        let named = |path: &str| path.trim().to_owned();
        if let Some(path) = line.strip_prefix(ADD) {
            return Ok(Change { path: named(path), action: Action::Add { text: self.added()? } });
        }
        if let Some(path) = line.strip_prefix(DELETE) {
            return Ok(Change { path: named(path), action: Action::Delete });
        }
        let Some(path) = line.strip_prefix(UPDATE) else {
            return Err(unexpected(at, line, "`*** Add File: `, `*** Update File: ` or `*** Delete File: `"));
        };
        let path = named(path);
        let to = self.next_with(MOVE).map(named);
        let chunks = self.chunks()?;
        if chunks.is_empty() && to.is_none() {
            return Err(BadPatch::NoChange { path });
        }
        Ok(Change { path, action: Action::Update { to, chunks } })
    }

    fn next_with<'l>(&mut self, prefix: &str) -> Option<&'l str>
    where
        Self: 'l,
    {
        let (_, line) = self.lines.peek()?;
        let rest = line.strip_prefix(prefix)?;
        self.lines.next();
        Some(rest)
    }

    /// What a part's lines are, up to the next part.
    fn next_line(&mut self) -> Option<(usize, &str)> {
        let (_, line) = self.lines.peek()?;
        if line.starts_with("*** ") && *line != END_OF_FILE {
            return None;
        }
        self.lines.next()
    }

    fn added(&mut self) -> Result<String, BadPatch> {
        let mut text = String::new();
        while let Some((at, line)) = self.next_line() {
            match line.strip_prefix('+') {
                Some(added) => {
                    text.push_str(added);
                    text.push('\n');
                }
                None if line.trim().is_empty() => {}
                None => return Err(unexpected(at, line, "`+`, as every line of a new file")),
            }
        }
        Ok(text)
    }

    fn chunks(&mut self) -> Result<Vec<Chunk>, BadPatch> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut chunk = Chunk::default();
        while let Some((at, line)) = self.next_line() {
            let begins_anew = line.starts_with("@@") || chunk.is_at_end;
            if begins_anew && !chunk.is_empty() {
                chunks.push(std::mem::take(&mut chunk));
            }
            if line == END_OF_FILE {
                chunk.is_at_end = true;
                continue;
            }
            if let Some(below) = line.strip_prefix("@@") {
                let below = below.trim();
                if !below.is_empty() {
                    chunk.below.push(below.to_owned());
                }
                continue;
            }
            let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            match sign {
                " " => {
                    chunk.old.push(rest.to_owned());
                    chunk.new.push(rest.to_owned());
                }
                "-" => chunk.old.push(rest.to_owned()),
                "+" => chunk.new.push(rest.to_owned()),
                _ => return Err(unexpected(at, line, "a blank, `-`, `+` or `@@`")),
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }
}

/// Lines are counted as in the patch, whose first is `*** Begin Patch`.
fn unexpected(at: usize, line: &str, expected: &'static str) -> BadPatch {
    BadPatch::Unexpected { line: at + 2, text: line.chars().take(80).collect(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &str) -> String {
        format!("{BEGIN}\n{body}{END}\n")
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn every_kind_of_part_is_read() {
        let patch = whole(
            "*** Add File: new.txt\n+a\n+\n*** Delete File: old.txt\n*** Update File: src/a.py\n*** Move to: src/b.py\n\
             @@ class A\n@@ def f(self):\n one\n-two\n+2\n\n@@\n-x\n*** End of File\n",
        );
        let chunks = vec![
            Chunk {
                below: lines(&["class A", "def f(self):"]),
                old: lines(&["one", "two", ""]),
                new: lines(&["one", "2", ""]),
                is_at_end: false,
            },
            Chunk { below: vec![], old: lines(&["x"]), new: vec![], is_at_end: true },
        ];
        let expected = vec![
            Change { path: "new.txt".into(), action: Action::Add { text: "a\n\n".into() } },
            Change { path: "old.txt".into(), action: Action::Delete },
            Change {
                path: "src/a.py".into(),
                action: Action::Update { to: Some("src/b.py".into()), chunks },
            },
        ];
        assert_eq!(parse(&patch), Ok(expected));
    }

    #[test]
    fn a_patch_in_a_shells_wrapping_is_read_too() {
        let body = "*** Delete File: a\n";
        let delete = Ok(vec![Change { path: "a".into(), action: Action::Delete }]);
        assert_eq!(parse(&format!("apply_patch <<'EOF'\n{}EOF\n", whole(body))), delete);
        assert_eq!(parse(&format!("```\n{}```", whole(body))), delete);
    }

    #[test]
    fn what_is_no_patch_is_refused_with_the_line() {
        assert_eq!(parse("*** Delete File: a"), Err(BadPatch::NoBegin));
        assert_eq!(parse(&format!("{BEGIN}\n*** Delete File: a")), Err(BadPatch::NoEnd));
        assert_eq!(parse(&whole("")), Err(BadPatch::Empty));
        let error = |body: &str| parse(&whole(body)).unwrap_err().to_string();
        assert!(error("*** Update File: a\n one\ntwo\n").starts_with("line 4 of the patch, `two`"));
        assert!(error("*** Add File: a\nx\n").contains("begin with `+`"));
        assert!(error("--- a/x\n+++ b/x\n").contains("`*** Update File: `"));
        assert!(error("*** Update File: a\n").contains("changes nothing"));
        assert!(error(&"*** Delete File: a\n".repeat(201)).contains("more than 200"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "(\\*\\*\\* (Begin|End) Patch\n|\\*\\*\\* Update File: a\n|@@ ?x?\n|[-+ *]?[aé]?\n|\\*\\*\\* End of File\n){0,12}") {
            let _ = parse(&text);
        }
    }
}
