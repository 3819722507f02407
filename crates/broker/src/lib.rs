//! Where sandboxes meet the outside. A sandbox has no network; its connections arrive here, where the name that a
//! client says is checked against the session's rules, resolved on the host and dialled, or where git is answered by the
//! forge itself. Decides no permission and keeps no secret: `app` answers who may do what, and what is added to whose
//! requests, through `PolicySource`.

mod address;
mod authority;
mod broker;
mod denial;
mod dial;
mod dns;
mod forward;
#[cfg(test)]
mod fuzz;
mod git;
mod host;
mod http;
mod idle;
mod inject;
mod io;
mod mask;
mod outside;
mod policy;
mod proxy;
pub mod registry;
mod tls;
pub mod trust;

pub use authority::{Authority, AuthorityError, AuthorityPem};
pub use broker::Broker;
pub use denial::{Denial, DenyLog};
pub use dial::{Resolver, SystemResolver};
pub use greenroom_domain::DenyReason;
pub use host::{AllowRule, Host, HostPattern};
pub use http::FORGE_HOST;
pub use inject::{Inject, Injection, InjectionTarget, PLACEHOLDER_PREFIX, SecretText, forms};
pub use outside::{Outside, client};
pub use policy::{PolicySource, PushGrant, RepositoryGrant, SandboxPolicy, default_allow};
pub use proxy::UpstreamProxy;
