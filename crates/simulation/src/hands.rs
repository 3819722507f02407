//! What the agent works with: sandboxes that a process keeps in memory, and a ledger of what ran, which outlives them all.

use crate::disk::Disk;
use async_trait::async_trait;
use greenroom_agent::ports::{Artifacts, Changes, Hands, OpenedChange};
use greenroom_domain::{Attachment, ErrorCode, Problem, SessionId};
use greenroom_sandbox::fake::FakeProvider;
use greenroom_sandbox::{Base, ClaimSpec, Fence, Resources, Sandbox, SandboxProvider, Workspace};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Every command that ran, and how often: each is written by the model once, so each may run once.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ran: Mutex<BTreeMap<String, u64>>,
    written: AtomicU64,
}

impl Ledger {
    /// A command that nobody wrote before.
    pub(crate) fn command(&self) -> String {
        format!("echo command-{}", self.written.fetch_add(1, Ordering::Relaxed))
    }

    fn note(&self, command: &str) {
        *self.ran.lock().unwrap_or_else(PoisonError::into_inner).entry(command.to_owned()).or_default() += 1;
    }

    pub(crate) fn runs(&self) -> BTreeMap<String, u64> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The sandboxes of one process.
pub(crate) fn provider(ledger: &Arc<Ledger>) -> FakeProvider {
    let ledger = Arc::clone(ledger);
    FakeProvider::scripted(move |spec, _| {
        if let [_, _, command] = spec.argv.as_slice() {
            ledger.note(command);
        }
        None
    })
}

/// Of one turn.
#[derive(Debug)]
pub(crate) struct TurnHands {
    pub(crate) disk: Arc<Disk>,
    pub(crate) provider: FakeProvider,
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    pub(crate) claims: Arc<AtomicU64>,
    pub(crate) sandbox: tokio::sync::Mutex<Option<Arc<dyn Sandbox>>>,
}

#[async_trait]
impl Hands for TurnHands {
    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, Problem> {
        self.disk.point().await;
        let mut sandbox = self.sandbox.lock().await;
        if let Some(sandbox) = &*sandbox {
            return Ok(Arc::clone(sandbox));
        }
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let spec = ClaimSpec {
            id: format!("sandbox-{number}"),
            fence: Fence { session: self.session.to_string(), epoch: self.epoch, generation: number },
            base: Base::HostRoot,
            layers: vec![],
            workspace: Workspace { directory: format!("/{}", self.session).into(), begin_from: None },
            binds: vec![],
            egress_ports: vec![],
            resources: Resources::default(),
            hostname: "greenroom".into(),
            env: vec![],
            is_background: false,
        };
        let claimed = self.provider.claim(spec).await;
        let claimed = claimed
            .map_err(|error| Problem::new(ErrorCode::SandboxFailed, format!("No sandbox: {error}.")))?;
        *sandbox = Some(Arc::clone(&claimed));
        Ok(claimed)
    }

    fn tool_env(&self) -> Vec<(String, String)> {
        vec![]
    }
}

#[async_trait]
impl Changes for TurnHands {
    async fn open_change(&self, _: &str, _: &str) -> Result<OpenedChange, Problem> {
        Err(Problem::new(ErrorCode::NothingToPropose, "There is nothing to propose."))
    }
}

/// Its model publishes nothing.
#[async_trait]
impl Artifacts for TurnHands {
    fn limit(&self) -> u64 {
        0
    }

    async fn keep(&self, _: &str, _: Vec<u8>) -> Result<Attachment, Problem> {
        Err(Problem::new(ErrorCode::Internal, "Nothing is published here."))
    }
}
