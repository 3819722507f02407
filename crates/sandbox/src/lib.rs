//! What a sandbox is to the rest of Greenroom: the `SandboxProvider` and `Sandbox` traits, their value types and
//! errors. Owns no Linux detail; `sandboxd` implements it on one machine. Bytes go in and out: no descriptor, path of a
//! runtime or kernel type shows here, so that the same traits can be served over a network.

#[cfg(feature = "contract")]
pub mod contract;
mod egress;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod layers;
mod spec;
mod storage;

pub use egress::{EgressHandler, EgressStream, Origin};
pub use error::Error;
pub use layers::{ID_BASE, ID_COUNT, LayerCopy, LayerReader, Opened};
pub use spec::{
    Base, Capabilities, Capability, ClaimSpec, DirEntry, ExecEvent, ExecSpec, Exit, ExitReason, Fence,
    FileContent, FileKind, FileStat, Identity, ReadOnlyBind, Resources, SearchQuery, SearchResult, Snapshot,
    SnapshotLayer, SnapshotMethod, TerminalEvent, TerminalInput, TerminalSize, TerminalSpec, Usage, Utf8Path,
    WatchEvent, Workspace,
};
pub use storage::{PlainFiles, Storage, StorageDriver, remove_tree, remove_tree_at};

use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Places sandboxes. Cheap to share; every method may be called concurrently.
#[async_trait]
pub trait SandboxProvider: Send + Sync + std::fmt::Debug {
    /// Starts a sandbox over the given layers. Returns when its stage answers. Refuses a fence lower than one already
    /// seen for the same session (`Error::Fenced`).
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>>;

    /// Gives a running sandbox to a new owner, under a new id, with its workspace moved; processes inside go on. Handles
    /// of the former owner answer `Error::Ended` from then on. `Error::Ended` when there is no such sandbox.
    async fn rebind(&self, _sandbox: &str, _to: Identity) -> Result<Arc<dyn Sandbox>> {
        Err(unavailable("be given to another owner"))
    }

    /// How many blanks (started sandboxes without an image) are kept ready for claims; 0 to keep none. Returns when
    /// they are, or when the machine refuses.
    async fn set_blanks(&self, _count: usize) -> Result<()> {
        Err(unavailable("be started in advance"))
    }

    /// How many of them stand ready now.
    fn ready_blanks(&self) -> usize {
        0
    }

    /// Ids of sandboxes that are alive, in no order.
    async fn list(&self) -> Result<Vec<String>>;

    /// Whether a claim would find somebody who answers. Cheap: no sandbox is started.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What this machine can and cannot enforce, for people to read (`greenroom doctor`).
    fn capabilities(&self) -> Capabilities;

    /// Ends every sandbox and waits until its processes are reaped and its mounts are gone.
    async fn shutdown(&self) -> Result<()>;
}

/// One running sandbox. Dropping the last handle does not end it; `suspend` or `destroy` does.
#[async_trait]
pub trait Sandbox: Send + Sync + std::fmt::Debug {
    fn id(&self) -> &str;

    /// Its claim found a blank that was started in advance.
    fn was_blank(&self) -> bool {
        false
    }

    /// Runs a program at most once per `spec.call`: a repeated call id attaches to the same run and replays its spooled
    /// output from offset 0. Events end with exactly one `ExecEvent::Exit`; a channel that closes without it means that
    /// the stage is gone and the outcome is unknown. The channel is bounded: a slow reader slows the program, not memory.
    async fn exec(&self, spec: ExecSpec) -> Result<mpsc::Receiver<ExecEvent>>;

    /// Ends the run and everything it started (SIGTERM, then SIGKILL after `grace_ms`). Unknown ids are not an error.
    async fn cancel(&self, call: &str, grace_ms: u64) -> Result<()>;

    /// Frees what the stage keeps of a finished run (spool, exit status).
    async fn acknowledge(&self, call: &str) -> Result<()>;

    /// Reads up to `limit` bytes from `offset`. Paths are resolved inside the sandbox, links included.
    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent>;

    /// Writes the whole file by rename, creating parent directories; keeps the mode of an existing file.
    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()>;

    async fn stat(&self, path: &str) -> Result<FileStat>;

    async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>>;

    /// Finds files by glob, or lines by regular expression, with `.gitignore` respected.
    async fn search(&self, query: SearchQuery) -> Result<SearchResult>;

    /// Runs a program on a terminal. It ends with SIGHUP when the returned input is dropped.
    async fn open_terminal(&self, _spec: TerminalSpec) -> Result<Terminal> {
        Err(unavailable("have terminals"))
    }

    /// Tells of changes at and below a directory until the receiver is dropped. At most 64 watches of one sandbox.
    async fn watch(&self, _path: &str) -> Result<mpsc::Receiver<WatchEvent>> {
        Err(unavailable("watch files"))
    }

    /// A connection to 127.0.0.1:`port` inside, `Error::NotFound` when nothing listens there.
    async fn connect(&self, _port: u16) -> Result<Box<dyn SandboxStream>> {
        Err(unavailable("be connected to"))
    }

    /// TCP ports that a process inside listens on, the runtime's own left out, in ascending order.
    async fn listening_ports(&self) -> Result<Vec<u16>> {
        Err(unavailable("list their ports"))
    }

    /// Stops every process where it is, until `thaw`. Requests to a frozen sandbox wait for the thaw.
    async fn freeze(&self) -> Result<()> {
        Err(unavailable("be frozen"))
    }

    async fn thaw(&self) -> Result<()> {
        Err(unavailable("be frozen"))
    }

    /// Asks the kernel to move the memory of a frozen or idle sandbox to swap; answers how many bytes left memory.
    async fn page_out(&self) -> Result<u64> {
        Err(unavailable("leave memory"))
    }

    async fn usage(&self) -> Result<Usage> {
        Err(unavailable("be measured"))
    }

    /// Copies the workspace as it is now to `directory`, which must not exist and lies on the workspace's file system.
    /// Processes go on (they are frozen for an instant where that is needed), and so does the sandbox. One at a time per
    /// sandbox; a second call waits. On an error nothing is left. One that ended can still be copied, until a newer owner
    /// claims its workspace.
    ///
    /// Durable only once `Storage::sync` was called after this returned and has returned too: a crash of the machine
    /// before that may leave a part of it, a crash of the server none or all. Whoever keeps it as durable notes that
    /// after the sync. What is charged to a workspace (`Resources::disk_bytes`) may go on to count files that only its
    /// snapshots hold.
    async fn snapshot(&self, _directory: &Path) -> Result<Snapshot> {
        Err(unavailable("be copied while they run"))
    }

    /// Ends all processes and gives the workspace's changes as a layer directory that a later claim can start from.
    async fn suspend(&self) -> Result<SnapshotLayer>;

    /// Ends all processes and forgets the sandbox; the workspace directory is left to its owner.
    async fn destroy(&self) -> Result<()>;

    /// Resolves when the sandbox has ended for whatever reason, with a sentence that says why.
    async fn ended(&self) -> String;
}

fn unavailable(what: &'static str) -> Error {
    Error::Unavailable { what, reason: "their provider has no such thing".into() }
}

/// A connection to a port inside.
pub trait SandboxStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> SandboxStream for T {}

/// Both ends of a terminal. Both queues are bounded: a slow reader slows the program, not memory.
#[derive(Debug)]
pub struct Terminal {
    pub input: mpsc::Sender<TerminalInput>,
    pub output: mpsc::Receiver<TerminalEvent>,
}
