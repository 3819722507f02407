//! Whether a service is up: by its own probe, within its own deadline.

use super::{Services, failed};
use crate::workspaces::sync::shell;
use greenroom_domain::Problem;
use greenroom_image::recipe::{Probe, Service};
use greenroom_sandbox::{Error, ExitReason};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const PROBE_LIMIT_MS: u64 = 10_000;

impl Services {
    /// Waits until the service is up; the problem when it is not in time.
    pub(super) async fn healthy(&self, service: &Service) -> Result<(), Problem> {
        let Some(ready) = &service.ready else { return Ok(()) };
        let probing = async {
            let mut pause = FIRST_PAUSE;
            while !self.is_up(&ready.probe).await {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let deadline = Duration::from_secs(u64::from(ready.deadline_seconds));
        tokio::time::timeout(deadline, probing)
            .await
            .map_err(|_| failed(&service.name, &format!("was not up within {} s", ready.deadline_seconds)))
    }

    async fn is_up(&self, probe: &Probe) -> bool {
        match probe {
            Probe::Command { run } => self.succeeds(run).await,
            Probe::Port { port } => match self.sandbox().listening_ports().await {
                Ok(ports) => ports.contains(port),
                // By what the kernel says of this network namespace.
                Err(Error::Unavailable { .. }) => {
                    let table =
                        format!("grep -qE ':{port:04X} [0-9A-F]+:0000 0A' /proc/net/tcp /proc/net/tcp6");
                    self.succeeds(&table).await
                }
                Err(_) => false,
            },
        }
    }

    async fn succeeds(&self, script: &str) -> bool {
        let spec = shell("greenroom-probe", script, &[], PROBE_LIMIT_MS, 4096);
        let ended = crate::workspaces::run(&self.sandbox(), spec).await;
        matches!(ended, Ok((Some(ExitReason::Code { code: 0 }), _)))
    }
}
