//! One sandbox of a build, and what the build does with it. Every call to the provider has a deadline.

use super::failure;
use greenroom_domain::Problem;
use greenroom_sandbox::{ClaimSpec, Error, ExecEvent, ExecSpec, ExitReason, Sandbox, SandboxProvider};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CLAIM_SECONDS: u64 = 60;
const CALL_SECONDS: u64 = 60;
/// Ending processes and, without a rename, copying what they wrote.
const SUSPEND_SECONDS: u64 = 300;
/// Past a run's own timeout, in case the provider does not keep it.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct BuildSandbox {
    sandbox: Arc<dyn Sandbox>,
}

/// A run in progress.
#[derive(Debug)]
pub(super) struct Running {
    call: String,
    events: mpsc::Receiver<ExecEvent>,
    ends_at: tokio::time::Instant,
}

/// What came next of a run.
pub(super) enum Next {
    Output(Vec<u8>),
    Exit(ExitReason),
    /// The sandbox ended and nobody knows how the run did.
    Lost,
    Cancelled,
}

impl Running {
    /// The next event as it is; `None` when there are no more.
    pub(super) async fn receive(&mut self) -> Option<ExecEvent> {
        tokio::time::timeout_at(self.ends_at, self.events.recv()).await.ok().flatten()
    }
}

impl BuildSandbox {
    /// A claim that comes too late is destroyed when it comes.
    pub(super) async fn claim(provider: &Arc<dyn SandboxProvider>, spec: ClaimSpec) -> Result<Self, Problem> {
        let provider = provider.clone();
        let mut claim = tokio::spawn(async move { provider.claim(spec).await });
        match tokio::time::timeout(Duration::from_secs(CLAIM_SECONDS), &mut claim).await {
            Ok(Ok(Ok(sandbox))) => Ok(Self { sandbox }),
            Ok(Ok(Err(error))) => Err(failure::sandbox(&error)),
            Ok(Err(fault)) => Err(failure::sandbox(&Error::Protocol {
                reason: format!("the claim ended by a fault: {fault}"),
            })),
            Err(_) => {
                tokio::spawn(async move {
                    if let Ok(Ok(late)) = claim.await {
                        let _ = late.destroy().await;
                    }
                });
                Err(failure::deadline("Starting the build's sandbox", CLAIM_SECONDS))
            }
        }
    }

    pub(super) async fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Problem> {
        within("Writing the installation's files", CALL_SECONDS, self.sandbox.write_file(path, bytes)).await
    }

    pub(super) async fn start(&self, spec: ExecSpec) -> Result<Running, Problem> {
        let call = spec.call.clone();
        let ends_at = tokio::time::Instant::now() + Duration::from_millis(spec.timeout_ms) + GRACE;
        let events = within("Starting a program", CALL_SECONDS, self.sandbox.exec(spec)).await?;
        Ok(Running { call, events, ends_at })
    }

    pub(super) async fn next(&self, running: &mut Running, cancel: &CancellationToken) -> Next {
        let event = tokio::select! {
            biased;
            () = cancel.cancelled() => return Next::Cancelled,
            event = tokio::time::timeout_at(running.ends_at, running.events.recv()) => event,
        };
        match event {
            Ok(Some(ExecEvent::Output { bytes, .. })) => Next::Output(bytes),
            Ok(Some(ExecEvent::Exit(exit))) => {
                let _ =
                    within("Ending a program", CALL_SECONDS, self.sandbox.acknowledge(&running.call)).await;
                Next::Exit(exit.reason)
            }
            Ok(None) => Next::Lost,
            Err(_) => Next::Exit(ExitReason::TimedOut),
        }
    }

    /// Ends a run; one that is over already is left alone.
    pub(super) async fn cancel(&self, call: &str, grace_ms: u64) {
        if let Err(problem) =
            within("Ending a service", CALL_SECONDS, self.sandbox.cancel(call, grace_ms)).await
        {
            tracing::warn!(sandbox = self.sandbox.id(), %problem, "a service may not have ended");
        }
    }

    /// Ends the sandbox and gives what it wrote.
    pub(super) async fn suspend(&self) -> Result<PathBuf, Problem> {
        let layer = within("Keeping what the step wrote", SUSPEND_SECONDS, self.sandbox.suspend()).await?;
        Ok(layer.directory)
    }

    pub(super) async fn destroy(&self) {
        if let Err(problem) = within("Ending the build's sandbox", CALL_SECONDS, self.sandbox.destroy()).await
        {
            tracing::warn!(sandbox = self.sandbox.id(), %problem, "a build's sandbox may be left over");
        }
    }
}

async fn within<T>(
    what: &str,
    seconds: u64,
    call: impl Future<Output = greenroom_sandbox::Result<T>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(Duration::from_secs(seconds), call).await {
        Ok(result) => result.map_err(|error| failure::sandbox(&error)),
        Err(_) => Err(failure::deadline(what, seconds)),
    }
}
