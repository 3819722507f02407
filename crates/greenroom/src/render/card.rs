//! Cards of tool calls: a heading when a call begins, its output while it runs, its end.

use super::diff;
use super::text::{BAD, BOLD, DIM, GOOD, WARN, clean, duration, one_line, paint};
use greenroom_domain::event::{ToolDisplay, ToolOutcome};
use std::fmt::Write as _;

const TITLE_CHARS: usize = 160;
const LINE_CHARS: usize = 300;
/// Lines of output shown from the beginning and from the end.
const HEAD_LINES: usize = 12;
const TAIL_LINES: usize = 8;
const DIFF_LINES: usize = 60;
const INDENT: &str = "    ";

/// A call that runs.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) call: String,
    title: String,
    /// Bytes of output that arrived, and the unfinished last line.
    received: u64,
    partial: String,
    shown_lines: usize,
}

pub(crate) struct Ending<'a> {
    pub(crate) outcome: ToolOutcome,
    pub(crate) text: &'a str,
    pub(crate) display: Option<&'a ToolDisplay>,
    pub(crate) duration_ms: u64,
}

impl Card {
    pub(crate) fn new(call: &str, title: &str) -> Self {
        Self {
            call: call.to_owned(),
            title: one_line(title, TITLE_CHARS),
            received: 0,
            partial: String::new(),
            shown_lines: 0,
        }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn heading(&self) -> String {
        format!("{} {}\n", paint(GOOD, "▸"), paint(BOLD, &self.title))
    }

    /// Complete new lines of a running call's output, up to the head's length.
    pub(crate) fn output(&mut self, offset: u64, text: &str) -> String {
        let known = self.received.saturating_sub(offset) as usize;
        let fresh = match text.get(known..) {
            Some(fresh) if offset <= self.received => fresh,
            _ => return String::new(),
        };
        self.received += fresh.len() as u64;
        let mut shown = String::new();
        for piece in fresh.split_inclusive('\n') {
            if self.shown_lines == HEAD_LINES {
                break;
            }
            self.partial.push_str(piece);
            if self.partial.ends_with('\n') {
                shown.push_str(&output_line(&self.partial));
                self.shown_lines += 1;
                self.partial.clear();
            }
        }
        shown
    }

    pub(crate) fn ending(&self, ending: &Ending<'_>) -> String {
        let mut text = match ending.display {
            Some(ToolDisplay::Command { output, is_truncated, .. }) => self.rest_of(output, *is_truncated),
            Some(ToolDisplay::Diff { diff, .. }) => diff::hunks(diff, INDENT, DIFF_LINES),
            _ => String::new(),
        };
        if let Some(line) = self.last_line(ending) {
            let _ = writeln!(text, "{INDENT}{line}");
        }
        text
    }

    fn rest_of(&self, output: &str, is_truncated: bool) -> String {
        let lines: Vec<&str> = output.lines().collect();
        let mut text = String::new();
        let tail_from = lines.len().saturating_sub(TAIL_LINES);
        let head_to = if lines.len() <= HEAD_LINES + TAIL_LINES { lines.len() } else { HEAD_LINES };
        for line in lines.iter().take(head_to).skip(self.shown_lines) {
            text.push_str(&output_line(line));
        }
        if head_to < lines.len() {
            let left_out = tail_from - head_to;
            let more = if is_truncated { "or more " } else { "" };
            let _ = writeln!(text, "{INDENT}{}", paint(DIM, format!("… {left_out} {more}lines …")));
            lines[tail_from..].iter().for_each(|line| text.push_str(&output_line(line)));
        }
        text
    }

    fn last_line(&self, ending: &Ending<'_>) -> Option<String> {
        let took = duration(ending.duration_ms);
        match (ending.outcome, ending.display) {
            (ToolOutcome::Cancelled, _) => Some(paint(WARN, format!("stopped after {took}"))),
            (ToolOutcome::Unknown, _) => Some(paint(WARN, "interrupted, outcome unknown")),
            (_, Some(ToolDisplay::Command { exit_code: Some(0), .. })) => {
                Some(paint(DIM, format!("exit 0 · {took}")))
            }
            (_, Some(ToolDisplay::Command { exit_code: Some(code), .. })) => {
                Some(paint(BAD, format!("exit {code} · {took}")))
            }
            (_, Some(ToolDisplay::Command { exit_code: None, .. })) => {
                Some(paint(BAD, format!("ended without an exit code · {took}")))
            }
            (ToolOutcome::Failed, _) => Some(paint(BAD, one_line(ending.text, LINE_CHARS))),
            (ToolOutcome::Succeeded, _) => None,
        }
    }
}

fn output_line(line: &str) -> String {
    let line = clean(line.trim_end_matches(['\n', '\r'])).into_owned();
    let line = if line.chars().count() > LINE_CHARS {
        line.chars().take(LINE_CHARS).chain(['…']).collect()
    } else {
        line
    };
    format!("{INDENT}{}\n", paint(DIM, line))
}
