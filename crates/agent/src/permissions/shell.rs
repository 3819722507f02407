//! The commands of a shell line, wherever they stand in it: lists, pipes, subshells, substitutions, here documents, the
//! bodies of loops and functions, and what other commands are told to run. The line is hostile: it is only read.

use super::wrappers::{self, Inside};
use tree_sitter::{Node, Parser};

/// Longer lines are not read.
const LINE_LIMIT_BYTES: usize = 32 * 1024;
/// Commands of one line, and lines within lines.
const PARTS_LIMIT: usize = 300;
const DEPTH_LIMIT: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Command(Command),
    /// Nobody knows what it runs.
    Opaque(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Its words without quotes, with one space between.
    pub(super) text: String,
    /// The same with the program's name for its path.
    pub(super) bare: String,
    /// What it certainly begins with; `None`: all of `text` is certain.
    pub(super) known: Option<String>,
    /// The pattern that would allow the like of it.
    pub(super) grant: Option<String>,
}

/// A word of a command, unquoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// So many bytes of `text` are certain; the rest is as it is written. `None`: all of it.
    known: Option<usize>,
}

impl Word {
    pub(super) fn is_certain(&self) -> bool {
        self.known.is_none()
    }

    pub(super) fn uncertain() -> Self {
        Self { text: "…".to_owned(), known: Some(0) }
    }
}

/// At least one. A line that is not understood as a whole is one opaque part.
pub(super) fn parts(line: &str) -> Vec<Part> {
    let mut reader = Reader { parts: vec![] };
    let joined = joined_lines(line);
    // In quotes and here documents a backslash before a line's end can be itself: both readings count.
    let is_plain = joined == line || !line.contains(['\'', '<']);
    let read =
        if is_plain { reader.read(&joined, 0) } else { reader.read(&joined, 0).and(reader.read(line, 0)) };
    match read {
        Some(()) if reader.parts.is_empty() => vec![Part::Opaque(line.trim().to_owned())],
        Some(()) => reader.parts,
        None => {
            // What was found on the way may be denied by name.
            reader.parts.push(Part::Opaque(line.trim().to_owned()));
            reader.parts
        }
    }
}

/// The shell takes a backslash and the line's end after it for nothing.
fn joined_lines(line: &str) -> String {
    let mut joined = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', Some('\n')) => drop(rest.next()),
            ('\\', Some(_)) => {
                joined.push(c);
                joined.extend(rest.next());
            }
            _ => joined.push(c),
        }
    }
    joined
}

struct Reader {
    parts: Vec<Part>,
}

impl Reader {
    /// `None`: something in it cannot be read.
    fn read(&mut self, line: &str, depth: usize) -> Option<()> {
        if depth > DEPTH_LIMIT || line.len() > LINE_LIMIT_BYTES || line.contains('\0') {
            return None;
        }
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_bash::LANGUAGE.into()).ok()?;
        let tree = parser.parse(line, None)?;
        let mut is_read = !tree.root_node().has_error();
        let mut open = vec![tree.root_node()];
        let mut cursor = tree.walk();
        while let Some(node) = open.pop() {
            match node.kind() {
                "command" => is_read &= self.command(words(node, line), depth).is_some(),
                // A word after a here document's mark belongs to the command before it.
                "heredoc_redirect" if node.child_by_field_name("argument").is_some() => is_read = false,
                _ => {}
            }
            let first = open.len();
            open.extend(node.named_children(&mut cursor));
            open[first..].reverse();
        }
        is_read.then_some(())
    }

    fn command(&mut self, words: Vec<Word>, depth: usize) -> Option<()> {
        if self.parts.len() >= PARTS_LIMIT || depth > DEPTH_LIMIT {
            return None;
        }
        let Some(first) = words.first() else { return Some(()) };
        if !first.is_certain() || first.text.is_empty() {
            self.parts.push(Part::Opaque(joined(&words)));
            return Some(());
        }
        self.parts.push(Part::Command(described(&words)));
        for inside in wrappers::inside(&words) {
            match inside {
                Inside::Words(words) => self.command(words, depth + 1)?,
                Inside::Line(line) => self.read(&line, depth + 1)?,
                Inside::Opaque => self.parts.push(Part::Opaque(joined(&words))),
            }
        }
        Some(())
    }
}

fn words(command: Node<'_>, line: &str) -> Vec<Word> {
    let mut cursor = command.walk();
    let mut words = vec![];
    if !cursor.goto_first_child() {
        return words;
    }
    loop {
        if matches!(cursor.field_name(), Some("name" | "argument")) {
            words.push(unquoted(&line[cursor.node().byte_range()]));
        }
        if !cursor.goto_next_sibling() {
            return words;
        }
    }
}

fn joined(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn described(words: &[Word]) -> Command {
    let text = joined(words);
    let program = wrappers::program(&words[0].text);
    let bare = format!("{program}{}", &text[words[0].text.len()..]);
    let mut known = String::new();
    let mut is_certain = true;
    for (index, word) in words.iter().enumerate() {
        known.push_str(if index == 0 { "" } else { " " });
        known.push_str(&word.text[..word.known.unwrap_or(word.text.len())]);
        if !word.is_certain() {
            is_certain = false;
            break;
        }
    }
    let known = (!is_certain).then_some(known);
    let grant = wrappers::grant(words, known.is_none());
    Command { text, bare, known, grant }
}

/// As the shell would pass it on, as far as that is certain.
fn unquoted(source: &str) -> Word {
    let mut text = String::new();
    let mut rest = source;
    let mut is_quoted = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '"' => {
                is_quoted = !is_quoted;
                after
            }
            '\'' if !is_quoted => match after.split_once('\'') {
                Some((literal, after)) => {
                    text.push_str(literal);
                    after
                }
                None => return uncertain(text, rest),
            },
            '\\' => {
                let Some(next) = after.chars().next() else { return uncertain(text, rest) };
                if is_quoted && !matches!(next, '$' | '`' | '"' | '\\' | '\n') {
                    text.push('\\');
                }
                if next != '\n' {
                    text.push(next);
                }
                &after[next.len_utf8()..]
            }
            '$' if after.starts_with('"') && !is_quoted => after,
            '$' if !is_quoted && after.is_empty() => {
                text.push('$');
                after
            }
            '$' | '`' => return uncertain(text, rest),
            '*' | '?' | '[' if !is_quoted => return uncertain(text, rest),
            '~' if !is_quoted && text.is_empty() => return uncertain(text, rest),
            '{' if !is_quoted && (after.contains(',') || after.contains("..")) => {
                return uncertain(text, rest);
            }
            '<' | '>' if !is_quoted => return uncertain(text, rest),
            other => {
                text.push(other);
                after
            }
        };
    }
    Word { text, known: None }
}

fn uncertain(mut text: String, rest: &str) -> Word {
    let known = Some(text.len());
    text.push_str(rest);
    Word { text, known }
}
