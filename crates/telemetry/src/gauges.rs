//! What is looked up at the moment somebody asks, instead of being counted along.

/// Values as they are now. `Default` is an idle installation.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// By status: idle, running, failed.
    pub sessions: Vec<(&'static str, u64)>,
    /// Sessions whose actor is in memory.
    pub sessions_open: u64,
    pub prompts_queued: u64,
    /// Lines of the session index that wait to be written.
    pub index_waiting: u64,
    pub builds_running: u64,
    pub sandboxes: u64,
    pub sandboxes_limit: u64,
    pub blanks: u64,
    pub pools: Vec<PoolGauge>,
    /// Of the file system that sandboxes write to, by what holds it.
    pub disk_bytes: Vec<(&'static str, u64)>,
    /// Open WebSockets and event streams.
    pub streams: u64,
    pub requests: u64,
    /// 1 when the server refuses new work because it stops.
    pub is_draining: bool,
}

#[derive(Clone, Debug)]
pub struct PoolGauge {
    pub repository: String,
    pub ready: u64,
    pub preparing: u64,
    pub reserved: u64,
}
