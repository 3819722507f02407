//! One service: run, watch, start again. A run is known by its call id, so that a new handle of the same sandbox finds
//! the same run and never starts a second one.

use super::{Services, failed, log_path};
use crate::workspaces::sync::shell;
use greenroom_domain::Problem;
use greenroom_domain::event::ServicePhase;
use greenroom_image::WORKSPACE;
use greenroom_image::recipe::Service;
use greenroom_sandbox::{Error, ExecEvent, ExecSpec, ExitReason};
use std::time::{Duration, Instant};

/// As long as any sandbox lives.
const LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// A service that ran this long before it ended is started again as if for the first time.
const GOOD_RUN: Duration = Duration::from_secs(60);
const RESTARTS_LIMIT: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const END_GRACE_MS: u64 = 10_000;
/// A log longer than this is cut to its end.
const LOG_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
const LOG_SWEEP: Duration = Duration::from_secs(60);
const TOLD_BYTES: u64 = 2_000;

/// Its output goes to a file: whoever reads a run's own output would have to read it for ever.
const RUN: &str = r#"mkdir -p "${2%/*}" && exec >>"$2" 2>&1
if command -v bash >/dev/null 2>&1; then exec bash -eo pipefail -c "$1"; fi; exec sh -euc "$1""#;
/// In place: the service holds the file open, for appending.
const SHORTEN: &str = r#"tail -c 1048576 "$LOG" > "$LOG.cut" && cat "$LOG.cut" > "$LOG" && rm -f "$LOG.cut""#;

/// How a run ended.
enum End {
    Exit(ExitReason),
    /// It was not up in time, and was ended.
    Unhealthy(Problem),
    /// The sandbox is gone, or is not to be watched any more.
    Over,
}

impl Services {
    /// Until the service ends for good, or the sandbox does.
    pub(super) async fn supervise(self, service: Service) {
        let mut attempt = 0;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let end = self.run_once(&service, attempt).await;
            let problem = match end {
                End::Over => return,
                End::Unhealthy(problem) => problem,
                End::Exit(reason) => failed(&service.name, &ended_words(reason)),
            };
            let problem = problem.detail(self.last_words(&service.name).await);
            self.tell(&service.name, ServicePhase::Failed, Some(problem)).await;
            failures = if begun.elapsed() > GOOD_RUN { 1 } else { failures + 1 };
            if !service.restart || failures > RESTARTS_LIMIT {
                return;
            }
            let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(8)).min(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.stop.cancelled() => return,
            }
            attempt += 1;
            self.tell(&service.name, ServicePhase::Starting, None).await;
        }
    }

    async fn run_once(&self, service: &Service, attempt: u32) -> End {
        let spec = spec_of(service, attempt);
        let ended = self.follow(&spec);
        tokio::pin!(ended);
        let healthy = self.healthy(service);
        tokio::pin!(healthy);
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => return End::Over,
            end = &mut ended => return end,
            healthy = &mut healthy => match healthy {
                Ok(()) => self.tell(&service.name, ServicePhase::Ready, None).await,
                Err(problem) => {
                    let _ = self.sandbox().cancel(&spec.call, END_GRACE_MS).await;
                    return End::Unhealthy(problem);
                }
            },
        }
        let shortened = self.keep_short(&service.name);
        tokio::pin!(shortened);
        tokio::select! {
            end = &mut ended => end,
            () = &mut shortened => End::Over,
            () = self.shared.stop.cancelled() => End::Over,
        }
    }

    /// Waits for the end of a run, over every handle that the sandbox has in that time.
    async fn follow(&self, spec: &ExecSpec) -> End {
        let mut handles = self.shared.sandbox.subscribe();
        loop {
            let sandbox = handles.borrow_and_update().clone();
            let end = async {
                let mut events = match sandbox.exec(spec.clone()).await {
                    Ok(events) => events,
                    Err(Error::Invalid { reason }) => {
                        tracing::warn!(call = spec.call, reason, "a service cannot be started");
                        return Some(ExitReason::NotStarted { errno: 0 });
                    }
                    Err(_) => return None,
                };
                while let Some(event) = events.recv().await {
                    if let ExecEvent::Exit(exit) = event {
                        return Some(exit.reason);
                    }
                }
                None
            };
            tokio::select! {
                end = end => match end {
                    Some(reason) => {
                        let _ = self.sandbox().acknowledge(&spec.call).await;
                        return End::Exit(reason);
                    }
                    // Lost with its sandbox, unless the sandbox has another handle by now.
                    None if handles.has_changed().unwrap_or(false) => {}
                    None => {
                        let is_over = tokio::time::timeout(Duration::from_secs(5), handles.changed()).await;
                        if !matches!(is_over, Ok(Ok(()))) {
                            return End::Over;
                        }
                    }
                },
                changed = handles.changed() => if changed.is_err() { return End::Over },
            }
        }
    }

    /// Cuts a log that has grown too long, for as long as the service runs.
    async fn keep_short(&self, name: &str) {
        let path = log_path(name);
        loop {
            tokio::time::sleep(LOG_SWEEP).await;
            let sandbox = self.sandbox();
            let is_long = sandbox.stat(&path).await.is_ok_and(|stat| stat.size > LOG_LIMIT_BYTES);
            if is_long {
                let cut = shell("greenroom-log", SHORTEN, &[("LOG", &path)], 60_000, 4096);
                let _ = crate::workspaces::run(&sandbox, cut).await;
            }
        }
    }

    /// The end of its log.
    async fn last_words(&self, name: &str) -> String {
        let (sandbox, path) = (self.sandbox(), log_path(name));
        let Ok(stat) = sandbox.stat(&path).await else { return String::new() };
        let read = sandbox.read_file(&path, stat.size.saturating_sub(TOLD_BYTES), TOLD_BYTES).await;
        read.map_or_else(|_| String::new(), |read| String::from_utf8_lossy(&read.bytes).into_owned())
    }
}

fn spec_of(service: &Service, attempt: u32) -> ExecSpec {
    ExecSpec {
        call: format!("service-{}-{attempt}", service.name),
        argv: ["/bin/sh", "-c", RUN, "sh", &service.run, &log_path(&service.name)]
            .map(str::to_owned)
            .to_vec(),
        cwd: WORKSPACE.to_owned(),
        env: service.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        stdin: vec![],
        timeout_ms: LIFE_MS,
        output_limit_bytes: 4096,
        is_read_only: false,
    }
}

fn ended_words(reason: ExitReason) -> String {
    match reason {
        ExitReason::Code { code } => format!("ended with exit code {code}"),
        ExitReason::Signal { signal } => format!("was ended by signal {signal}"),
        ExitReason::OutOfMemory => "was ended because the sandbox's memory ran out".to_owned(),
        ExitReason::TimedOut | ExitReason::Cancelled => "was ended".to_owned(),
        ExitReason::NotStarted { .. } => "could not be started".to_owned(),
    }
}
