//! Unified diffs in colour.

use super::text::{BAD, BOLD, DIM, GOOD, NOTE, PLAIN, clean, paint};
use greenroom_wire::FileDiffView;
use std::fmt::Write as _;

/// The hunks of one file's diff, each line behind `indent`, at most `limit` lines.
pub(crate) fn hunks(patch: &str, indent: &str, limit: usize) -> String {
    let lines: Vec<&str> = patch.lines().skip_while(|line| !line.starts_with("@@")).collect();
    let mut text = String::new();
    for line in lines.iter().take(limit) {
        let style = match line.as_bytes().first() {
            Some(b'+') => GOOD,
            Some(b'-') => BAD,
            Some(b'@') => NOTE,
            _ => PLAIN,
        };
        let _ = writeln!(text, "{indent}{}", paint(style, clean(line)));
    }
    if lines.len() > limit {
        let _ = writeln!(text, "{indent}{}", paint(DIM, format!("… {} more lines", lines.len() - limit)));
    }
    text
}

/// A whole diff: a heading and the hunks of each file.
pub(crate) fn files(files: &[FileDiffView]) -> String {
    if files.is_empty() {
        return "No file differs.\n".to_owned();
    }
    let mut text = String::new();
    for file in files {
        let (path, counts) = (clean(&file.path), counts(file));
        let from = file.old_path.as_ref().filter(|old| **old != file.path);
        let from = from.map(|old| format!(" (was {})", clean(old))).unwrap_or_default();
        let _ = writeln!(text, "{}{from}  {counts}", paint(BOLD, path));
        if file.is_binary {
            let _ = writeln!(text, "{}", paint(DIM, "binary file"));
        }
        text.push_str(&hunks(&file.patch, "", usize::MAX));
        if file.is_truncated {
            let _ = writeln!(text, "{}", paint(DIM, "… the rest of this file's diff is left out"));
        }
        text.push('\n');
    }
    text
}

fn counts(file: &FileDiffView) -> String {
    let (added, removed) = (format!("+{}", file.additions), format!("-{}", file.deletions));
    format!("{} {}", paint(GOOD, added), paint(BAD, removed))
}
