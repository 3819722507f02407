//! `open_change`: proposes the session's work.

use super::input::object;
use super::run::{Failure, Ran, ToolContext};
use greenroom_domain::event::ToolDisplay;
use greenroom_model::ToolDefinition;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// A backstop behind the implementer's own deadlines: staging, hooks, push and the forge.
const LIMIT: Duration = Duration::from_secs(10 * 60);
const TITLE_LIMIT_CHARS: usize = 200;
const BODY_LIMIT_BYTES: usize = 60_000;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) title: String,
    pub(super) body: String,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "open_change".to_owned(),
        description: "Proposes your work: commits everything in /workspace that is not committed yet in the name of \
             the person who asked, pushes the session's branch, and opens a change (a pull request) against the base \
             branch, or updates the one that is open. Call it when the work is done and checked."
            .to_owned(),
        input_schema: object(
            &json!({
                "title": {"type": "string",
                    "description": "One line in the imperative, under 70 characters. Also the commit's subject."},
                "body": {"type": "string",
                    "description": "Markdown: what changed, why, how it was checked, what is left."},
            }),
            &["title", "body"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let title = input.title.trim();
    if title.is_empty() || title.contains('\n') || title.chars().count() > TITLE_LIMIT_CHARS {
        return Err(Failure::words(format!("The title is one line of 1 to {TITLE_LIMIT_CHARS} characters.")));
    }
    if input.body.len() > BODY_LIMIT_BYTES {
        return Err(Failure::words(format!("The body has at most {BODY_LIMIT_BYTES} bytes.")));
    }
    let Some(opened) = context.halt.within(LIMIT, context.changes.open_change(title, &input.body)).await
    else {
        return Err(Failure::words(format!(
            "The change was not opened within {} minutes, and it is not known how far it came.",
            LIMIT.as_secs() / 60
        )));
    };
    let change = opened.map_err(|problem| Failure::Words(in_words(&problem)))?;
    let text = format!(
        "Change #{} “{}” is open: {} (branch {}, commit {}).",
        change.number, change.title, change.url, change.branch, change.commit
    );
    Ok(Ran::succeeded(text).showing(ToolDisplay::Change { number: change.number, title: change.title }))
}

fn in_words(problem: &greenroom_domain::Problem) -> String {
    let mut words = format!("The change was not opened. {}", problem.message);
    for more in [&problem.hint, &problem.detail].into_iter().flatten() {
        words.push('\n');
        words.push_str(more);
    }
    words
}
