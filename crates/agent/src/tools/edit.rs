//! `edit`: replaces a part of a file.

use super::files::{Freshness, absolute};
use super::input::object;
use super::matching::{Match, Way, find};
use super::run::{Failure, Ran, ToolContext};
use super::text::{FileText, plain};
use super::write::{changed, diff, load, stat, store};
use greenroom_domain::event::ToolDisplay;
use greenroom_model::ToolDefinition;
use serde::Deserialize;
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) path: String,
    pub(super) old: String,
    pub(super) new: String,
    pub(super) replace_all: Option<bool>,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "edit".to_owned(),
        description: "Replaces `old` by `new` in a file. `old` must be in the file exactly once, copied as it is (with \
             its indentation, without line numbers) and with enough lines around it to be unique; set replace_all to \
             replace every occurrence instead. Line endings of the file are kept."
            .to_owned(),
        input_schema: object(
            &json!({
                "path": {"type": "string", "description": "Absolute, or relative to /workspace."},
                "old": {"type": "string", "description": "The text to replace."},
                "new": {"type": "string", "description": "What to put in its place."},
                "replace_all": {"type": "boolean", "description": "Replace every occurrence of `old`."},
            }),
            &["path", "old", "new"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let path = absolute(&input.path).map_err(Failure::Words)?;
    let sandbox = context.sandbox().await?;
    let _lock = context.files.lock(&path).await;
    let Some(stat) = stat(&*sandbox, &path, context).await? else {
        return Err(Failure::words(format!("{path} does not exist. Use write to make it.")));
    };
    let freshness = context.files.freshness(&path, &stat);
    if freshness == Freshness::Changed {
        return Err(Failure::Words(changed(&path)));
    }
    let bytes = load(&*sandbox, &path, &stat, context).await?;
    let file = FileText::parse(bytes)
        .map_err(|reason| Failure::Words(format!("{path} was not edited: {reason}.")))?;
    let replace_all = input.replace_all.unwrap_or(false);
    let found = find(file.plain(), &plain(&input.old), &plain(&input.new), replace_all)
        .map_err(|reason| Failure::Words(format!("{path} was not edited: {reason}.")))?;
    if found.way != Way::Exact && freshness == Freshness::NeverRead {
        return Err(Failure::words(format!(
            "{path} was not edited: `old` is not in it as written. Read the file first."
        )));
    }
    let after = file.replace(&found.edits);
    store(&*sandbox, &path, &after, context).await?;
    let display = diff(&path, file.plain(), &plain(&after));
    Ok(Ran::succeeded(words(&path, &found, &display)).showing(display))
}

/// After a lenient match the model is shown what was changed, so that it can see a wrong place.
fn words(path: &str, found: &Match, display: &ToolDisplay) -> String {
    let places = found.edits.len();
    let mut words = match places {
        1 => format!("Edited {path}."),
        _ => format!("Edited {path} in {places} places."),
    };
    if let (true, ToolDisplay::Diff { diff, .. }) = (found.way != Way::Exact, display) {
        let shown = &diff[..diff.floor_char_boundary(4_000)];
        words.push_str(&format!(" `old` was found only when {}:\n{shown}", found.way.ignored()));
    }
    words
}
