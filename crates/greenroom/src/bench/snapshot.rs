//! What copies of a workspace cost, at the library: a generated tree as an image's layer, changed files over it, a service
//! that writes on. Snapshots are measured to their return, restore, fork and `git status` to the command done.

use super::stats::Report;
use crate::cli::Global;
use crate::connection;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use async_trait::async_trait;
use greenroom_app::problem_of_sandbox;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::{
    Base, ClaimSpec, EgressHandler, EgressStream, ExecEvent, ExecSpec, ExitReason, Fence, Origin,
    ReadOnlyBind, Resources, Sandbox, SandboxProvider, Snapshot, Storage, Workspace,
};
use greenroom_sandboxd::{LocalProvider, LocalSettings, Volume, VolumeSettings};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Before a start, so that it finds what is made in advance and the end of the one before is over.
const PAUSE: Duration = Duration::from_millis(250);
const CHANGED_FILES: u64 = 5_000;
const FILES_OF_A_DIRECTORY: u64 = 100;
/// Generating, copying and hashing the tree; nothing of it is measured.
const SETUP_MS: u64 = 30 * 60 * 1000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) n: u32,
}

pub(crate) async fn run(global: &Global, out: Output, size: Size) -> Result<Exit, Failure> {
    let parent =
        global.data.clone().unwrap_or_else(|| connection::data_dir(None).with_file_name("greenroom-bench"));
    std::fs::create_dir_all(&parent)?;
    let directory = tempfile::tempdir_in(&parent)?;
    out.progress("A tree is generated…\n");
    let plain = directory.path().join("plain");
    let at = plain.clone();
    blocking(move || generate(&at, size)).await?;
    let bench = Bench::start(&directory.path().join("data")).await?;
    out.progress("It becomes a layer…\n");
    let layer = bench.layer_of(&plain).await?;
    let mut report = Report::default();
    report.fact("files", size.files);
    report.fact("bytes", size.bytes);
    out.progress("git status…\n");
    bench.status(&layer, &plain, size.n, &mut report).await?;
    out.progress("Snapshots, restores, forks…\n");
    bench.quiescent(&layer, size.n, &mut report).await?;
    bench.live("snapshot_live", &layer, 0, size, &mut report).await?;
    bench.live("snapshot_live_build", &layer, size.bytes, size, &mut report).await?;
    // The measurement is over; what is left ends with this process.
    let _ = bench.provider.shutdown().await;
    drop(bench);
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

struct Bench {
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

impl Bench {
    async fn start(data: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(data)?;
        let data = data.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || Volume::open(&data, &VolumeSettings::default())).await;
        let volume = opened.map_err(internal)?.map_err(internal)?;
        let storage = volume.storage().map_err(internal)?;
        let settings = LocalSettings { volume: Some(volume), ..LocalSettings::default() };
        let provider = LocalProvider::start(settings, Arc::new(Closed)).await.map_err(problem_of_sandbox)?;
        Ok(Self { provider, storage, next: AtomicU32::new(0) })
    }

    fn name(&self) -> String {
        format!("bench-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn spec(&self, layers: &[PathBuf]) -> ClaimSpec {
        let name = self.name();
        ClaimSpec {
            id: name.clone(),
            fence: Fence { session: name.clone(), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: layers.to_vec(),
            workspace: Workspace { directory: self.storage.workspace(&name), begin_from: None },
            binds: vec![],
            egress_ports: vec![],
            resources: Resources { disk_bytes: Some(1 << 40), ..Resources::default() },
            hostname: "greenroom".to_owned(),
            env: vec![],
            is_background: false,
        }
    }

    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>, Failure> {
        Ok(self.provider.claim(spec).await.map_err(problem_of_sandbox)?)
    }

    /// The tree as a build leaves it: files in their final place, the index refreshed there.
    async fn layer_of(&self, plain: &Path) -> Result<PathBuf, Failure> {
        let mut spec = self.spec(&[]);
        spec.binds = vec![ReadOnlyBind { source: plain.to_owned(), target: "/source".into() }];
        let sandbox = self.claim(spec).await?;
        let script = "cp -r --preserve=timestamps /source/. /workspace && cd /workspace \
            && git config core.trustctime false && git config core.checkStat minimal \
            && git config core.untrackedCache true && git update-index -q --refresh && git status --short | head -5";
        shell(&*sandbox, "layer", script).await?;
        Ok(sandbox.suspend().await.map_err(problem_of_sandbox)?.directory)
    }

    /// In new sandboxes, beside the same tree without any; both with their files in the page cache.
    async fn status(&self, layer: &Path, plain: &Path, n: u32, report: &mut Report) -> Result<(), Failure> {
        let (mut first, mut second, mut beside) = (vec![], vec![], vec![]);
        for round in 0..=n {
            let sandbox = self.claim(self.spec(&[layer.to_owned()])).await?;
            shell(&*sandbox, "ready", "true").await?;
            for (number, samples) in [&mut first, &mut second].into_iter().enumerate() {
                let begun = Instant::now();
                shell(&*sandbox, &format!("status-{number}"), "cd /workspace && git status --short").await?;
                if round > 0 {
                    samples.push(begun.elapsed());
                }
            }
            sandbox.destroy().await.map_err(problem_of_sandbox)?;
            let plain = plain.to_owned();
            let begun = Instant::now();
            blocking(move || git(&plain, &["status", "--short"])).await?;
            if round > 0 {
                beside.push(begun.elapsed());
            }
        }
        report.row("git_status_first", first);
        report.row("git_status_second", second);
        report.row("git_status_plain_second", beside);
        self.first_plain_status(plain, n, report).await
    }

    /// The same tree's first look without a sandbox: the kernel forgets the files' inodes before each, as if the disk had
    /// just been mounted; their bytes stay in the page cache.
    async fn first_plain_status(&self, plain: &Path, n: u32, report: &mut Report) -> Result<(), Failure> {
        let mut samples = vec![];
        for _ in 0..n {
            if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "2") {
                report.fact("git_status_plain_first", format!("not measured: {error}"));
                return Ok(());
            }
            let plain = plain.to_owned();
            let begun = Instant::now();
            blocking(move || git(&plain, &["status", "--short"])).await?;
            samples.push(begun.elapsed());
        }
        report.row("git_status_plain_first", samples);
        Ok(())
    }

    /// A sandbox at rest with changed files; what begins from its snapshot; deletion.
    async fn quiescent(&self, layer: &Path, n: u32, report: &mut Report) -> Result<(), Failure> {
        let layers = [layer.to_owned()];
        let (mut taken, mut restored, mut forked, mut deleted) = (vec![], vec![], vec![], vec![]);
        for _ in 0..n {
            let sandbox = self.claim(self.spec(&layers)).await?;
            shell(&*sandbox, "change", &change(CHANGED_FILES)).await?;
            // As after a turn's journal: what was written is on the disk.
            self.storage.sync().await.map_err(problem_of_sandbox)?;
            shell(&*sandbox, "touch", "cd /workspace; echo more >> d0/f0; echo more > mark").await?;
            let path = self.storage.snapshots(&self.name()).join("one");
            taken.push(total(&sandbox.snapshot(&path).await.map_err(problem_of_sandbox)?));
            forked.push(self.begin(&layers, &path).await?);
            sandbox.destroy().await.map_err(problem_of_sandbox)?;
            restored.push(self.begin(&layers, &path).await?);
            let begun = Instant::now();
            self.storage.discard(&path)?;
            deleted.push(begun.elapsed());
        }
        report.row("snapshot_quiescent", taken);
        report.row("restore", restored);
        report.row("fork", forked);
        report.row("delete", deleted);
        Ok(())
    }

    /// Until the first command of a workspace that begins from a snapshot is done.
    async fn begin(&self, layers: &[PathBuf], snapshot: &Path) -> Result<Duration, Failure> {
        let mut spec = self.spec(layers);
        spec.workspace.begin_from = Some(snapshot.to_owned());
        let directory = spec.workspace.directory.clone();
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let sandbox = self.claim(spec).await?;
        let script = "read -r line < /workspace/mark; echo $line";
        let text = shell(&*sandbox, "first", script).await?;
        let elapsed = begun.elapsed();
        if text != "more\n" {
            return Err(internal(format!("a snapshot shows {text:?}")));
        }
        sandbox.destroy().await.map_err(problem_of_sandbox)?;
        self.storage.discard(&directory)?;
        Ok(elapsed)
    }

    /// A service writes all the time, and 5,000 files have just been changed; with `build_bytes` of old build output.
    async fn live(
        &self,
        name: &str,
        layer: &Path,
        build_bytes: u64,
        size: Size,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let sandbox = self.claim(self.spec(&[layer.to_owned()])).await?;
        if build_bytes > 0 {
            let script = format!(
                "mkdir /workspace/target && cd /workspace/target && head -c {build_bytes} /dev/urandom | split -b 4M - object-"
            );
            shell(&*sandbox, "build", &script).await?;
        }
        let service = "(while :; do date +%N > /workspace/.service; mv /workspace/.service /workspace/service; done) > /dev/null 2>&1 & \
            until [ -f /workspace/service ]; do sleep 0.01; done";
        shell(&*sandbox, "service", service).await?;
        let (mut totals, mut freezes) = (vec![], vec![]);
        for round in 0..size.n {
            shell(&*sandbox, &format!("change-{round}"), &change(CHANGED_FILES)).await?;
            let path = self.storage.snapshots(name).join(round.to_string());
            let snapshot = sandbox.snapshot(&path).await.map_err(problem_of_sandbox)?;
            totals.push(total(&snapshot));
            freezes.push(Duration::from_micros(snapshot.freeze_us));
            self.storage.discard(&path)?;
        }
        sandbox.destroy().await.map_err(problem_of_sandbox)?;
        let mut part = Report::default();
        part.row("total", totals);
        part.row("freeze_ms", freezes);
        report.part(name, &part);
        Ok(())
    }
}

fn total(snapshot: &Snapshot) -> Duration {
    Duration::from_micros(snapshot.total_us)
}

/// Appends a line to so many tracked files.
fn change(files: u64) -> String {
    let directories = files.div_ceil(FILES_OF_A_DIRECTORY);
    format!(
        "cd /workspace; n=0; while [ $n -lt {directories} ]; do \
         [ -d d$n ] && for f in d$n/*; do echo changed >> $f; done; n=$((n+1)); done; true"
    )
}

/// Runs to its end; an error when it fails. Answers what it printed.
async fn shell(sandbox: &dyn Sandbox, call: &str, script: &str) -> Result<String, Failure> {
    let spec = ExecSpec {
        call: call.to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: "/".to_owned(),
        env: vec![],
        stdin: vec![],
        timeout_ms: SETUP_MS,
        output_limit_bytes: 1 << 20,
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
    sandbox.acknowledge(call).await.map_err(problem_of_sandbox)?;
    let text = String::from_utf8_lossy(&output).into_owned();
    match exit {
        Some(ExitReason::Code { code: 0 }) => Ok(text),
        other => Err(internal(format!("{call} ended with {other:?}: {text}"))),
    }
}

/// A repository whose objects and files do not compress, as a real one's with media and lock files.
fn generate(plain: &Path, size: Size) -> Result<(), Failure> {
    std::fs::create_dir_all(plain)?;
    git(plain, &["init", "-q"])?;
    for (key, value) in [("core.compression", "0"), ("core.looseCompression", "0"), ("gc.auto", "0")] {
        git(plain, &["config", key, value])?;
    }
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(plain)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stream = std::io::BufWriter::new(import.stdin.take().expect("it is piped"));
    write!(stream, "commit refs/heads/main\ncommitter Bench <bench@localhost> 1700000000 +0000\ndata 0\n")?;
    let length = usize::try_from(size.bytes / size.files.max(1)).unwrap_or(usize::MAX);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for file in 0..size.files {
        let content: Vec<u8> = std::iter::repeat_with(|| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % 90) as u8 + 33
        })
        .take(length)
        .collect();
        let (directory, name) = (file / FILES_OF_A_DIRECTORY, file % FILES_OF_A_DIRECTORY);
        write!(stream, "M 644 inline d{directory}/f{name}\ndata {}\n", content.len() + 1)?;
        stream.write_all(&content)?;
        stream.write_all(b"\n\n")?;
    }
    stream.flush()?;
    drop(stream);
    if !import.wait()?.success() {
        return Err(internal("git fast-import failed"));
    }
    git(plain, &["checkout", "-q", "-f", "main"])?;
    git(plain, &["status", "--short"])
}

fn git(directory: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("git").args(arguments).current_dir(directory).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(internal(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Problem::new(ErrorCode::Internal, format!("{error}.")).into()
}
