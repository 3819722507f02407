//! What sandboxes were refused, told where people look: in the session's log, or in the build's. The broker tells each
//! destination once in ten minutes, and at most thirty of them per sandbox.

use crate::App;
use greenroom_broker::Denial;
use greenroom_domain::{Event, ImageId, SessionId};
use tokio::io::AsyncWriteExt;

impl App {
    /// A sandbox that nobody owns (a reader's, one of the pool) has no log; the server's has it.
    pub async fn record_denial(&self, denial: Denial) {
        tracing::info!(
            owner = denial.owner,
            host = denial.host,
            port = denial.port,
            reason = denial.reason.words(),
            "a connection was refused"
        );
        match denial.session {
            Some(session) => self.tell_session_of_denial(session, denial).await,
            None => self.tell_build_of_denial(&denial).await,
        }
    }

    async fn tell_session_of_denial(&self, session: SessionId, denial: Denial) {
        let event = Event::EgressDenied { host: denial.host, port: denial.port };
        let recorded = match self.inner.sessions().get(session).await {
            Ok(handle) => handle.record(vec![event]).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = recorded {
            tracing::warn!(%session, %problem, "a refused connection could not be shown");
        }
    }

    /// A line of its own among what the build prints.
    async fn tell_build_of_denial(&self, denial: &Denial) {
        let image = denial.owner.strip_prefix("image:").and_then(|id| id.parse::<ImageId>().ok());
        let Some(image) = image else { return };
        let path = self.inner.images.log_path(image);
        let Denial { host, port, .. } = denial;
        let line = format!("== refused {host}:{port}: {}\n", denial.reason.words());
        let written = async {
            let mut log = tokio::fs::File::options().append(true).open(path).await?;
            log.write_all(line.as_bytes()).await?;
            log.flush().await
        };
        if let Err(error) = written.await {
            tracing::warn!(%image, %error, "a refused connection could not be shown");
        }
    }
}
