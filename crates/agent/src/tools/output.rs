//! Bounds of what a tool gives back: 2,000 lines or 50 KB, the rest in a file inside the sandbox.

use super::run::{Failure, ToolContext};
use crate::ports::Reading;

pub(super) const LIMIT_LINES: usize = 2_000;
pub(super) const LIMIT_BYTES: usize = 50 * 1024;

/// Which part of long output says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Search results: the first ones.
    Head,
    /// Commands: a little of the beginning, most of the end.
    Ends,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    head: &'a str,
    tail: &'a str,
    left_out_lines: usize,
    left_out_bytes: usize,
}

/// `None` when `text` is within the bounds.
pub(super) fn cut(text: &str, keep: Keep) -> Option<Cut<'_>> {
    if text.len() <= LIMIT_BYTES && text.lines().count() <= LIMIT_LINES {
        return None;
    }
    let (head_share, tail_share) = match keep {
        Keep::Head => (4, 0),
        Keep::Ends => (1, 3),
    };
    let head = first(text, LIMIT_LINES * head_share / 4, LIMIT_BYTES * head_share / 4);
    let rest = &text[head.len()..];
    let tail = last(rest, LIMIT_LINES * tail_share / 4, LIMIT_BYTES * tail_share / 4);
    let left_out = &rest[..rest.len() - tail.len()];
    Some(Cut { head, tail, left_out_lines: left_out.lines().count(), left_out_bytes: left_out.len() })
}

impl Cut<'_> {
    pub(super) fn render(&self, where_is_the_rest: &str) -> String {
        let Self { head, tail, left_out_lines, left_out_bytes } = self;
        let note = format!("[{left_out_lines} lines, {left_out_bytes} bytes left out. {where_is_the_rest}]");
        let head = head.trim_end_matches('\n');
        if tail.is_empty() { format!("{head}\n{note}") } else { format!("{head}\n{note}\n{tail}") }
    }
}

/// Whether a file that is written now will be found by the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Kept,
    Discarded,
}

impl Place {
    pub(super) fn of(reading: &Reading) -> Self {
        if reading.is_before_sync { Self::Discarded } else { Self::Kept }
    }
}

/// `text` within the bounds; longer text is kept whole in a file of the sandbox that the result names.
pub(super) async fn bounded(
    text: String,
    keep: Keep,
    place: Place,
    context: &ToolContext,
) -> Result<String, Failure> {
    let Some(cut) = cut(&text, keep) else { return Ok(text) };
    if place == Place::Discarded {
        return Ok(cut.render("The rest was not kept: ask for less at once."));
    }
    let path = spill_path(&context.call);
    let sandbox = context.sandbox().await?;
    let rest = match context.operation(sandbox.write_file(&path, text.as_bytes())).await {
        Ok(()) => format!("All of it is in {path}: use read with offset and limit, or grep, on it."),
        Err(Failure::Words(reason)) => format!("It could not be kept: {reason}"),
        Err(other) => return Err(other),
    };
    Ok(cut.render(&rest))
}

pub(super) fn spill_path(call: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let name: String = call.chars().take(100).map(safe).collect();
    format!("/tmp/greenroom/{name}.txt")
}

/// The longest beginning within the bounds, whole lines if at least one fits.
fn first(text: &str, lines: usize, bytes: usize) -> &str {
    let within = &text[..text.floor_char_boundary(bytes)];
    let end = within.match_indices('\n').take(lines).last().map(|(at, _)| at + 1);
    &within[..end.unwrap_or(within.len())]
}

fn last(text: &str, lines: usize, bytes: usize) -> &str {
    if lines == 0 {
        return "";
    }
    let from = text.ceil_char_boundary(text.len().saturating_sub(bytes));
    let within = &text[from..];
    let body = within.strip_suffix('\n').unwrap_or(within);
    let by_lines = body.rmatch_indices('\n').nth(lines - 1).map(|(at, _)| at + 1);
    let whole_line = if from == 0 { None } else { body.find('\n').map(|at| at + 1) };
    &within[by_lines.or(whole_line).unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_within_the_bounds_is_left_alone() {
        assert_eq!(cut(&"x\n".repeat(LIMIT_LINES), Keep::Ends), None);
        assert_eq!(cut(&"x".repeat(LIMIT_BYTES), Keep::Head), None);
    }

    #[test]
    fn too_many_lines_keep_both_ends() {
        let text: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let shown = cut(&text, Keep::Ends).unwrap().render("More in /x.");
        assert!(shown.starts_with("line 0\n") && shown.ends_with("line 4999\n"));
        assert!(shown.contains("[3000 lines,") && shown.contains("More in /x.]"));
        assert!(shown.lines().count() <= LIMIT_LINES + 1);
    }

    #[test]
    fn one_endless_line_is_cut_between_characters() {
        let text = "é".repeat(LIMIT_BYTES);
        for keep in [Keep::Head, Keep::Ends] {
            assert!(cut(&text, keep).unwrap().render("").len() <= LIMIT_BYTES + 100);
        }
    }

    #[test]
    fn the_head_alone_is_kept_for_search_results() {
        let text: String = (0..3_000).map(|n| format!("{n}\n")).collect();
        let shown = cut(&text, Keep::Head).unwrap().render("rest");
        assert!(shown.contains("\n1999\n[1000 lines,"), "{}", &shown[shown.len() - 80..]);
    }
}
