//! What is live around a session and in no log: who is here, who types, who has read how far, and what a person has
//! typed but not sent.

use greenroom_domain::{PersonId, RepositoryName, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person looks at a session with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    Web,
    Cli,
    Vscode,
    Slack,
    Extension,
    /// Any other program.
    #[default]
    Api,
}

impl ClientKind {
    /// As it is serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Cli => "cli",
            Self::Vscode => "vscode",
            Self::Slack => "slack",
            Self::Extension => "extension",
            Self::Api => "api",
        }
    }
}

/// One person who has the session open, with however many connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresentPerson {
    pub person: PersonId,
    pub name: String,
    /// Each kind once.
    pub clients: Vec<ClientKind>,
    /// Since when without a break.
    pub since_ms: i64,
    /// Passes by itself some seconds after the last key.
    pub is_typing: bool,
}

/// Who is here now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Presence {
    /// At most 50: who types is among them, the rest are those who have been here longest. Longest first.
    pub people: Vec<PresentPerson>,
    /// How many more are here.
    pub more: u32,
}

/// How far a person has read a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reader {
    pub person: PersonId,
    pub name: String,
    /// The last entry they have seen.
    pub seq: u64,
}

/// Who has read how far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readers {
    /// At most 50, those who have read furthest first.
    pub readers: Vec<Reader>,
    /// How many more have read some of it.
    pub more: u32,
}

/// How far the caller has read a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadPosition {
    pub session: SessionId,
    /// The last entry they have seen; 0: none.
    pub seq: u64,
}

/// What the caller has typed and not sent, at one place: a session, or the box for a new one (of a repository, or of
/// none). Only they see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Draft {
    /// `None`: for a new session.
    pub session: Option<SessionId>,
    /// For a new session of this repository.
    pub repository: Option<RepositoryName>,
    /// Empty: there is none, or it was sent.
    pub text: String,
    /// Grows with each change; 0: nothing was ever typed here.
    pub revision: u64,
    pub updated_at_ms: i64,
}

/// A draft as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DraftAnswer {
    pub draft: Draft,
    /// The reader's write was not taken: it was made from an older revision than this one.
    #[serde(default)]
    pub is_refused: bool,
}

/// Keep what is typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteDraft {
    /// At most 256 KiB; empty: nothing is left to keep.
    pub text: String,
    /// The revision that the text was typed on.
    pub revision: u64,
}

/// Say how far one has read. A lower number than before changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRead {
    pub seq: u64,
}

/// Say that one types, or has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SayTyping {
    pub is_typing: bool,
    #[serde(default)]
    pub client: ClientKind,
}
