//! Sessions that come to rest when a test says so.

use async_trait::async_trait;
use greenroom_agent::{ChildReport, Children, Spawn, WaitFor};
use greenroom_domain::children::no_such_child;
use greenroom_domain::money::Usage;
use greenroom_domain::{ChildOutcome, Delivery, ErrorCode, Problem, SessionId};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

#[derive(Debug)]
pub struct FakeChildren {
    pub spawned: Mutex<Vec<(String, Spawn)>>,
    pub messages: Mutex<Vec<(SessionId, String, Delivery)>>,
    pub cancelled: Mutex<Vec<SessionId>>,
    /// So many of them have ended, in the order in which they began.
    pub ended: watch::Sender<usize>,
    pub promised: AtomicU64,
}

impl Default for FakeChildren {
    fn default() -> Self {
        Self {
            spawned: Mutex::default(),
            messages: Mutex::default(),
            cancelled: Mutex::default(),
            ended: watch::Sender::new(0),
            promised: AtomicU64::new(0),
        }
    }
}

pub fn child(n: usize) -> SessionId {
    SessionId::from_parts(1, n as u128)
}

#[async_trait]
impl Children for FakeChildren {
    async fn spawn(&self, call: &str, spawn: Spawn) -> Result<String, Problem> {
        if spawn.repository.as_deref() == Some("secret") {
            return Err(Problem::new(ErrorCode::RepositoryUnknown, "There is no repository named secret.")
                .hint("Use one of: sample."));
        }
        let mut spawned = self.spawned.lock().unwrap();
        spawned.push((call.to_owned(), spawn));
        Ok(format!("Session {} works.", child(spawned.len())))
    }

    async fn reports(&self, of: &[SessionId]) -> Result<Vec<ChildReport>, Problem> {
        let spawned = self.spawned.lock().unwrap();
        let ended = *self.ended.borrow();
        let report = |n: usize| ChildReport {
            session: child(n + 1),
            repository: spawned[n].1.repository.clone().unwrap_or_else(|| "sample".to_owned()),
            title: format!("part {n}"),
            outcome: (n < ended).then_some(ChildOutcome::Completed),
            problem: None,
            change: (n < ended).then_some(7),
            words: if n < ended { format!("I did part {n}.") } else { String::new() },
            usage: Usage::default(),
        };
        let all: Vec<_> = (0..spawned.len()).map(report).collect();
        if of.is_empty() {
            return Ok(all);
        }
        of.iter()
            .map(|id| all.iter().find(|report| report.session == *id).cloned().ok_or_else(no_such_child))
            .collect()
    }

    async fn repositories(&self) -> Result<Vec<String>, Problem> {
        Ok(vec!["sample".to_owned(), "other".to_owned()])
    }

    async fn message(
        &self,
        _call: &str,
        session: SessionId,
        text: &str,
        delivery: Delivery,
    ) -> Result<(), Problem> {
        self.messages.lock().unwrap().push((session, text.to_owned(), delivery));
        Ok(())
    }

    async fn cancel(&self, _call: &str, session: SessionId) -> Result<(), Problem> {
        self.cancelled.lock().unwrap().push(session);
        Ok(())
    }

    async fn rest(&self, _of: &[SessionId], until: WaitFor) -> Result<(), Problem> {
        let wanted = match until {
            WaitFor::Any => 1,
            WaitFor::All => self.spawned.lock().unwrap().len(),
        };
        self.ended.subscribe().wait_for(|ended| *ended >= wanted).await.expect("the test lives");
        Ok(())
    }

    fn promised(&self) -> (u64, u64) {
        (self.promised.load(Ordering::Relaxed), 0)
    }
}
