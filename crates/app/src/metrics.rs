//! What the installation holds at this moment, for whoever collects metrics.

use crate::{App, Result, require};
use greenroom_directory::SessionStatus;
use greenroom_domain::{Person, Role};
use greenroom_telemetry::{Gauges, PoolGauge};

impl App {
    /// The metrics' text, for an admin.
    pub async fn metrics(&self, caller: &Person, gauges: Gauges) -> Result<String> {
        require(caller, Role::Admin)?;
        self.local_metrics(gauges).await
    }

    /// The metrics' text for the listener that an admin set up for it. `gauges` has what the caller knows; the rest is
    /// filled in.
    pub async fn local_metrics(&self, mut gauges: Gauges) -> Result<String> {
        let inner = &self.inner;
        let counts = inner.directory.session_counts().await?;
        let of = |wanted| counts.iter().find(|(status, ..)| *status == wanted).map_or(0, |(_, n, _)| *n);
        gauges.sessions = vec![
            ("idle", of(SessionStatus::Idle)),
            ("running", of(SessionStatus::Running)),
            ("failed", of(SessionStatus::Failed)),
        ];
        gauges.prompts_queued = counts.iter().map(|(_, _, queued)| queued).sum();
        gauges.sessions_open = inner.sessions().awake() as u64;
        gauges.index_waiting = inner.outbox.waiting_count() as u64;
        gauges.builds_running = inner.images.running_count() as u64;
        let resources = self.resources().await?;
        gauges.sandboxes = resources.sandboxes;
        gauges.sandboxes_limit = resources.most_sandboxes;
        gauges.blanks = resources.blanks;
        let pool = |view: greenroom_wire::PoolView| PoolGauge {
            repository: view.repository.to_string(),
            ready: view.ready,
            preparing: view.preparing,
            reserved: view.reserved,
        };
        gauges.pools = resources.pools.into_iter().map(pool).collect();
        let disk = resources.disk;
        gauges.disk_bytes =
            vec![("total", disk.total_bytes), ("free", disk.free_bytes), ("layers", disk.layers_bytes)];
        gauges.disk_bytes.extend(disk.workspaces_bytes.map(|bytes| ("workspaces", bytes)));
        gauges.disk_bytes.extend(disk.snapshots_bytes.map(|bytes| ("snapshots", bytes)));
        Ok(inner.telemetry.render(&gauges))
    }
}
