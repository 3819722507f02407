//! Who is told of a session.

use greenroom_domain::{Consumer, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutboxView {
    /// The last entry of the session's log.
    pub head_seq: u64,
    pub consumers: Vec<ConsumerView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsumerView {
    pub consumer: Consumer,
    pub status: ConsumerStatus,
    /// The last entry that it has been told of; entries after it may be of no concern to it. Absent where it is not told entry by entry.
    pub seq: Option<u64>,
    /// Attempts that failed since it last worked.
    pub attempts: u32,
    /// Milliseconds until the next attempt.
    pub next_attempt_ms: Option<u64>,
    /// Why the last attempt failed.
    pub problem: Option<Problem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerStatus {
    /// It knows all that concerns it.
    Settled,
    /// It is about to be told.
    Waiting,
    /// It could not be reached and is tried again.
    Retrying,
    /// It is not tried any more, until something happens in the session or somebody sends `retry_dead_letter`.
    Dead,
}
