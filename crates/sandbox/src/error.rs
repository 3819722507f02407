//! What can go wrong with a sandbox, each with what failed and where.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this machine cannot make sandboxes: {reason}")]
    Unsupported { reason: String, remedy: Option<String> },
    /// One thing that sandboxes of this machine cannot do; they work without it.
    #[error("sandboxes of this machine cannot {what}: {reason}")]
    Unavailable { what: &'static str, reason: String },
    #[error("the command is older than the sandbox's owner (epoch {seen} is known)")]
    Fenced { seen: u64 },
    #[error("the sandbox ended: {reason}")]
    Ended { reason: String },
    #[error("{operation} on {path}: {source}")]
    System { operation: &'static str, path: String, source: std::io::Error },
    #[error("no such file: {path}")]
    NotFound { path: String },
    #[error("{operation} {path} inside the sandbox: {message}")]
    File { operation: &'static str, path: String, message: String },
    #[error("the sandbox's disk is full")]
    DiskFull,
    #[error("{what} did not finish within {limit_ms} ms")]
    Deadline { what: &'static str, limit_ms: u64 },
    #[error("invalid request: {reason}")]
    Invalid { reason: String },
    #[error("the stage broke its protocol: {reason}")]
    Protocol { reason: String },
}
