//! What each running sandbox may reach and push, and which secrets are added on its way out, for the broker to ask. Set
//! at the claim, gone with the sandbox; what admins declare for a repository is looked up at each request.

mod denials;
mod egress;
pub(crate) mod trust;

pub use trust::Trust;

use crate::Result;
use async_trait::async_trait;
use denials::Unowned;
use greenroom_broker::registry::RegistrySettings;
use greenroom_broker::{
    AllowRule, Injection, InjectionTarget, PolicySource, PushGrant, RepositoryGrant, SandboxPolicy,
    default_allow,
};
use greenroom_directory::RepositoryRow;
use greenroom_domain::state::Origin as SessionOrigin;
use greenroom_domain::{ErrorCode, ImageId, Problem, RepositoryId, SessionId};
use greenroom_sandbox::{Fence, Origin};
use greenroom_session::SessionHandle;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// A session's push may bring this much.
const PUSH_LIMIT_BYTES: u64 = 200 * 1024 * 1024;

/// What is granted to one sandbox. A session's people are asked for at each request: who has just come may commit at once, and is
/// recorded with the push.
#[derive(Clone, Debug)]
struct Grant {
    generation: u64,
    policy: SandboxPolicy,
    session: Option<SessionHandle>,
    unowned: Unowned,
    repository: RepositoryId,
    /// Names of declared secrets that it may use; empty: all of its repository.
    secrets: Vec<String>,
}

/// What admins declared for a repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Additions {
    pub(crate) allow: Vec<AllowRule>,
    pub(crate) injections: Vec<Arc<Injection>>,
}

/// What the declarations mean for a sandbox that is being made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    /// Names of secrets with their placeholders.
    pub(crate) env: Vec<(String, String)>,
    /// Ports beside the standard ones.
    pub(crate) ports: Vec<u16>,
}

/// Ports that every sandbox has listeners for.
const STANDARD_PORTS: &[u16] = &[22, 53, 80, 443, 3128];
const MOST_PORTS: usize = 32;

/// Shared by the app, which writes, and the broker, which asks. Keyed by the session (or build) of the sandbox's fence.
#[derive(Clone, Debug, Default)]
pub struct SandboxPolicies {
    grants: Arc<RwLock<HashMap<String, Grant>>>,
    additions: Arc<RwLock<HashMap<RepositoryId, Arc<Additions>>>>,
    /// Of the installation's registries.
    credentials: Arc<OnceLock<Vec<Arc<Injection>>>>,
}

impl SandboxPolicies {
    pub(crate) fn grant_session(
        &self,
        handle: &SessionHandle,
        origin: &SessionOrigin,
        generation: u64,
        allow: Vec<AllowRule>,
        secrets: &[String],
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
                people: vec![],
                size_limit_bytes: PUSH_LIMIT_BYTES,
            }),
            allow,
            injections: vec![],
        };
        let (session, repository) = (Some(handle.clone()), origin.repository);
        let unowned = Unowned::Drops;
        let grant = Grant { generation, policy, session, unowned, repository, secrets: secrets.to_vec() };
        self.insert(handle.id().to_string(), grant);
    }

    /// A sandbox of nobody's yet, or one that only reads for a session: it fetches its repository and pushes nothing.
    pub(crate) fn grant_scratch(
        &self,
        fence: &Fence,
        repository: &RepositoryRow,
        allow: Vec<AllowRule>,
        secrets: &[String],
        reads_for: Option<SessionId>,
    ) {
        let policy = SandboxPolicy {
            session: None,
            repositories: vec![RepositoryGrant { id: repository.id, name: repository.name.clone() }],
            push: None,
            allow,
            injections: vec![],
        };
        let (generation, repository) = (fence.generation, repository.id);
        let unowned = reads_for.map_or(Unowned::Keeps(vec![]), Unowned::Tells);
        let secrets = secrets.to_vec();
        let grant = Grant { generation, policy, session: None, unowned, repository, secrets };
        self.insert(fence.session.clone(), grant);
    }

    pub(crate) fn grant_build(&self, image: ImageId, repository: &RepositoryRow, allow: Vec<AllowRule>) {
        let policy = SandboxPolicy {
            session: None,
            repositories: vec![RepositoryGrant { id: repository.id, name: repository.name.clone() }],
            push: None,
            allow,
            injections: vec![],
        };
        let fence = greenroom_image::build_fence(image);
        let (generation, repository) = (fence.generation, repository.id);
        let unowned = Unowned::Drops;
        let grant = Grant { generation, policy, session: None, unowned, repository, secrets: vec![] };
        self.insert(fence.session, grant);
    }

    /// Takes a grant away, unless a later sandbox of the same session has its own by now.
    pub(crate) fn revoke(&self, session: &str, generation: u64) {
        let mut grants = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        if grants.get(session).is_some_and(|grant| grant.generation == generation) {
            grants.remove(session);
        }
    }

    pub(crate) fn set_credentials(&self, credentials: Vec<Arc<Injection>>) {
        let _ = self.credentials.set(credentials);
    }

    pub(crate) fn set_additions(&self, repository: RepositoryId, additions: Additions) {
        let mut all = self.additions.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(repository, Arc::new(additions));
    }

    pub(crate) fn forget(&self, repository: RepositoryId) {
        self.additions.write().unwrap_or_else(PoisonError::into_inner).remove(&repository);
    }

    fn additions(&self, repository: RepositoryId) -> Arc<Additions> {
        let all = self.additions.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&repository).cloned().unwrap_or_default()
    }

    /// Secrets that an admin declared.
    pub(crate) fn declared(&self, repository: RepositoryId) -> Vec<Arc<Injection>> {
        self.additions(repository).injections.clone()
    }

    /// Declared secrets and credentials of registries: declared ones go first.
    pub(crate) fn injections_of(&self, repository: RepositoryId) -> Vec<Arc<Injection>> {
        let mut all = self.declared(repository);
        all.extend(self.credentials.get().into_iter().flatten().cloned());
        all
    }

    /// For a sandbox of this repository that may use these secrets (empty: all), with these rules beside.
    pub(crate) fn for_claim(
        &self,
        repository: RepositoryId,
        secrets: &[String],
        mirrors: &[AllowRule],
    ) -> Declared {
        let additions = self.additions(repository);
        let injections: Vec<_> = additions.injections.iter().filter(|one| is_chosen(one, secrets)).collect();
        let env =
            injections.iter().map(|one| (one.name().to_owned(), one.placeholder().to_owned())).collect();
        let of_secrets = injections.iter().flat_map(|one| one.targets()).map(|target| target.port);
        let of_rules = additions.allow.iter().chain(mirrors).filter_map(|rule| rule.port);
        let mut ports: Vec<u16> =
            of_rules.chain(of_secrets).filter(|port| !STANDARD_PORTS.contains(port)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.truncate(MOST_PORTS);
        Declared { env, ports }
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
            push.emails = state.commit_emails();
            push.people = state.contributors().map(|author| author.on_behalf_of).collect();
        }
        let additions = self.additions(grant.repository);
        let chosen = additions.injections.iter().filter(|one| is_chosen(one, &grant.secrets)).cloned();
        grant.policy.injections = chosen.collect();
        let targets = grant.policy.injections.iter().flat_map(|one| one.targets());
        let of_secrets: Vec<AllowRule> = targets.map(InjectionTarget::rule).collect();
        grant.policy.allow.extend(additions.allow.iter().cloned().chain(of_secrets));
        grant.policy.injections.extend(self.credentials.get().into_iter().flatten().cloned());
        Some(grant.policy)
    }
}

fn is_chosen(injection: &Injection, secrets: &[String]) -> bool {
    secrets.is_empty() || secrets.iter().any(|name| name == injection.name())
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

#[cfg(test)]
mod tests;
