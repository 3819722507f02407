//! Runs: what is sent to the stage, how output comes back piece by piece, and what an end means.

use crate::conversation::{Answer, Stage, Waiter, gone, lock, unexpected};
use crate::landlock;
use crate::sandbox::{LocalSandbox, absolute};
use crate::zygote::protocol;
use greenroom_sandbox::{Error, ExecEvent, ExecSpec, Exit, ExitReason, Result};
use greenroom_stage::protocol::{EXEC_BYTES, RunEnd, RunExit, StageOp, StageResult};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest time past its own timeout that a run is waited for.
const EXEC_SLACK: Duration = Duration::from_secs(20);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const MAX_CALL: usize = 128;
/// Pieces of output (256 KiB each at most) that wait for a slow reader.
const OUTPUT_PIECES: usize = 8;

const DEFAULT_ENV: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/sh"),
    ("LANG", "C.UTF-8"),
];

/// The reader of one run, until its first answer, and then as a task of its own where that was not the whole.
#[derive(Debug)]
pub(crate) struct Follower {
    sandbox: Arc<LocalSandbox>,
    call: String,
    limit: Duration,
    started: Instant,
    kills_before: u64,
    /// Offset of the next output.
    next: u64,
    events: mpsc::Sender<ExecEvent>,
}

/// What an answer about a run says.
struct Piece {
    output: Option<ExecEvent>,
    exit: Option<ExecEvent>,
}

pub(crate) async fn exec(sandbox: &Arc<LocalSandbox>, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
    validate(&spec)?;
    if spec.is_read_only && !landlock::holds_to_reading(landlock::version()) {
        return Err(landlock::unavailable());
    }
    let limit = Duration::from_millis(spec.timeout_ms).min(MAX_TIMEOUT);
    let env = sandbox.environment(&spec.env);
    let (events, receiver) = mpsc::channel(OUTPUT_PIECES);
    let follower = Follower {
        sandbox: Arc::clone(sandbox),
        call: spec.call.clone(),
        limit: limit + EXEC_SLACK,
        started: Instant::now(),
        kills_before: sandbox.oom_kills(),
        next: 0,
        events,
    };
    let op = StageOp::Exec {
        call: spec.call,
        argv: spec.argv,
        cwd: spec.cwd,
        env,
        timeout_ms: limit.as_millis() as u64,
        output_limit_bytes: spec.output_limit_bytes,
        is_read_only: spec.is_read_only,
    };
    sandbox.send(op, &spec.stdin, Waiter::Run(Box::new(follower))).await?;
    Ok(receiver)
}

impl Follower {
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.limit
    }

    /// The first answer, which for most commands is the last: passed on by whoever received it. Never waits.
    pub(crate) fn first(mut self: Box<Self>, answer: Answer) {
        let piece = match self.read(answer) {
            Ok(piece) => piece,
            Err(error) => return self.give_up(&error),
        };
        let is_whole = piece.exit.is_some();
        // The channel is new, and has room for both.
        for event in piece.output.into_iter().chain(piece.exit) {
            let _ = self.events.try_send(event);
        }
        if !is_whole && !self.events.is_closed() {
            tokio::spawn(async move {
                if let Err(error) = self.rest().await {
                    self.give_up(&error);
                }
            });
        }
    }

    fn give_up(&self, error: &Error) {
        let (sandbox, call) = (self.sandbox.name(), &self.call);
        tracing::debug!(sandbox, call, %error, "the outcome of a run is unknown");
    }

    /// Pulls the run's output piece by piece into the reader's channel.
    async fn rest(&mut self) -> Result<()> {
        let room = Arc::clone(self.sandbox.room());
        loop {
            let fetch = StageOp::Fetch { call: self.call.clone(), offset: self.next };
            let answer = self.fetch(&room.stage, fetch).await?;
            let piece = self.read(answer)?;
            let is_whole = piece.exit.is_some();
            for event in piece.output.into_iter().chain(piece.exit) {
                if self.events.send(event).await.is_err() {
                    return Ok(());
                }
            }
            if is_whole {
                return Ok(());
            }
        }
    }

    async fn fetch(&self, stage: &Stage, fetch: StageOp) -> Result<Answer> {
        let answer = timeout(self.limit, stage.begin(fetch, &[]).await?).await;
        Ok(answer.map_err(|_| gone())?.map_err(|_| gone())?.answer)
    }

    fn read(&mut self, answer: Answer) -> Result<Piece> {
        let (output, exit) = match answer {
            (StageResult::Output { offset, exit }, bytes) => {
                if offset != self.next {
                    return Err(protocol("output out of order"));
                }
                self.next += bytes.len() as u64;
                let output = (!bytes.is_empty()).then_some(ExecEvent::Output { offset, bytes });
                (output, exit)
            }
            (StageResult::Failed(fault), _) => (None, Some(not_started(fault.errno))),
            (StageResult::Invalid { reason }, _) => {
                tracing::warn!(sandbox = self.sandbox.name(), self.call, reason, "a run was refused");
                (None, Some(not_started(libc::EINVAL)))
            }
            (result, _) => return Err(unexpected(&result)),
        };
        let exit = exit.map(|exit| ExecEvent::Exit(self.verdict(exit)));
        Ok(Piece { output, exit })
    }

    /// A run that the kernel ended while it counted a new end for want of memory ended for that. Kept, so that a
    /// repeated call id hears the same.
    fn verdict(&self, exit: RunExit) -> Exit {
        let killed =
            matches!(exit.end, RunEnd::Signal { signal: libc::SIGKILL } | RunEnd::Code { code: 137 });
        let is_oom = killed && {
            let grown = self.sandbox.oom_kills() > self.kills_before;
            *lock(&self.sandbox.room().out_of_memory).entry(self.call.clone()).or_insert(grown)
        };
        Exit {
            reason: if is_oom { ExitReason::OutOfMemory } else { reason_of(exit.end) },
            output_bytes: exit.output_bytes,
            is_truncated: exit.is_truncated,
            duration_ms: exit.duration_ms,
        }
    }
}

/// Defaults, the owner's, the run's, each winning over those before.
pub(crate) fn environment(
    of_owner: &[(String, String)],
    of_run: &[(String, String)],
) -> Vec<(String, String)> {
    let defaults = DEFAULT_ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all = defaults.chain(of_owner.iter().cloned()).chain(of_run.iter().cloned());
    all.collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn not_started(errno: i32) -> RunExit {
    RunExit { end: RunEnd::NotStarted { errno }, output_bytes: 0, is_truncated: false, duration_ms: 0 }
}

pub(crate) fn reason_of(end: RunEnd) -> ExitReason {
    match end {
        RunEnd::Code { code } => ExitReason::Code { code },
        RunEnd::Signal { signal } => ExitReason::Signal { signal },
        RunEnd::TimedOut => ExitReason::TimedOut,
        RunEnd::Cancelled => ExitReason::Cancelled,
        RunEnd::NotStarted { errno } => ExitReason::NotStarted { errno },
    }
}

pub(crate) fn validate(spec: &ExecSpec) -> Result<()> {
    let invalid = |reason: &str| Err(Error::Invalid { reason: reason.into() });
    if spec.call.is_empty() || spec.call.len() > MAX_CALL {
        return invalid("a call id has 1 to 128 characters");
    }
    if spec.argv.is_empty() {
        return invalid("a run needs a program");
    }
    let arguments: usize = spec.argv.iter().map(String::len).sum();
    let environment: usize = spec.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if arguments + environment + spec.stdin.len() > EXEC_BYTES {
        return invalid("arguments, environment and standard input together exceed 4 MiB");
    }
    let has_nul = |text: &String| text.contains('\0');
    let is_bad = |(name, value): &(String, String)| has_nul(name) || has_nul(value) || name.contains('=');
    if spec.argv.iter().any(has_nul) || spec.env.iter().any(is_bad) {
        return invalid("arguments and environment hold no NUL, names no '='");
    }
    absolute(&spec.cwd)
}
