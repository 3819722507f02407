//! Which prompts made which line.

use greenroom_domain::{Author, CommitHash, PersonId, PromptId, TurnId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file of a session's working tree, line by line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blame {
    /// From the repository's root.
    pub path: String,
    /// All lines, in order; neighbours of one origin together.
    pub parts: Vec<BlamePart>,
    /// Those that `parts` name, in the order in which they were sent.
    pub prompts: Vec<BlamePrompt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlamePart {
    /// Counted from 1.
    pub first_line: u32,
    pub lines: Vec<String>,
    pub by: BlamedOn,
}

/// Where lines are from. Found out by git inside the session's sandbox, whose code can mislead it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BlamedOn {
    /// They were there, or came with the base branch.
    BeforeSession {
        commit: CommitHash,
        /// As the commit says.
        author: String,
        summary: String,
    },
    /// A turn wrote them, for these prompts: all that it had been given by then.
    Prompts {
        turn: TurnId,
        prompts: Vec<PromptId>,
        /// It still works.
        is_running: bool,
    },
    /// A person's own command.
    Command { person: PersonId, name: String },
    /// Something after the last turn: a terminal, a service, a process that went on.
    Unmarked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlamePrompt {
    pub prompt: PromptId,
    pub author: Author,
    /// Its first line, at most 200 characters.
    pub text: String,
}
