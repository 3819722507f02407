//! `read`: a file's lines with their numbers, or a directory's entries.

use super::files::absolute;
use super::input::object;
use super::output::{LIMIT_BYTES, LIMIT_LINES};
use super::run::{Failure, Ran, ToolContext};
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{FileKind, Sandbox};
use serde::Deserialize;
use serde_json::json;
use std::fmt::Write as _;

const CHUNK_BYTES: u64 = 1024 * 1024;
/// Lines are counted from the start of the file, up to here.
const SCAN_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const LINE_LIMIT_CHARS: usize = 2_000;
const ENTRIES_LIMIT: usize = 1_000;
const IMAGES: [&str; 9] = ["png", "jpg", "jpeg", "gif", "webp", "bmp", "ico", "tiff", "avif"];

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) path: String,
    pub(super) offset: Option<u64>,
    pub(super) limit: Option<u64>,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "read".to_owned(),
        description: format!(
            "Reads a text file. Each line is given as its number, a tab and its text; the number is not part of the \
             file. At most {LIMIT_LINES} lines or {} KB at once: use offset and limit for more. A directory gives its \
             entries.",
            LIMIT_BYTES / 1024
        ),
        input_schema: object(
            &json!({
                "path": {"type": "string", "description": "Absolute, or relative to /workspace."},
                "offset": {"type": "integer", "minimum": 1, "description": "First line to give; 1 when left out."},
                "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_LINES,
                    "description": "How many lines to give at most."},
            }),
            &["path"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let path = absolute(&input.path).map_err(Failure::Words)?;
    let reading = context.reader().await?;
    let sandbox = &reading.sandbox;
    let stat = context.operation(sandbox.stat(&path)).await?;
    match stat.kind {
        FileKind::Directory => return directory(&**sandbox, &path, context).await,
        FileKind::Other => return Err(Failure::words(format!("{path} is not a file or directory."))),
        FileKind::File | FileKind::Link => {}
    }
    let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    if extension.is_some_and(|extension| IMAGES.contains(&extension.as_str())) {
        return Err(Failure::words(format!(
            "{path} is an image ({} bytes), and images cannot be shown to you yet. Find out what you need with a command.",
            stat.size
        )));
    }
    let window = Window::new(input);
    let text = lines(&**sandbox, &path, window, context).await?;
    if reading.is_before_sync {
        context.files.remember_early(&path, &stat);
    } else {
        context.files.remember(&path, &stat);
    }
    Ok(Ran::succeeded(text))
}

async fn directory(sandbox: &dyn Sandbox, path: &str, context: &ToolContext) -> Result<Ran, Failure> {
    let mut entries = context.operation(sandbox.list_dir(path)).await?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!("{path} is a directory with {} entries:\n", entries.len());
    for entry in entries.iter().take(ENTRIES_LIMIT) {
        let mark = if entry.kind == FileKind::Directory { "/" } else { "" };
        let _ = writeln!(text, "{}{mark}", entry.name);
    }
    if entries.len() > ENTRIES_LIMIT {
        let _ = writeln!(text, "[{} more. Use glob.]", entries.len() - ENTRIES_LIMIT);
    }
    Ok(Ran::succeeded(text))
}

/// Collects the asked lines while the file passes by.
#[derive(Debug)]
struct Window {
    first: u64,
    count: u64,
    /// Number of the line that is being read.
    line: u64,
    partial: Vec<u8>,
    text: String,
    given: u64,
    is_full: bool,
}

impl Window {
    fn new(input: &Input) -> Self {
        let count = input.limit.unwrap_or(LIMIT_LINES as u64).clamp(1, LIMIT_LINES as u64);
        let first = input.offset.unwrap_or(1).max(1);
        Self { first, count, line: 1, partial: Vec::new(), text: String::new(), given: 0, is_full: false }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.is_full {
                return;
            }
            let room = LINE_LIMIT_CHARS * 4 + 4;
            let kept = &piece[..piece.len().min(room.saturating_sub(self.partial.len()))];
            self.partial.extend_from_slice(kept);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        let number = self.line;
        self.line += 1;
        if number < self.first {
            return;
        }
        let line = shown(&bytes, number == 1);
        if self.given == self.count || (self.given > 0 && self.text.len() + line.len() + 8 > LIMIT_BYTES) {
            self.is_full = true;
            return;
        }
        let _ = writeln!(self.text, "{number:>6}\t{line}");
        self.given += 1;
    }

    fn next_line(&self) -> u64 {
        self.first + self.given
    }
}

fn shown(bytes: &[u8], is_first: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let text = if is_first { text.trim_start_matches('\u{feff}') } else { text };
    match text.char_indices().nth(LINE_LIMIT_CHARS) {
        Some((end, _)) => format!("{}… [line cut at {LINE_LIMIT_CHARS} characters]", &text[..end]),
        None => text.to_owned(),
    }
}

async fn lines(
    sandbox: &dyn Sandbox,
    path: &str,
    mut window: Window,
    context: &ToolContext,
) -> Result<String, Failure> {
    let mut offset = 0;
    loop {
        let chunk = context.operation(sandbox.read_file(path, offset, CHUNK_BYTES)).await?;
        if offset == 0 && chunk.bytes[..chunk.bytes.len().min(8 * 1024)].contains(&0) {
            return Err(Failure::words(format!(
                "{path} is a binary file of {} bytes; it is not shown.",
                chunk.size
            )));
        }
        offset += chunk.bytes.len() as u64;
        window.feed(&chunk.bytes);
        let is_end = chunk.is_end || chunk.bytes.is_empty();
        if is_end && !window.partial.is_empty() {
            window.end_line();
        }
        if window.is_full {
            let next = window.next_line();
            window.text.push_str(&format!("[There is more. Go on with offset {next}.]"));
            return Ok(window.text);
        }
        if is_end {
            return end(window, path);
        }
        if offset >= SCAN_LIMIT_BYTES {
            let next = window.next_line();
            window.text.push_str(&format!(
                "[The file is too long to go on from here: use a command such as sed -n '{next},$p' {path} | head.]"
            ));
            return Ok(window.text);
        }
    }
}

fn end(window: Window, path: &str) -> Result<String, Failure> {
    let total = window.line - 1;
    if total == 0 {
        return Ok(format!("{path} is empty."));
    }
    if window.given == 0 {
        return Err(Failure::words(format!("{path} has only {total} lines.")));
    }
    Ok(window.text)
}
