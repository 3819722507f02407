//! Arguments of the verbs that have no file of their own.

use clap::{Args, Subcommand, ValueEnum};
use greenroom_domain::{ChangeId, LoginName, RepositoryName, Role};
use greenroom_wire::ModelProvider;
use std::path::PathBuf;
use std::str::FromStr;

/// Days are in UTC, such as 2026-11-21
#[derive(Debug, Args)]
pub(crate) struct Statistics {
    /// The first day [default: 30 days up to the last one]
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<String>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY")]
    pub(crate) to: Option<String>,
    /// What is counted together
    #[arg(long, value_enum, default_value = "day")]
    pub(crate) by: CountedBy,
    /// Only this repository
    #[arg(long)]
    pub(crate) repository: Option<RepositoryName>,
    /// Only the person with this login
    #[arg(long, value_name = "LOGIN")]
    pub(crate) person: Option<LoginName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CountedBy {
    Day,
    Person,
    Repository,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// List changes
    List {
        /// Only those of this repository
        #[arg(long)]
        repository: Option<RepositoryName>,
    },
    /// Show one change
    Show {
        /// REPOSITORY#NUMBER, or chg_…
        change: ChangeName,
        /// With its diff
        #[arg(long)]
        diff: bool,
    },
    /// Approve a change as it is; not one that holds your own work
    Approve {
        /// REPOSITORY#NUMBER, or chg_…
        change: ChangeName,
        /// Only if this is still its newest commit, as `change show` names it
        #[arg(long, value_name = "COMMIT")]
        head: Option<String>,
    },
    /// Merge an approved change
    Merge {
        /// REPOSITORY#NUMBER, or chg_…
        change: ChangeName,
    },
}

/// A change as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeName {
    Id(ChangeId),
    Number(RepositoryName, u64),
}

impl FromStr for ChangeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('#') {
            Some((repository, number)) => {
                let repository = repository.parse().map_err(|error| format!("{error}"))?;
                let number = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
                Ok(Self::Number(repository, number))
            }
            None => text.parse().map(Self::Id).map_err(|error| format!("{error}; or REPOSITORY#NUMBER")),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Add a model; its key is stored encrypted and never shown again
    #[command(after_help = MODEL_HELP)]
    Add(ModelAdd),
    /// List models
    List,
    /// Ask a model for one word, and time it
    Test { name: String },
    /// Remove a model and its key
    Remove { name: String },
}

const MODEL_HELP: &str = "\
The key is asked on the terminal unless one of the --key options says where it is. A server of your own that needs
none: --no-key.

Examples:
  greenroom model add claude --provider anthropic --model NAME --default
  greenroom model add gemini --provider gemini --model NAME --key-env GEMINI_API_KEY
  greenroom model add small --provider ollama --model NAME --no-key
  greenroom model add local --provider openai_chat --model NAME --base-url http://127.0.0.1:8000/v1 --no-key";

#[derive(Debug, Args)]
pub(crate) struct ModelAdd {
    /// Name that people choose it by
    pub(crate) name: String,
    /// The protocol it speaks
    #[arg(long)]
    pub(crate) provider: Provider,
    /// The provider's name of the model
    #[arg(long)]
    pub(crate) model: String,
    /// Address of the provider [default: the provider's own]
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeySource,
    /// How hard it thinks
    #[arg(long)]
    pub(crate) effort: Option<Effort>,
    /// It takes no pictures: it is told of them in words
    #[arg(long)]
    pub(crate) text_only: bool,
    /// Use it where no other is chosen
    #[arg(long)]
    pub(crate) default: bool,
}

/// Where a key comes from: never the command line, which others on the machine can read.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct KeySource {
    /// Take the key from this environment variable
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) key_env: Option<String>,
    /// Take the key from this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// It needs no key
    #[arg(long)]
    pub(crate) no_key: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Provider {
    /// Anthropic Messages
    Anthropic,
    /// OpenAI Responses
    Openai,
    /// Chat Completions of any compatible server
    OpenaiChat,
    /// Google's generateContent
    Gemini,
    /// Chat Completions of OpenRouter
    Openrouter,
    /// Chat Completions of an Ollama on this machine; needs no key
    Ollama,
}

impl From<Provider> for ModelProvider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Anthropic => Self::Anthropic,
            Provider::Openai => Self::Openai,
            Provider::OpenaiChat => Self::OpenaiChat,
            Provider::Gemini => Self::Gemini,
            Provider::Openrouter => Self::Openrouter,
            Provider::Ollama => Self::Ollama,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl From<Effort> for greenroom_domain::Effort {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Minimal => Self::Minimal,
            Effort::Low => Self::Low,
            Effort::Medium => Self::Medium,
            Effort::High => Self::High,
            Effort::Xhigh => Self::Xhigh,
            Effort::Max => Self::Max,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Person {
    /// Add a person; prints the link that they sign in with for the first time
    Add {
        login: LoginName,
        /// Full name: their commits carry it
        #[arg(long)]
        name: String,
        /// Address: their commits carry it
        #[arg(long)]
        email: String,
        #[arg(long, default_value = "member")]
        role: PersonRole,
    },
    /// List people
    List,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PersonRole {
    /// May look
    Viewer,
    /// May prompt, approve and merge
    Member,
    /// May change the installation
    Admin,
}

impl From<PersonRole> for Role {
    fn from(role: PersonRole) -> Self {
        match role {
            PersonRole::Viewer => Self::Viewer,
            PersonRole::Member => Self::Member,
            PersonRole::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Create a token and print it once
    Create {
        /// What it is for
        name: String,
        /// Login of the person it acts as; only an admin names another
        #[arg(long, value_name = "LOGIN")]
        person: Option<LoginName>,
        /// Refuse it after so many days [default: it does not end]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires: Option<u32>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SignIn {
    /// Your login [default: it is asked]
    #[arg(long)]
    pub(crate) login: Option<LoginName>,
    /// A one-time sign-in link: you choose a password
    #[arg(long, value_name = "URL", conflicts_with = "with_token")]
    pub(crate) link: Option<String>,
    /// Full name, for the first admin's link
    #[arg(long, requires = "link")]
    pub(crate) name: Option<String>,
    /// Address for commits, for the first admin's link
    #[arg(long, requires = "link")]
    pub(crate) email: Option<String>,
    /// Read a token from standard input instead of asking for a password
    #[arg(long)]
    pub(crate) with_token: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reference {
    Cli,
    Settings,
    Openapi,
}
