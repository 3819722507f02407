//! What each running sandbox may reach and push, for the broker to ask. Set at the claim, gone with the sandbox.

use crate::Result;
use async_trait::async_trait;
use greenroom_broker::registry::RegistrySettings;
use greenroom_broker::{AllowRule, PolicySource, PushGrant, RepositoryGrant, SandboxPolicy, default_allow};
use greenroom_directory::RepositoryRow;
use greenroom_domain::state::Origin as SessionOrigin;
use greenroom_domain::{ErrorCode, ImageId, Problem};
use greenroom_sandbox::Origin;
use greenroom_session::SessionHandle;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A session's push may bring this much.
const PUSH_LIMIT_BYTES: u64 = 200 * 1024 * 1024;

/// What is granted to one sandbox. A session's people are asked for at each request: a new prompter may commit at once.
#[derive(Clone, Debug)]
struct Grant {
    generation: u64,
    policy: SandboxPolicy,
    session: Option<SessionHandle>,
}

/// Shared by the app, which writes, and the broker, which asks. Keyed by the session (or build) of the sandbox's fence.
#[derive(Clone, Debug, Default)]
pub struct SandboxPolicies {
    grants: Arc<RwLock<HashMap<String, Grant>>>,
}

impl SandboxPolicies {
    pub(crate) fn grant_session(
        &self,
        handle: &SessionHandle,
        origin: &SessionOrigin,
        generation: u64,
        allow: Vec<AllowRule>,
    ) {
        let policy = SandboxPolicy {
            session: Some(handle.id()),
            repositories: vec![RepositoryGrant {
                id: origin.repository,
                name: origin.repository_name.clone(),
            }],
            push: Some(PushGrant {
                session: handle.id(),
                repository: origin.repository,
                branch: origin.branch.clone(),
                emails: vec![],
                size_limit_bytes: PUSH_LIMIT_BYTES,
            }),
            allow,
        };
        self.insert(handle.id().to_string(), Grant { generation, policy, session: Some(handle.clone()) });
    }

    pub(crate) fn grant_build(&self, image: ImageId, repository: &RepositoryRow, allow: Vec<AllowRule>) {
        let policy = SandboxPolicy {
            session: None,
            repositories: vec![RepositoryGrant { id: repository.id, name: repository.name.clone() }],
            push: None,
            allow,
        };
        let fence = greenroom_image::build_fence(image);
        self.insert(fence.session, Grant { generation: fence.generation, policy, session: None });
    }

    /// Takes a grant away, unless a later sandbox of the same session has its own by now.
    pub(crate) fn revoke(&self, session: &str, generation: u64) {
        let mut grants = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        if grants.get(session).is_some_and(|grant| grant.generation == generation) {
            grants.remove(session);
        }
    }

    fn insert(&self, session: String, grant: Grant) {
        self.grants.write().unwrap_or_else(PoisonError::into_inner).insert(session, grant);
    }

    fn get(&self, origin: &Origin) -> Option<Grant> {
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner);
        grants.get(&origin.session).filter(|grant| grant.generation == origin.generation).cloned()
    }
}

#[async_trait]
impl PolicySource for SandboxPolicies {
    async fn policy(&self, origin: &Origin) -> Option<SandboxPolicy> {
        let mut grant = self.get(origin)?;
        if let (Some(push), Some(session)) = (&mut grant.policy.push, &grant.session) {
            let state = session.state().await.ok()?;
            push.emails = state.prompters.iter().map(|author| author.email.clone()).collect();
        }
        Some(grant.policy)
    }
}

/// The recipe's hosts, the installation's mirrors, and the ecosystems' registries.
pub(crate) fn allowed(recipe: &[String], registry: &RegistrySettings) -> Result<Vec<AllowRule>> {
    let mut rules = default_allow();
    rules.extend(registry.hosts.iter().cloned());
    for text in recipe {
        rules.push(AllowRule::parse(text).map_err(|error| {
            Problem::new(
                ErrorCode::RecipeInvalid,
                format!("`[egress] allow` has an entry that is no host: {error}."),
            )
            .hint("Write a name, `*.name` or `name:port`.")
        })?);
    }
    Ok(rules)
}
