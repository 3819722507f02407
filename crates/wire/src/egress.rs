//! What a repository's sandboxes may reach, and the secrets that are added on their way out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host that an admin allows beside the defaults and the recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressAddition {
    /// `host`, `host:port`, `*.domain` or an address. Without a port: 80 and 443. With one, any protocol.
    pub host: String,
    /// Also when the name leads to an address of a private network. Only with an exact host.
    #[serde(default)]
    pub allows_private: bool,
}

/// Replaces all additions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEgress {
    /// At most 200.
    pub additions: Vec<EgressAddition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressSource {
    /// The registries of the ecosystems.
    Default,
    /// Mirrors that this machine is configured with.
    Installation,
    /// `[egress] allow` in the recipe of the newest image.
    Recipe,
    Admin,
    /// A declared secret is for it.
    Secret,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressRuleView {
    pub host: String,
    pub source: EgressSource,
    pub allows_private: bool,
    /// TLS with it is ended at the broker, which adds a secret. Otherwise TLS passes untouched: only the name was
    /// checked.
    pub is_tls_ended: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EgressView {
    pub rules: Vec<EgressRuleView>,
    pub additions: Vec<EgressAddition>,
}

/// How a secret enters a request to one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum SecretInjection {
    /// `Authorization: Bearer VALUE`, where the client sends no other authorization.
    Bearer,
    /// `Authorization: Basic` with this user.
    Basic { user: String },
    /// A header of its own, for example `X-Api-Key`.
    Header { name: String },
    /// Wherever a header holds the placeholder.
    Placeholder,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSecret {
    /// Name of the environment variable that holds the placeholder: capital letters, digits and `_`.
    pub name: String,
    /// 8 to 8192 printable characters. Stored encrypted; never given back.
    pub value: String,
    /// 1 to 20 of `host`, `host:port`, `https://host/path` or, for plain text, `http://host`.
    pub hosts: Vec<String>,
    pub injection: SecretInjection,
}

impl std::fmt::Debug for AddSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddSecret")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    pub name: String,
    pub hosts: Vec<String>,
    pub injection: SecretInjection,
    /// What sandboxes hold in its place.
    pub placeholder: String,
    /// Inside sandboxes this plain address leads to the first host, over TLS.
    pub base_url: String,
    pub added_at_ms: i64,
}
