//! `glob` and `grep`: looking through the sandbox's files.

use super::files::absolute;
use super::input::object;
use super::output::{Keep, Place, bounded};
use super::run::{Failure, Ran, ToolContext};
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{SearchQuery, SearchResult};
use serde::Deserialize;
use serde_json::json;

const GLOB_LIMIT: u64 = 1_000;
const GREP_LIMIT: u64 = 1_000;
const CONTEXT_LIMIT: u64 = 20;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GlobInput {
    pub(super) pattern: String,
    pub(super) path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrepInput {
    pub(super) pattern: String,
    pub(super) path: Option<String>,
    pub(super) include: Option<String>,
    pub(super) case_insensitive: Option<bool>,
    pub(super) context: Option<u64>,
}

pub(super) fn glob_definition() -> ToolDefinition {
    ToolDefinition {
        name: "glob".to_owned(),
        description: format!(
            "Finds files by glob pattern, newest first, at most {GLOB_LIMIT}. Files that .gitignore names are left out."
        ),
        input_schema: object(
            &json!({
                "pattern": {"type": "string", "description": "For example src/**/*.rs or **/test_*.py."},
                "path": {"type": "string", "description": "Directory to search; /workspace when left out."},
            }),
            &["pattern"],
        ),
    }
}

pub(super) fn grep_definition() -> ToolDefinition {
    ToolDefinition {
        name: "grep".to_owned(),
        description: format!(
            "Finds lines by regular expression (Rust regex syntax) and gives path:line:text, at most {GREP_LIMIT} \
             lines. Files that .gitignore names and binary files are left out."
        ),
        input_schema: object(
            &json!({
                "pattern": {"type": "string", "description": "Regular expression; escape ( ) [ ] { } . * + ? | to find them."},
                "path": {"type": "string", "description": "File or directory to search; /workspace when left out."},
                "include": {"type": "string", "description": "Glob of the files to search, for example *.ts."},
                "case_insensitive": {"type": "boolean", "description": "Treat upper and lower case alike."},
                "context": {"type": "integer", "minimum": 0, "maximum": CONTEXT_LIMIT,
                    "description": "Lines to show before and after each match."},
            }),
            &["pattern"],
        ),
    }
}

pub(super) async fn glob(input: &GlobInput, context: &ToolContext) -> Result<Ran, Failure> {
    let query = SearchQuery::Glob {
        root: root(input.path.as_ref())?,
        pattern: input.pattern.clone(),
        limit: GLOB_LIMIT,
    };
    search(query, "No file matches.", context).await
}

pub(super) async fn grep(input: &GrepInput, context: &ToolContext) -> Result<Ran, Failure> {
    let query = SearchQuery::Grep {
        root: root(input.path.as_ref())?,
        pattern: input.pattern.clone(),
        include: input.include.clone(),
        is_case_insensitive: input.case_insensitive.unwrap_or(false),
        context_lines: input.context.unwrap_or(0).min(CONTEXT_LIMIT),
        limit: GREP_LIMIT,
    };
    search(query, "No line matches.", context).await
}

fn root(path: Option<&String>) -> Result<String, Failure> {
    absolute(path.map_or(".", String::as_str)).map_err(Failure::Words)
}

async fn search(query: SearchQuery, nothing: &str, context: &ToolContext) -> Result<Ran, Failure> {
    let reading = context.reader().await?;
    let SearchResult { text, is_truncated, .. } = context.operation(reading.sandbox.search(query)).await?;
    if text.trim().is_empty() {
        return Ok(Ran::succeeded(nothing));
    }
    let mut shown = bounded(text, Keep::Head, Place::of(&reading), context).await?;
    if is_truncated {
        shown.push_str("\n[There are more matches than this. Narrow the pattern or the path.]");
    }
    Ok(Ran::succeeded(shown))
}
