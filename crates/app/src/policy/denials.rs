//! What sandboxes were refused, told where people look: in the session's log, or in the build's. A reader's is its
//! session's, and what a warm sandbox was refused waits for the session that it becomes. The broker tells each destination
//! once in ten minutes, and at most thirty of them per sandbox.

use super::SandboxPolicies;
use crate::App;
use greenroom_broker::Denial;
use greenroom_domain::{Event, ImageId, SessionId};
use std::sync::PoisonError;
use tokio::io::AsyncWriteExt;

impl App {
    /// The server's log has every one.
    pub async fn record_denial(&self, denial: Denial) {
        tracing::info!(
            owner = denial.owner,
            host = denial.host,
            port = denial.port,
            reason = denial.reason.words(),
            "a connection was refused"
        );
        self.inner.telemetry.egress_denied(denial.reason.as_str());
        let told = match denial.session {
            Some(session) => Some(session),
            None => self.inner.policies.tells_or_keeps(&denial),
        };
        match told {
            Some(session) => self.tell_session_of_denial(session, denial).await,
            None => self.tell_build_of_denial(&denial).await,
        }
    }

    async fn tell_session_of_denial(&self, session: SessionId, denial: Denial) {
        let event = event_of(denial);
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

fn event_of(denial: Denial) -> Event {
    Event::EgressDenied { host: denial.host, port: denial.port, reason: Some(denial.reason) }
}

/// What becomes of the denials of a sandbox that is no session's.
#[derive(Clone, Debug)]
pub(super) enum Unowned {
    /// It reads for this session.
    Tells(SessionId),
    /// It may become a session's.
    Keeps(Vec<Event>),
    /// A build's, which has a log of its own.
    Drops,
}

/// As many as the broker tells of one sandbox in ten minutes; a warm sandbox lives longer.
const MOST_KEPT: usize = 30;

impl SandboxPolicies {
    /// The session that hears of a denial of a sandbox without one. Kept where there may be one later.
    fn tells_or_keeps(&self, denial: &Denial) -> Option<SessionId> {
        let mut grants = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        match &mut grants.get_mut(&denial.owner)?.unowned {
            Unowned::Tells(session) => Some(*session),
            Unowned::Keeps(kept) => {
                if kept.len() < MOST_KEPT {
                    kept.push(event_of(denial.clone()));
                }
                None
            }
            Unowned::Drops => None,
        }
    }

    /// What a warm sandbox was refused, for the session that it becomes.
    pub(crate) fn take_denials(&self, owner: &str) -> Vec<Event> {
        let mut grants = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        match grants.get_mut(owner).map(|grant| &mut grant.unowned) {
            Some(Unowned::Keeps(kept)) => std::mem::take(kept),
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_broker::DenyReason;
    use greenroom_directory::RepositoryRow;
    use greenroom_domain::RepositoryId;
    use greenroom_sandbox::Fence;

    fn granted(owner: &str, reads_for: Option<SessionId>) -> SandboxPolicies {
        let policies = SandboxPolicies::default();
        let row = RepositoryRow {
            id: RepositoryId::from_parts(1, 1),
            name: "sample".parse().unwrap(),
            source: String::new(),
            default_branch: "main".parse().unwrap(),
            required_approvals: 1,
            added_at_ms: 0,
        };
        let fence = Fence { session: owner.to_owned(), epoch: 1, generation: 1 };
        policies.grant_scratch(&fence, &row, vec![], &[], reads_for);
        policies
    }

    fn denial(owner: &str, host: &str) -> Denial {
        Denial {
            sandbox: owner.to_owned(),
            owner: owner.to_owned(),
            session: None,
            host: host.to_owned(),
            port: 443,
            reason: DenyReason::PrivateAddress,
        }
    }

    #[test]
    fn a_warm_sandboxs_denials_are_kept_up_to_a_bound_and_given_once() {
        let policies = granted("pool-1", None);
        for number in 0..2 * MOST_KEPT {
            assert_eq!(policies.tells_or_keeps(&denial("pool-1", &format!("{number}.org"))), None);
        }
        let kept = policies.take_denials("pool-1");
        assert_eq!(kept.len(), MOST_KEPT);
        let first =
            Event::EgressDenied { host: "0.org".into(), port: 443, reason: Some(DenyReason::PrivateAddress) };
        assert_eq!(kept[0], first);
        assert_eq!(policies.take_denials("pool-1"), []);
        assert_eq!(policies.take_denials("pool-2"), []);
    }

    #[test]
    fn a_readers_denials_are_its_sessions() {
        let session = SessionId::from_parts(1, 7);
        let policies = granted("reader-1", Some(session));
        assert_eq!(policies.tells_or_keeps(&denial("reader-1", "a.org")), Some(session));
        assert_eq!(policies.tells_or_keeps(&denial("reader-2", "a.org")), None);
    }
}
