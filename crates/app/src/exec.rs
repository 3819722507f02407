//! Commands in a session's sandbox: those a person runs, those the app itself needs, and the diff of the working tree.

use crate::access::asking_of;
use crate::{App, Inner, Result, RightsChanges};
use greenroom_domain::access::unknown_session;
use greenroom_domain::{ErrorCode, Person, Problem, Right, SessionId};
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason, Sandbox};
use greenroom_session::SessionHandle;
use greenroom_wire::{Exec, ExecResult, FileDiffView};
use std::sync::Arc;
use std::time::Duration;

const EXEC_DEADLINE_MS: u64 = 120_000;
const EXEC_DEADLINE_LIMIT_MS: u64 = 600_000;
/// Between asking a command to end and ending it.
const GRACE_MS: u64 = 2000;
const EXEC_OUTPUT_LIMIT: u64 = 1024 * 1024;
const DIFF_LIMIT: u64 = 8 * 1024 * 1024;

/// Counts and patches of the working tree, new files included, without touching the person's own index.
const DIFF: &str = r#"set -eu
GIT_INDEX_FILE=$(mktemp /tmp/greenroom-diff.XXXXXX)
export GIT_INDEX_FILE
trap 'rm -f "$GIT_INDEX_FILE"' EXIT
cp .git/index "$GIT_INDEX_FILE"
git add -A
set -- --cached -M --no-color --no-ext-diff --no-textconv "$BASE"
git diff --numstat -z "$@"
printf '\000\000\000\000'
git diff --patch --unified=3 "$@"
"#;
/// Never in what `--numstat -z` prints.
const DIFF_BOUNDARY: &str = "\0\0\0\0";

/// Counts and patches. The last count ends with a NUL of its own, which lies before the boundary.
fn split_diff(output: &str) -> Option<(&str, &str)> {
    let (counts, patches) = output.split_once(DIFF_BOUNDARY)?;
    Some((counts, patches.trim_start_matches('\0')))
}

impl App {
    /// Runs a command in the session's sandbox in the caller's name. It ends, without an answer, when they may not go on.
    pub async fn exec(&self, caller: &Person, id: SessionId, body: Exec) -> Result<ExecResult> {
        // From before they are asked for: what changes after that is told.
        let (changes, mut told) = (self.inner.rights.changes(), self.inner.rights.changes());
        let handle = self.open(caller, Right::Prompt, id).await?;
        self.inner.may_begin()?;
        let asking = asking_of(caller);
        let noted = handle.decide(move |state| state.decide_run(&asking));
        self.inner.marked_for_others(&handle, caller).await;
        self.inner.person_may_write(&handle);
        let timeout_ms = body.timeout_ms.unwrap_or(EXEC_DEADLINE_MS).min(EXEC_DEADLINE_LIMIT_MS);
        let run = Shell {
            command: &body.command,
            env: crate::workspaces::git_identity(&caller.name, &caller.email),
            timeout_ms,
            output_limit: EXEC_OUTPUT_LIMIT,
        };
        let result = self.inner.run_until(&handle, noted, run, self.loss(caller, id, changes)).await;
        self.inner.person_wrote(&handle);
        self.inner.command_ended(&handle, caller);
        // The command may have ended by itself before what was told could be looked into.
        if told.has_concerned(Some(caller.id), Some(id))
            && let Some(refusal) = self.refusal(caller, id).await
        {
            return Err(refusal);
        }
        result
    }

    /// Ends with the refusal when the caller may not run commands there any more.
    async fn loss(&self, caller: &Person, id: SessionId, mut changes: RightsChanges) -> Problem {
        loop {
            changes.concerning(Some(caller.id), Some(id)).await;
            if let Some(refusal) = self.refusal(caller, id).await {
                return refusal;
            }
        }
    }

    /// Why the caller, as they are now, may not run commands there. What cannot be found out takes nothing from anybody.
    async fn refusal(&self, caller: &Person, id: SessionId) -> Option<Problem> {
        let asked = match self.inner.directory.person(caller.id).await {
            Ok(Some(now)) => self.open(&now, Right::Prompt, id).await.map(drop),
            Ok(None) => Err(unknown_session()),
            Err(error) => Err(error.into()),
        };
        match asked {
            Err(problem) if matches!(problem.code, ErrorCode::SessionUnknown | ErrorCode::NotAllowed) => {
                Some(problem)
            }
            Err(problem) => {
                tracing::warn!(session = %id, %problem, "who runs a command could not be checked again");
                None
            }
            Ok(()) => None,
        }
    }

    /// The working tree against the commit the session began at, new files included. Whoever only looks sees it while the
    /// sandbox runs.
    pub async fn session_diff(&self, caller: &Person, id: SessionId) -> Result<Vec<FileDiffView>> {
        let handle = self.open(caller, Right::View, id).await?;
        let sandbox = self.sandbox_in_sight(&handle, caller).await?.sandbox();
        let base = handle.state().await?.workspace.base_commit.ok_or_else(|| {
            Problem::new(ErrorCode::SandboxFailed, "The session's files are not ready yet.")
                .hint("Try again shortly.")
        })?;
        let env = vec![("BASE".to_owned(), base.to_string())];
        let run = Shell { command: DIFF, env, timeout_ms: EXEC_DEADLINE_MS, output_limit: DIFF_LIMIT };
        let result = self.inner.run_in(&sandbox, run).await?;
        match split_diff(&result.output).filter(|_| result.exit_code == Some(0)) {
            Some((counts, patches)) => {
                let files = greenroom_forge::read_diff(counts.as_bytes(), patches, result.is_truncated);
                Ok(files.into_iter().map(crate::changes::diff_view).collect())
            }
            None => Err(Problem::new(ErrorCode::SandboxFailed, "The session's files could not be compared.")
                .detail(result.output)),
        }
    }
}

/// A command to run in a session's sandbox.
pub(crate) struct Shell<'a> {
    pub(crate) command: &'a str,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) timeout_ms: u64,
    pub(crate) output_limit: u64,
}

impl Inner {
    pub(crate) async fn run_in_session(
        self: &Arc<Self>,
        handle: &SessionHandle,
        run: Shell<'_>,
    ) -> Result<ExecResult> {
        let sandbox = self.ensure_sandbox(handle).await?;
        self.run_in(&sandbox, run).await
    }

    /// As `run_in_session`, unless `over` ends first, with the reason: then the command and all that it started is ended.
    /// `noted` is durable before the command begins, whatever comes of it: whoever may have written the files is known. A
    /// sandbox that has to be made is on its way meanwhile.
    async fn run_until(
        self: &Arc<Self>,
        handle: &SessionHandle,
        noted: impl Future<Output = Result<()>>,
        run: Shell<'_>,
        over: impl Future<Output = Problem>,
    ) -> Result<ExecResult> {
        let mut over = std::pin::pin!(over);
        let watch = self.start_sandbox(handle);
        // The session does one thing at a time: what the making asks of it first does not wait for the disk.
        let noted = async {
            watch.clone().under_way().await;
            noted.await
        };
        let begin = async { tokio::try_join!(noted, watch.clone().ready()) };
        let ((), ready) = tokio::select! {
            begun = begin => begun?,
            reason = &mut over => return Err(reason),
        };
        self.run_unless(&ready.sandbox, run, over).await
    }

    pub(crate) async fn run_in(&self, sandbox: &Arc<dyn Sandbox>, run: Shell<'_>) -> Result<ExecResult> {
        self.run_unless(sandbox, run, std::future::pending()).await
    }

    async fn run_unless(
        &self,
        sandbox: &Arc<dyn Sandbox>,
        run: Shell<'_>,
        over: impl Future<Output = Problem>,
    ) -> Result<ExecResult> {
        let (_, random) = self.id_parts();
        let call = format!("exec-{random:032x}");
        let spec = ExecSpec {
            call: call.clone(),
            argv: ["/bin/sh", "-c", run.command].map(str::to_owned).to_vec(),
            cwd: greenroom_image::WORKSPACE.to_owned(),
            env: run.env,
            stdin: vec![],
            timeout_ms: run.timeout_ms,
            output_limit_bytes: run.output_limit,
            is_read_only: false,
        };
        let mut events = sandbox.exec(spec).await.map_err(crate::workspaces::problem_of_sandbox)?;
        let mut output = vec![];
        let mut exit = None;
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(ExecEvent::Output { bytes, .. }) => output.extend(bytes),
                    Some(ExecEvent::Exit(done)) => exit = Some(done),
                    None => break,
                },
                reason = &mut over => {
                    end(sandbox, &call).await;
                    return Err(reason);
                }
            }
        }
        let exit = exit.ok_or_else(|| {
            Problem::new(
                ErrorCode::SandboxLost,
                "The sandbox ended while the command ran; its outcome is unknown.",
            )
        })?;
        // Only frees memory in the sandbox: nothing depends on it.
        let _ = sandbox.acknowledge(&call).await;
        let (exit_code, ended_by) = ending(exit.reason);
        Ok(ExecResult {
            output: String::from_utf8_lossy(&output).into_owned(),
            exit_code,
            ended_by,
            is_truncated: exit.is_truncated,
            duration_ms: exit.duration_ms,
        })
    }
}

/// Nobody waits for what it prints any more.
async fn end(sandbox: &Arc<dyn Sandbox>, call: &str) {
    let ended = async {
        sandbox.cancel(call, GRACE_MS).await?;
        sandbox.acknowledge(call).await
    };
    match tokio::time::timeout(Duration::from_millis(GRACE_MS * 5), ended).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(call, %error, "a person's command could not be ended"),
        Err(_) => tracing::warn!(call, "ending a person's command took too long"),
    }
}

fn ending(reason: ExitReason) -> (Option<i32>, Option<String>) {
    match reason {
        ExitReason::Code { code } => (Some(code), None),
        ExitReason::Signal { signal } => (None, Some(format!("signal {signal}"))),
        ExitReason::TimedOut => (None, Some("time limit".into())),
        ExitReason::Cancelled => (None, Some("cancelled".into())),
        ExitReason::OutOfMemory => (None, Some("memory limit".into())),
        ExitReason::NotStarted { errno } => (None, Some(format!("could not be started (errno {errno})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_files_patch_is_kept() {
        let output = "1\t1\tpricing.py\0\0\0\0\0diff --git a/pricing.py b/pricing.py\n@@ -1 +1 @@\n-a\n+b\n";
        let (counts, patches) = split_diff(output).unwrap();
        let files = greenroom_forge::read_diff(counts.as_bytes(), patches, false);
        assert_eq!(files.len(), 1);
        assert!(files[0].patch.contains("+b") && !files[0].is_truncated, "{files:?}");
        assert_eq!(split_diff("\0\0\0\0"), Some(("", "")));
    }
}
