//! Ends sandboxes that nobody uses.

use crate::Inner;
use std::time::{Duration, Instant};

const IDLE_SWEEP: Duration = Duration::from_secs(60);

impl Inner {
    /// Ends sandboxes that nobody used for a while, until the app is gone.
    pub(crate) async fn sweep_idle(inner: std::sync::Weak<Self>) {
        loop {
            tokio::time::sleep(IDLE_SWEEP).await;
            let Some(inner) = inner.upgrade() else { return };
            for session in inner.workspaces.idle(Instant::now()) {
                let Ok(handle) = inner.sessions().get(session).await else { continue };
                let is_running = handle.state().await.is_ok_and(|state| state.running.is_some());
                if !is_running {
                    inner.end_sandbox(&handle, "nobody used it for a while").await;
                }
            }
        }
    }
}
