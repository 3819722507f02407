//! The command line: one tree of verbs with their help. `docs/cli.md` is made from it.

mod arguments;
mod backup;
mod quota;
mod repository;
mod retention;
mod session;
mod sharing;

use crate::bench::Bench;
use crate::demo::Demo;
use crate::settings::ServeFlags;
pub(crate) use arguments::*;
pub(crate) use backup::{Backup, BackupPlace};
use clap::{Args, CommandFactory, Parser, Subcommand};
pub(crate) use quota::{Quota, SetQuota};
pub(crate) use repository::*;
pub(crate) use retention::{Retention, RetentionVerb};
pub(crate) use session::*;
pub(crate) use sharing::*;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  greenroom serve
  greenroom repository add sample ./sample --wait
  greenroom model add claude --provider anthropic --model NAME --key-env ANTHROPIC_API_KEY --default
  greenroom run sample \"make the failing test pass\"
  greenroom change approve sample#1
  greenroom session list --json";

/// Background coding agents on your own machine: a prompt goes in, a change request comes out.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version, after_help = EXAMPLES, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where and how, the same for every verb.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Address of the server [default: http://127.0.0.1:7878]
    #[arg(long, global = true, value_name = "URL", env = "GREENROOM_SERVER", hide_env_values = true)]
    #[arg(help_heading = "Everywhere")]
    pub(crate) server: Option<String>,
    /// Data directory of a server on this machine [default: ~/.local/share/greenroom]
    #[arg(long, global = true, value_name = "DIR", env = "GREENROOM_DATA", hide_env_values = true)]
    #[arg(help_heading = "Everywhere")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON: one document, or one line for each part of a stream; errors too
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeFlags>),
    /// Show the whole loop on this machine: a prompt, an agent's work, a change, its merge
    Demo(Demo),
    /// Show what this machine can do for sandboxes, what is lost without it, and the line that changes it
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
    /// Backups of a data directory: make, list, check, restore
    #[command(subcommand)]
    Backup(Backup),
    /// Measure this machine, each figure beside a floor or a peer
    #[command(subcommand)]
    Bench(Bench),
    /// Ask an agent for a change in a new session, and watch
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Sessions: conversations with their files and their change
    #[command(subcommand, visible_alias = "sessions")]
    Session(Session),
    /// Changes that sessions propose: read, approve, merge
    #[command(subcommand, visible_alias = "changes")]
    Change(Change),
    /// Repositories that agents work in
    #[command(subcommand, visible_alias = "repositories")]
    Repository(Repository),
    /// Secrets that are added to what sandboxes send, and never enter them
    #[command(subcommand, visible_alias = "secrets")]
    Secret(Secret),
    /// Environment images of repositories
    #[command(subcommand, visible_alias = "images")]
    Image(Image),
    /// Models that do the thinking
    #[command(subcommand, visible_alias = "models")]
    Model(Model),
    /// Figures of what happened: turns, tokens, money, time, tools, changes
    Statistics(Statistics),
    /// People who may sign in
    #[command(subcommand, visible_alias = "people")]
    Person(Person),
    /// What each person may hold and use
    #[command(subcommand, visible_alias = "quotas")]
    Quota(Quota),
    /// What goes by itself because it is old: how long things are kept, what went, what would
    Retention(Retention),
    /// Tokens for programs
    #[command(subcommand)]
    Token(Token),
    /// Sign in to a server, and keep a token for it in ~/.config/greenroom/client.toml
    #[command(after_help = SIGN_IN_HELP)]
    SignIn(SignIn),
    /// Forget the token of a server
    SignOut,
    /// Print a generated reference (used by `cargo xtask generate`)
    #[command(hide = true)]
    Reference { what: Reference },
}

const SERVE_HELP: &str = "\
The first start prints a one-time link for the first admin. No setting is needed; docs/settings.md lists them with their
names in the environment and in the file.

Examples:
  greenroom serve
  greenroom serve --data /srv/greenroom --listen 0.0.0.0:7878 --public-origin https://greenroom.example.org";

const DOCTOR_HELP: &str = "\
Makes one sandbox and removes it again; changes nothing. Asks no server: GET /api/v1/machine shows the same of a running one.

Exit code: 0 sandboxes can be made, 1 they cannot.

Examples:
  greenroom doctor
  greenroom doctor --data /srv/greenroom --json";

const RUN_HELP: &str = "\
Ctrl-C ends the watching, not the work: `greenroom session follow` shows it again.

Exit code: 0 completed, 1 failed, 2 wrong usage, 3 stopped, 4 a budget was reached, 130 Ctrl-C.
With --json: a line {\"type\":\"session\"}, a line for each frame of the session's stream, a line {\"type\":\"result\"}.

Examples:
  greenroom run sample \"make the failing test pass\"
  greenroom run sample --base release --model fast - < task.md
  greenroom run sample \"update the dependencies\" --detach";

const SIGN_IN_HELP: &str = "\
On the server's own machine the same user needs no sign-in. GREENROOM_TOKEN, where set, comes before what is kept.

Examples:
  greenroom sign-in --server https://greenroom.example.org
  greenroom sign-in --link 'http://127.0.0.1:7878/sign-in/link?token=…'
  greenroom sign-in --with-token < token.txt";

/// The whole reference as Markdown: the help of every verb.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Command line\n\nMade by `cargo xtask generate` from the program's own help; a test checks that it is current.\n",
    );
    let mut root = Cli::command();
    root.build();
    write_help(&mut text, &root);
    text
}

fn write_help(text: &mut String, command: &clap::Command) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let help = command.clone().term_width(100).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for verb in command.get_subcommands() {
        if !verb.is_hide_set() && verb.get_name() != "help" {
            write_help(text, verb);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn docs_cli_md_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "docs/cli.md is out of date: run `cargo xtask generate`");
    }

    #[test]
    fn a_key_is_never_an_argument() {
        let tried =
            ["greenroom", "model", "add", "m", "--provider", "openai", "--model", "x", "--key", "sk-1"];
        assert!(Cli::try_parse_from(tried).is_err());
    }
}
