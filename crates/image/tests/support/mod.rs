//! A provider whose programs are closures, and repositories in the real local forge.

// Lint settings know tests by their attribute, which helpers do not have.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use async_trait::async_trait;
use greenroom_domain::{ImageId, RepositoryId};
use greenroom_forge::{Forge, LocalForge};
use greenroom_image::{BuildRequest, Builder, LayerStore, SandboxSetup};
use greenroom_sandbox::{
    Capabilities, ClaimSpec, DirEntry, Error, ExecEvent, ExecSpec, Exit, ExitReason, FileContent, FileStat,
    Result, Sandbox, SandboxProvider, SearchQuery, SearchResult, SnapshotLayer,
};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How a fake program goes.
pub enum Reply {
    Exit(&'static str, i32),
    /// Says it and never ends.
    Hang(&'static str),
    /// The sandbox is gone in the middle.
    Lost,
    Flood(usize),
    /// Ends well and leaves a file of this path in the workspace.
    Writes(&'static str),
}

type Program = Box<dyn Fn(&str) -> Reply + Send + Sync>;

pub struct FakeProvider {
    program: Program,
    pub seen: Mutex<Seen>,
}

#[derive(Default)]
pub struct Seen {
    pub claims: Vec<ClaimSpec>,
    pub scripts: Vec<String>,
    pub files: Vec<(String, Vec<u8>)>,
    pub alive: Vec<String>,
    /// Runs that were ended before their time.
    pub cancelled: usize,
}

impl FakeProvider {
    pub fn new(program: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { program: Box::new(program), seen: Mutex::default() })
    }

    /// What ran since the last time it was asked, without the build's own scripts.
    pub fn take_scripts(&self) -> Vec<String> {
        let scripts = std::mem::take(&mut self.seen.lock().unwrap().scripts);
        scripts.into_iter().filter(|script| !script.contains("GREENROOM_COMMIT")).collect()
    }

    pub fn alive(&self) -> usize {
        self.seen.lock().unwrap().alive.len()
    }
}

impl std::fmt::Debug for FakeProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeProvider")
    }
}

/// Lets a test keep its hands on the provider.
#[derive(Debug)]
pub struct Handle(pub Arc<FakeProvider>);

#[async_trait]
impl SandboxProvider for Handle {
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>> {
        assert!(spec.is_background && spec.workspace.directory.is_dir());
        assert!(spec.layers.iter().all(|layer| layer.is_dir()));
        let mut seen = self.0.seen.lock().unwrap();
        seen.claims.push(spec.clone());
        seen.alive.push(spec.id.clone());
        Ok(Arc::new(FakeSandbox {
            provider: self.0.clone(),
            spec,
            held: Mutex::default(),
            written: Mutex::default(),
        }))
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.0.seen.lock().unwrap().alive.clone())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { mode: "fake".into(), entries: Vec::new() }
    }

    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}

struct FakeSandbox {
    provider: Arc<FakeProvider>,
    spec: ClaimSpec,
    /// Senders of runs that hang.
    held: Mutex<Vec<(String, mpsc::Sender<ExecEvent>)>>,
    written: Mutex<Vec<&'static str>>,
}

impl std::fmt::Debug for FakeSandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.spec.id)
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::Unsupported { reason: "the fake has none".into(), remedy: None })
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn id(&self) -> &str {
        &self.spec.id
    }

    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
        let script = spec.argv.last().unwrap().clone();
        self.provider.seen.lock().unwrap().scripts.push(script.clone());
        let reply = (self.provider.program)(&script);
        let (sender, receiver) = mpsc::channel(64);
        let exit = |code, output_bytes| {
            let reason = ExitReason::Code { code };
            ExecEvent::Exit(Exit { reason, output_bytes, is_truncated: false, duration_ms: 1 })
        };
        let output = |text: &[u8], offset| ExecEvent::Output { offset, bytes: text.to_vec() };
        match reply {
            Reply::Exit(text, code) => {
                sender.send(output(text.as_bytes(), 0)).await.unwrap();
                sender.send(exit(code, text.len() as u64)).await.unwrap();
            }
            Reply::Hang(text) => {
                sender.send(output(text.as_bytes(), 0)).await.unwrap();
                self.held.lock().unwrap().push((spec.call, sender));
            }
            Reply::Lost => sender.send(output(b"before the end\n", 0)).await.unwrap(),
            Reply::Writes(path) => {
                self.written.lock().unwrap().push(path);
                sender.send(exit(0, 0)).await.unwrap();
            }
            Reply::Flood(chunks) => {
                tokio::spawn(async move {
                    for chunk in 0..chunks {
                        let event =
                            ExecEvent::Output { offset: chunk as u64 * 65536, bytes: vec![b'x'; 65536] };
                        let _ = sender.send(event).await;
                    }
                    let reason = ExitReason::Code { code: 0 };
                    let exit = Exit { reason, output_bytes: 0, is_truncated: true, duration_ms: 1 };
                    let _ = sender.send(ExecEvent::Exit(exit)).await;
                });
            }
        }
        Ok(receiver)
    }

    async fn cancel(&self, call: &str, _grace_ms: u64) -> Result<()> {
        let held =
            self.held.lock().unwrap().iter().find(|(known, _)| known == call).map(|(_, run)| run.clone());
        if let Some(run) = held {
            let reason = ExitReason::Signal { signal: 15 };
            let exit = Exit { reason, output_bytes: 0, is_truncated: false, duration_ms: 1 };
            let _ = run.send(ExecEvent::Exit(exit)).await;
            self.held.lock().unwrap().retain(|(known, _)| known != call);
            self.provider.seen.lock().unwrap().cancelled += 1;
        }
        Ok(())
    }

    async fn acknowledge(&self, _call: &str) -> Result<()> {
        Ok(())
    }

    async fn read_file(&self, _path: &str, _offset: u64, _limit: u64) -> Result<FileContent> {
        unsupported()
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.provider.seen.lock().unwrap().files.push((path.to_owned(), bytes.to_vec()));
        Ok(())
    }

    async fn stat(&self, _path: &str) -> Result<FileStat> {
        unsupported()
    }

    async fn list_dir(&self, _path: &str) -> Result<Vec<DirEntry>> {
        unsupported()
    }

    async fn search(&self, _query: SearchQuery) -> Result<SearchResult> {
        unsupported()
    }

    async fn suspend(&self) -> Result<SnapshotLayer> {
        self.provider.seen.lock().unwrap().alive.retain(|id| *id != self.spec.id);
        let directory = self.spec.workspace.directory.join("upper");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("made-by"), &self.spec.id).unwrap();
        for path in self.written.lock().unwrap().iter() {
            let path = directory.join("root/workspace").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        Ok(SnapshotLayer { directory })
    }

    async fn destroy(&self) -> Result<()> {
        self.provider.seen.lock().unwrap().alive.retain(|id| *id != self.spec.id);
        Ok(())
    }

    async fn ended(&self) -> String {
        std::future::pending().await
    }
}

/// A data directory with a local forge, one repository in it, and a builder.
pub struct Room {
    pub directory: TempDir,
    pub builder: Builder,
    pub repository: RepositoryId,
    pub provider: Arc<FakeProvider>,
    next_image: AtomicU64,
}

impl Room {
    pub async fn new(provider: Arc<FakeProvider>, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q", "-b", "main"]);
        let data = directory.path().join("data");
        let forge = LocalForge::open(&data).unwrap();
        let repository = RepositoryId::from_parts(1, 1);
        commit(&source, files);
        forge.create_repository(repository, Some(source.to_str().unwrap())).await.unwrap();
        let clock = AtomicI64::new(1_000);
        let builder = Builder {
            forge: Arc::new(forge),
            sandboxes: Arc::new(Handle(provider.clone())),
            layers: LayerStore::open(&data).unwrap(),
            clock: Arc::new(move || clock.fetch_add(1, Ordering::Relaxed)),
            registries: greenroom_image::Registries::default(),
            base_fingerprint: "base".into(),
        };
        Self { directory, builder, repository, provider, next_image: AtomicU64::new(1) }
    }

    /// A request for a new image each time.
    pub fn request(&self) -> BuildRequest {
        let number = self.next_image.fetch_add(1, Ordering::Relaxed);
        BuildRequest {
            image: ImageId::from_parts(number, 0),
            repository: self.repository,
            name: "sample".parse().unwrap(),
            branch: "main".parse().unwrap(),
            setup: SandboxSetup {
                files: vec![("/root/.npmrc".into(), b"registry=http://registry.example.com".to_vec())],
                ..SandboxSetup::default()
            },
            clone_url: "http://git.example/sample.git".into(),
            previous: None,
            cancel: CancellationToken::new(),
        }
    }

    /// Commits in a clone of the forge's repository and puts the branch there.
    pub fn push(&self, files: &[(&str, &str)]) {
        let source = self.directory.path().join("source");
        commit(&source, files);
        let bare = self.directory.path().join(format!("data/repositories/{}.git", self.repository));
        git(&source, &["push", "-q", bare.to_str().unwrap(), "main"]);
    }

    /// Entries left of running builds.
    pub fn leftovers(&self) -> usize {
        self.directory.path().join("data/builds").read_dir().unwrap().count()
    }

    pub fn log(&self, image: ImageId) -> String {
        let path = self.builder.layers.image_directory(image).join("build.log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
    }
}

fn commit(source: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(source, &["add", "-A"]);
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "files"];
    git(source, &identity);
}

pub fn git(directory: &Path, args: &[&str]) {
    let status = Command::new("git").arg("-C").arg(directory).args(args).status().unwrap();
    assert!(status.success(), "git {args:?}");
}

/// Waits for a condition that other tasks bring about.
pub async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let wait = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
