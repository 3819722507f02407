//! What a sandbox may reach and push, as `app` answers it for each request, and what nobody has to ask for.

use crate::{host::AllowRule, inject::Injection};
use async_trait::async_trait;
use greenroom_domain::{BranchName, PersonId, RepositoryId, RepositoryName, SessionId};
use greenroom_sandbox::Origin;
use std::sync::Arc;

/// Asked anew for every connection and every request of git, so that a new prompter may commit at once and an ended
/// session may do nothing.
#[async_trait]
pub trait PolicySource: Send + Sync + std::fmt::Debug {
    /// `None`: the sandbox is not known, or a newer generation has taken its place. Everything is refused then.
    async fn policy(&self, origin: &Origin) -> Option<SandboxPolicy>;
}

#[derive(Clone, Debug)]
pub struct SandboxPolicy {
    /// `None` for the sandbox of an image build.
    pub session: Option<SessionId>,
    /// Repositories of the forge that it may clone and fetch.
    pub repositories: Vec<RepositoryGrant>,
    /// The one branch that it may push.
    pub push: Option<PushGrant>,
    /// Beside the forge.
    pub allow: Vec<AllowRule>,
    /// Secrets that are added on the way out. Their hosts are to be among `allow` too.
    pub injections: Vec<Arc<Injection>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryGrant {
    pub id: RepositoryId,
    pub name: RepositoryName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushGrant {
    pub session: SessionId,
    pub repository: RepositoryId,
    pub branch: BranchName,
    /// Of `people`: authors and committers of what is pushed.
    pub emails: Vec<String>,
    /// Who prompted or ran commands so far: none of them approves what is pushed.
    pub people: Vec<PersonId>,
    pub size_limit_bytes: u64,
}

/// Public package registries of the ecosystems that are detected. A starting point that an installation may replace.
const DEFAULT_HOSTS: &[&str] = &[
    // Rust
    "index.crates.io",
    "static.crates.io",
    "crates.io",
    "static.rust-lang.org",
    // Node
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "nodejs.org",
    // Python
    "pypi.org",
    "files.pythonhosted.org",
    // Go
    "proxy.golang.org",
    "sum.golang.org",
    // Debian, Ubuntu, Alpine
    "deb.debian.org",
    "security.debian.org",
    "archive.ubuntu.com",
    "security.ubuntu.com",
    "ports.ubuntu.com",
    "dl-cdn.alpinelinux.org",
    // Java
    "repo.maven.apache.org",
    "repo1.maven.org",
    "plugins.gradle.org",
    "services.gradle.org",
    // Ruby, PHP, .NET, Elixir
    "rubygems.org",
    "index.rubygems.org",
    "packagist.org",
    "repo.packagist.org",
    "api.nuget.org",
    "hex.pm",
    "repo.hex.pm",
];

/// The rules of an installation that has set none.
pub fn default_allow() -> Vec<AllowRule> {
    DEFAULT_HOSTS.iter().map(|host| AllowRule::parse(host).expect("a host of our own list")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_rules_are_rules() {
        assert_eq!(super::default_allow().len(), super::DEFAULT_HOSTS.len());
        assert!(super::default_allow().iter().all(|rule| !rule.allow_private));
    }
}
