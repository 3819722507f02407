//! What a session's actor is asked.

use crate::actor::NewAsk;
use crate::handle::TurnEnded;
use crate::log::StoredReceipt;
use crate::subscription::Feed;
use greenroom_domain::state::{AskEnd, QueuedPrompt};
use greenroom_domain::{AskId, Asking, Command, CommandId, Durability, Event, Problem, SessionState, TurnId};
use tokio::sync::oneshot;

/// Looks at the state and answers by itself.
pub(crate) struct Look(pub(crate) Box<dyn FnOnce(&SessionState) + Send>);

/// What follows from the state, or why nothing may.
pub(crate) struct Decide(pub(crate) Box<Decision>);

pub(crate) type Decision = dyn FnOnce(&SessionState) -> Result<Vec<Event>, Problem> + Send;

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

impl std::fmt::Debug for Decide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decide")
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a command is the usual message; each is moved twice")]
pub(crate) enum Message {
    Command {
        key: CommandId,
        command: Command,
        asking: Asking,
        reply: oneshot::Sender<Result<StoredReceipt, Problem>>,
    },
    Record {
        events: Vec<Event>,
        reply: oneshot::Sender<Result<(), Problem>>,
    },
    Decide {
        decide: Decide,
        reply: oneshot::Sender<Result<(), Problem>>,
    },
    Commit {
        turn: TurnId,
        events: Vec<Event>,
        durability: Durability,
        reply: oneshot::Sender<Result<(), TurnEnded>>,
    },
    TakeInserts {
        turn: TurnId,
        reply: oneshot::Sender<Vec<QueuedPrompt>>,
    },
    /// Answered when people answered, or their time is up.
    Ask {
        turn: TurnId,
        new: NewAsk,
        reply: oneshot::Sender<AskEnd>,
    },
    AskOverdue {
        turn: TurnId,
        ask: AskId,
    },
    State {
        reply: oneshot::Sender<SessionState>,
    },
    Look(Look),
    Subscribe {
        /// With what of the past the present shows, for who has less than this.
        opening_below: u64,
        reply: oneshot::Sender<Feed>,
    },
    /// Whoever ran it does not any more, and did not finish it. It has failed where there is a `problem`.
    GivenUp {
        turn: TurnId,
        problem: Option<Problem>,
    },
    StopOverdue {
        turn: TurnId,
    },
    /// The disk was full a moment ago.
    TrySpace,
    /// Nobody spoke to the session for a while. Answers where its log ends, as the last thing the actor does; `None`
    /// when something is going on.
    Hibernate {
        reply: oneshot::Sender<Option<u64>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}
