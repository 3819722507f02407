//! What a sandbox is to the rest of Greenroom: the `SandboxProvider` and `Sandbox` traits, their value types and
//! errors. Owns no Linux detail; `sandboxd` implements it on one machine. Bytes go in and out: no descriptor, path of a
//! runtime or kernel type shows here, so that the same traits can be served over a network.

#[cfg(feature = "contract")]
pub mod contract;
mod egress;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod spec;

pub use egress::{EgressHandler, EgressStream, Origin};
pub use error::Error;
pub use spec::{
    Base, Capabilities, Capability, ClaimSpec, DirEntry, ExecEvent, ExecSpec, Exit, ExitReason, Fence,
    FileContent, FileKind, FileStat, ReadOnlyBind, Resources, SearchQuery, SearchResult, SnapshotLayer,
    Utf8Path, Workspace,
};

use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::mpsc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Places sandboxes. Cheap to share; every method may be called concurrently.
#[async_trait]
pub trait SandboxProvider: Send + Sync + std::fmt::Debug {
    /// Starts a sandbox over the given layers. Returns when its stage answers. Refuses a fence lower than one already
    /// seen for the same session (`Error::Fenced`).
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>>;

    /// Ids of sandboxes that are alive, in no order.
    async fn list(&self) -> Result<Vec<String>>;

    /// What this machine can and cannot enforce, for people to read (`greenroom doctor`).
    fn capabilities(&self) -> Capabilities;

    /// Ends every sandbox and waits until its processes are reaped and its mounts are gone.
    async fn shutdown(&self) -> Result<()>;
}

/// One running sandbox. Dropping the last handle does not end it; `suspend` or `destroy` does.
#[async_trait]
pub trait Sandbox: Send + Sync + std::fmt::Debug {
    fn id(&self) -> &str;

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

    /// Ends all processes and gives the workspace's changes as a layer directory that a later claim can start from.
    async fn suspend(&self) -> Result<SnapshotLayer>;

    /// Ends all processes and forgets the sandbox; the workspace directory is left to its owner.
    async fn destroy(&self) -> Result<()>;

    /// Resolves when the sandbox has ended for whatever reason, with a sentence that says why.
    async fn ended(&self) -> String;
}
