//! Where sandboxes meet the outside. A sandbox has no network; its connections arrive here, where the name that a
//! client says is checked against the session's rules, resolved on the host and dialled, or where git is answered by the
//! forge itself. Holds no token and decides no permission: `app` answers who may do what through `PolicySource`.

mod address;
mod broker;
mod denial;
mod dial;
mod dns;
mod git;
mod host;
mod http;
mod idle;
mod policy;
mod proxy;
pub mod registry;
mod tls;

pub use broker::Broker;
pub use denial::{Denial, DenyLog, DenyReason};
pub use dial::{Resolver, SystemResolver};
pub use host::{AllowRule, Host, HostPattern};
pub use http::FORGE_HOST;
pub use policy::{PolicySource, PushGrant, RepositoryGrant, SandboxPolicy, default_allow};
pub use proxy::UpstreamProxy;
