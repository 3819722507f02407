//! The same starts without a server: a provider of this process's own over a volume of its own, for what the API costs on
//! top, and for figures of many sandboxes at once.

use super::peers;
use super::stats::Report;
use crate::exit::Failure;
use crate::output::Output;
use async_trait::async_trait;
use greenroom_app::problem_of_sandbox;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::{
    Base, ClaimSpec, EgressHandler, EgressStream, ExecEvent, ExecSpec, ExitReason, Fence, Identity, Origin,
    Resources, Sandbox, SandboxProvider, Storage, Workspace,
};
use greenroom_sandboxd::{LocalProvider, LocalSettings, Volume, VolumeSettings};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const TRACKED: &str = "a tracked file\n";
/// Between starts, so that each finds what is made in advance.
const PAUSE: Duration = Duration::from_millis(200);
const BLANKS: usize = 4;

pub(crate) struct Library {
    provider: Arc<LocalProvider>,
    storage: Storage,
    next: AtomicU32,
}

/// Nothing leaves.
#[derive(Debug)]
struct Closed;

#[async_trait]
impl EgressHandler for Closed {
    async fn connection(&self, _: Origin, _: Box<dyn EgressStream>) {}

    async fn dns(&self, _: Origin, _: Vec<u8>) -> Option<Vec<u8>> {
        None
    }
}

impl Library {
    pub(crate) async fn start(data: &Path, blanks: usize) -> Result<Self, Failure> {
        let data = data.join("library");
        std::fs::create_dir_all(&data)?;
        let opened = tokio::task::spawn_blocking(move || Volume::open(&data, &VolumeSettings::default()));
        let unusable = |error: &dyn std::fmt::Display| Problem::new(ErrorCode::Internal, format!("{error}."));
        let volume = opened.await.map_err(|error| unusable(&error))?.map_err(|error| unusable(&error))?;
        let storage = volume.storage().map_err(|error| unusable(&error))?;
        let settings = LocalSettings { volume: Some(volume), blanks, ..LocalSettings::default() };
        let provider = LocalProvider::start(settings, Arc::new(Closed)).await.map_err(problem_of_sandbox)?;
        Ok(Self { provider, storage, next: AtomicU32::new(0) })
    }

    pub(crate) async fn stop(self) {
        // The measurement is over; what is left ends with this process.
        let _ = self.provider.shutdown().await;
    }

    /// `cold`, `blank`, `warm`: until the sandbox is given. `…_first`: until its first command is done.
    pub(crate) async fn measure(&self, out: Output, n: u32) -> Result<Report, Failure> {
        let mut report = Report::default();
        out.progress("library: cold, blank…\n");
        for (name, blanks) in [("cold", 0), ("blank", BLANKS)] {
            let (mut claims, mut firsts) = (vec![], vec![]);
            for _ in 0..n {
                self.provider.set_blanks(blanks).await.map_err(problem_of_sandbox)?;
                tokio::time::sleep(PAUSE).await;
                let spec = self.spec();
                let begun = Instant::now();
                let sandbox = self.provider.claim(spec).await.map_err(problem_of_sandbox)?;
                claims.push(begun.elapsed());
                // The tracked file is the image's elsewhere; here it is written, which the claim does not pay.
                write(&*sandbox).await?;
                let written = Instant::now();
                run(&*sandbox, "first").await?;
                firsts.push(written.elapsed() + claims.last().copied().unwrap_or_default());
                sandbox.destroy().await.map_err(problem_of_sandbox)?;
            }
            report.row(name, claims);
            report.row(&format!("{name}_first"), firsts);
        }
        out.progress("library: warm, exec…\n");
        self.warm(n, &mut report).await?;
        let directory = tempfile::tempdir()?;
        let tracked = directory.path().join("tracked.txt");
        std::fs::write(&tracked, TRACKED)?;
        report.row("floor", peers::floor(n * 4, &tracked)?);
        Ok(report)
    }

    async fn warm(&self, n: u32, report: &mut Report) -> Result<(), Failure> {
        let (mut given, mut firsts, mut execs) = (vec![], vec![], vec![]);
        for round in 0..n {
            let former = self.alive().await?;
            write(&*former).await?;
            run(&*former, "ready").await?;
            tokio::time::sleep(PAUSE).await;
            let to = self.identity();
            let begun = Instant::now();
            let sandbox = self.provider.rebind(former.id(), to).await.map_err(problem_of_sandbox)?;
            given.push(begun.elapsed());
            run(&*sandbox, "first").await?;
            firsts.push(begun.elapsed());
            for number in 0..4 {
                let begun = Instant::now();
                run(&*sandbox, &format!("exec-{round}-{number}")).await?;
                execs.push(begun.elapsed());
            }
            sandbox.destroy().await.map_err(problem_of_sandbox)?;
        }
        report.row("warm", given);
        report.row("warm_first", firsts);
        report.row("exec", execs);
        Ok(())
    }

    pub(crate) async fn alive(&self) -> Result<Arc<dyn Sandbox>, Failure> {
        Ok(self.provider.claim(self.spec()).await.map_err(problem_of_sandbox)?)
    }

    pub(crate) async fn set_blanks(&self, count: usize) -> Result<(), Failure> {
        Ok(self.provider.set_blanks(count).await.map_err(problem_of_sandbox)?)
    }

    fn identity(&self) -> Identity {
        let spec = self.spec();
        Identity {
            id: spec.id,
            fence: spec.fence,
            workspace: spec.workspace.directory,
            hostname: spec.hostname,
            env: vec![],
        }
    }

    fn spec(&self) -> ClaimSpec {
        let name = format!("bench-{}", self.next.fetch_add(1, Ordering::Relaxed));
        ClaimSpec {
            id: name.clone(),
            fence: Fence { session: name.clone(), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: vec![],
            workspace: Workspace { directory: self.storage.workspace(&name), begin_from: None },
            binds: greenroom_sandboxd::host_tool_binds().binds,
            egress_ports: vec![],
            resources: Resources::default(),
            hostname: "greenroom".to_owned(),
            env: vec![],
            is_background: false,
        }
    }
}

async fn write(sandbox: &dyn Sandbox) -> Result<(), Failure> {
    Ok(sandbox.write_file("/workspace/tracked.txt", TRACKED.as_bytes()).await.map_err(problem_of_sandbox)?)
}

/// The script of every row, checked.
pub(crate) async fn run(sandbox: &dyn Sandbox, nonce: &str) -> Result<(), Failure> {
    let spec = ExecSpec {
        call: nonce.to_owned(),
        argv: ["/bin/sh", "-c", &peers::script(nonce, "tracked.txt")].map(str::to_owned).to_vec(),
        cwd: "/workspace".to_owned(),
        env: vec![],
        stdin: vec![],
        timeout_ms: 60_000,
        output_limit_bytes: 64 * 1024,
        is_read_only: false,
    };
    let mut events = sandbox.exec(spec).await.map_err(problem_of_sandbox)?;
    let (mut output, mut exit) = (vec![], None);
    while let Some(event) = events.recv().await {
        match event {
            ExecEvent::Output { bytes, .. } => output.extend(bytes),
            ExecEvent::Exit(done) => exit = Some(done.reason),
        }
    }
    sandbox.acknowledge(nonce).await.map_err(problem_of_sandbox)?;
    if exit == Some(ExitReason::Code { code: 0 }) && output == format!("{nonce}\n{TRACKED}").into_bytes() {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Internal, "A command did not print what it should.")
        .detail(String::from_utf8_lossy(&output).into_owned())
        .into())
}

/// Starts and readies one, for `density`.
pub(crate) async fn warm_one(library: &Library) -> Result<Arc<dyn Sandbox>, Failure> {
    let sandbox = library.alive().await?;
    write(&*sandbox).await?;
    run(&*sandbox, "ready").await?;
    Ok(sandbox)
}
