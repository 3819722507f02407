//! `doctor`: what this machine can do for sandboxes, what is lost without it, and the line that changes it. Asks the machine,
//! not a server; a running server shows the same entries at `GET /api/v1/machine`.

use crate::cli::Global;
use crate::connection::data_dir;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::text::{BAD, BOLD, GOOD, NOTE, paint};
use greenroom_sandbox::{Capabilities, Capability};
use greenroom_sandboxd::{Mode, TRIAL, diagnose};
use serde::Serialize;
use std::fmt::Write as _;

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// The exit code says the same: 0, or 1.
    can_make_sandboxes: bool,
    /// `root` or `user`.
    mode: String,
    entries: Vec<Capability>,
}

pub(crate) fn doctor(global: &Global) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let data = data_dir(global.data.as_deref());
    let Capabilities { mode, entries } = runtime.block_on(diagnose(Mode::Auto, &data));
    let can_make_sandboxes = entries.iter().any(|entry| entry.name == TRIAL && entry.is_available);
    let report = Report { can_make_sandboxes, mode, entries };
    Output::new(global.json).document(&report, text)?;
    Ok(if can_make_sandboxes { Exit::Done } else { Exit::Failed })
}

/// One line for each entry, and below what is missing the line that changes it.
fn text(report: &Report) -> String {
    let width = report.entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Capability { name, is_available, detail, remedy } in &report.entries {
        let mark = if *is_available { paint(GOOD, '✓') } else { paint(BAD, '✗') };
        let gap = " ".repeat(width.saturating_sub(name.chars().count()));
        let _ = writeln!(text, "{mark} {}{gap}  {detail}", paint(BOLD, name));
        if let Some(line) = remedy.as_ref().filter(|_| !is_available) {
            let _ = writeln!(text, "  {}  {}", " ".repeat(width), paint(NOTE, line));
        }
    }
    let missing = report.entries.iter().filter(|entry| !entry.is_available).count();
    let able = if report.can_make_sandboxes { "can" } else { "cannot" };
    let by = if report.mode == "root" { "root" } else { "an ordinary user" };
    let _ = writeln!(
        text,
        "\nThis machine {able} make sandboxes, as {by}. {missing} of {} are missing.",
        report.entries.len()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_the_line_that_changes_it() {
        let entry = |name: &str, is_available, remedy: Option<&str>| Capability {
            name: name.into(),
            is_available,
            detail: "a detail".into(),
            remedy: remedy.map(Into::into),
        };
        let entries = vec![
            entry(TRIAL, true, None),
            entry("swap", false, Some("swapon /dev/x")),
            entry("x", true, Some("hidden")),
        ];
        let report = Report { can_make_sandboxes: true, mode: "user".into(), entries };
        let plain = anstream::adapter::strip_str(&text(&report)).to_string();
        insta::assert_snapshot!(plain, @r"
        ✓ sandboxes  a detail
        ✗ swap       a detail
                     swapon /dev/x
        ✓ x          a detail

        This machine can make sandboxes, as an ordinary user. 1 of 3 are missing.
        ");
    }

    #[test]
    fn this_machine_makes_a_sandbox_and_is_left_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let global = Global { data: Some(scratch.path().join("data")), json: true, ..Global::default() };
        assert_eq!(doctor(&global).unwrap(), Exit::Done);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
