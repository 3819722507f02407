//! Arguments of each verb.

use super::sharing::{People, Share};
use clap::{Args, Subcommand, ValueEnum};
use greenroom_domain::{
    BranchName, ChangeId, CommandId, ExchangeName, ImageId, LoginName, PromptId, RepositoryName, Role,
    SessionId, TurnId,
};
use greenroom_wire::{ModelEffort, ModelProvider};
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Name of the repository
    pub(crate) repository: RepositoryName,
    /// What to do; `-` reads it from standard input
    pub(crate) prompt: String,
    /// Name of the model [default: the installation's default]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Branch to start from and to propose to [default: the repository's default branch]
    #[arg(long, value_name = "BRANCH")]
    pub(crate) base: Option<BranchName>,
    /// Title of the session [default: made from the prompt]
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// File to send along, at most 10; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,
    /// Only for participants and admins; `session people` and `session share` let others in
    #[arg(long)]
    pub(crate) private: bool,
    /// Do not watch: print the session and return
    #[arg(long, short)]
    pub(crate) detach: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List sessions, newest first
    List {
        /// Only those of this repository
        #[arg(long)]
        repository: Option<RepositoryName>,
        /// Those that are archived
        #[arg(long, conflicts_with = "follow")]
        archived: bool,
        /// Go on with what changes, until Ctrl-C; with `--json` one line for each
        #[arg(long)]
        follow: bool,
    },
    /// Find sessions by words of their titles, prompts, answers, branches and repositories
    Search {
        /// Each is somewhere in the session; the last may be the beginning of a word
        #[arg(required = true, value_name = "WORD")]
        words: Vec<String>,
        /// Only those of this repository
        #[arg(long)]
        repository: Option<RepositoryName>,
    },
    /// Hide a session from the list and let its sandbox go; the next prompt brings it back
    Archive { session: SessionId },
    /// Show an archived session in the list again
    Unarchive { session: SessionId },
    /// Show one session
    Show { session: SessionId },
    /// Watch a session until Ctrl-C
    Follow {
        session: SessionId,
        /// Begin after this entry of its log
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
    },
    /// Ask for something more, and watch until that is answered
    Prompt {
        session: SessionId,
        /// What to do; `-` reads it from standard input
        prompt: String,
        /// Join the running turn at its next step, instead of waiting for its end
        #[arg(long)]
        insert: bool,
        /// File to send along, at most 10; may be given several times
        #[arg(long, value_name = "FILE")]
        attach: Vec<PathBuf>,
        /// Do not watch
        #[arg(long, short)]
        detach: bool,
    },
    /// Look at the prompts that wait, and change them
    #[command(subcommand)]
    Queue(Queue),
    /// Who takes part in a session, and what it is open for
    #[command(subcommand)]
    People(People),
    /// Links that let others of the installation into a session
    #[command(subcommand)]
    Share(Share),
    /// Follow a share link into its session
    Join {
        /// The link, or what follows its `#`
        link: String,
    },
    /// Stop the running turn; what was done is kept, and the next waiting prompt is answered
    Stop {
        session: SessionId,
        /// Hold back the prompts that wait, until `session queue release`
        #[arg(long)]
        hold: bool,
    },
    /// Give a session another title
    Rename { session: SessionId, title: String },
    /// Show what the session changed
    Diff { session: SessionId },
    /// Show which prompts, and whose, made each line of a file
    Blame {
        session: SessionId,
        /// From the repository's root
        file: String,
    },
    /// Show what its turns did and when: stages of the start, requests to the model, tool calls, snapshots
    Trace {
        session: SessionId,
        /// Only this turn; 1 is the first [default: the last 50]
        #[arg(long, value_name = "N")]
        turn: Option<u64>,
    },
    /// Show who is told of a session, and what could not be delivered
    Outbox {
        session: SessionId,
        /// Try again what could not be delivered
        #[arg(long)]
        retry: bool,
    },
    /// Run a command in the session's sandbox; its exit code is passed on
    #[command(after_help = EXEC_HELP)]
    Exec {
        session: SessionId,
        /// Longest time it may take, in seconds
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
        timeout: Option<u64>,
        /// One argument is a line for the shell; several are a program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Go on from an earlier turn in a new session, with its conversation and its files as they were then
    #[command(after_help = FORK_HELP)]
    Fork(Fork),
    /// Write a session to one file: conversation, attached and published files, and the commits of its branch
    #[command(after_help = EXPORT_HELP)]
    Export {
        session: SessionId,
        /// A file that is not there yet; `-` writes to standard output
        file: PathBuf,
    },
    /// Make a session of an exported one, which you own
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// What `session export` wrote
        file: PathBuf,
        /// The repository that it goes on in [default: the one of the exported session's name]
        #[arg(long)]
        repository: Option<RepositoryName>,
        /// Made up by you, so that a repetition makes no second session
        #[arg(long, value_name = "KEY")]
        key: Option<CommandId>,
    },
    /// List the files that the agent published, or write one to a file here
    Artifacts {
        session: SessionId,
        /// The number of the one to write, as the list has it
        #[arg(long, value_name = "N")]
        download: Option<usize>,
        /// Where to write it [default: its own name in this directory]
        #[arg(long, value_name = "FILE", requires = "download")]
        to: Option<PathBuf>,
    },
    /// List the kept snapshots of a session's files, newest first
    Snapshots { session: SessionId },
    /// Delete a session with its log and files; its change stays
    Delete { session: SessionId },
}

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
#[command(after_help = QUEUE_HELP)]
pub(crate) enum Queue {
    /// List the waiting prompts in the order in which they are answered
    List { session: SessionId },
    /// Change the words of a prompt of yours
    Edit {
        session: SessionId,
        prompt: PromptId,
        /// What to do; `-` reads it from standard input
        text: String,
    },
    /// Put a prompt before another one, or at the end
    Move {
        session: SessionId,
        prompt: PromptId,
        /// The prompt that it is answered before [default: the end of the queue]
        #[arg(long, value_name = "PROMPT")]
        before: Option<PromptId>,
    },
    /// Let a waiting prompt join the running turn at its next step
    Insert { session: SessionId, prompt: PromptId },
    /// Let a prompt that would join the running turn wait for its end
    Wait { session: SessionId, prompt: PromptId },
    /// Take a prompt back
    Withdraw { session: SessionId, prompt: PromptId },
    /// Let the prompts that a stop held back be answered
    Release { session: SessionId },
}

const QUEUE_HELP: &str = "\
A prompt's words are its author's alone. Its author, or an admin, may move and withdraw it and choose when it is \
answered. Only an admin moves a prompt ahead of another person's.

Examples:
  greenroom session queue list ses_…
  greenroom session queue move ses_… pmt_… --before pmt_…";

#[derive(Debug, Args)]
pub(crate) struct Fork {
    pub(crate) session: SessionId,
    /// What to do next; `-` reads it from standard input [default: nothing yet]
    pub(crate) prompt: Option<String>,
    /// The last turn that is taken over: its number, or trn_… [default: the last one that has ended]
    #[arg(long, value_name = "N|ID")]
    pub(crate) turn: Option<TurnName>,
    /// Title of the new session [default: the other's, marked as a fork]
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Do not watch: print the session and return
    #[arg(long, short)]
    pub(crate) detach: bool,
}

/// A turn as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnName {
    Id(TurnId),
    /// Counted from 1, the turns taken over from a parent included.
    Number(usize),
}

impl FromStr for TurnName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("turns are counted from 1".to_owned()),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => text.parse().map(Self::Id).map_err(|error| format!("{error}; or a number")),
        }
    }
}

const FORK_HELP: &str = "\
Examples:
  greenroom session fork ses_… \"try it with a queue instead\"
  greenroom session fork ses_… --turn 2 --detach";

const EXPORT_HELP: &str = "\
What is in the sandbox and was not pushed to the session's branch stays behind.

Examples:
  greenroom session export ses_… parser.greenroom
  greenroom session export ses_… - | ssh elsewhere 'cat > parser.greenroom'";

const IMPORT_HELP: &str = "\
Nothing in the new session runs by itself. People are those of this installation with the same login; others stay as names.

Examples:
  greenroom session import parser.greenroom
  greenroom session import parser.greenroom --repository my-parser";

const EXEC_HELP: &str = "\
Examples:
  greenroom session exec ses_… -- git status
  greenroom session exec ses_… -- 'ls | wc -l'";

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
pub(crate) enum Repository {
    /// Add a repository: its branches and tags are mirrored, and its environment image is built
    #[command(after_help = REPOSITORY_HELP)]
    Add {
        name: RepositoryName,
        /// Path on the server, or URL
        source: String,
        /// Approvals that a change needs before it may be merged [default: the installation's]
        #[arg(long, value_name = "N")]
        required_approvals: Option<u32>,
        /// Watch the image's build to its end
        #[arg(long)]
        wait: bool,
    },
    /// List repositories with their images
    List,
    /// Remove a repository with its images
    Remove { name: RepositoryName },
    /// Make the secret with which a forge elsewhere says that something was pushed; it is shown once
    #[command(after_help = HOOK_HELP)]
    Hook {
        name: RepositoryName,
        /// Let nobody say so any more
        #[arg(long)]
        remove: bool,
    },
    /// What its sandboxes may reach
    #[command(subcommand)]
    Egress(Egress),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Egress {
    /// Show what a repository's sandboxes may reach, and why
    Show { repository: RepositoryName },
    /// Allow a host beside the defaults and the recipe
    Allow {
        repository: RepositoryName,
        /// HOST, HOST:PORT, *.DOMAIN or an address
        host: String,
        /// Also when it is on a private network
        #[arg(long)]
        private: bool,
    },
    /// Take back what was allowed
    Forbid { repository: RepositoryName, host: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Declare a secret, or replace it; its value is stored encrypted and never shown again
    #[command(after_help = SECRET_HELP)]
    Add(SecretAdd),
    /// List a repository's secrets, without their values
    List { repository: RepositoryName },
    /// Remove a secret
    Remove { repository: RepositoryName, name: String },
}

const SECRET_HELP: &str = "\
The value is read from standard input, or asked on the terminal. Sandboxes hold only a placeholder, in an environment
variable of the secret's name; requests to the hosts, and to no others, are given the value.

Examples:
  greenroom secret add sample STRIPE_KEY --host api.stripe.com < key.txt
  greenroom secret add sample API_KEY --host api.example.org --header X-Api-Key";

#[derive(Debug, Args)]
pub(crate) struct SecretAdd {
    pub(crate) repository: RepositoryName,
    /// Name of the environment variable: capital letters, digits and _
    pub(crate) name: String,
    /// Host that gets it over TLS: HOST, HOST:PORT or https://HOST/PATH; http://HOST sends it in plain text
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<String>,
    /// File that holds the value; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) value_file: Option<PathBuf>,
    /// As the password of this user [default: as bearer token]
    #[arg(long, value_name = "USER", conflicts_with_all = ["header", "placeholder"])]
    pub(crate) basic: Option<String>,
    /// As this header
    #[arg(long, value_name = "NAME", conflicts_with = "placeholder")]
    pub(crate) header: Option<String>,
    /// Wherever a header holds the placeholder
    #[arg(long)]
    pub(crate) placeholder: bool,
}

const HOOK_HELP: &str = "\
At a forge elsewhere (GitHub: Settings, Webhooks) give the address and the secret, content type application/json, and the
push event. Its host must reach this server.";

const REPOSITORY_HELP: &str = "\
Examples:
  greenroom repository add sample ./sample --wait
  greenroom repository add tools https://git.example.org/tools.git --required-approvals 2";

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Build a repository's environment image anew
    Build {
        repository: RepositoryName,
        /// Watch the build to its end
        #[arg(long)]
        follow: bool,
    },
    /// List a repository's images
    List { repository: RepositoryName },
    /// Show what a build did: its steps, which of them ran, how long each took, and why it failed
    Show { image: ImageId },
    /// Show the log of a build, live while it runs
    Log { image: ImageId },
    /// Write an image into a directory of the server's DATA/exchange, for another machine
    Export {
        repository: RepositoryName,
        /// Another than the newest good one
        #[arg(long)]
        image: Option<ImageId>,
        /// The directory's name, made where there is none
        #[arg(long, value_name = "DIRECTORY")]
        to: ExchangeName,
    },
    /// Take an image that another machine exported from a directory of the server's DATA/exchange, and watch it to its end
    Import {
        repository: RepositoryName,
        /// The directory's name
        #[arg(long, value_name = "DIRECTORY")]
        from: ExchangeName,
    },
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
}

impl From<Provider> for ModelProvider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Anthropic => Self::Anthropic,
            Provider::Openai => Self::Openai,
            Provider::OpenaiChat => Self::OpenaiChat,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Effort {
    Low,
    Medium,
    High,
}

impl From<Effort> for ModelEffort {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Low => Self::Low,
            Effort::Medium => Self::Medium,
            Effort::High => Self::High,
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
