//! What clients may ask of a session. Unknown fields are refused.

use crate::{Answer, AskId, AttachmentRef, Consumer, Effort, PersonId, PromptId, SessionRole, TeamAccess};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use utoipa::ToSchema;

/// Longest prompt, in bytes.
pub const PROMPT_LIMIT: usize = 256 * 1024;
/// Most prompts that may wait in a session.
pub const QUEUE_LIMIT: usize = 50;
/// Longest title, in characters.
pub const TITLE_LIMIT: usize = 80;

/// A client's idempotency key: 1 to 128 visible ASCII characters. The same key with another body is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(transparent)]
pub struct CommandId(String);

impl CommandId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 128 visible ASCII characters")]
pub struct InvalidCommandId;

impl FromStr for CommandId {
    type Err = InvalidCommandId;
    fn from_str(text: &str) -> Result<Self, InvalidCommandId> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or(InvalidCommandId)
    }
}

impl<'de> Deserialize<'de> for CommandId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// When a prompt that arrives during a turn is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// After the running turn.
    #[default]
    Queue,
    /// At the running turn's next step.
    Insert,
}

/// What a person may ask of a session. Who may do what to whose prompt:
///
/// - Its words are its author's alone: what comes of them is committed in the author's name.
/// - Its author or an admin may withdraw it, choose its delivery, and move it.
/// - A move by its author never brings it ahead of another person's prompt that it was behind; an admin's may.
/// - Whoever may prompt may answer what the agent asks, stop the turn, stop or release its children, put files back and forward, hold back or release the queue, have the conversation summarised, choose the model, rename, archive and unarchive the session, and have dead letters
///   tried again.
/// - An owner of the session or an admin decides who takes part in it and what it is open for; anyone may leave; the only
///   owner neither leaves nor becomes less. Who prompts takes part. A link never gives more than its kind, and nothing to
///   whom an owner gave a role, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum Command {
    /// Ask the agent for something; `text` has at most 256 KiB.
    Prompt {
        text: String,
        #[serde(default)]
        delivery: Delivery,
        /// Files that were uploaded to this session, at most 10.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<AttachmentRef>,
    },
    /// Change a prompt that still waits.
    EditPrompt { prompt: PromptId, text: String },
    /// Choose again when a waiting prompt is answered; its place in the queue stays.
    SetDelivery { prompt: PromptId, delivery: Delivery },
    /// Put a waiting prompt right before another, or, without `before`, at the end.
    MovePrompt {
        prompt: PromptId,
        #[serde(default)]
        before: Option<PromptId>,
    },
    /// Take back a prompt that still waits.
    WithdrawPrompt { prompt: PromptId },
    /// Stop the running turn; what was done is kept, and the next waiting prompt is answered.
    Stop {
        /// Hold back what waits now until somebody releases it. Prompts that come later are answered as ever.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hold_queue: bool,
    },
    /// Answer what the agent asked. The first answer counts; a second is refused as `ask_closed`.
    Answer { ask: AskId, answer: Answer },
    /// Let prompts that a stop held back be answered.
    ReleaseQueue {},
    /// Have the conversation summarised for the model now, as happens by itself when its window is full. Refused while a turn
    /// runs, and where there is nothing to summarise. Everything stays readable.
    Compact {},
    /// Give the session another title: one line of at most 80 characters.
    Rename { title: String },
    /// Let another model of the installation answer from the next turn on, or the same with another effort. What is left out
    /// is the installation's default.
    ChooseModel {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effort: Option<Effort>,
    },
    /// Hide the session from lists and let its sandbox go; refused while something runs or waits. Everything stays readable,
    /// and the next prompt brings it back: whoever sends one wants it to go on.
    Archive {},
    /// Show it in lists again.
    Unarchive {},
    /// Stop the turns of all sessions that its agent began and that are at work, and of theirs; what waits there is held back.
    StopChildren {},
    /// Let the sessions that its agent began, and that are at work, go on whatever becomes of this one.
    ReleaseChildren {},
    /// Try again to tell one who could not be told of this session.
    RetryDeadLetter { consumer: Consumer },
    /// Give a person of the installation a role in the session, or another one. What links gave them is over.
    SetParticipant { person: PersonId, role: SessionRole },
    /// End a person's part in the session; one's own is to leave. What the session is open for stays theirs.
    RemoveParticipant { person: PersonId },
    /// What everyone of the installation may do here without being a participant.
    SetTeamAccess { access: TeamAccess },
    /// Put the files back to how a step left them. What is there is kept as a step first; ignored files, the branch and what
    /// is staged stay as they are. Refused while a turn runs. `reverted` or `revert_failed` in the log ends it.
    Revert { to: u64 },
    /// Take the files to where they were before they were put back.
    Forward {},
}
