//! `apply_patch`: several files changed at once, in the form that OpenAI's coding models were trained on. Instead of
//! `edit`, never beside it: a model that has both mixes their forms. Every part is found before the first file is
//! written, so a patch that does not fit changes nothing.

mod apply;
mod parse;

use super::WORKSPACE;
use super::files::{Freshness, absolute};
use super::input::object;
use super::run::{Failure, Ran, ToolContext};
use super::text::{FileText, plain};
use super::write::{FILE_LIMIT_BYTES, changed, diff, load, stat, store};
use greenroom_domain::event::{ToolDisplay, ToolOutcome};
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason, Sandbox};
use parse::{Action, Change};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const PATCH_LIMIT_BYTES: usize = 1024 * 1024;
const REMOVE_TIMEOUT_MS: u64 = 10_000;
/// What people are shown of all diffs; the log keeps no more than this.
const DISPLAY_LIMIT_BYTES: usize = 48 * 1024;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) patch: String,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "apply_patch".to_owned(),
        description: include_str!("patch/description.md").trim_end().to_owned(),
        input_schema: object(
            &json!({
                "patch": {"type": "string",
                    "description": "From `*** Begin Patch` to `*** End Patch`. Paths are relative to /workspace."},
            }),
            &["patch"],
        ),
    }
}

pub(super) fn title(input: &Input) -> String {
    match read(input).as_deref() {
        Ok([change]) => format!("Patch {}", super::short_path(&change.path)),
        Ok(changes) => format!("Patch {} files", changes.len()),
        Err(_) => "Patch files".to_owned(),
    }
}

/// One way for all who ask: what the rules judge is what runs.
fn read(input: &Input) -> Result<Vec<Change>, parse::BadPatch> {
    parse::parse(&plain(&input.patch))
}

/// All that it would touch; none where it cannot be read.
pub(super) fn named_paths(input: &Input) -> Vec<String> {
    let changes = read(input).unwrap_or_default();
    let paths = changes.into_iter().flat_map(|change| {
        let to = match change.action {
            Action::Update { to, .. } => to,
            Action::Add { .. } | Action::Delete => None,
        };
        std::iter::once(change.path).chain(to)
    });
    paths.collect()
}

/// What one part of the patch comes to, before anything is written.
struct Planned {
    path: String,
    /// Where the text goes; none when the file is removed.
    goes_to: Option<String>,
    /// With plain line endings, for people.
    before: String,
    after: String,
    /// As it is written.
    written: String,
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    if input.patch.len() > PATCH_LIMIT_BYTES {
        return Err(Failure::words(format!("A patch has at most {PATCH_LIMIT_BYTES} bytes; send several.")));
    }
    let changes = read(input).map_err(|reason| nothing(&reason))?;
    let sandbox = context.sandbox().await?;
    let paths = paths(&changes)?;
    let mut locks = Vec::new();
    // In one order, so that two patches never wait for each other.
    for path in &paths {
        locks.push(context.files.lock(path).await);
    }
    let mut planned = Vec::new();
    for change in &changes {
        planned.push(plan(change, &*sandbox, context).await?);
    }
    let mut done: Vec<String> = Vec::new();
    for part in &planned {
        if let Err(failure) = part.carry_out(&*sandbox, context).await {
            return match failure {
                Failure::Words(words) => Ok(half_done(&planned, &done, &words)),
                other => Err(other),
            };
        }
        done.push(part.line());
    }
    let text = format!("Done:\n{}", done.join("\n"));
    Ok(Ran::succeeded(text).showing(display(&planned)))
}

fn nothing(reason: &impl std::fmt::Display) -> Failure {
    Failure::Words(format!("Nothing was changed: {reason}."))
}

/// A disk that is full, a directory in the way: what was written before stays, and is said.
fn half_done(planned: &[Planned], done: &[String], words: &str) -> Ran {
    let text = match done {
        [] => format!("Nothing was changed. {words}"),
        done => format!("{words} This much of the patch was done before, and stays:\n{}", done.join("\n")),
    };
    let ran = Ran { outcome: ToolOutcome::Failed, ..Ran::succeeded(text) };
    if done.is_empty() { ran } else { ran.showing(display(&planned[..done.len()])) }
}

/// All paths of the patch, each of which stands in it once.
fn paths(changes: &[Change]) -> Result<BTreeSet<String>, Failure> {
    let mut paths = BTreeSet::new();
    for change in changes {
        let to = match &change.action {
            Action::Update { to, .. } => to.as_deref(),
            Action::Add { .. } | Action::Delete => None,
        };
        for path in std::iter::once(change.path.as_str()).chain(to) {
            let path = absolute(path).map_err(Failure::Words)?;
            // Two names of one file would be changed beside each other.
            if path.split('/').any(|part| part == "..") {
                return Err(nothing(&format!("write {path} without `..`")));
            }
            if !paths.insert(path.clone()) {
                return Err(nothing(&format!(
                    "{path} is in the patch twice; put all its changes into one part"
                )));
            }
        }
    }
    Ok(paths)
}

async fn plan(change: &Change, sandbox: &dyn Sandbox, context: &ToolContext) -> Result<Planned, Failure> {
    let path = absolute(&change.path).map_err(Failure::Words)?;
    let found = stat(sandbox, &path, context).await?;
    let (chunks, to) = match &change.action {
        Action::Add { text } => {
            if found.is_some() {
                return Err(nothing(&format!("{path} exists already; update it instead")));
            }
            let text = text.clone();
            return Ok(Planned {
                goes_to: Some(path.clone()),
                path,
                before: String::new(),
                after: text.clone(),
                written: text,
            });
        }
        Action::Delete => (None, None),
        Action::Update { chunks, to } => (Some(chunks), to.as_deref()),
    };
    let Some(stat) = found else { return Err(nothing(&format!("{path} does not exist"))) };
    let freshness = context.files.freshness(&path, &stat);
    if freshness == Freshness::Changed {
        return Err(Failure::Words(format!("Nothing was changed. {}", changed(&path))));
    }
    let bytes = load(sandbox, &path, &stat, context).await?;
    let Some(chunks) = chunks else {
        let before = FileText::parse(bytes).map_or_else(|_| String::new(), |file| file.plain().to_owned());
        return Ok(Planned { path, goes_to: None, before, after: String::new(), written: String::new() });
    };
    let file = FileText::parse(bytes).map_err(|reason| nothing(&format!("{path}: {reason}")))?;
    let found = apply::find(file.plain(), chunks).map_err(|reason| nothing(&format!("{path}: {reason}")))?;
    if !found.is_exact && freshness == Freshness::NeverRead {
        return Err(nothing(&format!(
            "{path} does not have these lines as they are written in the patch. Read the file first"
        )));
    }
    let written = file.replace(&found.edits);
    if written.len() as u64 > FILE_LIMIT_BYTES {
        return Err(nothing(&format!("{path} would have more than {FILE_LIMIT_BYTES} bytes")));
    }
    let goes_to = match to {
        None => path.clone(),
        Some(to) => {
            let to = absolute(to).map_err(Failure::Words)?;
            if self::stat(sandbox, &to, context).await?.is_some() {
                return Err(nothing(&format!("{to} exists already; nothing is moved over it")));
            }
            to
        }
    };
    Ok(Planned {
        path,
        goes_to: Some(goes_to),
        before: file.plain().to_owned(),
        after: plain(&written),
        written,
    })
}

impl Planned {
    async fn carry_out(&self, sandbox: &dyn Sandbox, context: &ToolContext) -> Result<(), Failure> {
        if let Some(goes_to) = &self.goes_to {
            store(sandbox, goes_to, &self.written, context).await?;
        }
        if self.goes_to.as_ref() != Some(&self.path) {
            remove(sandbox, &self.path, context).await?;
        }
        Ok(())
    }

    /// `A`, `M`, `D` or `R`, as git tells them.
    fn line(&self) -> String {
        let from = in_workspace(&self.path);
        match &self.goes_to {
            None => format!("D {from}"),
            Some(to) if *to != self.path => format!("R {from} -> {}", in_workspace(to)),
            Some(_) if self.before.is_empty() => format!("A {from}"),
            Some(_) => format!("M {from}"),
        }
    }
}

fn in_workspace(path: &str) -> &str {
    path.strip_prefix(WORKSPACE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
}

/// By a command: a sandbox has no other way to remove a file. Its name is the call's, so that it too runs once at most.
async fn remove(sandbox: &dyn Sandbox, path: &str, context: &ToolContext) -> Result<(), Failure> {
    let call = format!("{}/remove{path}", context.call);
    let spec = ExecSpec {
        call: call.clone(),
        argv: ["rm", "-f", "--", path].map(str::to_owned).to_vec(),
        cwd: WORKSPACE.to_owned(),
        env: vec![],
        stdin: vec![],
        timeout_ms: REMOVE_TIMEOUT_MS,
        output_limit_bytes: 4096,
        is_read_only: false,
    };
    let ran = async {
        let mut events = sandbox.exec(spec).await?;
        let mut said = Vec::new();
        let exit = loop {
            match events.recv().await {
                Some(ExecEvent::Output { bytes, .. }) => said.extend_from_slice(&bytes),
                Some(ExecEvent::Exit(exit)) => break Some(exit),
                None => break None,
            }
        };
        sandbox.acknowledge(&call).await?;
        Ok((exit, said))
    };
    let (exit, said) = context.operation(ran).await?;
    match exit.map(|exit| exit.reason) {
        Some(ExitReason::Code { code: 0 }) => Ok(()),
        Some(_) => Err(Failure::words(format!(
            "{path} could not be removed: {}.",
            String::from_utf8_lossy(&said).trim()
        ))),
        None => Err(Failure::Lost("it ended before a file was removed".to_owned())),
    }
}

fn display(planned: &[Planned]) -> ToolDisplay {
    let mut all = String::new();
    for part in planned {
        let shown = part.goes_to.as_ref().unwrap_or(&part.path);
        if let ToolDisplay::Diff { diff, .. } = diff(shown, &part.before, &part.after) {
            all.push_str(&diff);
        }
    }
    if all.len() > DISPLAY_LIMIT_BYTES {
        all.truncate(all.floor_char_boundary(DISPLAY_LIMIT_BYTES));
        all.push_str("\n… the diff is longer than what is kept\n");
    }
    let first = planned.first().map_or("", |part| in_workspace(part.goes_to.as_ref().unwrap_or(&part.path)));
    let mut path = first.to_owned();
    if planned.len() > 1 {
        let _ = write!(path, " and {} more", planned.len() - 1);
    }
    ToolDisplay::Diff { path, diff: all }
}
