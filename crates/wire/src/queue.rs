//! The prompts that wait in a session.

use greenroom_domain::{Author, Delivery, PromptId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedPromptView {
    pub prompt: PromptId,
    pub author: Author,
    pub text: String,
    pub delivery: Delivery,
    /// A stop held it back: it is answered after `release_queue`.
    pub is_held: bool,
}
