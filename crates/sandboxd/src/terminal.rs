//! Terminals from the server's side: the master of a pseudo-terminal that stage opened inside, between two bounded queues.
//! What the kernel's buffer does not take waits in the queues, and whoever fills them waits too.

use crate::channel;
use crate::sandbox::{LocalSandbox, Reply, file_error, reason_of, unexpected, validate};
use crate::zygote::protocol;
use greenroom_sandbox::{
    Error, ExecSpec, ExitReason, Result, Terminal, TerminalEvent, TerminalInput, TerminalSize, TerminalSpec,
};
use greenroom_stage::protocol::{RunEnd, StageOp, StageResult};
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::termios::Winsize;
use std::io;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

const INPUT_PIECES: usize = 64;
const OUTPUT_PIECES: usize = 16;
const PIECE_BYTES: usize = 16 * 1024;
/// What is read after the program's end: more than the kernel holds of one terminal.
const DRAIN_BYTES: usize = 256 * 1024;
const DEFAULT_TERM: &str = "xterm-256color";

pub(crate) async fn open(sandbox: &Arc<LocalSandbox>, spec: TerminalSpec) -> Result<Terminal> {
    let sandbox = sandbox.clone();
    // A task of its own: a caller that gives up drops the terminal, and so ends it.
    let opening = tokio::spawn(async move { try_open(sandbox, spec).await });
    opening.await.map_err(|error| Error::Ended { reason: format!("opening a terminal failed: {error}") })?
}

async fn try_open(sandbox: Arc<LocalSandbox>, spec: TerminalSpec) -> Result<Terminal> {
    let spec = check(spec)?;
    let mut env = sandbox.environment(&spec.env);
    if !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".into(), DEFAULT_TERM.into()));
    }
    let kills_before = sandbox.oom_kills();
    let op = StageOp::OpenTerminal {
        call: spec.call.clone(),
        argv: spec.argv,
        cwd: spec.cwd,
        env,
        rows: spec.size.rows,
        columns: spec.size.columns,
    };
    let Reply { answer, descriptors } = sandbox.ask_whole(op).await?;
    let (input, inputs) = mpsc::channel(INPUT_PIECES);
    let (outputs, output) = mpsc::channel(OUTPUT_PIECES);
    match answer.0 {
        StageResult::Terminal { errno: None } => {
            let master = master(descriptors)?;
            let ended = sandbox.begin(StageOp::WaitTerminal { call: spec.call.clone() }).await?;
            let relay = Relay { sandbox, call: spec.call, kills_before, master, ended, outputs };
            tokio::spawn(relay.run(inputs));
        }
        StageResult::Terminal { errno: Some(errno) } => {
            let exit = TerminalEvent::Exit { reason: ExitReason::NotStarted { errno } };
            outputs.try_send(exit).expect("a new queue has room");
        }
        StageResult::Failed(fault) => return Err(file_error(fault)),
        StageResult::Invalid { reason } => return Err(Error::Invalid { reason }),
        result => return Err(unexpected(&result)),
    }
    Ok(Terminal { input, output })
}

/// A terminal's program is asked for like a run's.
fn check(spec: TerminalSpec) -> Result<TerminalSpec> {
    let TerminalSpec { call, argv, cwd, env, size } = spec;
    let run = ExecSpec {
        call,
        argv,
        cwd,
        env,
        stdin: Vec::new(),
        timeout_ms: 0,
        output_limit_bytes: 0,
        is_read_only: false,
    };
    validate(&run)?;
    Ok(TerminalSpec { call: run.call, argv: run.argv, cwd: run.cwd, env: run.env, size })
}

/// What stage passed out, if it is what it says: a master of Unix98 terminals.
fn master(mut descriptors: Vec<OwnedFd>) -> Result<AsyncFd<OwnedFd>> {
    const PTMX: (u32, u32) = (5, 2);
    let master = descriptors.pop().ok_or_else(|| protocol("no terminal came with the answer"))?;
    let facts = rustix::fs::fstat(&master).map_err(protocol)?;
    let device = (rustix::fs::major(facts.st_rdev), rustix::fs::minor(facts.st_rdev));
    if FileType::from_raw_mode(facts.st_mode) != FileType::CharacterDevice || device != PTMX {
        return Err(protocol("what came as a terminal is none"));
    }
    rustix::io::ioctl_fionbio(&master, true).map_err(protocol)?;
    channel::register(master, Interest::READABLE | Interest::WRITABLE).map_err(protocol)
}

struct Relay {
    sandbox: Arc<LocalSandbox>,
    call: String,
    kills_before: u64,
    master: AsyncFd<OwnedFd>,
    ended: oneshot::Receiver<Reply>,
    outputs: mpsc::Sender<TerminalEvent>,
}

impl Relay {
    /// Until the program ends, or whoever holds the other ends lets go of one.
    async fn run(mut self, mut inputs: mpsc::Receiver<TerminalInput>) {
        let mut waiting: Vec<u8> = Vec::new();
        let mut has_output = true;
        loop {
            tokio::select! {
                ended = &mut self.ended => {
                    self.drain().await;
                    return finish(&self.sandbox, self.kills_before, ended, &self.outputs).await;
                }
                () = self.outputs.closed() => break,
                input = inputs.recv(), if waiting.is_empty() => match input {
                    Some(TerminalInput::Bytes { bytes }) => waiting = bytes,
                    Some(TerminalInput::Resize { size }) => resize(self.master.get_ref(), size),
                    None => break,
                },
                written = write(&self.master, &waiting), if !waiting.is_empty() => match written {
                    Ok(count) => drop(waiting.drain(..count)),
                    // The program's side is closed: nobody reads it.
                    Err(_) => waiting.clear(),
                },
                relayed = relay_piece(&self.master, &self.outputs), if has_output => has_output = relayed,
            }
        }
        self.hang_up().await;
    }

    /// Closing the master sends SIGHUP to the program; its end is still told to whoever listens.
    async fn hang_up(self) {
        drop(self.master);
        // Never answered; without a stage there is no terminal.
        let _ = self.sandbox.begin(StageOp::EndTerminal { call: self.call }).await;
        finish(&self.sandbox, self.kills_before, self.ended.await, &self.outputs).await;
    }

    /// What the program wrote before it ended. Others may hold the terminal still, and are not waited for.
    async fn drain(&self) {
        let mut left = DRAIN_BYTES;
        while left > 0 {
            let mut piece = vec![0; PIECE_BYTES.min(left)];
            let Ok(count @ 1..) = rustix::io::read(self.master.get_ref(), &mut piece) else { return };
            left -= count;
            piece.truncate(count);
            if self.outputs.send(TerminalEvent::Output { bytes: piece }).await.is_err() {
                return;
            }
        }
    }
}

async fn write(master: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
    master.async_io(Interest::WRITABLE, |master| Ok(rustix::io::write(master, piece)?)).await
}

/// Reads only when there is room for what is read. False: nothing will come any more.
async fn relay_piece(master: &AsyncFd<OwnedFd>, outputs: &mpsc::Sender<TerminalEvent>) -> bool {
    let Ok(room) = outputs.reserve().await else { return false };
    let mut piece = vec![0; PIECE_BYTES];
    let read = master.async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut piece)?)).await;
    // EIO is how a terminal says that its other side is closed.
    let Ok(count @ 1..) = read else { return false };
    piece.truncate(count);
    room.send(TerminalEvent::Output { bytes: piece });
    true
}

fn resize(master: &OwnedFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // Fails only where the terminal is gone.
    let _ = rustix::termios::tcsetwinsize(master, size);
}

/// Without an answer the stage is gone, and the closed queue says that the outcome is unknown.
async fn finish(
    sandbox: &LocalSandbox,
    kills_before: u64,
    ended: std::result::Result<Reply, oneshot::error::RecvError>,
    outputs: &mpsc::Sender<TerminalEvent>,
) {
    let Ok(Reply { answer: (StageResult::TerminalEnded { end }, _), .. }) = ended else { return };
    let was_killed = matches!(end, RunEnd::Signal { signal: libc::SIGKILL } | RunEnd::Code { code: 137 });
    let is_oom = was_killed && sandbox.oom_kills() > kills_before;
    let reason = if is_oom { ExitReason::OutOfMemory } else { reason_of(end) };
    // Nobody may listen any more.
    let _ = outputs.send(TerminalEvent::Exit { reason }).await;
}
