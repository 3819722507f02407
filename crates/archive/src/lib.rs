//! A session as one file, to take it from one installation to another: what it looks like, how it is written, and what
//! of one from elsewhere is believed. Called by `app`, which decides who may and what becomes of it. Asks no server,
//! knows no repository, and keeps nothing. docs/archive.md describes the format.

#[cfg(test)]
mod fuzz;
mod log;
mod manifest;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use manifest::{Exporter, FORMAT, KIND, Known, Manifest, Member, SessionFacts, Work};
pub use read::{Limits, Unpacked, read};
pub use write::{Described, describe, write, write_log};

/// Of the whole manifest, in bytes.
pub const MANIFEST_LIMIT: u64 = 4 * 1024 * 1024;
/// Of the whole log, in bytes.
pub const LOG_LIMIT: u64 = 128 * 1024 * 1024;
/// Of one entry, in bytes.
pub const ENTRY_LIMIT: u64 = 32 * 1024 * 1024;
pub const ENTRIES_LIMIT: u64 = 500_000;
/// Files beside the log.
pub const FILES_LIMIT: usize = 2_001;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{reason}")]
    Damaged { reason: String },
    #[error("it has format {found}, and this program reads those up to {FORMAT}")]
    TooNew { found: u32 },
    #[error("{what} has more than {limit} bytes")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

fn damaged(reason: impl Into<String>) -> Error {
    Error::Damaged { reason: reason.into() }
}
