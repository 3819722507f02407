//! `publish`: gives people a file of the sandbox, on the session's page.

use super::files::absolute;
use super::input::object;
use super::run::{Failure, Ran, ToolContext};
use greenroom_domain::event::Event;
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{FileKind, Sandbox};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

const TITLE_LIMIT_CHARS: usize = 120;
const DESCRIPTION_LIMIT_CHARS: usize = 2_000;
/// Read at a time.
const PIECE: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) path: String,
    pub(super) title: String,
    pub(super) description: Option<String>,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "publish".to_owned(),
        description: "Gives people a file that you made, on the session's page: a report, a screenshot, a chart, an \
             archive. They see a copy of it as it is now; publish again after you change it. It is not for the \
             repository's files: those people see in the change."
            .to_owned(),
        input_schema: object(
            &json!({
                "path": {"type": "string", "description": "The file: absolute, or relative to /workspace. No link."},
                "title": {"type": "string",
                    "description": "What it is, in a few words. People who cannot see a picture are read this."},
                "description": {"type": "string", "description": "What people should know about it, where needed."},
            }),
            &["path", "title"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let title = input.title.trim();
    if title.is_empty() || title.contains('\n') || title.chars().count() > TITLE_LIMIT_CHARS {
        return Err(Failure::words(format!("The title is one line of 1 to {TITLE_LIMIT_CHARS} characters.")));
    }
    let description = input.description.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_LIMIT_CHARS) {
        return Err(Failure::words(format!(
            "The description has at most {DESCRIPTION_LIMIT_CHARS} characters."
        )));
    }
    let path = absolute(&input.path).map_err(Failure::words)?;
    let bytes = read(context, &path).await?;
    let kept = context.artifacts.keep(&path, bytes).await;
    let file = kept.map_err(|problem| {
        Failure::words(format!(
            "It was not published. {} {}",
            problem.message,
            problem.hint.unwrap_or_default()
        ))
    })?;
    let mut ran = Ran::succeeded(format!(
        "Published “{title}”: {} ({}, {} bytes). People see it on the session's page.",
        file.name, file.media_type, file.bytes
    ));
    ran.events.push(Event::ArtifactPublished {
        turn: context.turn,
        call: context.call.clone(),
        file,
        title: title.to_owned(),
        description: description.map(str::to_owned),
    });
    Ok(ran)
}

/// The whole file, or a refusal: never a part of it.
async fn read(context: &ToolContext, path: &str) -> Result<Vec<u8>, Failure> {
    let sandbox: Arc<dyn Sandbox> = context.sandbox().await?;
    let limit = context.artifacts.limit();
    let facts = context.operation(sandbox.stat(path)).await?;
    if facts.kind != FileKind::File {
        return Err(Failure::words(format!("{path} is no plain file. Name the file itself.")));
    }
    let too_large = || Failure::words(format!("{path} has more than {limit} bytes, the most that is taken."));
    if facts.size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.size).unwrap_or_default());
    loop {
        let offset = bytes.len() as u64;
        let content = context.operation(sandbox.read_file(path, offset, PIECE)).await?;
        let is_end = content.is_end || content.bytes.is_empty();
        bytes.extend(content.bytes);
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
        if is_end {
            break;
        }
    }
    if bytes.is_empty() {
        return Err(Failure::words(format!("{path} is empty.")));
    }
    Ok(bytes)
}
