//! `write`: a whole file, and what writing tools share.

use super::files::{Freshness, absolute};
use super::input::object;
use super::run::{Failure, Ran, ToolContext};
use super::text::{FileText, plain};
use greenroom_domain::event::ToolDisplay;
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{self as sandbox, FileKind, FileStat, Sandbox};
use serde::Deserialize;
use serde_json::json;
use similar::TextDiff;
use std::time::Duration;

/// Largest file that is written or edited.
pub(super) const FILE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// What people are shown of a diff; the log keeps no more than this.
const DIFF_LIMIT_BYTES: usize = 48 * 1024;
const DIFF_TIME_LIMIT: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) path: String,
    pub(super) content: String,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "write".to_owned(),
        description:
            "Writes a whole file and makes the directories it needs. A file that exists must have been read \
             before, and is replaced; use edit to change a part of it."
                .to_owned(),
        input_schema: object(
            &json!({
                "path": {"type": "string", "description": "Absolute, or relative to /workspace."},
                "content": {"type": "string", "description": "All of the file's text."},
            }),
            &["path", "content"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let path = absolute(&input.path).map_err(Failure::Words)?;
    if input.content.len() as u64 > FILE_LIMIT_BYTES {
        return Err(Failure::words(format!(
            "A file of more than {FILE_LIMIT_BYTES} bytes is not written; use a command."
        )));
    }
    let sandbox = context.sandbox().await?;
    let _lock = context.files.lock(&path).await;
    let Some(stat) = stat(&*sandbox, &path, context).await? else {
        store(&*sandbox, &path, &input.content, context).await?;
        let text = format!("Made {path} ({} lines).", input.content.lines().count());
        return Ok(Ran::succeeded(text).showing(diff(&path, "", &input.content)));
    };
    match context.files.freshness(&path, &stat) {
        Freshness::NeverRead => {
            return Err(Failure::words(format!(
                "{path} exists. Read it before you replace it, or use edit."
            )));
        }
        Freshness::Changed => return Err(Failure::Words(changed(&path))),
        Freshness::Unchanged => {}
    }
    let before = load(&*sandbox, &path, &stat, context).await?;
    let (before_text, after) = match FileText::parse(before) {
        Ok(before) => (before.plain().to_owned(), before.rewritten(&plain(&input.content))),
        Err(_) => (String::new(), input.content.clone()),
    };
    store(&*sandbox, &path, &after, context).await?;
    let display = diff(&path, &before_text, &plain(&after));
    Ok(Ran::succeeded(format!("Replaced {path} ({} lines).", after.lines().count())).showing(display))
}

pub(super) fn changed(path: &str) -> String {
    format!("{path} has changed since you read it. Read it again before you change it.")
}

/// `None` when there is no such file.
pub(super) async fn stat(
    sandbox: &dyn Sandbox,
    path: &str,
    context: &ToolContext,
) -> Result<Option<FileStat>, Failure> {
    let found = async {
        match sandbox.stat(path).await {
            Err(sandbox::Error::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    };
    let stat = context.operation(found).await?;
    if stat.as_ref().is_some_and(|stat| !matches!(stat.kind, FileKind::File | FileKind::Link)) {
        return Err(Failure::words(format!("{path} is not a file.")));
    }
    if let Some(stat) = stat.as_ref().filter(|stat| stat.size > FILE_LIMIT_BYTES) {
        return Err(Failure::words(format!(
            "{path} has {} bytes, too many for this tool; use a command.",
            stat.size
        )));
    }
    Ok(stat)
}

pub(super) async fn load(
    sandbox: &dyn Sandbox,
    path: &str,
    stat: &FileStat,
    context: &ToolContext,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        let chunk = context.operation(sandbox.read_file(path, bytes.len() as u64, FILE_LIMIT_BYTES)).await?;
        let is_end = chunk.is_end || chunk.bytes.is_empty();
        bytes.extend_from_slice(&chunk.bytes);
        if is_end {
            return Ok(bytes);
        }
        if bytes.len() as u64 > FILE_LIMIT_BYTES.max(stat.size) {
            return Err(Failure::words(format!("{path} grew while it was read.")));
        }
    }
}

/// Writes and takes a new stamp, so that the model's own change does not count as another's.
pub(super) async fn store(
    sandbox: &dyn Sandbox,
    path: &str,
    text: &str,
    context: &ToolContext,
) -> Result<(), Failure> {
    context.operation(sandbox.write_file(path, text.as_bytes())).await?;
    let stat = context.operation(sandbox.stat(path)).await?;
    context.files.remember(path, &stat);
    Ok(())
}

/// Both texts have plain line endings.
pub(super) fn diff(path: &str, before: &str, after: &str) -> ToolDisplay {
    let name = path.trim_start_matches('/');
    let name = name.strip_prefix("workspace/").unwrap_or(name);
    let old_name = if before.is_empty() { "/dev/null".to_owned() } else { format!("a/{name}") };
    let changes = TextDiff::configure().timeout(DIFF_TIME_LIMIT).diff_lines(before, after);
    let mut diff = changes.unified_diff().header(&old_name, &format!("b/{name}")).to_string();
    if diff.len() > DIFF_LIMIT_BYTES {
        diff.truncate(diff.floor_char_boundary(DIFF_LIMIT_BYTES));
        diff.push_str("\n… the diff is longer than what is kept\n");
    }
    ToolDisplay::Diff { path: name.to_owned(), diff }
}
