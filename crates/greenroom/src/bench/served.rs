//! The server that is measured: a process of its own, as people run it, or one inside this process where the benchmark
//! answers for the model.

use crate::exit::Failure;
use crate::server::{self, Options, Server, Stop};
use greenroom_app::PoolLimits;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_model::Provider;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A first start makes a volume.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What differs between servers that are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knobs {
    /// None: as `serve` decides.
    pub(crate) blanks: Option<usize>,
    pub(crate) pool: PoolLimits,
    pub(crate) max_sandboxes: usize,
    /// `None`: as `serve` has it.
    pub(crate) session_idle_seconds: Option<u32>,
}

impl Knobs {
    /// As `serve` has them, with room for what a benchmark starts.
    pub(crate) fn usual(max_sandboxes: usize) -> Self {
        Self { blanks: None, pool: PoolLimits::default(), max_sandboxes, session_idle_seconds: None }
    }

    pub(crate) fn without_pool(self) -> Self {
        Self { pool: PoolLimits { floor: 0, cap: 0, most: 0 }, ..self }
    }

    fn arguments(self) -> Vec<String> {
        let PoolLimits { floor, cap, most } = self.pool;
        let blanks = self.blanks.map(|count| format!("--blanks={count}"));
        let idle = self.session_idle_seconds.map(|idle| format!("--session-idle-seconds={idle}"));
        let others = [
            format!("--pool-floor={floor}"),
            format!("--pool-cap={cap}"),
            format!("--pool-most={most}"),
            format!("--max-sandboxes={}", self.max_sandboxes),
            "--image-schedule-minutes=0".to_owned(),
            "--rate-person-per-minute=0".to_owned(),
            "--rate-address-per-minute=0".to_owned(),
        ];
        blanks.into_iter().chain(idle).chain(others).collect()
    }
}

pub(crate) struct Served {
    pub(crate) address: String,
    /// Of the first admin.
    pub(crate) token: String,
    runs: Runs,
}

enum Runs {
    Here(Box<Server>),
    Process(Child),
}

impl Served {
    pub(crate) async fn here(data: &Path, provider: Arc<dyn Provider>) -> Result<Self, Failure> {
        let server = server::start(Options::local(data.to_owned(), 0, Some(provider))).await?;
        let (address, token) = (server.listening_on(), server.local_token.clone());
        Ok(Self { address, token, runs: Runs::Here(Box::new(server)) })
    }

    pub(crate) async fn process(data: &Path, knobs: Knobs) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--data").arg(data).arg("--listen=127.0.0.1:0").args(knobs.arguments());
        // What this machine's own server is told is not for the one that is measured.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GREENROOM_"))
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().expect("it is piped");
        // Its greeting: it answers from now on.
        let mut lines = BufReader::new(stdout).lines();
        let greeting = timeout(START_LIMIT, lines.next_line()).await;
        if !matches!(greeting, Ok(Ok(Some(_)))) {
            return Err(Problem::new(ErrorCode::Internal, "The server to be measured did not start.").into());
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let run = |name: &str| std::fs::read_to_string(data.join("run").join(name));
        let (address, token) = (run("address")?.trim().to_owned(), run("local-token")?.trim().to_owned());
        Ok(Self { address, token, runs: Runs::Process(process) })
    }

    /// Of the measured process; `None` where the server runs inside this one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.runs {
            Runs::Here(_) => None,
            Runs::Process(process) => process.id(),
        }
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        match self.runs {
            Runs::Here(server) => {
                if server.stop().await == Stop::GivenUp {
                    return Err(Problem::new(ErrorCode::Deadline, "The server did not stop in time.").into());
                }
            }
            Runs::Process(mut process) => {
                let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                if let Some(pid) = pid {
                    kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
                }
                if timeout(STOP_LIMIT, process.wait()).await.is_err() {
                    process.kill().await?;
                }
            }
        }
        Ok(())
    }
}
