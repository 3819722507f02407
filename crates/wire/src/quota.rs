//! Quotas: what admins set, and what a person has used of them.

use greenroom_domain::LoginName;
use greenroom_domain::quota::{QuotaKind, Quotas};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotasView {
    pub everyone: Quotas,
    /// Those for whom something is set, by login.
    pub people: Vec<PersonQuotas>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonQuotas {
    pub login: LoginName,
    pub quotas: Quotas,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUsage {
    pub login: LoginName,
    /// One for each kind, in one order.
    pub used: Vec<QuotaUse>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUse {
    pub kind: QuotaKind,
    /// Sessions, sandboxes, prompts, millionths of a US dollar, or bytes.
    pub used: u64,
    /// `None`: without bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Set for this person, and not for everyone.
    pub is_own: bool,
    /// When it begins anew, where it counts by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_at_ms: Option<i64>,
}
