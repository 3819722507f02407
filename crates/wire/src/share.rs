//! Who takes part in a session, and the links that let others in.

use greenroom_domain::{LoginName, PersonId, Right, SessionRole, ShareKind, ShareLinkId, TeamAccess};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionPeople {
    /// What everyone of the installation may do here.
    pub team_access: TeamAccess,
    /// In order of their coming.
    pub participants: Vec<ParticipantView>,
    /// The reader's own, within what their role in the installation allows; an admin's is `owner`.
    pub my_role: Option<SessionRole>,
    pub my_rights: Vec<Right>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParticipantView {
    pub person: PersonId,
    pub login: Option<LoginName>,
    pub name: String,
    pub role: SessionRole,
    /// They are here by links only: when those are revoked they are not.
    pub is_by_link: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateShareLink {
    pub kind: ShareKind,
    /// Seconds until nobody can come by it any more: 60 to 7776000 (90 days); 604800 (7 days) when not said.
    #[serde(default)]
    pub life_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareLinkState {
    Active,
    Expired,
    Revoked,
    /// Its maker may not share the session any more.
    Disowned,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareLinkView {
    pub id: ShareLinkId,
    pub kind: ShareKind,
    pub state: ShareLinkState,
    pub made_by: PersonId,
    pub made_by_name: String,
    pub made_at_ms: i64,
    pub expires_at_ms: i64,
    /// People who are here by it and have no role of their own.
    pub joined: u32,
}

/// A new link: `secret` and `path` are shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct ShareLinkCreated {
    pub link: ShareLinkView,
    pub secret: String,
    /// On this server, for people of the installation who sign in.
    pub path: String,
}

impl std::fmt::Debug for ShareLinkCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareLinkCreated").field("link", &self.link).finish_non_exhaustive()
    }
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UseShareLink {
    pub secret: String,
}

impl std::fmt::Debug for UseShareLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UseShareLink")
    }
}
