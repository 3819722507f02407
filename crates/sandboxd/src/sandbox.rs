//! One living sandbox: requests to its stage, its egress, and its end. What comes from inside is hostile: every answer is
//! bounded, matched to a request of ours, and waited for with a deadline.

use crate::cgroup::Cgroup;
use crate::channel::{self, Channel};
use crate::egress::{self, Sender};
use crate::provider::Shared;
use crate::workspace;
use crate::zygote::{Spawned, protocol, system};
use async_trait::async_trait;
use greenroom_sandbox::{
    ClaimSpec, DirEntry, EgressHandler, Error, ExecEvent, ExecSpec, Exit, ExitReason, Fence, FileContent,
    FileKind, FileStat, Result, Sandbox, SandboxStream, SearchQuery, SearchResult, SnapshotLayer, Terminal,
    TerminalSpec, WatchEvent,
};
use greenroom_stage::protocol::{
    EXEC_BYTES, FILE_BYTES, Fault, Kind, RunEnd, RunExit, SearchPlan, StageOp, StageReply, StageRequest,
    StageResult, VERSION,
};
use rustix::fd::OwnedFd;
use rustix::process::{Signal, pidfd_send_signal};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(10);
/// Longest time past its own timeout that a run is waited for.
const EXEC_SLACK: Duration = Duration::from_secs(20);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const MAX_READ: u64 = 64 << 20;
const MAX_WRITE: usize = 256 << 20;
const MAX_CALL: usize = 128;
/// Pieces of output (256 KiB each at most) that wait for a slow reader.
const OUTPUT_PIECES: usize = 8;
const MAX_PENDING: usize = 4096;

type Answer = (StageResult, Vec<u8>);

/// An answer, and what the stage passed out with it: not yet checked.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What a sandbox is started from.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) channel: Channel,
    pub(crate) egress: Arc<dyn EgressHandler>,
    pub(crate) shared: Weak<Shared>,
    pub(crate) spec: ClaimSpec,
}

#[derive(Debug)]
pub(crate) struct LocalSandbox {
    spec: ClaimSpec,
    shared: Weak<Shared>,
    stage: Arc<Stage>,
    pidfd: OwnedFd,
    group: Option<Cgroup>,
    /// Why it ends, by whoever ended it first.
    reason: OnceLock<String>,
    end: watch::Receiver<Option<String>>,
    /// Runs that ended for want of memory, and the count of such ends seen.
    out_of_memory: Mutex<HashMap<String, bool>>,
}

/// The conversation with PID 1.
#[derive(Debug)]
struct Stage {
    channel: Channel,
    next: AtomicU64,
    /// None once the stage is gone.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    async fn ask(&self, op: StageOp, body: &[u8], limit: Duration) -> Result<Answer> {
        match self.ask_whole(op, body, limit).await?.answer {
            (StageResult::Failed(fault), _) => Err(file_error(fault)),
            (StageResult::Invalid { reason }, _) => Err(Error::Invalid { reason }),
            answer => Ok(answer),
        }
    }

    /// The answer with its descriptors, a refusal included.
    async fn ask_whole(&self, op: StageOp, body: &[u8], limit: Duration) -> Result<Reply> {
        let answer = self.begin(op, body).await?;
        let answer = timeout(limit, answer)
            .await
            .map_err(|_| Error::Deadline { what: "the sandbox", limit_ms: limit.as_millis() as u64 })?;
        answer.map_err(|_| gone())
    }

    /// Sends; the answer comes through the receiver.
    async fn begin(&self, op: StageOp, body: &[u8]) -> Result<oneshot::Receiver<Reply>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match lock(&self.pending).as_mut() {
            None => return Err(gone()),
            Some(pending) => {
                pending.retain(|_, sender| !sender.is_closed());
                if pending.len() >= MAX_PENDING {
                    return Err(Error::Invalid { reason: "4096 requests of this sandbox are open".into() });
                }
                pending.insert(id, sender);
            }
        }
        let sent = timeout(REQUEST_LIMIT, self.channel.send(&StageRequest { id, op }, body, &[])).await;
        match sent {
            Ok(Ok(())) => Ok(receiver),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(Error::Invalid { reason: error.to_string() })
            }
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(Error::Deadline { what: "sending", limit_ms: REQUEST_LIMIT.as_millis() as u64 }),
        }
    }

    /// Hands answers to whoever waits, until the stage is gone or breaks its protocol.
    async fn listen(&self) {
        while let Ok((message, descriptors)) = self.channel.receive().await {
            let Ok(reply) = message.header::<StageReply>() else { break };
            let sender = lock(&self.pending).as_mut().and_then(|pending| pending.remove(&reply.id));
            if let Some(sender) = sender {
                // The asker may have given up.
                let _ = sender.send(Reply { answer: (reply.result, message.into_body()), descriptors });
            }
        }
        // Whoever waits learns it from the closed channel.
        lock(&self.pending).take();
    }
}

pub(crate) fn gone() -> Error {
    Error::Ended { reason: "its stage is gone".into() }
}

pub(crate) fn unexpected(result: &StageResult) -> Error {
    protocol(format!("the stage answered {result:?}"))
}

pub(crate) fn file_error(fault: Fault) -> Error {
    let operation = match fault.operation.as_str() {
        "read" | "open" => "read",
        "write" | "rename" | "chmod" => "write",
        "mkdir" => "create",
        "stat" => "inspect",
        "list" => "list",
        _ => "use",
    };
    match fault.errno {
        libc::ENOENT | libc::ENOTDIR => Error::NotFound { path: fault.path },
        libc::ENOSPC | libc::EDQUOT => Error::DiskFull,
        errno => {
            let message = std::io::Error::from_raw_os_error(errno).to_string();
            Error::File { operation, path: fault.path, message }
        }
    }
}

impl LocalSandbox {
    /// Waits for the stage's first word; on failure nothing is left.
    pub(crate) async fn start(start: Start, spawned: Spawned, group: Option<Cgroup>) -> Result<Arc<Self>> {
        let Start { channel, egress, shared, spec } = start;
        let listeners = match first_word(&channel).await {
            Ok(listeners) => listeners,
            Err(error) => {
                kill(&spawned.pidfd);
                reap(&spawned.pidfd, group.as_ref()).await;
                return Err(error);
            }
        };
        let sender = Sender::new(&spec.id, &spec.fence, egress);
        let egress = egress::serve(&sender, listeners);
        let stage = Stage { channel, next: AtomicU64::new(1), pending: Mutex::new(Some(HashMap::new())) };
        let (ended, end) = watch::channel(None);
        let sandbox = Arc::new(Self {
            spec,
            shared,
            stage: Arc::new(stage),
            pidfd: spawned.pidfd,
            group,
            reason: OnceLock::new(),
            end,
            out_of_memory: Mutex::default(),
        });
        let stage = sandbox.stage.clone();
        let listening = tokio::spawn(async move { stage.listen().await });
        let watched = sandbox.clone();
        tokio::spawn(async move {
            // A stage that closes its socket or lies is over, whether or not its process still runs.
            tokio::select! {
                _ = listening => kill(&watched.pidfd),
                () = wait_readable(&watched.pidfd) => {}
            }
            reap(&watched.pidfd, None).await;
            lock(&watched.stage.pending).take();
            egress.abort();
            let reason = watched.end_reason();
            if let Some(group) = &watched.group {
                group.remove().await;
            }
            if let Some(shared) = watched.shared.upgrade() {
                shared.forget(&watched.spec.id);
            }
            ended.send_replace(Some(reason));
        });
        Ok(sandbox)
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.id
    }

    pub(crate) fn workspace(&self) -> &Path {
        &self.spec.workspace.directory
    }

    pub(crate) fn is_older_than(&self, fence: &Fence) -> bool {
        let own = &self.spec.fence;
        own.session == fence.session && (own.epoch, own.generation) < (fence.epoch, fence.generation)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(crate) fn kill(&self, reason: &str) {
        // The first reason stands.
        let _ = self.reason.set(reason.to_owned());
        kill(&self.pidfd);
    }

    pub(crate) async fn wait_for_end(&self) -> Result<()> {
        timeout(END_LIMIT, self.ended())
            .await
            .map(drop)
            .map_err(|_| Error::Deadline { what: "ending a sandbox", limit_ms: END_LIMIT.as_millis() as u64 })
    }

    fn end_reason(&self) -> String {
        let unasked = || {
            let kills = self.group.as_ref().map_or(0, |group| group.oom_kills());
            if kills > 0 {
                "its memory ran out".to_owned()
            } else {
                "its first process ended unexpectedly".to_owned()
            }
        };
        self.reason.get().cloned().unwrap_or_else(unasked)
    }

    /// Every command: does its owner still own the session?
    fn check(&self) -> Result<()> {
        match self.shared.upgrade() {
            Some(shared) => shared.check_fence(&self.spec.fence)?,
            None => return Err(Error::Ended { reason: "the provider is gone".into() }),
        }
        match &*self.end.borrow() {
            Some(reason) => Err(Error::Ended { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    async fn ask(&self, op: StageOp, body: &[u8]) -> Result<Answer> {
        self.check()?;
        self.stage.ask(op, body, REQUEST_LIMIT).await.map_err(|error| self.explain(error))
    }

    /// The answer as the stage gave it, with its descriptors; a refusal is an answer.
    pub(crate) async fn ask_whole(&self, op: StageOp) -> Result<Reply> {
        self.check()?;
        self.stage.ask_whole(op, &[], REQUEST_LIMIT).await.map_err(|error| self.explain(error))
    }

    /// Sends; the answer may come at any time.
    pub(crate) async fn begin(&self, op: StageOp) -> Result<oneshot::Receiver<Reply>> {
        self.check()?;
        self.stage.begin(op, &[]).await.map_err(|error| self.explain(error))
    }

    /// Says why it is gone, where that is known.
    fn explain(&self, error: Error) -> Error {
        match (error, self.reason.get()) {
            (Error::Ended { .. }, Some(reason)) => Error::Ended { reason: reason.clone() },
            (error, _) => error,
        }
    }

    pub(crate) fn environment(&self, of_run: &[(String, String)]) -> Vec<(String, String)> {
        let defaults = DEFAULT_ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all = defaults.chain(self.spec.env.iter().cloned()).chain(of_run.iter().cloned());
        all.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    pub(crate) fn oom_kills(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.oom_kills())
    }

    /// A run that the kernel ended while it counted a new end for want of memory ended for that. Kept, so that a
    /// repeated call id hears the same.
    fn verdict(&self, call: &str, exit: RunExit, kills_before: u64) -> Exit {
        let killed =
            matches!(exit.end, RunEnd::Signal { signal: libc::SIGKILL } | RunEnd::Code { code: 137 });
        let is_oom = killed && {
            let grown = self.oom_kills() > kills_before;
            *lock(&self.out_of_memory).entry(call.to_owned()).or_insert(grown)
        };
        Exit {
            reason: if is_oom { ExitReason::OutOfMemory } else { reason_of(exit.end) },
            output_bytes: exit.output_bytes,
            is_truncated: exit.is_truncated,
            duration_ms: exit.duration_ms,
        }
    }

    /// Pulls the run's output piece by piece into the reader's channel.
    async fn follow(
        &self,
        call: &str,
        first: oneshot::Receiver<Reply>,
        limit: Duration,
        kills_before: u64,
        events: &mpsc::Sender<ExecEvent>,
    ) -> Result<()> {
        let mut answer = timeout(limit, first).await.map_err(|_| gone())?.map_err(|_| gone())?.answer;
        let mut next = 0;
        loop {
            let exit = match answer {
                (StageResult::Output { offset, exit }, bytes) => {
                    if offset != next {
                        return Err(protocol("output out of order"));
                    }
                    next += bytes.len() as u64;
                    if !bytes.is_empty() && events.send(ExecEvent::Output { offset, bytes }).await.is_err() {
                        return Ok(());
                    }
                    exit
                }
                (StageResult::Failed(fault), _) => Some(not_started(fault.errno)),
                (StageResult::Invalid { reason }, _) => {
                    tracing::warn!(sandbox = self.spec.id, call, reason, "a run was refused");
                    Some(not_started(libc::EINVAL))
                }
                (result, _) => return Err(unexpected(&result)),
            };
            if let Some(exit) = exit {
                let exit = self.verdict(call, exit, kills_before);
                let _ = events.send(ExecEvent::Exit(exit)).await;
                return Ok(());
            }
            let fetch = StageOp::Fetch { call: call.to_owned(), offset: next };
            answer = timeout(limit, self.stage.begin(fetch, &[]).await?)
                .await
                .map_err(|_| gone())?
                .map_err(|_| gone())?
                .answer;
        }
    }
}

const DEFAULT_ENV: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/sh"),
    ("LANG", "C.UTF-8"),
];

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

fn kill(pidfd: &OwnedFd) {
    // Gone already is as good.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// Resolves when the process has ended and, as it is PID 1, everything in its namespace with it.
async fn wait_readable(pidfd: &OwnedFd) {
    let Ok(pidfd) = pidfd.try_clone().and_then(|copy| channel::register(copy, Interest::READABLE)) else {
        return;
    };
    // An error would mean that the runtime ends.
    let _ = pidfd.readable().await;
}

async fn reap(pidfd: &OwnedFd, group: Option<&Cgroup>) {
    wait_readable(pidfd).await;
    if let Some(group) = group {
        group.remove().await;
    }
}

type Listeners = Vec<(greenroom_stage::protocol::Listener, OwnedFd)>;

async fn first_word(channel: &Channel) -> Result<Listeners> {
    let limit = START_LIMIT.as_millis() as u64;
    let (message, descriptors) = timeout(START_LIMIT, channel.receive())
        .await
        .map_err(|_| Error::Deadline { what: "the sandbox's first word", limit_ms: limit })?
        .map_err(|_| Error::Ended { reason: "its stage ended while it started".into() })?;
    match message.header::<StageReply>().map_err(protocol)?.result {
        StageResult::Ready { version: VERSION, listeners, .. } if listeners.len() == descriptors.len() => {
            Ok(listeners.into_iter().zip(descriptors).collect())
        }
        StageResult::Refused(fault) => Err(crate::zygote::from_fault(&fault)),
        result => Err(unexpected(&result)),
    }
}

pub(crate) fn absolute(path: &str) -> Result<()> {
    if path.starts_with('/') && path.len() <= 4096 && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::Invalid {
        reason: format!("not an absolute path: {:?}", path.chars().take(80).collect::<String>()),
    })
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

/// What callers hold.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<LocalSandbox>);

impl std::ops::Deref for Handle {
    type Target = Arc<LocalSandbox>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[async_trait]
impl Sandbox for Handle {
    fn id(&self) -> &str {
        self.name()
    }

    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
        validate(&spec)?;
        self.check()?;
        let limit = Duration::from_millis(spec.timeout_ms).min(MAX_TIMEOUT);
        let env = self.environment(&spec.env);
        let op = StageOp::Exec {
            call: spec.call.clone(),
            argv: spec.argv,
            cwd: spec.cwd,
            env,
            timeout_ms: limit.as_millis() as u64,
            output_limit_bytes: spec.output_limit_bytes,
        };
        let kills_before = self.oom_kills();
        let first = self.stage.begin(op, &spec.stdin).await.map_err(|error| self.explain(error))?;
        let (sender, receiver) = mpsc::channel(OUTPUT_PIECES);
        let (sandbox, call) = (self.0.clone(), spec.call);
        tokio::spawn(async move {
            let followed = sandbox.follow(&call, first, limit + EXEC_SLACK, kills_before, &sender).await;
            if let Err(error) = followed {
                tracing::debug!(sandbox = sandbox.spec.id, call, %error, "the outcome of a run is unknown");
            }
        });
        Ok(receiver)
    }

    async fn cancel(&self, call: &str, grace_ms: u64) -> Result<()> {
        self.check()?;
        let op = StageOp::Cancel { call: call.to_owned(), grace_ms };
        let limit = REQUEST_LIMIT + Duration::from_millis(grace_ms).min(REQUEST_LIMIT);
        self.stage.ask(op, &[], limit).await.map(drop).map_err(|error| self.explain(error))
    }

    async fn acknowledge(&self, call: &str) -> Result<()> {
        lock(&self.out_of_memory).remove(call);
        self.ask(StageOp::Acknowledge { call: call.to_owned() }, &[]).await.map(drop)
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent> {
        absolute(path)?;
        let limit = limit.min(MAX_READ);
        let mut content = FileContent { bytes: Vec::new(), size: 0, is_end: false };
        loop {
            let done = content.bytes.len() as u64;
            let op = StageOp::Read {
                path: path.to_owned(),
                offset: offset + done,
                limit: (limit - done).min(FILE_BYTES),
            };
            match self.ask(op, &[]).await? {
                (StageResult::Content { size, is_end }, bytes) => {
                    let is_stuck = bytes.is_empty();
                    content.bytes.extend(bytes);
                    (content.size, content.is_end) = (size, is_end);
                    if is_end || is_stuck || content.bytes.len() as u64 >= limit {
                        return Ok(content);
                    }
                }
                (result, _) => return Err(unexpected(&result)),
            }
        }
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        static UPLOADS: AtomicU64 = AtomicU64::new(1);
        absolute(path)?;
        if bytes.len() > MAX_WRITE {
            return Err(Error::Invalid {
                reason: "a file of more than 256 MiB cannot be written at once".into(),
            });
        }
        let upload = UPLOADS.fetch_add(1, Ordering::Relaxed);
        let mut offset = 0;
        loop {
            let end = (offset + FILE_BYTES as usize).min(bytes.len());
            let is_last = end == bytes.len();
            let op = StageOp::Write { path: path.to_owned(), upload, offset: offset as u64, is_last };
            match self.ask(op, &bytes[offset..end]).await? {
                (StageResult::Done, _) if is_last => return Ok(()),
                (StageResult::Done, _) => offset = end,
                (result, _) => return Err(unexpected(&result)),
            }
        }
    }

    async fn stat(&self, path: &str) -> Result<FileStat> {
        absolute(path)?;
        match self.ask(StageOp::Stat { path: path.to_owned() }, &[]).await? {
            (StageResult::Stat(facts), _) => Ok(FileStat {
                kind: kind_of(facts.kind),
                size: facts.size,
                mode: facts.mode,
                modified_ns: facts.modified_ns,
            }),
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        absolute(path)?;
        match self.ask(StageOp::List { path: path.to_owned() }, &[]).await? {
            (StageResult::Entries { entries, .. }, _) => {
                let entry = |entry: greenroom_stage::protocol::EntryFacts| DirEntry {
                    name: entry.name,
                    kind: kind_of(entry.kind),
                    size: entry.size,
                };
                Ok(entries.into_iter().map(entry).collect())
            }
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchResult> {
        match self.ask(StageOp::Search(plan_of(query)?), &[]).await? {
            (StageResult::Found { matches, is_truncated }, body) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                Ok(SearchResult { text, matches, is_truncated })
            }
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn open_terminal(&self, spec: TerminalSpec) -> Result<Terminal> {
        crate::terminal::open(&self.0, spec).await
    }

    async fn watch(&self, path: &str) -> Result<mpsc::Receiver<WatchEvent>> {
        crate::watch::watch(&self.0, path).await
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn SandboxStream>> {
        crate::ports::connect(&self.0, port).await
    }

    async fn listening_ports(&self) -> Result<Vec<u16>> {
        crate::ports::listening(&self.0).await
    }

    async fn suspend(&self) -> Result<SnapshotLayer> {
        self.check()?;
        self.kill("it was suspended");
        self.wait_for_end().await?;
        let directory = self.workspace().to_owned();
        tokio::task::spawn_blocking(move || workspace::into_layer(&directory))
            .await
            .map_err(|error| system("suspend", "workspace", std::io::Error::other(error)))?
    }

    async fn destroy(&self) -> Result<()> {
        self.kill("it was destroyed");
        self.wait_for_end().await
    }

    async fn ended(&self) -> String {
        self.0.ended().await
    }
}

impl LocalSandbox {
    async fn ended(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the server stopped watching it".into(),
        }
    }
}

fn kind_of(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Directory => FileKind::Directory,
        Kind::Link => FileKind::Link,
        Kind::Other => FileKind::Other,
    }
}

fn plan_of(query: SearchQuery) -> Result<SearchPlan> {
    match query {
        SearchQuery::Glob { root, pattern, limit } => {
            absolute(&root)?;
            Ok(SearchPlan::Glob { root, pattern, limit })
        }
        SearchQuery::Grep { root, pattern, include, is_case_insensitive, context_lines, limit } => {
            absolute(&root)?;
            Ok(SearchPlan::Grep { root, pattern, include, is_case_insensitive, context_lines, limit })
        }
    }
}
