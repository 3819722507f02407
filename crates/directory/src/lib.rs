//! People, credentials, repositories, models, images, the session index, search and figures: one database of the installation.
//!
//! Lists, look-ups, search and figures come from here; what happened inside a session never does: what is here of it is a
//! projection that the session's outbox feeds. Secrets are kept as digests and password hashes only. Called by `app`; knows no HTTP.
//!
//! [`Directory`] is a cloneable handle. One thread writes, two read; see `worker` for what happens under load.

mod credentials;
mod drafts;
mod egress;
mod error;
mod images;
mod mirrors;
mod models;
mod outbox;
mod people;
mod quotas;
mod reads;
mod remembered;
mod repositories;
mod retention;
mod row;
mod schema;
mod search;
mod sessions;
mod share_links;
mod statistics;
mod worker;

pub use credentials::{Digest, TokenRow};
pub use drafts::{DRAFTS, DraftPlace, DraftRow, WrittenDraft};
pub use egress::{EgressRow, SecretRow};
pub use error::Error;
pub use images::{ImageRow, ImageState};
pub use mirrors::MirrorRow;
pub use models::ModelRow;
pub use outbox::{Projected, Projection, SettledRow};
pub use quotas::Counted;
pub use reads::{ReadRow, ReaderRow};
pub use remembered::{REMEMBERED_LIMIT, Remembered, SCOPE_LIMIT};
pub use repositories::RepositoryRow;
pub use retention::Expiring;
pub use search::{MARK_BEGIN, MARK_END, Part, PartKind, SearchQuery, SearchRow, WORDS};
pub use sessions::{Archived, Onlooker, SessionRow, SessionStatus};
pub use share_links::{LINK_ROWS, ShareLinkRow};
pub use statistics::{Fact, Statistics, StatisticsQuery, What};

use rusqlite::Connection;
use std::path::Path;
use worker::Worker;

pub type Result<T, E = Error> = std::result::Result<T, E>;

const READERS: usize = 2;

/// Handle of the installation's directory. Its threads end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Directory {
    writer: Worker,
    readers: Worker,
}

impl Directory {
    /// Opens or creates the database and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let writer = schema::open_for_writing(&path)?;
            let journal = schema::open_journal(&path)?;
            let readers = (0..READERS).map(|_| schema::open_for_reading(&path)).collect::<Result<_>>()?;
            Ok(Self {
                writer: Worker::writer("directory-writer", writer, journal)?,
                readers: Worker::readers("directory-reader", readers)?,
            })
        });
        opened.await.map_err(|_| Error::Database("opening the directory panicked".into()))?
    }

    /// Whether the writer answers and its journal can be synced. Changes nothing.
    pub async fn check_writer(&self) -> Result<()> {
        self.write(|db| Ok(db.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.run(job).await
    }

    /// Durable when it returns.
    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(job).await
    }
}
