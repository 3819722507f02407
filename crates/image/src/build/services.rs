//! Services that are up while a step or check runs: started in the recipe's order, each waited for, and ended in reverse
//! order so that what they keep on disk is whole before it becomes a layer.

use super::WORKSPACE;
use super::failure;
use super::log::{BuildLog, Tail};
use super::program::shell;
use super::run::Run;
use super::sandbox::BuildSandbox;
use crate::recipe::{Probe, Service};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a service may take to end before it is killed.
const STOP_GRACE_MS: u64 = 30_000;
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// Longer than any step.
const LIFE_MS: u64 = 6 * 60 * 60 * 1000;
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const PROBE_MS: u64 = 10_000;
const OUTPUT_LIMIT_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Up(Vec<Started>);

#[derive(Debug)]
struct Started {
    name: String,
    call: String,
    tail: Arc<Mutex<Tail>>,
    /// `Some` once it ended.
    ended: watch::Receiver<Option<ExitReason>>,
}

impl Run {
    /// On a failure those that were started are ended again.
    pub(super) async fn start_services(
        &mut self,
        names: &[String],
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<Up, Problem> {
        let mut up = Up::default();
        let wanted = self.plan.recipe.services.clone();
        for service in wanted.into_iter().filter(|service| names.contains(&service.name)) {
            let started = self.start_service(&service, sandbox).await;
            let result = match started {
                Ok(started) => {
                    let ready = self.until_ready(&service, &started, sandbox).await;
                    up.0.push(started);
                    ready
                }
                Err(problem) => Err(problem),
            };
            if let Err(problem) = result {
                up.stop(sandbox).await;
                return Err(problem);
            }
            let _ = log.note(&format!("service {} is up", service.name)).await;
        }
        Ok(up)
    }

    async fn start_service(&mut self, service: &Service, sandbox: &BuildSandbox) -> Result<Started, Problem> {
        let call = self.next_call();
        let mut events =
            sandbox.start(self.service_spec(service, call.clone(), &service.run, LIFE_MS)).await?;
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (sender, ended) = watch::channel(None);
        let kept = Arc::clone(&tail);
        tokio::spawn(async move {
            while let Some(event) = events.receive().await {
                match event {
                    ExecEvent::Output { bytes, .. } => {
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(&bytes);
                    }
                    ExecEvent::Exit(exit) => drop(sender.send_replace(Some(exit.reason))),
                }
            }
        });
        Ok(Started { name: service.name.clone(), call, tail, ended })
    }

    async fn until_ready(
        &mut self,
        service: &Service,
        started: &Started,
        sandbox: &BuildSandbox,
    ) -> Result<(), Problem> {
        let Some(ready) = &service.ready else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(u64::from(ready.deadline_seconds));
        let probe = match &ready.probe {
            Probe::Command { run } => run.clone(),
            Probe::Port { port } => port_probe(*port),
        };
        while Instant::now() < deadline {
            if self.cancel.is_cancelled() {
                return Err(failure::cancelled());
            }
            if let Some(reason) = *started.ended.borrow() {
                return Err(started.problem(&format!("ended before it was up ({reason:?})")));
            }
            let call = self.next_call();
            let mut running = sandbox.start(self.service_spec(service, call, &probe, PROBE_MS)).await?;
            let mut exit = None;
            while let Some(event) = running.receive().await {
                if let ExecEvent::Exit(done) = event {
                    exit = Some(done.reason);
                }
            }
            match exit {
                Some(ExitReason::Code { code: 0 }) => return Ok(()),
                Some(_) => tokio::time::sleep(PROBE_PAUSE).await,
                None => return Err(failure::lost(&service.name, &started.text())),
            }
        }
        Err(started.problem(&format!("was not up within {} s", ready.deadline_seconds)))
    }

    fn service_spec(&self, service: &Service, call: String, script: &str, timeout_ms: u64) -> ExecSpec {
        ExecSpec {
            call,
            argv: shell(script),
            cwd: WORKSPACE.to_owned(),
            env: service.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            stdin: Vec::new(),
            timeout_ms,
            output_limit_bytes: OUTPUT_LIMIT_BYTES,
            is_read_only: false,
        }
    }
}

impl Started {
    fn text(&self) -> String {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    fn problem(&self, what: &str) -> Problem {
        Problem::new(ErrorCode::ServiceFailed, format!("The service {:?} {what}.", self.name))
            .hint("The last lines of its output are the detail; the last good image stays in use.")
            .detail(self.text())
    }
}

impl Up {
    pub(super) async fn stop(self, sandbox: &BuildSandbox) {
        for mut service in self.0.into_iter().rev() {
            sandbox.cancel(&service.call, STOP_GRACE_MS).await;
            let ended = service.ended.wait_for(Option::is_some);
            // The channel closes with the sandbox, which is an end as well.
            if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
                tracing::warn!(service = service.name, "a service of a build did not end in time");
            }
        }
    }
}

/// By what the kernel says of this network namespace, so that no program has to be there.
fn port_probe(port: u16) -> String {
    format!("grep -qE ':{port:04X} [0-9A-F]+:0000 0A' /proc/net/tcp /proc/net/tcp6")
}
