//! `statistics`

use super::Desk;
use crate::cli::{CountedBy, Statistics};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{dollars, duration, grouped, one_line};
use greenroom_domain::statistics::{Figures, ToolFigures};
use greenroom_wire::StatisticsView;

pub(super) async fn show(desk: &Desk, arguments: Statistics) -> Result<Exit, Failure> {
    let (by, head) = match arguments.by {
        CountedBy::Day => ("day", "DAY"),
        CountedBy::Person => ("person", "PERSON"),
        CountedBy::Repository => ("repository", "REPOSITORY"),
    };
    let mut parameters = vec![("by", by.to_owned())];
    parameters.extend(arguments.from.map(|day| ("from", day)));
    parameters.extend(arguments.to.map(|day| ("to", day)));
    parameters.extend(arguments.repository.map(|name| ("repository", name.to_string())));
    parameters.extend(arguments.person.map(|login| ("person", login.to_string())));
    let found = desk.client.statistics(&parameters).await?;
    desk.out.document(&found, |found| text(found, head))?;
    Ok(Exit::Done)
}

fn text(found: &StatisticsView, first: &'static str) -> String {
    let head = [first, "PROMPTS", "TURNS", "FAILED", "TIME", "TOKENS", "COST", "TOOLS", "OPENED", "MERGED"];
    let mut rows: Vec<(String, &Figures)> =
        found.groups.iter().map(|group| (one_line(&group.name, 32), &group.figures)).collect();
    rows.push(("all".to_owned(), &found.totals));
    let empty = found.groups.is_empty();
    let range = format!("{} to {} (UTC)\n", found.from, found.to);
    if empty {
        return range + "Nothing happened in this time.\n";
    }
    let table = Table::new(&head, "").rows(&rows, |(name, figures)| {
        vec![
            name.clone(),
            grouped(figures.prompts),
            grouped(figures.turns),
            grouped(figures.failed + figures.budget_reached),
            figures.turn_ms.map_or_else(unknown, duration),
            tokens(figures).map_or_else(unknown, grouped),
            cost(figures),
            grouped(figures.tool_calls),
            grouped(figures.changes_opened),
            grouped(figures.changes_merged),
        ]
    });
    let tools = Table::new(&["TOOL", "CALLS", "FAILED", "TIME"], "No tool was called.").rows(
        &found.tools,
        |tool: &ToolFigures| {
            vec![
                one_line(&tool.tool, 32),
                grouped(tool.calls),
                grouped(tool.failures),
                tool.duration_ms.map_or_else(unknown, duration),
            ]
        },
    );
    format!("{range}{}\n{}", table.text(), tools.text())
}

fn unknown() -> String {
    "-".to_owned()
}

fn tokens(figures: &Figures) -> Option<u64> {
    let parts =
        [figures.input_tokens, figures.output_tokens, figures.cache_read_tokens, figures.cache_write_tokens];
    parts.iter().any(Option::is_some).then(|| parts.iter().flatten().sum())
}

/// What is not known is said: it is not nothing.
fn cost(figures: &Figures) -> String {
    match (figures.cost_microusd, figures.unpriced_turns) {
        (None, _) => unknown(),
        (Some(cost), 0) => dollars(cost),
        (Some(cost), unpriced) => format!("{} and {unpriced} unknown", dollars(cost)),
    }
}
