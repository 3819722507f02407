//! What each running sandbox may reach and push, for the broker to ask. Set at the claim, gone with the sandbox.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Shared by the app, which writes, and the broker, which asks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SandboxPolicies {
    by_sandbox: Arc<RwLock<HashMap<String, greenroom_broker::SandboxPolicy>>>,
}

impl SandboxPolicies {
    pub(crate) fn set(&self, sandbox: String, policy: greenroom_broker::SandboxPolicy) {
        self.by_sandbox.write().unwrap_or_else(PoisonError::into_inner).insert(sandbox, policy);
    }

    pub(crate) fn remove(&self, sandbox: &str) {
        self.by_sandbox.write().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
    }
}
