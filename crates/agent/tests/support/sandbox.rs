//! A sandbox of plain memory: files are a map, commands behave as the test says.

use async_trait::async_trait;
use greenroom_sandbox::{
    DirEntry, Error, ExecEvent, ExecSpec, Exit, ExitReason, FileContent, FileKind, FileStat, Result, Sandbox,
    SearchQuery, SearchResult, SnapshotLayer, Terminal, TerminalEvent, TerminalInput, TerminalSpec,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Barrier, mpsc};

#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Prints and ends.
    Ends { output: String, reason: ExitReason },
    /// Prints, then runs until it is cancelled.
    Runs { output: String },
    /// Ends once as many commands as the barrier wants run at the same time.
    Meets(Arc<Barrier>),
    /// The sandbox dies under it.
    Dies,
}

/// The program's side of a terminal.
#[derive(Debug)]
pub struct OpenTerminal {
    pub spec: TerminalSpec,
    pub typed: mpsc::Receiver<TerminalInput>,
    pub writes: mpsc::Sender<TerminalEvent>,
}

impl OpenTerminal {
    pub async fn write(&self, text: &str) {
        self.writes.send(TerminalEvent::Output { bytes: text.as_bytes().to_vec() }).await.unwrap();
    }

    pub async fn exit(self, code: i32) {
        self.writes.send(TerminalEvent::Exit { reason: ExitReason::Code { code } }).await.unwrap();
    }

    /// As a program does that is told to hang up.
    pub async fn hangs_up(mut self) {
        assert!(self.typed.recv().await.is_none(), "the terminal was closed");
        self.writes.send(TerminalEvent::Exit { reason: ExitReason::Signal { signal: 1 } }).await.unwrap();
    }

    pub async fn reads(&mut self) -> String {
        match self.typed.recv().await.expect("the terminal is open") {
            TerminalInput::Bytes { bytes } => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Debug, Default)]
pub struct FakeSandbox {
    files: Mutex<BTreeMap<String, (Vec<u8>, i64)>>,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    running: Mutex<HashMap<String, mpsc::Sender<ExecEvent>>>,
    pub ran: Mutex<Vec<ExecSpec>>,
    pub cancelled: Mutex<Vec<String>>,
    pub acknowledged: Mutex<Vec<String>>,
    active: Arc<AtomicUsize>,
    pub most_active: Arc<AtomicUsize>,
    clock: AtomicI64,
    is_lost: AtomicBool,
    locked: Mutex<Vec<String>>,
    /// As they were opened, for the test to take.
    pub terminals: Mutex<Vec<OpenTerminal>>,
}

impl FakeSandbox {
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let at = self.clock.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap().insert(path.to_owned(), (bytes.as_ref().to_vec(), at));
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.files.lock().unwrap()[path].0.clone()).unwrap()
    }

    pub fn teach(&self, command: &str, behaviour: Behaviour) {
        self.behaviours.lock().unwrap().insert(command.to_owned(), behaviour);
    }

    pub fn prints(&self, command: &str, output: &str, code: i32) {
        self.teach(command, Behaviour::Ends { output: output.to_owned(), reason: ExitReason::Code { code } });
    }

    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }

    /// From now on this path cannot be written or removed.
    pub fn lock(&self, path: &str) {
        self.locked.lock().unwrap().push(path.to_owned());
    }

    fn is_locked(&self, path: &str) -> bool {
        self.locked.lock().unwrap().iter().any(|locked| locked == path)
    }

    fn removes(&self, path: &str) -> mpsc::Receiver<ExecEvent> {
        let (sender, receiver) = mpsc::channel(2);
        let code = i32::from(self.is_locked(path));
        if code == 0 {
            self.files.lock().unwrap().remove(path);
        } else {
            sender.try_send(output("rm: it is locked")).unwrap();
        }
        sender.try_send(exit(ExitReason::Code { code })).unwrap();
        receiver
    }

    fn alive(&self) -> Result<()> {
        if self.is_lost() { Err(Error::Ended { reason: "it was killed".to_owned() }) } else { Ok(()) }
    }
}

fn exit(reason: ExitReason) -> ExecEvent {
    ExecEvent::Exit(Exit { reason, output_bytes: 0, is_truncated: false, duration_ms: 1 })
}

fn output(text: &str) -> ExecEvent {
    ExecEvent::Output { offset: 0, bytes: text.as_bytes().to_vec() }
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn id(&self) -> &str {
        "fake"
    }

    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
        self.alive()?;
        if let ["rm", "-f", "--", path] = spec.argv.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            return Ok(self.removes(path));
        }
        let behaviour = self.behaviours.lock().unwrap().get(&spec.argv[2]).cloned();
        let behaviour = behaviour.unwrap_or_else(|| panic!("no behaviour for {:?}", spec.argv));
        let call = spec.call.clone();
        self.ran.lock().unwrap().push(spec);
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_active.fetch_max(active, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel(16);
        match behaviour {
            Behaviour::Ends { output: text, reason } => {
                let active = self.active.clone();
                tokio::spawn(async move {
                    let _ = sender.send(output(&text)).await;
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    active.fetch_sub(1, Ordering::SeqCst);
                    let _ = sender.send(exit(reason)).await;
                });
            }
            Behaviour::Runs { output: text } => {
                let _ = sender.send(output(&text)).await;
                self.running.lock().unwrap().insert(call, sender);
            }
            Behaviour::Meets(barrier) => {
                tokio::spawn(async move {
                    barrier.wait().await;
                    let _ = sender.send(exit(ExitReason::Code { code: 0 })).await;
                });
            }
            Behaviour::Dies => self.is_lost.store(true, Ordering::Relaxed),
        }
        Ok(receiver)
    }

    async fn cancel(&self, call: &str, _grace_ms: u64) -> Result<()> {
        self.cancelled.lock().unwrap().push(call.to_owned());
        let sender = self.running.lock().unwrap().remove(call);
        if let Some(sender) = sender {
            let _ = sender.send(exit(ExitReason::Cancelled)).await;
        }
        Ok(())
    }

    async fn acknowledge(&self, call: &str) -> Result<()> {
        self.acknowledged.lock().unwrap().push(call.to_owned());
        Ok(())
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent> {
        self.alive()?;
        let files = self.files.lock().unwrap();
        let (bytes, _) = files.get(path).ok_or_else(|| Error::NotFound { path: path.to_owned() })?;
        let from = (offset as usize).min(bytes.len());
        let to = from.saturating_add(limit as usize).min(bytes.len());
        Ok(FileContent {
            bytes: bytes[from..to].to_vec(),
            size: bytes.len() as u64,
            is_end: to == bytes.len(),
        })
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        if self.is_locked(path) {
            return Err(Error::System {
                operation: "write",
                path: path.to_owned(),
                source: std::io::ErrorKind::PermissionDenied.into(),
            });
        }
        self.put(path, bytes);
        Ok(())
    }

    async fn stat(&self, path: &str) -> Result<FileStat> {
        self.alive()?;
        let files = self.files.lock().unwrap();
        if let Some((bytes, at)) = files.get(path) {
            return Ok(FileStat {
                kind: FileKind::File,
                size: bytes.len() as u64,
                mode: 0o644,
                modified_ns: *at,
            });
        }
        let below = format!("{path}/");
        if files.keys().any(|name| name.starts_with(&below)) {
            return Ok(FileStat { kind: FileKind::Directory, size: 0, mode: 0o755, modified_ns: 0 });
        }
        Err(Error::NotFound { path: path.to_owned() })
    }

    async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        let below = format!("{path}/");
        let files = self.files.lock().unwrap();
        let mut entries: BTreeMap<String, DirEntry> = BTreeMap::new();
        for rest in files.keys().filter_map(|name| name.strip_prefix(&below)) {
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, FileKind::Directory),
                None => (rest, FileKind::File),
            };
            entries.insert(name.to_owned(), DirEntry { name: name.to_owned(), kind, size: 0 });
        }
        Ok(entries.into_values().collect())
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchResult> {
        self.alive()?;
        let files = self.files.lock().unwrap();
        let lines: Vec<String> = match query {
            SearchQuery::Glob { pattern, .. } => {
                files.keys().filter(|name| name.contains(pattern.trim_matches('*'))).cloned().collect()
            }
            SearchQuery::Grep { pattern, .. } => {
                let texts = files
                    .iter()
                    .map(|(name, (bytes, _))| (name, String::from_utf8_lossy(bytes).into_owned()));
                let hits = texts.flat_map(|(name, text)| {
                    let numbered = text.lines().enumerate().filter(|(_, line)| line.contains(&pattern));
                    numbered.map(|(at, line)| format!("{name}:{}:{line}", at + 1)).collect::<Vec<_>>()
                });
                hits.collect()
            }
        };
        Ok(SearchResult { matches: lines.len() as u64, text: lines.join("\n"), is_truncated: false })
    }

    async fn open_terminal(&self, spec: TerminalSpec) -> Result<Terminal> {
        self.alive()?;
        let (input, typed) = mpsc::channel(4);
        let (writes, output) = mpsc::channel(4);
        self.terminals.lock().unwrap().push(OpenTerminal { spec, typed, writes });
        Ok(Terminal { input, output })
    }

    async fn suspend(&self) -> Result<SnapshotLayer> {
        Err(Error::Invalid { reason: "not here".to_owned() })
    }

    async fn destroy(&self) -> Result<()> {
        Ok(())
    }

    async fn ended(&self) -> String {
        std::future::pending().await
    }
}
