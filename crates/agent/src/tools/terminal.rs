//! `terminal`: programs that go on beside other calls, on terminals of their own: servers, watchers, debuggers, whatever
//! asks. Each call waits until the program is silent for a moment, and gives what it wrote since the last look.

mod screen;

use super::WORKSPACE;
use super::input::object;
use super::output::{Keep, Place, bounded};
use super::run::{Failure, Ran, ToolContext};
use greenroom_domain::event::{ToolDisplay, ToolOutcome};
use greenroom_model::ToolDefinition;
use greenroom_sandbox::{ExitReason, TerminalEvent, TerminalInput, TerminalSize, TerminalSpec};
use screen::Screen;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

const OPEN_LIMIT: usize = 8;
const WAIT_MS: u64 = 5_000;
const LONGEST_WAIT_MS: u64 = 5 * 60_000;
/// A program that wrote something and is silent for so long waits for input, or works.
const SILENCE: Duration = Duration::from_millis(400);
const INPUT_LIMIT_BYTES: usize = 64 * 1024;
const COMMAND_LIMIT_BYTES: usize = 100_000;
/// How long the end of a program that was told to hang up is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
const HANG_UP: i32 = 1;
const SIZE: TerminalSize = TerminalSize { rows: 50, columns: 200 };
/// What people are shown; the log keeps no more than this.
const DISPLAY_LIMIT_BYTES: usize = 32 * 1024;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    command: Option<String>,
    terminal: Option<u32>,
    input: Option<String>,
    wait_ms: Option<u64>,
    close: Option<bool>,
}

pub(super) fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "terminal".to_owned(),
        description:
            "Runs a program on a terminal of its own that stays open while you make other calls: a development server, a \
             watcher, a debugger, a program that asks questions. Give `command` to start one, and then `terminal` with its \
             number to type, look or close. Each call waits until the program has been silent for a moment, and gives what it \
             wrote since the last call. Terminals end with the sandbox. Use bash for everything that comes to an end by itself."
                .to_owned(),
        input_schema: object(
            &json!({
                "command": {"type": "string", "description": "Starts this with bash in /workspace on a new terminal."},
                "terminal": {"type": "integer", "minimum": 1, "description": "The number of an open terminal."},
                "input": {"type": "string",
                    "description": "What to type there, as it is: end it with \\n for Enter; \\u0003 is Ctrl-C, \\u0004 Ctrl-D."},
                "wait_ms": {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_MS,
                    "description": format!("How long to wait for output at most; {WAIT_MS} when left out.")},
                "close": {"type": "boolean", "description": "Ends the program and closes the terminal."},
            }),
            &[],
        ),
    }
}

pub(super) fn title(input: &Input) -> String {
    match (&input.command, input.terminal) {
        (Some(command), _) => format!("Start `{}`", super::short(command)),
        (None, Some(number)) if input.close == Some(true) => format!("Close terminal {number}"),
        (None, Some(number)) => match &input.input {
            Some(typed) => format!("Type `{}` in terminal {number}", super::short(typed)),
            None => format!("Look at terminal {number}"),
        },
        (None, None) => "Use a terminal".to_owned(),
    }
}

/// What would be run or typed.
pub(super) fn typed(input: &Input) -> Option<&str> {
    input.command.as_deref().or(input.input.as_deref())
}

/// The open ones of a session. Kept by the caller as long as the session's sandboxes are remembered; what it drops ends.
#[derive(Debug, Default)]
pub struct Terminals {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u32,
    by_number: BTreeMap<u32, Arc<Terminal>>,
}

#[derive(Debug)]
struct Terminal {
    command: String,
    /// None once it is closed: without it the program is told to hang up.
    input: Mutex<Option<mpsc::Sender<TerminalInput>>>,
    screen: Arc<Mutex<Screen>>,
    /// How much has been written in all, and whether it is over.
    written: watch::Receiver<Written>,
    _reader: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    bytes: u64,
    is_over: bool,
}

impl Terminals {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, number: u32) -> Result<Arc<Terminal>, Failure> {
        let open = self.open();
        open.by_number.get(&number).cloned().ok_or_else(|| {
            let numbers: Vec<String> = open.by_number.keys().map(u32::to_string).collect();
            let others = if numbers.is_empty() { "none is".to_owned() } else { numbers.join(", ") };
            Failure::words(format!(
                "There is no terminal {number}; open: {others}. It may have ended with its sandbox."
            ))
        })
    }

    fn has_room(&self) -> bool {
        self.open().by_number.len() < OPEN_LIMIT
    }

    fn add(&self, terminal: Arc<Terminal>) -> u32 {
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.by_number.insert(number, terminal);
        number
    }

    fn remove(&self, number: u32) {
        self.open().by_number.remove(&number);
    }
}

fn screen(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    let (number, terminal) = match (&input.command, input.terminal) {
        (Some(command), None) => start(command, context).await?,
        (None, Some(number)) => (number, context.terminals.get(number)?),
        _ => {
            return Err(Failure::words(
                "Give either `command`, to start a program, or `terminal`, its number.",
            ));
        }
    };
    if let Some(typed) = &input.input {
        terminal.type_in(typed, context).await?;
    }
    let limit = Duration::from_millis(input.wait_ms.unwrap_or(WAIT_MS).min(LONGEST_WAIT_MS));
    if input.close == Some(true) {
        drop(terminal.take_input());
        terminal.wait_for_end(CLOSE_LIMIT, context).await;
    } else {
        terminal.wait(limit, context).await;
    }
    let is_over = terminal.written.borrow().is_over;
    if is_over || input.close == Some(true) {
        context.terminals.remove(number);
    }
    terminal.tell(number, input, context).await
}

async fn start(command: &str, context: &ToolContext) -> Result<(u32, Arc<Terminal>), Failure> {
    if command.trim().is_empty() || command.contains('\0') || command.len() > COMMAND_LIMIT_BYTES {
        return Err(Failure::words(format!(
            "A command has 1 to {COMMAND_LIMIT_BYTES} bytes and no null byte."
        )));
    }
    if !context.terminals.has_room() {
        return Err(Failure::words(format!("{OPEN_LIMIT} terminals are open already; close one.")));
    }
    let sandbox = context.sandbox().await?;
    let mut env = vec![("TERM".to_owned(), "dumb".to_owned()), ("PAGER".to_owned(), "cat".to_owned())];
    env.extend(context.hands.tool_env());
    let spec = TerminalSpec {
        call: context.call.clone(),
        argv: vec!["bash".to_owned(), "-c".to_owned(), command.to_owned()],
        cwd: WORKSPACE.to_owned(),
        env,
        size: SIZE,
    };
    let opened = context.operation(sandbox.open_terminal(spec)).await?;
    let screen = Arc::<Mutex<Screen>>::default();
    let (told, written) = watch::channel(Written::default());
    let reader = tokio::spawn(read(opened.output, Arc::clone(&screen), told));
    let terminal = Terminal {
        command: command.to_owned(),
        input: Mutex::new(Some(opened.input)),
        screen,
        written,
        _reader: AbortOnDropHandle::new(reader),
    };
    let terminal = Arc::new(terminal);
    Ok((context.terminals.add(Arc::clone(&terminal)), terminal))
}

/// Takes what the program writes as it comes, so that it never waits for a look.
async fn read(
    mut output: mpsc::Receiver<TerminalEvent>,
    shown: Arc<Mutex<Screen>>,
    told: watch::Sender<Written>,
) {
    let mut end = None;
    while let Some(event) = output.recv().await {
        match event {
            TerminalEvent::Output { bytes } => {
                screen(&shown).push(&bytes);
                told.send_modify(|written| written.bytes += bytes.len() as u64);
            }
            TerminalEvent::Exit { reason } => {
                end = Some(reason);
                break;
            }
        }
    }
    screen(&shown).end = Some(end);
    told.send_modify(|written| written.is_over = true);
}

impl Terminal {
    fn take_input(&self) -> Option<mpsc::Sender<TerminalInput>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn type_in(&self, typed: &str, context: &ToolContext) -> Result<(), Failure> {
        if typed.len() > INPUT_LIMIT_BYTES {
            return Err(Failure::words(format!("At most {INPUT_LIMIT_BYTES} bytes are typed at once.")));
        }
        let bytes = TerminalInput::Bytes { bytes: typed.as_bytes().to_vec() };
        let limit = Duration::from_millis(WAIT_MS);
        // Closed by another call: the end is told below.
        let Some(input) = self.input.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        match context.halt.within(limit, input.send(bytes)).await {
            // Over: the end is told below.
            Some(_) => Ok(()),
            None => Err(Failure::words("The program does not read what is typed; it may be busy.")),
        }
    }

    /// Until it is over, or silent after it wrote something, or `limit` has passed.
    async fn wait(&self, limit: Duration, context: &ToolContext) {
        let mut written = self.written.clone();
        let settles = async {
            while !written.borrow_and_update().is_over {
                let has_news = screen(&self.screen).has_news();
                let change = written.changed();
                if has_news {
                    match context.halt.within(SILENCE, change).await {
                        Some(Ok(())) => {}
                        Some(Err(_)) | None => return,
                    }
                } else if change.await.is_err() {
                    return;
                }
            }
        };
        let _ = context.halt.within(limit, settles).await;
    }

    async fn wait_for_end(&self, limit: Duration, context: &ToolContext) {
        let mut written = self.written.clone();
        let _ = context.halt.within(limit, written.wait_for(|written| written.is_over)).await;
    }

    async fn tell(&self, number: u32, input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
        let (news, left_out, end) = {
            let mut screen = screen(&self.screen);
            let (news, left_out) = screen.take();
            (news, left_out, screen.end)
        };
        context.log.output(&context.call, 0, news.as_bytes());
        let (outcome, note) = match end {
            Some(end) => {
                let (outcome, how) = ending(end);
                (outcome, format!("[Terminal {number} is closed: {how}.]"))
            }
            None if input.close == Some(true) => (
                ToolOutcome::Failed,
                format!("[Terminal {number} is closed, but its program was not seen to end.]"),
            ),
            None => (ToolOutcome::Succeeded, format!("[Terminal {number} is open.]")),
        };
        let outcome =
            if input.close == Some(true) && end.is_some() { ToolOutcome::Succeeded } else { outcome };
        let exit_code = match end {
            Some(Some(ExitReason::Code { code })) => Some(code),
            _ => None,
        };
        let from = news.ceil_char_boundary(news.len().saturating_sub(DISPLAY_LIMIT_BYTES));
        let display = ToolDisplay::Command {
            command: self.command.clone(),
            exit_code,
            output: news[from..].to_owned(),
            is_truncated: from > 0 || left_out > 0,
        };
        let mut text = String::new();
        if left_out > 0 {
            text.push_str(&format!("[{left_out} bytes before this were not kept.]\n"));
        }
        text.push_str(&bounded(news.trim_end().to_owned(), Keep::Ends, Place::Kept, context).await?);
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&note);
        Ok(Ran { outcome, ..Ran::succeeded(text) }.showing(display))
    }
}

fn ending(reason: Option<ExitReason>) -> (ToolOutcome, String) {
    match reason {
        Some(ExitReason::Code { code: 0 }) => (ToolOutcome::Succeeded, "the program ended".to_owned()),
        Some(ExitReason::Code { code }) => {
            (ToolOutcome::Failed, format!("the program ended with exit code {code}"))
        }
        Some(ExitReason::Signal { signal: HANG_UP }) => {
            (ToolOutcome::Succeeded, "the program was ended".to_owned())
        }
        Some(ExitReason::Signal { signal }) => (ToolOutcome::Failed, format!("killed by signal {signal}")),
        Some(ExitReason::OutOfMemory) => {
            (ToolOutcome::Failed, "killed, the sandbox's memory limit was reached".to_owned())
        }
        Some(ExitReason::NotStarted { errno }) => {
            (ToolOutcome::Failed, format!("bash could not be started in {WORKSPACE}: error {errno}"))
        }
        Some(ExitReason::TimedOut | ExitReason::Cancelled) => {
            (ToolOutcome::Succeeded, "the program was ended".to_owned())
        }
        None => (ToolOutcome::Failed, "the sandbox ended, and the program with it".to_owned()),
    }
}
