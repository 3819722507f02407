//! `backup …`

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Make a backup of the data directory, beside its running server or without it
    #[command(after_help = CREATE_HELP)]
    Create {
        #[command(flatten)]
        place: BackupPlace,
        /// Put the vault's key in: whoever has the backup then has every secret of the installation
        #[arg(long)]
        with_key: bool,
        /// Remove the oldest beyond so many afterwards
        #[arg(long, value_name = "N")]
        keep: Option<std::num::NonZeroU32>,
    },
    /// List backups, oldest first
    List {
        #[command(flatten)]
        place: BackupPlace,
    },
    /// Read all of a backup: files against their digests, databases, repositories
    Verify {
        /// Its name, `latest`, or a path
        backup: String,
        #[command(flatten)]
        place: BackupPlace,
    },
    /// Make a new data directory (--data) from a backup
    #[command(after_help = RESTORE_HELP)]
    Restore {
        /// Its path
        backup: PathBuf,
        /// The vault's key, where the backup has none
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

const CREATE_HELP: &str = "\
Sessions, attached files, the directory, repositories and the vault, without its key unless asked for: keep a copy of
`vault.key` elsewhere. What did not change since the backup before costs no room. Left out: images and their layers, which are
built anew, and what only sandboxes hold (see docs/operations.md).

Exit code: 0 made, 1 failed; nothing is left of one that failed.

Examples:
  greenroom backup create --to /mnt/backups
  greenroom backup create --data /srv/greenroom --to /mnt/backups --keep 14";

const RESTORE_HELP: &str = "\
Reads all of the backup first. The data directory must be empty, or not there.

Examples:
  greenroom backup restore /mnt/backups/2026-11-21T03-00-00Z --data /srv/greenroom --key vault.key";

#[derive(Clone, Debug, Args)]
pub(crate) struct BackupPlace {
    /// Directory of backups, best on another disk [default: backups in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}
