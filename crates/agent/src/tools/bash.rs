//! `bash`: a shell command in the sandbox, with live output, a time limit, and at most one run per call.

use super::WORKSPACE;
use super::input::object;
use super::output::{Keep, Place, bounded};
use super::run::{Failure, Ran, ToolContext};
use crate::halt::Halted;
use crate::ports::Reading;
use greenroom_domain::event::{ToolDisplay, ToolOutcome};
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{ExecEvent, ExecSpec, Exit, ExitReason, Sandbox};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const TIMEOUT_MS: u64 = 120_000;
const LONGEST_TIMEOUT_MS: u64 = 30 * 60_000;
const OUTPUT_LIMIT_BYTES: usize = 4 * 1024 * 1024;
const COMMAND_LIMIT_BYTES: usize = 100_000;
/// What people are shown; the log keeps no more than this.
const DISPLAY_LIMIT_BYTES: usize = 32 * 1024;
/// Time between SIGTERM and SIGKILL when a turn is stopped.
const GRACE_MS: u64 = 1_000;
/// How long the stage may take beyond the command's own limit before the outcome counts as unknown.
const EXIT_MARGIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) command: String,
    pub(super) timeout_ms: Option<u64>,
    pub(super) read_only: Option<bool>,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "bash".to_owned(),
        description: "Runs a shell command with bash in /workspace and gives its output, standard error included. Each \
             call is a new shell without terminal or input: no editors, pagers or prompts, and directory changes do \
             not last. Processes left in the background are ended with the command: use terminal for what goes on."
            .to_owned(),
        input_schema: object(
            &json!({
                "command": {"type": "string", "description": "The command line or script."},
                "timeout_ms": {"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS,
                    "description": format!("Time limit; {TIMEOUT_MS} when left out.")},
                "read_only": {"type": "boolean",
                    "description": "Set it for commands that only look: they run in parallel, and at once, even before the newest commits of the base branch have arrived (then over the files as they were before those, without the session's services). Such a command can write below /tmp only: writing or removing anything else fails with \"Permission denied\", and changing modes, owners or times of files, in /tmp too, with \"Read-only file system\". Leave it out for commands that build, test, install or change anything."},
            }),
            &["command"],
        ),
    }
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    if input.command.trim().is_empty()
        || input.command.contains('\0')
        || input.command.len() > COMMAND_LIMIT_BYTES
    {
        return Err(Failure::words(format!(
            "A command has 1 to {COMMAND_LIMIT_BYTES} bytes and no null byte; put longer scripts into a file."
        )));
    }
    let reading = match input.read_only {
        Some(true) => context.reader().await?,
        _ => Reading::current(context.sandbox().await?),
    };
    let sandbox = Arc::clone(&reading.sandbox);
    let timeout_ms = input.timeout_ms.unwrap_or(TIMEOUT_MS).clamp(1, LONGEST_TIMEOUT_MS);
    let spec = spec(input, timeout_ms, context);
    let start = context.operation(sandbox.exec(spec));
    let events = match context.halt.or(start).await {
        Ok(events) => events?,
        Err(halted) => {
            stop(&*sandbox, context).await;
            return Err(Failure::Halted(halted));
        }
    };
    let mut running = Running { events, output: Vec::new(), context };
    let (exit, halted) = running.wait(&*sandbox, timeout_ms).await?;
    let output = String::from_utf8_lossy(&std::mem::take(&mut running.output)).into_owned();
    let end = End { timeout_ms, exit, halted, place: Place::of(&reading) };
    let ran = result(input, &output, end, context).await?;
    Ok(Ran { ran_in: Some(sandbox), ..ran })
}

fn spec(input: &Input, timeout_ms: u64, context: &ToolContext) -> ExecSpec {
    let fixed = [
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("GIT_EDITOR", "true"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("TERM", "dumb"),
    ];
    let mut env: Vec<(String, String)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.extend(context.hands.tool_env());
    ExecSpec {
        call: context.call.clone(),
        argv: vec!["bash".to_owned(), "-c".to_owned(), input.command.clone()],
        cwd: WORKSPACE.to_owned(),
        env,
        stdin: Vec::new(),
        timeout_ms,
        output_limit_bytes: OUTPUT_LIMIT_BYTES as u64,
        is_read_only: input.read_only.unwrap_or(false),
    }
}

/// Asks the stage to end the run; the stage's own limit ends it if this cannot be said.
async fn stop(sandbox: &dyn Sandbox, context: &ToolContext) {
    let cancel = sandbox.cancel(&context.call, GRACE_MS);
    match context.halt.within(Duration::from_millis(GRACE_MS * 5), cancel).await {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::debug!(call = context.call, %error, "a stopped command could not be cancelled");
        }
        None => tracing::debug!(call = context.call, "cancelling a stopped command took too long"),
    }
}

struct Running<'a> {
    events: mpsc::Receiver<ExecEvent>,
    output: Vec<u8>,
    context: &'a ToolContext,
}

impl Running<'_> {
    /// `None` as exit: the turn was halted and the end was not seen in time.
    async fn wait(
        &mut self,
        sandbox: &dyn Sandbox,
        timeout_ms: u64,
    ) -> Result<(Option<Exit>, Option<Halted>), Failure> {
        let halt = self.context.halt.clone();
        let limit = Duration::from_millis(timeout_ms) + EXIT_MARGIN;
        match halt.or(halt.within(limit, self.drain())).await {
            Ok(Some(exit)) => Ok((Some(exit?), None)),
            Ok(None) => {
                stop(sandbox, self.context).await;
                Err(Failure::Lost(format!(
                    "it did not say how the command ended within {} s",
                    limit.as_secs()
                )))
            }
            Err(halted) => {
                stop(sandbox, self.context).await;
                let exit = halt.within(Duration::from_millis(GRACE_MS * 2), self.drain()).await;
                Ok((exit.and_then(Result::ok), Some(halted)))
            }
        }
    }

    async fn drain(&mut self) -> Result<Exit, Failure> {
        while let Some(event) = self.events.recv().await {
            match event {
                ExecEvent::Output { offset, bytes } => self.take(offset, &bytes),
                ExecEvent::Exit(exit) => return Ok(exit),
            }
        }
        Err(Failure::Lost("it ended before the command did".to_owned()))
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) {
        self.context.log.output(&self.context.call, offset, bytes);
        let room = OUTPUT_LIMIT_BYTES.saturating_sub(self.output.len());
        self.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How a command came to its end, and under which limit.
struct End {
    timeout_ms: u64,
    exit: Option<Exit>,
    halted: Option<Halted>,
    place: Place,
}

async fn result(input: &Input, output: &str, end: End, context: &ToolContext) -> Result<Ran, Failure> {
    let End { timeout_ms, exit, halted, place } = end;
    let exit_code = match exit.map(|exit| exit.reason) {
        Some(ExitReason::Code { code }) => Some(code),
        _ => None,
    };
    let is_cut_by_stage = exit.is_some_and(|exit| exit.is_truncated);
    let shown = match halted {
        // The sandbox may be going away with the turn: nothing more is written into it.
        Some(_) => last_bytes(output, DISPLAY_LIMIT_BYTES).0.to_owned(),
        None => bounded(output.trim_end().to_owned(), Keep::Ends, place, context).await?,
    };
    let (tail, is_cut_for_people) = last_bytes(output, DISPLAY_LIMIT_BYTES);
    let display = ToolDisplay::Command {
        command: input.command.clone(),
        exit_code,
        output: tail.to_owned(),
        is_truncated: is_cut_by_stage || is_cut_for_people,
    };
    let mut text = shown;
    if is_cut_by_stage {
        line(
            &mut text,
            &format!("[The command wrote more than {OUTPUT_LIMIT_BYTES} bytes; the rest was dropped.]"),
        );
    }
    let (outcome, note) = match halted {
        Some(halted) => (ToolOutcome::Cancelled, Some(halted_note(halted).to_owned())),
        None => ending(exit.map(|exit| exit.reason), timeout_ms),
    };
    if let Some(note) = note {
        line(&mut text, &note);
    }
    if text.trim().is_empty() {
        "(no output)".clone_into(&mut text);
    }
    Ok(Ran { outcome, text, display: Some(display), ..Ran::succeeded("") })
}

fn ending(reason: Option<ExitReason>, timeout_ms: u64) -> (ToolOutcome, Option<String>) {
    let note = match reason {
        Some(ExitReason::Code { code: 0 }) => return (ToolOutcome::Succeeded, None),
        Some(ExitReason::Code { code }) => format!("[exit code {code}]"),
        Some(ExitReason::Signal { signal }) => format!("[killed by signal {signal}]"),
        Some(ExitReason::TimedOut) => format!(
            "[killed after {timeout_ms} ms: the time limit. Run less at once, or set timeout_ms up to {LONGEST_TIMEOUT_MS}.]"
        ),
        Some(ExitReason::Cancelled) => "[cancelled]".to_owned(),
        Some(ExitReason::OutOfMemory) => {
            "[killed: the sandbox's memory limit was reached. Use less memory, for example fewer parallel jobs.]".to_owned()
        }
        Some(ExitReason::NotStarted { errno }) => {
            format!("[bash could not be started in {WORKSPACE}: error {errno}]")
        }
        None => "[the end of the command was not seen]".to_owned(),
    };
    (ToolOutcome::Failed, Some(note))
}

pub(crate) fn halted_note(halted: Halted) -> &'static str {
    match halted {
        Halted::Stopped => "[stopped by a person]",
        Halted::TimeOver => "[stopped: the turn's time limit was reached]",
    }
}

fn line(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
}

fn last_bytes(text: &str, limit: usize) -> (&str, bool) {
    let from = text.ceil_char_boundary(text.len().saturating_sub(limit));
    (&text[from..], from > 0)
}
