//! A provider in memory, deterministic and without any isolation, for tests of the crates above. It keeps files in a map,
//! and runs a scripted closure or, without one, the few shell commands that `interpret` lists. Passes
//! `contract::basics`.

mod interactive;
mod shell;

use crate::{
    Capabilities, ClaimSpec, DirEntry, Error, ExecEvent, ExecSpec, Exit, ExitReason, FileContent, FileKind,
    FileStat, Identity, Result, Sandbox, SandboxProvider, SandboxStream, SearchQuery, SearchResult, Snapshot,
    SnapshotLayer, SnapshotMethod, Terminal, TerminalSpec, WatchEvent, Workspace,
};
use async_trait::async_trait;
use interactive::{Interactive, Services};
use shell::{glob, interpret};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Absolute path to content. Directories exist by what lies in them.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a run printed, and its exit code.
pub type Outcome = (Vec<u8>, ExitReason);

/// Answers a run; `None` leaves it to the built-in commands.
pub type Script = dyn Fn(&ExecSpec, &mut Files) -> Option<Outcome> + Send + Sync;

#[derive(Clone, Default)]
pub struct FakeProvider {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    script: Option<Box<Script>>,
    /// Ports that every sandbox listens on.
    services: Mutex<Services>,
}

#[derive(Default)]
struct State {
    fences: HashMap<String, (u64, u64)>,
    /// By directory: workspaces and layers alike.
    trees: HashMap<PathBuf, Files>,
    alive: HashMap<String, Arc<FakeSandbox>>,
    layers: u64,
}

impl std::fmt::Debug for FakeProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeProvider").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeProvider {
    pub fn scripted(
        script: impl Fn(&ExecSpec, &mut Files) -> Option<Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self { shared: Arc::new(Shared { script: Some(Box::new(script)), ..Shared::default() }) }
    }

    /// Lets every sandbox listen on a port; `serve` gets the inner end of each connection.
    #[must_use]
    pub fn with_port(
        self,
        port: u16,
        serve: impl Fn(tokio::io::DuplexStream) + Send + Sync + 'static,
    ) -> Self {
        lock(&self.shared.services).insert(port, Arc::new(serve));
        self
    }
}

#[async_trait]
impl SandboxProvider for FakeProvider {
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>> {
        let mut state = lock(&self.shared.state);
        let fence = (spec.fence.epoch, spec.fence.generation);
        let seen = state.fences.entry(spec.fence.session.clone()).or_insert(fence);
        if *seen > fence {
            return Err(Error::Fenced { seen: seen.0 });
        }
        *seen = fence;
        if state.alive.contains_key(&spec.id) {
            return Err(Error::Invalid { reason: format!("a sandbox {} exists already", spec.id) });
        }
        let mut lower = Files::new();
        for layer in &spec.layers {
            lower.extend(state.trees.get(layer).cloned().unwrap_or_default());
        }
        let begun = state
            .trees
            .get(&spec.workspace.directory)
            .or_else(|| spec.workspace.begin_from.as_ref().and_then(|snapshot| state.trees.get(snapshot)));
        lower.extend(begun.cloned().unwrap_or_default());
        let inside = Inside { files: lower, runs: HashMap::new(), interactive: Interactive::default() };
        let sandbox = Arc::new(FakeSandbox {
            shared: self.shared.clone(),
            inside: Mutex::new(inside),
            end: watch::channel(None).0,
            spec,
        });
        state.alive.insert(sandbox.spec.id.clone(), sandbox.clone());
        Ok(Arc::new(Handle(sandbox)))
    }

    async fn rebind(&self, sandbox: &str, to: Identity) -> Result<Arc<dyn Sandbox>> {
        let mut state = lock(&self.shared.state);
        let ended = || Error::Ended { reason: format!("there is no sandbox {sandbox}") };
        let former = state.alive.get(sandbox).cloned().ok_or_else(ended)?;
        let fence = (to.fence.epoch, to.fence.generation);
        let seen = state.fences.entry(to.fence.session.clone()).or_insert(fence);
        if *seen > fence {
            return Err(Error::Fenced { seen: seen.0 });
        }
        *seen = fence;
        let is_taken =
            |other: &FakeSandbox| other.spec.id == to.id || other.spec.workspace.directory == to.workspace;
        if state.alive.values().any(|other| is_taken(other)) {
            return Err(Error::Invalid { reason: format!("a sandbox {} or its workspace exists", to.id) });
        }
        state.alive.remove(sandbox);
        if let Some(files) = state.trees.remove(&former.spec.workspace.directory) {
            state.trees.insert(to.workspace.clone(), files);
        }
        former.end.send_replace(Some("it was given to another owner".to_owned()));
        let workspace = Workspace { directory: to.workspace, ..former.spec.workspace.clone() };
        let spec = ClaimSpec {
            id: to.id,
            fence: to.fence,
            workspace,
            hostname: to.hostname,
            env: to.env,
            ..former.spec.clone()
        };
        let sandbox = Arc::new(FakeSandbox {
            shared: self.shared.clone(),
            inside: Mutex::new(std::mem::take(&mut lock(&former.inside))),
            end: watch::channel(None).0,
            spec,
        });
        state.alive.insert(sandbox.spec.id.clone(), sandbox.clone());
        Ok(Arc::new(Handle(sandbox)))
    }

    async fn set_blanks(&self, count: usize) -> Result<()> {
        match count {
            0..=64 => Ok(()),
            _ => Err(Error::Invalid { reason: "at most 64 blanks are kept".into() }),
        }
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(lock(&self.shared.state).alive.keys().cloned().collect())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { mode: "fake".into(), entries: Vec::new() }
    }

    async fn shutdown(&self) -> Result<()> {
        let alive: Vec<_> = lock(&self.shared.state).alive.values().cloned().collect();
        for sandbox in alive {
            sandbox.finish("the provider shuts down");
        }
        Ok(())
    }
}

struct FakeSandbox {
    shared: Arc<Shared>,
    spec: ClaimSpec,
    inside: Mutex<Inside>,
    end: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Inside {
    files: Files,
    runs: HashMap<String, (Vec<u8>, Exit)>,
    interactive: Interactive,
}

impl Inside {
    /// Changes files, and tells whoever watches them.
    fn change<T>(&mut self, work: impl FnOnce(&mut Files) -> T) -> T {
        let before = self.files.clone();
        let result = work(&mut self.files);
        self.interactive.tell(&before, &self.files);
        result
    }
}

struct Handle(Arc<FakeSandbox>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeSandbox({})", self.0.spec.id)
    }
}

impl FakeSandbox {
    fn check(&self) -> Result<()> {
        let fence = &self.spec.fence;
        let seen = lock(&self.shared.state).fences.get(&fence.session).copied();
        match (seen, &*self.end.borrow()) {
            (Some(seen), _) if seen > (fence.epoch, fence.generation) => Err(Error::Fenced { seen: seen.0 }),
            (_, Some(reason)) => Err(Error::Ended { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    fn finish(&self, reason: &str) {
        if self.end.borrow().is_some() {
            return;
        }
        let files = lock(&self.inside).files.clone();
        let mut state = lock(&self.shared.state);
        state.alive.remove(&self.spec.id);
        state.trees.insert(self.spec.workspace.directory.clone(), files);
        self.end.send_if_modified(|end| end.get_or_insert_with(|| reason.to_owned()) == reason);
    }

    fn run(&self, spec: &ExecSpec) -> (Vec<u8>, Exit) {
        let mut inside = lock(&self.inside);
        if let Some(done) = inside.runs.get(&spec.call) {
            return done.clone();
        }
        let (mut output, reason) = if spec.is_read_only {
            let (outcome, files) = self.look(spec, &inside.files);
            inside.change(|kept| kept.extend(files));
            outcome
        } else {
            inside.change(|files| self.outcome(spec, files))
        };
        let written = output.len() as u64;
        output.truncate(spec.output_limit_bytes as usize);
        let is_truncated = written > output.len() as u64;
        let done = (output, Exit { reason, output_bytes: written, is_truncated, duration_ms: 1 });
        inside.runs.insert(spec.call.clone(), done.clone());
        done
    }

    fn outcome(&self, spec: &ExecSpec, files: &mut Files) -> Outcome {
        let scripted = self.shared.script.as_ref().and_then(|script| script(spec, files));
        scripted.unwrap_or_else(|| interpret(spec, &self.spec.env, files))
    }

    /// What a run that only reads answers, and what it wrote below `/tmp`.
    fn look(&self, spec: &ExecSpec, files: &Files) -> (Outcome, Files) {
        let mut after = files.clone();
        let outcome = self.outcome(spec, &mut after);
        after.retain(|path, _| path.starts_with("/tmp/"));
        (outcome, after)
    }
}

fn absolute(path: &str) -> Result<()> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(Error::Invalid { reason: format!("not an absolute path: {path}") })
    }
}

fn missing(path: &str) -> Error {
    Error::NotFound { path: path.to_owned() }
}

#[async_trait]
impl Sandbox for Handle {
    fn id(&self) -> &str {
        &self.0.spec.id
    }

    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
        self.0.check()?;
        let (output, exit) = self.0.run(&spec);
        let (sender, receiver) = mpsc::channel(2);
        if !output.is_empty() {
            sender.try_send(ExecEvent::Output { offset: 0, bytes: output }).expect("room for two");
        }
        sender.try_send(ExecEvent::Exit(exit)).expect("room for two");
        Ok(receiver)
    }

    async fn cancel(&self, _: &str, _: u64) -> Result<()> {
        self.0.check()
    }

    async fn acknowledge(&self, call: &str) -> Result<()> {
        self.0.check()?;
        lock(&self.0.inside).runs.remove(call);
        Ok(())
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent> {
        self.0.check()?;
        absolute(path)?;
        let inside = lock(&self.0.inside);
        let bytes = inside.files.get(path).ok_or_else(|| missing(path))?;
        let start = (offset as usize).min(bytes.len());
        let end = start.saturating_add(limit as usize).min(bytes.len());
        Ok(FileContent {
            bytes: bytes[start..end].to_vec(),
            size: bytes.len() as u64,
            is_end: end == bytes.len(),
        })
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.0.check()?;
        absolute(path)?;
        lock(&self.0.inside).change(|files| files.insert(path.to_owned(), bytes.to_vec()));
        Ok(())
    }

    async fn stat(&self, path: &str) -> Result<FileStat> {
        self.0.check()?;
        absolute(path)?;
        let inside = lock(&self.0.inside);
        let below = format!("{}/", path.trim_end_matches('/'));
        match inside.files.get(path) {
            Some(bytes) => {
                Ok(FileStat { kind: FileKind::File, size: bytes.len() as u64, mode: 0o644, modified_ns: 0 })
            }
            None if inside.files.keys().any(|name| name.starts_with(&below)) => {
                Ok(FileStat { kind: FileKind::Directory, size: 0, mode: 0o755, modified_ns: 0 })
            }
            None => Err(missing(path)),
        }
    }

    async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        self.0.check()?;
        absolute(path)?;
        let below = format!("{}/", path.trim_end_matches('/'));
        let mut entries = BTreeMap::new();
        for (name, bytes) in &lock(&self.0.inside).files {
            let Some(rest) = name.strip_prefix(&below) else { continue };
            let (name, kind, size) = match rest.split_once('/') {
                Some((directory, _)) => (directory, FileKind::Directory, 0),
                None => (rest, FileKind::File, bytes.len() as u64),
            };
            entries.insert(name.to_owned(), DirEntry { name: name.to_owned(), kind, size });
        }
        if entries.is_empty() { Err(missing(path)) } else { Ok(entries.into_values().collect()) }
    }

    /// Globs know `*` and `**`; grep knows plain text.
    async fn search(&self, query: SearchQuery) -> Result<SearchResult> {
        self.0.check()?;
        let (root, pattern, text, limit) = match query {
            SearchQuery::Glob { root, pattern, limit } => (root, Some(pattern), None, limit),
            SearchQuery::Grep { root, pattern, include, limit, .. } => (root, include, Some(pattern), limit),
        };
        let below = format!("{}/", root.trim_end_matches('/'));
        let mut lines = Vec::new();
        for (path, bytes) in &lock(&self.0.inside).files {
            let Some(rest) = path.strip_prefix(&below) else { continue };
            if pattern.as_ref().is_some_and(|pattern| !glob(pattern, rest)) {
                continue;
            }
            match &text {
                None => lines.push(path.clone()),
                Some(text) => {
                    let content = String::from_utf8_lossy(bytes);
                    let hits = content.lines().enumerate().filter(|(_, line)| line.contains(text.as_str()));
                    lines.extend(hits.map(|(number, line)| format!("{path}:{}:{line}", number + 1)));
                }
            }
        }
        let is_truncated = lines.len() as u64 > limit;
        lines.truncate(limit as usize);
        let text = lines.iter().map(|line| format!("{line}\n")).collect();
        Ok(SearchResult { text, matches: lines.len() as u64, is_truncated })
    }

    /// What was written before a sandbox ended can still be copied.
    async fn snapshot(&self, directory: &Path) -> Result<Snapshot> {
        let files = lock(&self.0.inside).files.clone();
        let mut state = lock(&self.0.shared.state);
        if state.trees.contains_key(directory) {
            return Err(Error::Invalid { reason: format!("{} exists already", directory.display()) });
        }
        // Callers see on the disk that there is one.
        if directory.parent().is_some_and(Path::is_dir) {
            std::fs::create_dir_all(directory)
                .map_err(|error| Error::Invalid { reason: error.to_string() })?;
        }
        state.trees.insert(directory.to_owned(), files);
        Ok(Snapshot {
            layer: SnapshotLayer { directory: directory.to_owned() },
            method: SnapshotMethod::Copy,
            freeze_us: 0,
            total_us: 1,
        })
    }

    async fn open_terminal(&self, spec: TerminalSpec) -> Result<Terminal> {
        self.0.check()?;
        if !lock(&self.0.inside).interactive.terminals.insert(spec.call.clone()) {
            return Err(Error::Invalid { reason: "this call id had a terminal already".into() });
        }
        let sandbox = self.0.clone();
        let run = move |line: ExecSpec| lock(&sandbox.inside).change(|files| sandbox.outcome(&line, files));
        Ok(interactive::terminal(&spec, run))
    }

    async fn watch(&self, path: &str) -> Result<mpsc::Receiver<WatchEvent>> {
        if self.stat(path).await?.kind != FileKind::Directory {
            return Err(missing(path));
        }
        Ok(lock(&self.0.inside).interactive.watch(path))
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn SandboxStream>> {
        self.0.check()?;
        let service = lock(&self.0.shared.services).get(&port).cloned();
        let service = service.ok_or_else(|| Error::NotFound { path: format!("port {port}") })?;
        Ok(interactive::connect(&*service))
    }

    async fn listening_ports(&self) -> Result<Vec<u16>> {
        self.0.check()?;
        Ok(lock(&self.0.shared.services).keys().copied().collect())
    }

    async fn suspend(&self) -> Result<SnapshotLayer> {
        self.0.check()?;
        self.0.finish("it was suspended");
        let mut state = lock(&self.0.shared.state);
        state.layers += 1;
        let workspace = &self.0.spec.workspace.directory;
        let directory = workspace.join(format!("layer-{}", state.layers));
        let files = state.trees.remove(workspace).unwrap_or_default();
        state.trees.insert(directory.clone(), files);
        Ok(SnapshotLayer { directory })
    }

    async fn destroy(&self) -> Result<()> {
        self.0.finish("it was destroyed");
        Ok(())
    }

    async fn ended(&self) -> String {
        let mut end = self.0.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the provider is gone".into(),
        }
    }
}

#[cfg(all(test, feature = "contract"))]
mod tests {
    use super::*;
    use crate::contract::{self, Recorder, Subject};

    #[tokio::test]
    async fn the_fake_keeps_the_basic_promises() {
        let provider = Arc::new(FakeProvider::default());
        let subject = Subject { provider, scratch: "/scratch".into(), egress: Arc::new(Recorder::default()) };
        contract::basics(&subject).await;
        contract::ownership(&subject).await;
    }

    #[tokio::test]
    async fn a_snapshot_holds_the_files_of_one_instant_and_begins_any_number_of_workspaces() {
        let provider = Arc::new(FakeProvider::default());
        let subject = Subject {
            provider: provider.clone(),
            scratch: "/scratch".into(),
            egress: Arc::new(Recorder::default()),
        };
        let sandbox = subject.claim().await;
        sandbox.write_file("/kept", b"one").await.unwrap();
        sandbox.snapshot(Path::new("/snapshots/one")).await.unwrap();
        sandbox.write_file("/kept", b"two").await.unwrap();
        for name in ["a", "b"] {
            let mut spec = subject.spec();
            spec.workspace.directory = Path::new("/scratch").join(name);
            spec.workspace.begin_from = Some("/snapshots/one".into());
            let copy = provider.claim(spec).await.unwrap();
            assert_eq!(copy.read_file("/kept", 0, 9).await.unwrap().bytes, b"one");
        }
    }

    #[tokio::test]
    async fn a_port_is_a_closure() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let provider = FakeProvider::default().with_port(3000, |mut stream| {
            tokio::spawn(async move { stream.write_all(b"hello").await });
        });
        let subject = Subject {
            provider: Arc::new(provider),
            scratch: "/scratch".into(),
            egress: Arc::new(Recorder::default()),
        };
        let sandbox = subject.claim().await;
        assert_eq!(sandbox.listening_ports().await.unwrap(), [3000]);
        let mut text = String::new();
        sandbox.connect(3000).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn a_script_answers_before_the_built_in_commands() {
        let provider = FakeProvider::scripted(|spec, _| {
            (spec.argv[0] == "make").then(|| (b"made\n".to_vec(), ExitReason::Code { code: 0 }))
        });
        let subject = Subject {
            provider: Arc::new(provider),
            scratch: "/scratch".into(),
            egress: Arc::new(Recorder::default()),
        };
        let sandbox = subject.claim().await;
        let mut spec = contract::shell("x", "");
        spec.argv = vec!["make".into()];
        assert_eq!(contract::finish(&*sandbox, spec).await.0, "made\n");
    }
}
