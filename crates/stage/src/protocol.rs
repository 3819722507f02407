//! Requests and replies. Every message is a JSON header and a body of plain bytes, see `frame`. Whoever receives a
//! message from inside a sandbox treats it as hostile: sizes are bounded, ids are looked up and never trusted.

use serde::{Deserialize, Serialize};

/// Raised when a message changes shape; both sides come from one build, so a difference is a bug.
pub const VERSION: u32 = 2;

/// Output bytes one `Fetch` may carry.
pub const FETCH_BYTES: u64 = 256 * 1024;
/// File bytes one `Read` or `Write` may carry.
pub const FILE_BYTES: u64 = 1024 * 1024;
/// Standard input and arguments of one run together stay below this.
pub const EXEC_BYTES: usize = 4 * 1024 * 1024;
/// Entries of one listing.
pub const LIST_ENTRIES: usize = 20_000;
/// Text of one search.
pub const SEARCH_BYTES: u64 = 1024 * 1024;
/// TCP ports on which every address answers and the connection goes to the broker.
pub const EGRESS_TCP_PORTS: [u16; 5] = [80, 443, 22, 3128, 9418];
pub const EGRESS_UDP_PORT: u16 = 53;
/// Terminals of one sandbox at a time.
pub const TERMINALS: usize = 32;
/// Watches of one sandbox at a time.
pub const WATCHES: usize = 64;
/// Directories that all watches of one sandbox cover together.
pub const WATCHED_DIRECTORIES: usize = 16_384;
/// Directories that are told of themselves, but whose contents are not watched; nor is a directory with a `CACHEDIR.TAG`
/// (cargo's `target`, for example), or one on another file system than the watch's.
pub const UNWATCHED: [&str; 16] = [
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "node_modules",
    ".pnpm-store",
    ".yarn",
    ".next",
    ".nuxt",
    ".venv",
    "venv",
    "__pycache__",
    ".tox",
    ".mypy_cache",
    ".gradle",
    ".cache",
];

/// One failed system call, as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub operation: String,
    pub path: String,
    pub errno: i32,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.path, std::io::Error::from_raw_os_error(self.errno))
    }
}

/// What the machine refused, and what is lost by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub name: String,
    pub detail: String,
}

// ---- server to zygote, and to its carriers ----

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ZygoteRequest {
    /// First message: how to prepare.
    Prepare { user_mode: bool, id_base: u32, id_count: u32 },
    /// Comes with one descriptor: the carrier's end of its socket. Answered by `Spawned`.
    Carrier,
    /// First request to a carrier, once it is in its control groups. Comes with one descriptor: the stage's end of its
    /// socket. Answered by `Spawned`: the first process of a sandbox without an image.
    Blank { tmp_bytes: u64 },
    /// Perhaps to a carrier after that: mounts what a sandbox over the host's root shows of it, over a workspace that was
    /// made in advance, so that a claim has only to move those mounts. Answered by `Attached`.
    Furnish { workspace: String },
    /// Last request to a carrier: what its blank becomes. Answered by `Attached`, before anything runs there.
    Attach(Box<AttachPlan>),
    /// To the zygote. Comes with one descriptor: the pidfd of a sandbox's first process. Answered by `Attached`.
    Rename { hostname: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PlanBase {
    HostRoot,
    Directory { path: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBind {
    pub source: String,
    pub target: String,
}

/// Everything that shapes one sandbox. Paths are the host's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachPlan {
    pub base: PlanBase,
    /// Lowest first.
    pub layers: Vec<String>,
    /// Holds `upper/VOLUME/` and `upper/.work/VOLUME/`, owned by the sandbox's root.
    pub workspace: String,
    /// It is the one that the blank was furnished with, under the name it has now.
    pub is_furnished: bool,
    pub binds: Vec<PlanBind>,
    pub hostname: String,
    pub nice: i32,
    /// Bounds processes where no cgroup does.
    pub process_rlimit: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ZygoteReply {
    Ready {
        gaps: Vec<Gap>,
        volumes: Vec<String>,
    },
    /// Comes with one descriptor: a pidfd of the new process.
    Spawned {
        pid: i32,
    },
    Attached,
    Failed(Fault),
}

// ---- server to stage ----

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRequest {
    pub id: u64,
    /// Runs that are acknowledged: forgotten before `op` is looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    pub op: StageOp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum StageOp {
    /// Starts the run unless its call id is known, then answers like `Fetch` from offset 0. Body: standard input.
    Exec {
        call: String,
        argv: Vec<String>,
        cwd: String,
        env: Vec<(String, String)>,
        timeout_ms: u64,
        output_limit_bytes: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_read_only: bool,
    },
    /// Answers when there is output past `offset`, or the exit. Body of the answer: the output.
    Fetch {
        call: String,
        offset: u64,
    },
    /// Answers when the run and what it started is gone.
    Cancel {
        call: String,
        grace_ms: u64,
    },
    /// Only brings `done`.
    Acknowledge,
    /// Answered by `Listening` with the sockets: every address answers on these TCP ports too.
    Listen {
        ports: Vec<u16>,
    },
    /// Stops every process but the stage where it is; answers when all stand still.
    Stop,
    Continue,
    Read {
        path: String,
        offset: u64,
        limit: u64,
    },
    /// Body: the bytes at `offset`. The last piece renames the upload into place.
    Write {
        path: String,
        upload: u64,
        offset: u64,
        is_last: bool,
    },
    Stat {
        path: String,
    },
    List {
        path: String,
    },
    Search(SearchPlan),
    /// Answered by `Terminal`, with the master of the new terminal as a descriptor.
    OpenTerminal {
        call: String,
        argv: Vec<String>,
        cwd: String,
        env: Vec<(String, String)>,
        rows: u16,
        columns: u16,
    },
    /// Answers when the terminal's program has ended. Once per terminal.
    WaitTerminal {
        call: String,
    },
    /// The server let go of the terminal: its program ends, or is ended. Never answered.
    EndTerminal {
        call: String,
    },
    /// Answered by `Connected` with a socket that is connected, or about to be; ECONNREFUSED when nothing listens.
    Connect {
        port: u16,
    },
    ListeningPorts,
    /// Answers when everything below is watched. `watch` is the server's choice.
    Watch {
        watch: u64,
        path: String,
    },
    /// Answers when something changed.
    NextChanges {
        watch: u64,
    },
    /// Never answered.
    Unwatch {
        watch: u64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SearchPlan {
    Glob {
        root: String,
        pattern: String,
        limit: u64,
    },
    Grep {
        root: String,
        pattern: String,
        include: Option<String>,
        is_case_insensitive: bool,
        context_lines: u64,
        limit: u64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReply {
    /// The request's id; 0 for what the stage says unasked.
    pub id: u64,
    pub result: StageResult,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum StageResult {
    /// Unasked, once: the sandbox is up. Comes with the egress listeners, in the order of `listeners`.
    Ready {
        version: u32,
        listeners: Vec<Listener>,
        gaps: Vec<Gap>,
    },
    /// Unasked, instead of `Ready`.
    Refused(Fault),
    Done,
    /// Body: output from `offset`. With `exit`, nothing follows.
    Output {
        offset: u64,
        exit: Option<RunExit>,
    },
    /// Body: the bytes.
    Content {
        size: u64,
        is_end: bool,
    },
    Stat(FileFacts),
    Entries {
        entries: Vec<EntryFacts>,
        is_truncated: bool,
    },
    /// Body: the text.
    Found {
        matches: u64,
        is_truncated: bool,
    },
    /// Without a descriptor, and with the reason, when the program could not be started.
    Terminal {
        errno: Option<i32>,
    },
    TerminalEnded {
        end: RunEnd,
    },
    Connected,
    /// Comes with the sockets, in this order.
    Listening {
        listeners: Vec<Listener>,
    },
    Ports {
        ports: Vec<u16>,
    },
    Changes {
        changes: Vec<Change>,
        /// More happened than is told.
        is_overflow: bool,
        /// Nothing follows: there is more to watch than a sandbox may.
        is_over: bool,
    },
    Failed(Fault),
    /// The request makes no sense; a sentence.
    Invalid {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub transport: Transport,
    pub is_v6: bool,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RunEnd {
    Code { code: i32 },
    Signal { signal: i32 },
    TimedOut,
    Cancelled,
    NotStarted { errno: i32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunExit {
    pub end: RunEnd,
    pub output_bytes: u64,
    pub is_truncated: bool,
    pub duration_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    pub kind: Kind,
    pub size: u64,
    pub mode: u32,
    pub modified_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFacts {
    pub name: String,
    pub kind: Kind,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: String,
    pub is_removed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_messages_keep_their_tags() {
        let plan = SearchPlan::Glob { root: "/".into(), pattern: "*".into(), limit: 1 };
        let text =
            serde_json::to_string(&StageRequest { id: 1, done: vec![], op: StageOp::Search(plan) }).unwrap();
        assert!(
            matches!(serde_json::from_str(&text), Ok(StageRequest { op: StageOp::Search(_), .. })),
            "{text}"
        );
        let facts = FileFacts { kind: Kind::File, size: 1, mode: 2, modified_ns: 3 };
        let text =
            serde_json::to_string(&StageReply { id: 1, result: StageResult::Stat(facts.clone()) }).unwrap();
        let reply: StageReply = serde_json::from_str(&text).unwrap();
        assert!(matches!(reply.result, StageResult::Stat(read) if read == facts), "{text}");
    }
}
