//! `retention`

use super::{Desk, now_ms};
use crate::cli::{Retention, RetentionVerb};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, bytes, grouped, one_line};
use greenroom_domain::KeptBy;
use greenroom_wire::{RetentionReport, RetentionView, RetiredSessions, RowKind};

pub(super) async fn perform(desk: &Desk, arguments: Retention) -> Result<Exit, Failure> {
    match arguments.verb {
        Some(RetentionVerb::Run { dry_run: false }) => {
            let report = desk.client.run_retention().await?;
            desk.out.document(&report, report_text)?;
        }
        verb if verb.is_some() || arguments.dry_run => {
            let plan = desk.client.retention_plan().await?;
            desk.out.document(&plan, report_text)?;
        }
        _ => {
            let view = desk.client.retention().await?;
            desk.out.document(&view, view_text)?;
        }
    }
    Ok(Exit::Done)
}

fn view_text(view: &RetentionView) -> String {
    let settings = view.settings;
    let rows = [
        ("sessions at rest", settings.archive_idle_days, "archived"),
        ("archived sessions", settings.delete_archived_days, "deleted"),
        ("statistics", settings.statistics_days, "removed"),
        ("share links that ended", settings.share_links_days, "removed"),
    ];
    let table = Table::new(&["WHAT", "WHEN"], "").rows(&rows, |(what, days, then)| {
        let after = match days {
            0 => "never".to_owned(),
            1 => format!("{then} after a day"),
            days => format!("{then} after {days} days"),
        };
        vec![(*what).to_owned(), after]
    });
    let last = match &view.last {
        None => "There was no pass yet.\n".to_owned(),
        Some(last) => {
            format!("Last pass: {}\n{}", ago(last.at_ms, now_ms()), report_text(last))
        }
    };
    format!("{}\n{last}", table.text())
}

fn report_text(report: &RetentionReport) -> String {
    let mut lines = vec![];
    let would = |verb: &str| if report.is_plan { format!("would be {verb}") } else { verb.to_owned() };
    let mut add = |what: &str, count: u64, size: u64, verb: &str| {
        if count > 0 {
            let size = if size > 0 { bytes(size) } else { "-".to_owned() };
            lines.push(vec![what.to_owned(), grouped(count), size, would(verb)]);
        }
    };
    add("sessions", report.archived.sessions, 0, "archived");
    add("sessions", report.deleted.sessions, report.deleted.bytes, "deleted");
    for rows in &report.rows {
        add(row_name(rows.kind), rows.rows, 0, "removed");
    }
    add("failed builds", report.failed_builds, report.failed_builds_bytes, "removed");
    let empty = if report.is_plan { "Nothing would go." } else { "Nothing was old enough." };
    let mut text = Table::new(&["WHAT", "COUNT", "SIZE", ""], empty).rows(&lines, Clone::clone).text();
    for (what, found) in [("archived", &report.archived), ("deleted", &report.deleted)] {
        text += &listed(what, found);
    }
    for kept in &report.kept {
        text += &format!("Kept although old enough, {}: {}\n", reason(kept.by), grouped(kept.sessions));
    }
    if report.failed > 0 {
        text += &format!("Failed: {} sessions; the server's log says why.\n", grouped(report.failed));
    }
    if !report.is_complete {
        text += "There is more; the next pass goes on with it.\n";
    }
    text
}

fn listed(what: &str, found: &RetiredSessions) -> String {
    if found.listed.is_empty() {
        return String::new();
    }
    let now = now_ms();
    let table = Table::new(&["SESSION", "REPOSITORY", "AT REST FOR", "SIZE", "TITLE"], "").rows(
        &found.listed,
        |one| {
            let rests_ms = u64::try_from(now - one.rests_since_ms).unwrap_or(0);
            vec![
                one.session.to_string(),
                one_line(one.repository.as_str(), 24),
                format!("{} days", rests_ms / 86_400_000),
                if one.bytes > 0 { bytes(one.bytes) } else { "-".to_owned() },
                one_line(&one.title, 60),
            ]
        },
    );
    let more = found.sessions.saturating_sub(found.listed.len() as u64);
    let more = if more > 0 { format!("and {} more\n", grouped(more)) } else { String::new() };
    format!("\nWould be {what}:\n{}{more}", table.text())
}

fn row_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Statistics => "rows of statistics",
        RowKind::ShareLinks => "share links that ended",
        RowKind::SignIns => "expired sign-ins",
        RowKind::Leftovers => "rows of deleted sessions",
    }
}

fn reason(by: KeptBy) -> &'static str {
    match by {
        KeptBy::Turn => "a turn runs",
        KeptBy::Queue => "prompts wait",
        KeptBy::Change => "the change is not merged",
        KeptBy::Viewer => "somebody has it open",
        KeptBy::Sandbox => "the sandbox is alive",
        KeptBy::Delivery => "somebody is still to be told of it",
        KeptBy::Draft => "somebody typed in it lately",
        KeptBy::Use => "it was used meanwhile",
    }
}
