//! Runs the git program for the forge: always with a cleared environment, without the host's configuration or any hook,
//! with a deadline, with bounded output, in a process group that ends when the caller stops waiting. Only ever runs on
//! the forge's own bare repositories (and, to import one, on the path that an administrator named).

use crate::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

const DEADLINE: Duration = Duration::from_secs(60);
const STDOUT_LIMIT: usize = 32 * 1024 * 1024;
const STDERR_LIMIT: usize = 64 * 1024;

/// Settings of every run. Command scope, so that a repository's own configuration cannot change them.
const SETTINGS: &[&str] = &[
    "safe.directory=*",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=objects,derived-metadata,reference",
    "core.packedGitWindowSize=32m",
    "core.packedGitLimit=512m",
    "core.quotePath=false",
    "core.attributesFile=/dev/null",
    "protocol.ext.allow=never",
    "transfer.hideRefs=refs/greenroom/",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.objectNameWarning=false",
    "uploadpack.allowFilter=true",
    "uploadpack.allowReachableSHA1InWant=true",
];

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// More was written than the limit; the program was ended.
    pub(crate) is_truncated: bool,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// One run of git, built up and then started.
#[derive(Debug)]
pub(crate) struct Git {
    operation: String,
    command: Command,
    stdin: Vec<u8>,
    stdout_limit: usize,
    deadline: Duration,
}

impl Git {
    /// On a bare repository of the forge.
    pub(crate) fn at(repository: &Path) -> Self {
        let mut git = Self::bare();
        git.command.arg("--git-dir").arg(repository).current_dir(repository);
        git
    }

    /// Without a repository.
    pub(crate) fn bare() -> Self {
        let mut command = Command::new("git");
        command.env_clear().envs(environment()).current_dir("/").process_group(0).kill_on_drop(true);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Self {
            operation: String::new(),
            command,
            stdin: Vec::new(),
            stdout_limit: STDOUT_LIMIT,
            deadline: DEADLINE,
        }
    }

    /// The first argument names the operation in errors.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            if self.operation.is_empty() {
                self.operation = arg.as_ref().to_string_lossy().into_owned();
            }
            self.command.arg(arg);
        }
        self
    }

    pub(crate) fn setting(mut self, setting: &str) -> Self {
        self.command.args(["-c", setting]);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn stdout_limit(mut self, limit: usize) -> Self {
        self.stdout_limit = limit;
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs to the end whatever the exit status.
    pub(crate) async fn run(mut self) -> Result<Output> {
        let mut running = self.spawn()?;
        let (stdin, stdout, stderr) = running.pipes();
        let input = std::mem::take(&mut self.stdin);
        let limit = self.stdout_limit;
        let work = async {
            let feed = async move {
                let mut stdin = stdin;
                // A program that stops reading early says why with its exit status.
                let _ = stdin.write_all(&input).await;
            };
            let ((), stdout, stderr) = tokio::join!(feed, read_bounded(stdout, limit), read_tail(stderr));
            (stdout, stderr, running.wait().await)
        };
        let Ok((stdout, stderr, status)) = tokio::time::timeout(self.deadline, work).await else {
            return Err(self.failed(&format!("no end within {} s", self.deadline.as_secs())));
        };
        let (stdout, is_truncated) = stdout.map_err(|source| self.io(source))?;
        Ok(Output { status: status.map_err(|source| self.io(source))?, stdout, is_truncated, stderr })
    }

    /// Runs and takes any exit status but 0 for an error.
    pub(crate) async fn success(self) -> Result<Output> {
        let operation = self.operation.clone();
        let output = self.run().await?;
        if output.status.success() {
            return Ok(output);
        }
        Err(Error::Git { operation, output: output.stderr })
    }

    /// Starts with all three streams as pipes, for exchanges that stream.
    pub(crate) fn spawn(&mut self) -> Result<Running> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().map_err(|source| self.io(source))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Running { child, group })
    }

    fn failed(&self, output: &str) -> Error {
        Error::Git { operation: self.operation.clone(), output: output.to_owned() }
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { operation: "running", path: format!("git {}", self.operation), source }
    }
}

/// A started git. Dropping it ends the whole process group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    pub(crate) fn pipes(
        &mut self,
    ) -> (tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr) {
        let child = &mut self.child;
        (
            child.stdin.take().expect("spawned with a pipe"),
            child.stdout.take().expect("spawned with a pipe"),
            child.stderr.take().expect("spawned with a pipe"),
        )
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.group
    }

    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn environment() -> Vec<(&'static str, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let fixed = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name, OsString::from(value)));
    std::iter::once(("PATH", path)).chain(fixed).collect()
}

/// Reads at most `limit` bytes; then drops the pipe, which ends a program that goes on writing.
async fn read_bounded(mut from: impl AsyncRead + Unpin, limit: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    (&mut from).take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    let is_truncated = bytes.len() > limit;
    bytes.truncate(limit);
    Ok((bytes, is_truncated))
}

/// Keeps the end of what a program says.
pub(crate) async fn read_tail(mut from: impl AsyncRead + Unpin) -> String {
    let mut tail: Vec<u8> = Vec::new();
    let mut buffer = [0u8; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        if tail.len() > STDERR_LIMIT {
            tail.drain(..tail.len() - STDERR_LIMIT);
        }
    }
    String::from_utf8_lossy(&tail).trim_end().to_owned()
}
