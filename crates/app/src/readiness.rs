//! Whether this server can take work, for load balancers: cheap, bounded in time, and without a word about the machine,
//! because everybody may ask. What was found is told again for a moment, so that nobody can make the server check more
//! than that; that it drains is told at once.

use crate::{App, Inner};
use greenroom_wire::{Readiness, ReadinessCheck};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const FRESH: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(3);
/// Written and synced below the data directory.
const PROBE: &str = "run/ready";

/// The last findings.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    last: Mutex<Option<(Instant, Vec<ReadinessCheck>)>>,
}

impl App {
    /// Each check with its reason where it fails.
    pub async fn readiness(&self) -> Readiness {
        let accepting = match self.is_draining() {
            false => passed("accepting"),
            true => failed("accepting", "The server is stopping."),
        };
        let mut checks = vec![accepting];
        checks.extend(self.inner.findings().await);
        Readiness { is_ready: checks.iter().all(|check| check.is_ok), checks }
    }
}

impl Inner {
    async fn findings(self: &Arc<Self>) -> Vec<ReadinessCheck> {
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.findings.last.lock().await;
        if let Some((at, checks)) = &*last
            && at.elapsed() < FRESH
        {
            return checks.clone();
        }
        let (directory, disk, sandboxes) = tokio::join!(
            check("directory", "The data directory cannot be written.", self.directory_is_writable()),
            check("disk", "The disk is nearly full.", self.disk_has_room()),
            check("sandboxes", "Sandboxes cannot be started.", self.sandboxes_answer()),
        );
        let checks = vec![directory, disk, sandboxes];
        *last = Some((Instant::now(), checks.clone()));
        checks
    }

    async fn directory_is_writable(self: &Arc<Self>) -> bool {
        let probe = self.config.data_dir.join(PROBE);
        let written = tokio::task::spawn_blocking(move || write_probe(&probe));
        let (written, answered) = tokio::join!(written, self.directory.check_writer());
        matches!(written, Ok(Ok(()))) && answered.is_ok()
    }

    async fn disk_has_room(self: &Arc<Self>) -> bool {
        let (places, wanted) =
            ([self.config.data_dir.clone(), self.storage.root().to_owned()], self.config.ready_free_bytes);
        let has_room = move |place: &Path| {
            rustix::fs::statvfs(place).is_ok_and(|space| space.f_bavail * space.f_frsize >= wanted)
        };
        let looked = tokio::task::spawn_blocking(move || places.iter().all(|place| has_room(place)));
        looked.await.unwrap_or(false)
    }

    async fn sandboxes_answer(self: &Arc<Self>) -> bool {
        let answer = self.sandboxes.check().await;
        answer.inspect_err(|error| tracing::warn!(%error, "the sandbox provider does not answer")).is_ok()
    }
}

fn write_probe(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    file.write_all(b"This file is written to see whether it can be.\n")?;
    file.sync_all()
}

async fn check(name: &str, reason: &str, is_ok: impl Future<Output = bool>) -> ReadinessCheck {
    match tokio::time::timeout(DEADLINE, is_ok).await {
        Ok(true) => passed(name),
        Ok(false) => failed(name, reason),
        Err(_) => failed(name, "It does not answer in time."),
    }
}

fn passed(name: &str) -> ReadinessCheck {
    ReadinessCheck { name: name.to_owned(), is_ok: true, reason: None }
}

fn failed(name: &str, reason: &str) -> ReadinessCheck {
    ReadinessCheck { name: name.to_owned(), is_ok: false, reason: Some(reason.to_owned()) }
}
