//! What waits for people in a session.

use greenroom_domain::{AskId, Asked};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// To be answered with the command `answer`, by whoever may prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskView {
    pub ask: AskId,
    pub of: Asked,
    pub opened_at_ms: i64,
    /// From then on the turn goes on without an answer.
    pub expires_at_ms: i64,
}
