//! `run`, `session` and its queue.

use super::arguments::Effort;
use super::sharing::{People, Share};
use clap::{Args, Subcommand, ValueEnum};
use greenroom_domain::{AskId, BranchName, CommandId, PromptId, RepositoryName, SessionId, TurnId};
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
    /// How hard it thinks; `model list` says what each knows [default: what was set for the model]
    #[arg(long)]
    pub(crate) effort: Option<Effort>,
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
    Archive {
        session: SessionId,
        /// What becomes of sessions that it began and that are at work
        #[arg(long, value_enum, value_name = "FATE")]
        children: Option<Children>,
    },
    /// Show an archived session in the list again
    Unarchive { session: SessionId },
    /// Show a session among those that agents began: the one above it, and all beneath
    Tree { session: SessionId },
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
        /// The link, or what follows its `#`; `-` reads it from standard input, which keeps it out of the shell's history
        #[arg(allow_hyphen_values = true)]
        link: String,
    },
    /// Stop the running turn; what was done is kept, and the next waiting prompt is answered
    Stop {
        session: SessionId,
        /// Hold back the prompts that wait, until `session queue release`
        #[arg(long)]
        hold: bool,
        /// Also the sessions that it began and that are at work, and theirs; otherwise they go on
        #[arg(long)]
        children: bool,
        /// Only those, while this one goes on
        #[arg(long, conflicts_with_all = ["hold", "children"])]
        only_children: bool,
    },
    /// Show what the agent asks people and waits for
    Asks { session: SessionId },
    /// Answer what the agent asks; the first answer counts
    #[command(after_help = ANSWER_HELP)]
    Answer {
        session: SessionId,
        /// Which ask [default: the only one that is open]
        #[arg(long, value_name = "ASK")]
        ask: Option<AskId>,
        /// For each question an option's label or number, or words; for leave: once, always, or deny and why
        #[arg(required = true, value_name = "ANSWER")]
        words: Vec<String>,
    },
    /// Show what the model sees of a session, part by part, and what its next request costs
    Context { session: SessionId },
    /// Have the conversation summarised for the model now, as happens by itself when its window is full
    Compact { session: SessionId },
    /// Give a session another title
    Rename { session: SessionId, title: String },
    /// Let another model answer from the next turn on, or the same with another effort
    #[command(after_help = MODEL_HELP)]
    Model {
        session: SessionId,
        /// Name of the model [default: the one it has]
        model: Option<String>,
        /// How hard it thinks [default: what was set for the model]
        #[arg(long)]
        effort: Option<Effort>,
        /// The installation's default model
        #[arg(long, conflicts_with = "model")]
        default: bool,
    },
    /// Show what the session changed, or one of its turns or steps
    Diff {
        session: SessionId,
        /// Only this turn; 1 is the first, or trn_…
        #[arg(long, value_name = "N|ID", conflicts_with = "step")]
        turn: Option<TurnName>,
        /// Only this step, as `session steps` counts them
        #[arg(long, value_name = "N")]
        step: Option<u64>,
    },
    /// List what changed the session's files, step by step, newest first
    Steps { session: SessionId },
    /// Put the files back to how a step left them, and forward again
    #[command(after_help = REVERT_HELP)]
    Revert {
        session: SessionId,
        /// The step, as `session steps` counts them; 0 is how the files were before the first one
        #[arg(long, value_name = "STEP", required_unless_present = "forward", conflicts_with = "forward")]
        to: Option<u64>,
        /// To where the files were before they were put back
        #[arg(long)]
        forward: bool,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Made up by you, so that a repetition does nothing more
        #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
        key: Option<CommandId>,
    },
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
    Delete {
        session: SessionId,
        /// What becomes of sessions that it began and that are at work
        #[arg(long, value_enum, value_name = "FATE")]
        children: Option<Children>,
    },
}

/// What becomes of the sessions that one began when that is put away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Children {
    /// Their turns are stopped, and those of theirs; what they did is kept
    Stop,
    /// They go on alone
    Release,
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

const ANSWER_HELP: &str = "\
Whoever may prompt may answer. Several options of one question are written with commas between.

Examples:
  greenroom session answer ses_… 2
  greenroom session answer ses_… blue \"because it is calm\"
  greenroom session answer ses_… always
  greenroom session answer ses_… deny use the staging database";

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

const REVERT_HELP: &str = "\
What is there is kept as a step first, so nothing is lost. Ignored files, the branch and its commits, and what is staged \
stay as they are. Refused while a turn runs. The agent is told in its next turn.

Examples:
  greenroom session revert ses_… --to 3 --dry-run
  greenroom session revert ses_… --to 3
  greenroom session revert ses_… --forward";

const MODEL_HELP: &str = "\
A model that is named goes back to the effort that was set for it, unless one is given.

Examples:
  greenroom session model ses_… fast
  greenroom session model ses_… --effort high
  greenroom session model ses_… --default";

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
