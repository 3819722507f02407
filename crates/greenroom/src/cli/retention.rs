//! `retention …`

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = RETENTION_HELP)]
pub(crate) struct Retention {
    /// Show what would go now, and why something stays; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<RetentionVerb>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum RetentionVerb {
    /// Let go of what is old enough now, as the server does once a day
    Run {
        /// Show what would go, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

const RETENTION_HELP: &str = "\
Without a verb: what is kept for how long, and what the last pass did. How long is in the server's settings
(`retention.*` in docs/settings.md); by themselves sessions are neither archived nor deleted.

Examples:
  greenroom retention
  greenroom retention --dry-run
  greenroom retention run --json";
