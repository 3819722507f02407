//! Bodies of requests. Unknown fields are refused.

use greenroom_domain::money::Budget;
use greenroom_domain::{
    AttachmentRef, Command, CommandId, CommitHash, Effort, ExchangeName, LoginName, RepositoryName, Role,
    TeamAccess, TurnId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Sign in with login and password; the answer sets the session cookie.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    pub login: LoginName,
    pub password: String,
}

/// Use a one-time sign-in link: of the first admin, or of a person an admin added. Sets a password.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UseSignInLink {
    pub token: String,
    /// Only for the first admin, whose account does not exist yet.
    #[serde(default)]
    pub login: Option<LoginName>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    /// 10 to 256 characters.
    pub password: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPerson {
    pub login: LoginName,
    pub name: String,
    pub email: String,
    pub role: Role,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for, shown in lists.
    pub name: String,
    /// The person it acts as; `None`: oneself. Only an admin names another.
    #[serde(default)]
    pub login: Option<LoginName>,
    /// From then on it is refused: in milliseconds since 1970-01-01 UTC, later than now. `None`: it does not end.
    #[serde(default)]
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRepository {
    pub name: RepositoryName,
    /// A path on the server, or a URL, whose branches and tags are mirrored.
    pub source: String,
    #[serde(default)]
    pub required_approvals: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportImage {
    /// A directory of the server's `<data>/exchange`, made where there is none.
    pub to: ExchangeName,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportImage {
    /// A directory of the server's `<data>/exchange`.
    pub from: ExchangeName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelProvider {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Openai,
    /// Chat Completions of any compatible server.
    OpenaiChat,
    /// Google's `generateContent`.
    Gemini,
    /// Chat Completions of OpenRouter.
    Openrouter,
    /// Chat Completions of an Ollama on this machine; needs no key.
    Ollama,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddModel {
    /// The name people choose it by.
    pub name: String,
    pub provider: ModelProvider,
    /// The provider's name of the model.
    pub model: String,
    #[serde(default)]
    pub base_url: Option<String>,
    /// Stored encrypted; never given back.
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub effort: Option<Effort>,
    #[serde(default)]
    pub is_default: bool,
    /// It takes no pictures: it is told of them in words.
    #[serde(default)]
    pub is_text_only: bool,
}

impl std::fmt::Debug for AddModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddModel")
            .field("name", &self.name)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// Approves the commit that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveChange {
    /// The change's `head` as the approving person saw it; refused as `change_moved` when it is another by now.
    pub head: CommitHash,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    pub repository: RepositoryName,
    /// The first prompt; may follow later.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Files on the first prompt, that `POST /attachments` took; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentRef>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
    /// How hard it thinks; not every model knows each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    #[serde(default)]
    pub base_branch: Option<String>,
    #[serde(default)]
    pub budget: Option<Budget>,
    /// What everyone of the installation may do in it; `contribute` when not said.
    #[serde(default, skip_serializing_if = "TeamAccess::is_default")]
    pub team_access: TeamAccess,
}

/// Go on from an earlier turn of a session in a new one, with the conversation and the files as they were when it ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSession {
    /// The last turn that is taken over; `None`: the last one that has ended.
    #[serde(default)]
    pub turn: Option<TurnId>,
    #[serde(default)]
    pub title: Option<String>,
    /// The new session's first prompt; may follow later.
    #[serde(default)]
    pub prompt: Option<String>,
}

/// Make a sandbox ready because a prompt is being written. Reserved for the caller, for one session, and given back when
/// it is not used in time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmRepository {
    /// The branch that the session will begin at; `None`: the default branch.
    #[serde(default)]
    pub base_branch: Option<String>,
}

/// A command with its idempotency key, as `POST /sessions/{id}/commands` takes it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitCommand {
    pub key: CommandId,
    pub command: Command,
}

/// Run a program in the session's sandbox, as a person.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub command: String,
    /// At most 600,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}
