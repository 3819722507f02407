//! Why a sandbox's connection was refused: a word for programs, a sentence's end for people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// No rule allows it.
    NotAllowed,
    /// A rule allows the name, which leads to a private network, to this machine or nowhere public.
    PrivateAddress,
    /// TLS without a server name, so there is nothing to check.
    NoServerName,
    /// A port that carries no name, or bytes that are neither TLS nor HTTP.
    UnknownProtocol,
    /// TLS inside a tunnel that names another host than the tunnel did.
    OtherName,
    /// A repository or service of the forge that the session has no part in.
    Repository,
}

impl DenyReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::PrivateAddress => "private_address",
            Self::NoServerName => "no_server_name",
            Self::UnknownProtocol => "unknown_protocol",
            Self::OtherName => "other_name",
            Self::Repository => "repository",
        }
    }

    /// Ends the sentence "HOST:PORT was refused: …".
    pub fn words(self) -> &'static str {
        match self {
            Self::NotAllowed => "it is not on the allow-list",
            Self::PrivateAddress => "its name leads to an address that is not public",
            Self::NoServerName => "TLS without a server name cannot be checked",
            Self::UnknownProtocol => "what is spoken there carries no name that could be checked",
            Self::OtherName => "the server name is another than the tunnel's",
            Self::Repository => "this sandbox has no part in that repository",
        }
    }
}
