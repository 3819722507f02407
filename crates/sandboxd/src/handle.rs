//! What callers hold: the requests of the `Sandbox` trait, each checked and put into the stage's words.

use crate::conversation::{REQUEST_LIMIT, lock, unexpected};
use crate::sandbox::{LocalSandbox, absolute};
use crate::workspace;
use crate::zygote::system;
use async_trait::async_trait;
use greenroom_sandbox::{
    DirEntry, Error, ExecEvent, ExecSpec, FileContent, FileKind, FileStat, Result, Sandbox, SandboxStream,
    SearchQuery, SearchResult, Snapshot, SnapshotLayer, Terminal, TerminalSpec, Usage, WatchEvent,
};
use greenroom_stage::protocol::{FILE_BYTES, Kind, SearchPlan, StageOp, StageResult};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const MAX_READ: u64 = 64 << 20;
const MAX_WRITE: usize = 256 << 20;

/// What callers hold.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<LocalSandbox>);

impl std::ops::Deref for Handle {
    type Target = Arc<LocalSandbox>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[async_trait]
impl Sandbox for Handle {
    fn id(&self) -> &str {
        self.name()
    }

    fn was_blank(&self) -> bool {
        self.room().was_blank
    }

    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>> {
        crate::exec::exec(&self.0, spec).await
    }

    async fn cancel(&self, call: &str, grace_ms: u64) -> Result<()> {
        let op = StageOp::Cancel { call: call.to_owned(), grace_ms };
        let limit = REQUEST_LIMIT + Duration::from_millis(grace_ms).min(REQUEST_LIMIT);
        self.whole(op, &[], limit).await.map(drop)
    }

    async fn acknowledge(&self, call: &str) -> Result<()> {
        self.check()?;
        lock(&self.room().out_of_memory).remove(call);
        self.room().stage.acknowledge(call).await
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent> {
        absolute(path)?;
        let limit = limit.min(MAX_READ);
        let mut content = FileContent { bytes: Vec::new(), size: 0, is_end: false };
        loop {
            let done = content.bytes.len() as u64;
            let op = StageOp::Read {
                path: path.to_owned(),
                offset: offset + done,
                limit: (limit - done).min(FILE_BYTES),
            };
            match self.ask(op, &[]).await? {
                (StageResult::Content { size, is_end }, bytes) => {
                    let is_stuck = bytes.is_empty();
                    content.bytes.extend(bytes);
                    (content.size, content.is_end) = (size, is_end);
                    if is_end || is_stuck || content.bytes.len() as u64 >= limit {
                        return Ok(content);
                    }
                }
                (result, _) => return Err(unexpected(&result)),
            }
        }
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        static UPLOADS: AtomicU64 = AtomicU64::new(1);
        absolute(path)?;
        if bytes.len() > MAX_WRITE {
            return Err(Error::Invalid {
                reason: "a file of more than 256 MiB cannot be written at once".into(),
            });
        }
        let upload = UPLOADS.fetch_add(1, Ordering::Relaxed);
        let mut offset = 0;
        loop {
            let end = (offset + FILE_BYTES as usize).min(bytes.len());
            let is_last = end == bytes.len();
            let op = StageOp::Write { path: path.to_owned(), upload, offset: offset as u64, is_last };
            match self.ask(op, &bytes[offset..end]).await? {
                (StageResult::Done, _) if is_last => return Ok(()),
                (StageResult::Done, _) => offset = end,
                (result, _) => return Err(unexpected(&result)),
            }
        }
    }

    async fn stat(&self, path: &str) -> Result<FileStat> {
        absolute(path)?;
        match self.ask(StageOp::Stat { path: path.to_owned() }, &[]).await? {
            (StageResult::Stat(facts), _) => Ok(FileStat {
                kind: kind_of(facts.kind),
                size: facts.size,
                mode: facts.mode,
                modified_ns: facts.modified_ns,
            }),
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        absolute(path)?;
        match self.ask(StageOp::List { path: path.to_owned() }, &[]).await? {
            (StageResult::Entries { entries, .. }, _) => {
                let entry = |entry: greenroom_stage::protocol::EntryFacts| DirEntry {
                    name: entry.name,
                    kind: kind_of(entry.kind),
                    size: entry.size,
                };
                Ok(entries.into_iter().map(entry).collect())
            }
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchResult> {
        match self.ask(StageOp::Search(plan_of(query)?), &[]).await? {
            (StageResult::Found { matches, is_truncated }, body) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                Ok(SearchResult { text, matches, is_truncated })
            }
            (result, _) => Err(unexpected(&result)),
        }
    }

    async fn open_terminal(&self, spec: TerminalSpec) -> Result<Terminal> {
        crate::terminal::open(&self.0, spec).await
    }

    async fn watch(&self, path: &str) -> Result<mpsc::Receiver<WatchEvent>> {
        crate::watch::watch(&self.0, path).await
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn SandboxStream>> {
        crate::ports::connect(&self.0, port).await
    }

    async fn listening_ports(&self) -> Result<Vec<u16>> {
        crate::ports::listening(&self.0).await
    }

    async fn freeze(&self) -> Result<()> {
        self.check()?;
        let _one = self.room().snapshots.lock().await;
        self.room().freeze().await
    }

    async fn thaw(&self) -> Result<()> {
        self.check()?;
        let _one = self.room().snapshots.lock().await;
        self.room().thaw().await
    }

    async fn page_out(&self) -> Result<u64> {
        self.check()?;
        crate::memory::page_out(self.room()).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.check()?;
        crate::memory::usage(&self.0).await
    }

    async fn snapshot(&self, directory: &Path) -> Result<Snapshot> {
        crate::snapshot::take(&self.0, directory).await
    }

    async fn suspend(&self) -> Result<SnapshotLayer> {
        self.check()?;
        self.kill("it was suspended");
        self.wait_for_end().await?;
        let directory = self.workspace().to_owned();
        tokio::task::spawn_blocking(move || workspace::into_layer(&directory))
            .await
            .map_err(|error| system("suspend", "workspace", std::io::Error::other(error)))?
    }

    async fn destroy(&self) -> Result<()> {
        self.kill("it was destroyed");
        self.wait_for_end().await
    }

    async fn ended(&self) -> String {
        self.0.ended().await
    }
}

fn kind_of(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Directory => FileKind::Directory,
        Kind::Link => FileKind::Link,
        Kind::Other => FileKind::Other,
    }
}

fn plan_of(query: SearchQuery) -> Result<SearchPlan> {
    match query {
        SearchQuery::Glob { root, pattern, limit } => {
            absolute(&root)?;
            Ok(SearchPlan::Glob { root, pattern, limit })
        }
        SearchQuery::Grep { root, pattern, include, is_case_insensitive, context_lines, limit } => {
            absolute(&root)?;
            Ok(SearchPlan::Grep { root, pattern, include, is_case_insensitive, context_lines, limit })
        }
    }
}
