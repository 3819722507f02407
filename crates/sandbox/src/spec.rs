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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub directory: PathBuf,
    /// A snapshot (`Sandbox::snapshot`) of a sandbox over the same layers that an empty workspace begins as. The snapshot
    /// is not changed, must stay while the workspace exists, and may begin any number of workspaces. Ignored when the
    /// workspace holds files already.
    pub begin_from: Option<PathBuf>,
}

/// What a running sandbox becomes when it is given to another owner: everything else about it stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: String,
    pub fence: Fence,
    /// The workspace directory is moved here; must not exist, and lie on the same file system.
    pub workspace: PathBuf,
    pub hostname: String,
    /// Replaces the claim's environment.
    pub env: Vec<(String, String)>,
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
    /// TCP ports on which every address answers and leads to the broker, besides those every sandbox has.
    pub egress_ports: Vec<u16>,
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
    /// The run, and all that it starts, can change no file but below `/tmp`: writing elsewhere fails there, and changing
    /// modes, owners, times or attributes fails everywhere. What it asks other processes to do is theirs. Refused with
    /// `Error::Unavailable` where the machine cannot hold a run to it.
    pub is_read_only: bool,
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

/// What `Sandbox::snapshot` made. Equal to the sandbox's files at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub layer: SnapshotLayer,
    pub method: SnapshotMethod,
    /// How long processes stood still; 0 when none ran.
    pub freeze_us: u64,
    pub total_us: u64,
}

impl Snapshot {
    /// Whether it is on the disk already; otherwise after `Storage::sync`.
    pub fn is_durable(&self) -> bool {
        self.method == SnapshotMethod::Subvolume
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMethod {
    /// By the file system, whatever the size: a transaction of its own, committed when it is taken.
    Subvolume,
    /// Files were copied while processes ran, and the remainder while they stood still. Not synced.
    Copy,
}

/// What a sandbox holds of the machine now. `None`: this machine does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    /// Bytes of the workspace on disk.
    pub disk_bytes: Option<u64>,
}

/// A program on a terminal of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSpec {
    /// As `ExecSpec::call`: a repeated id is refused, because a terminal's output is not kept.
    pub call: String,
    pub argv: Vec<String>,
    pub cwd: String,
    pub env: Vec<(String, String)>,
    pub size: TerminalSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum TerminalInput {
    Bytes { bytes: Vec<u8> },
    Resize { size: TerminalSize },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum TerminalEvent {
    Output {
        bytes: Vec<u8>,
    },
    /// The last event.
    Exit {
        reason: ExitReason,
    },
}

/// Something changed at or below a watched directory. Coalesced: several changes of one path may come as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum WatchEvent {
    Changed {
        path: String,
    },
    Removed {
        path: String,
    },
    /// Changes were missed: look again at everything.
    Overflow,
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
