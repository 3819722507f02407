//! The values that cross the sandbox boundary. Sizes are bytes, times milliseconds, unless a name says otherwise.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An absolute path inside a sandbox.
pub type Utf8Path = str;

/// Who commands a sandbox. A provider remembers the highest (epoch, generation) per session and refuses lower ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub session: String,
    pub epoch: u64,
    pub generation: u64,
}

/// The lowest layer of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Base {
    /// The host's own root, masked to its programs and libraries; no secret, home or data directory of the host shows.
    HostRoot,
    /// An unpacked root file system, for example of an OCI image.
    Directory { path: PathBuf },
}

/// A host directory shown read-only inside, for example the tool part of `~/.cargo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyBind {
    pub source: PathBuf,
    pub target: String,
}

/// Bounds of one sandbox. `None`: the provider's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub memory_bytes: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub processes: Option<u64>,
    pub disk_bytes: Option<u64>,
}

/// Where a sandbox keeps what it writes: a directory on the host that the caller owns and the provider fills. A second
/// claim with the same directory finds the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub directory: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    pub id: String,
    pub fence: Fence,
    pub base: Base,
    /// Read-only layers over the base, lowest first. Plain directories, never changed once used.
    pub layers: Vec<PathBuf>,
    pub workspace: Workspace,
    pub binds: Vec<ReadOnlyBind>,
    pub resources: Resources,
    pub hostname: String,
    /// Environment of every process started inside; holds no secret.
    pub env: Vec<(String, String)>,
    /// Lower scheduling priority than sessions (image builds).
    pub is_background: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Idempotency key of the run, at most 128 characters.
    pub call: String,
    pub argv: Vec<String>,
    pub cwd: String,
    /// Added to, and winning over, the sandbox's environment.
    pub env: Vec<(String, String)>,
    pub stdin: Vec<u8>,
    /// The run and its process group are ended after this time.
    pub timeout_ms: u64,
    /// Output past this many bytes is read and dropped, and the exit says so.
    pub output_limit_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ExecEvent {
    /// Merged standard output and error, in the order written. `offset` counts bytes from the run's start.
    Output {
        offset: u64,
        bytes: Vec<u8>,
    },
    Exit(Exit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub reason: ExitReason,
    /// All bytes the run wrote, dropped ones included.
    pub output_bytes: u64,
    pub is_truncated: bool,
    pub duration_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitReason {
    Code {
        code: i32,
    },
    Signal {
        signal: i32,
    },
    TimedOut,
    Cancelled,
    OutOfMemory,
    /// The program could not be started; `errno` as in errno(3).
    NotStarted {
        errno: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    pub bytes: Vec<u8>,
    pub size: u64,
    pub is_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Link,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    pub kind: FileKind,
    pub size: u64,
    pub mode: u32,
    pub modified_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    pub name: String,
    pub kind: FileKind,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum SearchQuery {
    /// Paths under `root` that match a glob such as `src/**/*.rs`, newest first.
    Glob { root: String, pattern: String, limit: u64 },
    /// Lines under `root` that match a regular expression (Rust `regex` syntax), optionally only in files that match
    /// `include` (a glob), with lines of context.
    Grep {
        root: String,
        pattern: String,
        include: Option<String>,
        is_case_insensitive: bool,
        context_lines: u64,
        limit: u64,
    },
}

/// `text` has one path, or one `path:line:text`, per line; `is_truncated` when the limit or 1 MiB cut it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchResult {
    pub text: String,
    pub matches: u64,
    pub is_truncated: bool,
}

/// A read-only directory that holds what a sandbox changed, in the layer format of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLayer {
    pub directory: PathBuf,
}

/// What a machine can enforce. Each entry is a sentence a person can act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `root` or `user`.
    pub mode: String,
    pub entries: Vec<Capability>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Stable name, for example `memory_limit`.
    pub name: String,
    pub is_available: bool,
    /// How it is done, or what is lost without it.
    pub detail: String,
    /// The exact line that changes it, where there is one.
    pub remedy: Option<String>,
}
