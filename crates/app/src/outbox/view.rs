//! A session's outbox as people see it.

use crate::{App, Result};
use greenroom_domain::{Consumer, Person, Right, SessionId};
use greenroom_wire::{ConsumerStatus, ConsumerView, OutboxView};
use tokio::time::Instant;

impl App {
    /// Who is told of this session, how far each is, and what could not be delivered.
    pub async fn session_outbox(&self, caller: &Person, id: SessionId) -> Result<OutboxView> {
        let state = self.open(caller, Right::View, id).await?.state().await?;
        let cursors = self.inner.directory.cursors(id).await?;
        let exports = self.inner.telemetry.exports();
        let is_related = state.depth() > 0 || !state.children.is_empty();
        let listed = Consumer::ALL.into_iter().filter(|one| match one {
            Consumer::Collector => exports,
            Consumer::Family => is_related,
            Consumer::Directory | Consumer::Forge => true,
        });
        let view = |consumer: Consumer| {
            let dead = state.dead_letters.iter().find(|letter| letter.consumer == consumer);
            let retry = self.inner.outbox.lane(consumer).retry(id, Instant::now());
            let (status, problem) = match (&retry, dead) {
                (Some(retry), _) if retry.attempts > 0 => (ConsumerStatus::Retrying, retry.problem.clone()),
                (Some(_), _) => (ConsumerStatus::Waiting, None),
                (None, Some(dead)) => (ConsumerStatus::Dead, Some(dead.problem.clone())),
                (None, None) => (ConsumerStatus::Settled, None),
            };
            let retrying = retry.filter(|_| status == ConsumerStatus::Retrying);
            ConsumerView {
                consumer,
                status,
                // The forge is compared with the log, not fed from it.
                seq: cursors.iter().find(|(one, _)| *one == consumer).map(|(_, seq)| *seq),
                attempts: retrying.as_ref().map_or(0, |retry| retry.attempts),
                next_attempt_ms: retrying
                    .map(|retry| u64::try_from(retry.next_in.as_millis()).unwrap_or(u64::MAX)),
                problem,
            }
        };
        Ok(OutboxView { head_seq: state.head_seq, consumers: listed.map(view).collect() })
    }
}

impl crate::Inner {
    /// Somebody asked for another attempt.
    pub(crate) fn retry_delivery(&self, session: SessionId, consumer: Consumer) {
        match consumer {
            // The retry itself is news, which published them.
            Consumer::Directory | Consumer::Collector | Consumer::Family => {}
            Consumer::Forge => self.ask_forge(session),
        }
        self.outbox.lane(consumer).hurry(session);
    }
}
