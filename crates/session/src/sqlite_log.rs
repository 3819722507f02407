//! The embedded log: one SQLite file per session at `sessions/<id>/session.db`, in WAL mode. A synced append is one
//! transaction with `synchronous=FULL` (one fdatasync of the WAL, which also covers buffered appends before it); a
//! buffered one is not synced at all.

use crate::checkpoint::Checkpoint;
use crate::log::{Append, CommitLog, LogError, Ownership, SessionDirectory, StoredReceipt, Tidy};
use crate::migrations::{migrate, version_of};
use crate::spares::Spares;
use async_trait::async_trait;
use greenroom_domain::{Durability, Entry, Event, SessionId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode as SqlCode, OptionalExtension, params};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Receipts kept per session; older ones are forgotten.
const RECEIPTS_KEPT: i64 = 10_000;

pub(crate) const FILE: &str = "session.db";
/// Of whoever makes a session.
const FIRST_EPOCH: u64 = 1;

/// Journals beyond this are folded into the file when a session leaves memory: whoever opens it reads the journal whole.
const JOURNAL_KEPT: u64 = 128 * 1024;

/// Session files under one directory. The data directory's lock makes this process their only user.
#[derive(Clone, Debug)]
pub struct FileSessions {
    root: PathBuf,
    spares: Arc<Spares>,
}

impl FileSessions {
    /// `root` is made when missing. Within a tokio runtime.
    pub fn open(root: impl Into<PathBuf>) -> std::io::Result<Self> {
        let root = root.into();
        std::fs::create_dir_all(&root)?;
        let spares = Arc::new(Spares::open(&root)?);
        Spares::refill(&spares);
        Ok(Self { root, spares })
    }

    /// The directory of everything a session keeps on disk.
    pub fn directory(&self, session: SessionId) -> PathBuf {
        self.root.join(session.to_string())
    }
}

fn owned(directory: &Path, connection: Connection, epoch: u64) -> Ownership {
    let connection = Arc::new(Mutex::new(connection));
    Ownership { epoch, log: Arc::new(SqliteLog { connection, journal: journal_of(directory) }) }
}

fn journal_of(directory: &Path) -> PathBuf {
    directory.join(format!("{FILE}-wal"))
}

#[async_trait]
impl SessionDirectory for FileSessions {
    async fn create(
        &self,
        session: SessionId,
        at_ms: i64,
        events: Vec<Event>,
    ) -> Result<(Ownership, Vec<Entry>), LogError> {
        let (root, directory, spares) =
            (self.root.clone(), self.directory(session), Arc::clone(&self.spares));
        let created = blocking(move || {
            let connection = spares.move_to(&directory)?;
            let made = crate::blobs::take_in(&root, session, &directory)
                .and_then(|()| begin_file(&root, &directory, connection, at_ms, events));
            if made.is_err() {
                // Nobody was told of it; what is left is found to be no session.
                let _ = crate::remove_tree(&directory);
            }
            let (connection, entries) = made?;
            Ok((owned(&directory, connection, FIRST_EPOCH), entries))
        });
        let created = created.await;
        Spares::refill(&self.spares);
        created
    }

    async fn close(&self) {
        self.spares.close().await;
    }

    async fn acquire(&self, session: SessionId) -> Result<Ownership, LogError> {
        let directory = self.directory(session);
        blocking(move || {
            let connection = open_file(&directory)?;
            let epoch = raise_epoch(&connection)?;
            Ok(owned(&directory, connection, epoch))
        })
        .await
    }

    async fn head_seq(&self, session: SessionId) -> Result<u64, LogError> {
        let directory = self.directory(session);
        blocking(move || {
            let query = "select max(seq) from entries";
            open_file(&directory)?.query_row(query, [], |row| row.get(0)).map_err(from_sql)
        })
        .await
    }

    async fn remove(&self, session: SessionId) -> Result<(), LogError> {
        let directory = self.directory(session);
        blocking(move || crate::remove_tree(&directory).map_err(|error| from_io(&error))).await
    }
}

/// The first entries of a file that was just moved into place, durable at the end: the spare's own content was synced when it was made, the
/// entries, their directory and its place here.
fn begin_file(
    root: &Path,
    directory: &Path,
    mut connection: Connection,
    at_ms: i64,
    events: Vec<Event>,
) -> Result<(Connection, Vec<Entry>), LogError> {
    let first = Append {
        epoch: FIRST_EPOCH,
        expected_head: 0,
        at_ms,
        events,
        durability: Durability::Synced,
        receipt: None,
    };
    // SQLite would sync a new WAL twice, its header first.
    connection.execute_batch("pragma synchronous = off").map_err(from_sql)?;
    let entries = append_all(&mut connection, first)?;
    let journal = File::open(journal_of(directory));
    journal.and_then(|journal| journal.sync_all()).map_err(|error| from_io(&error))?;
    sync_directory(directory)?;
    sync_directory(root)?;
    Ok((connection, entries))
}

/// An empty session file, for its first owner: with its schema, and without a WAL. (SQLite drops the WAL of a file that
/// is empty itself.) Not synced.
pub(crate) fn make_empty(directory: &Path) -> Result<(), LogError> {
    std::fs::create_dir(directory).map_err(|error| from_io(&error))?;
    let path = directory.join(FILE);
    let mut connection = Connection::open(&path).map_err(from_sql)?;
    connection.execute_batch("pragma synchronous = off; pragma journal_mode = wal").map_err(from_sql)?;
    migrate(&mut connection)?;
    connection.close().map_err(|(_, error)| from_sql(error))
}

/// What `make_empty` made, open for its first owner, its journal and index beside it.
pub(crate) fn open_empty(directory: &Path) -> Result<Connection, LogError> {
    let connection = Connection::open(directory.join(FILE)).map_err(from_sql)?;
    configure(&connection).map_err(from_sql)?;
    // Reads the schema, and opens what a first reading opens.
    has_entries(&connection)?;
    Ok(connection)
}

/// Whether a session was made there, not only begun.
pub(crate) fn is_session(directory: &Path) -> Result<bool, LogError> {
    match open_file(directory) {
        Ok(_) => Ok(true),
        Err(LogError::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_file(directory: &Path) -> Result<Connection, LogError> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Err(LogError::Missing);
    }
    let mut connection = Connection::open(path).map_err(from_sql)?;
    configure(&connection).map_err(from_sql)?;
    // The process was killed before the first entry: nothing was acknowledged.
    if version_of(&connection)? == 0 {
        return Err(LogError::Missing);
    }
    migrate(&mut connection)?;
    if has_entries(&connection)? { Ok(connection) } else { Err(LogError::Missing) }
}

fn has_entries(connection: &Connection) -> Result<bool, LogError> {
    connection.query_row("select exists (select 1 from entries)", [], |row| row.get(0)).map_err(from_sql)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // What is in the journal is as durable there; folding it in would cost each closing two syncs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -512; pragma temp_store = memory;",
    )
}

pub(crate) fn sync_directory(directory: &Path) -> Result<(), LogError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| from_io(&error))
}

/// Not synced: it is durable with the owner's first synced append. An owner that had none when the machine lost power did
/// nothing that an equal number could be taken for.
fn raise_epoch(connection: &Connection) -> Result<u64, LogError> {
    connection.execute_batch("pragma synchronous = off").map_err(from_sql)?;
    connection
        .query_row("update meta set value = value + 1 where name = 'epoch' returning value", [], |row| {
            row.get(0)
        })
        .map_err(from_sql)
}

#[derive(Clone, Debug)]
struct SqliteLog {
    connection: Arc<Mutex<Connection>>,
    /// By the name it has now: it may have been opened under another.
    journal: PathBuf,
}

impl SqliteLog {
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let connection = Arc::clone(&self.connection);
        blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

#[async_trait]
impl CommitLog for SqliteLog {
    async fn append(&self, append: Append) -> Result<Vec<Entry>, LogError> {
        self.with(move |connection| {
            let mode = match append.durability {
                Durability::Synced => "pragma synchronous = full",
                Durability::Buffered => "pragma synchronous = off",
            };
            connection.execute_batch(mode).map_err(from_sql)?;
            append_all(connection, append)
        })
        .await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.with(move |connection| {
            read_entries(
                connection,
                "select seq, at_ms, epoch, body from entries where seq > ?1 order by seq limit ?2",
                params![after, limit],
            )
        })
        .await
    }

    async fn read_shown(&self, after: u64, text_after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.with(move |connection| {
            let query = "select seq, at_ms, epoch, body from entries
                where seq > ?1 and (is_text = 0 or seq > ?2) order by seq limit ?3";
            read_entries(connection, query, params![after, text_after, limit])
        })
        .await
    }

    async fn read_before(&self, before: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.with(move |connection| {
            let query = "select seq, at_ms, epoch, body from entries
                where seq < ?1 and is_text = 0 order by seq desc limit ?2";
            let mut entries = read_entries(connection, query, params![before, limit])?;
            entries.reverse();
            Ok(entries)
        })
        .await
    }

    async fn read_conversation(&self) -> Result<Vec<Entry>, LogError> {
        self.with(|connection| {
            let query = "select seq, at_ms, epoch, body from entries where is_text = 0 order by seq";
            read_entries(connection, query, params![])
        })
        .await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, LogError> {
        self.with(|connection| read_checkpoint(connection)).await
    }

    async fn save_checkpoint(&self, epoch: u64, checkpoint: Checkpoint, tidy: Tidy) -> Result<(), LogError> {
        let journal = self.journal.clone();
        self.with(move |connection| {
            // First: an empty journal's header is then not the next append's to sync.
            if tidy == Tidy::Journal {
                fold_journal(connection, &journal).map_err(from_sql)?;
            }
            write_checkpoint(connection, epoch, &checkpoint)
        })
        .await
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        let key = key.to_owned();
        self.with(move |connection| {
            connection
                .prepare_cached("select digest, seq, problem from receipts where key = ?1")
                .and_then(|mut query| {
                    query
                        .query_row([&key], |row| {
                            let problem: Option<String> = row.get(2)?;
                            Ok(StoredReceipt {
                                digest: row.get(0)?,
                                seq: row.get(1)?,
                                problem: problem.and_then(|text| serde_json::from_str(&text).ok()),
                                key: key.clone(),
                            })
                        })
                        .optional()
                })
                .map_err(from_sql)
        })
        .await
    }
}

fn read_checkpoint(connection: &Connection) -> Result<Option<Checkpoint>, LogError> {
    let query = "select seq, version, state, digest from checkpoint
        where seq <= (select coalesce(max(seq), 0) from entries)";
    let row = connection.query_row(query, [], |row| {
        Ok(Checkpoint { seq: row.get(0)?, version: row.get(1)?, state: row.get(2)?, digest: row.get(3)? })
    });
    match row.optional() {
        // Of other types than were written: as damaged as a wrong digest.
        Err(rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)) => {
            Ok(None)
        }
        read => read.map_err(from_sql),
    }
}

fn write_checkpoint(
    connection: &mut Connection,
    epoch: u64,
    checkpoint: &Checkpoint,
) -> Result<(), LogError> {
    connection.execute_batch("pragma synchronous = off").map_err(from_sql)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(from_sql)?;
    check_owner(&transaction, epoch, checkpoint.seq)?;
    let Checkpoint { seq, version, state, digest } = checkpoint;
    transaction
        .execute(
            "insert or replace into checkpoint (id, seq, version, state, digest) values (1, ?1, ?2, ?3, ?4)",
            params![seq, version, state, digest],
        )
        .map_err(from_sql)?;
    transaction.commit().map_err(from_sql)
}

fn fold_journal(connection: &Connection, journal: &Path) -> rusqlite::Result<()> {
    let length = std::fs::metadata(journal).map_or(0, |journal| journal.len());
    if length > JOURNAL_KEPT {
        connection.execute_batch("pragma synchronous = full; pragma wal_checkpoint(truncate)")?;
    }
    Ok(())
}

fn append_all(connection: &mut Connection, append: Append) -> Result<Vec<Entry>, LogError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(from_sql)?;
    check_owner(&transaction, append.epoch, append.expected_head)?;
    let mut entries = Vec::with_capacity(append.events.len());
    for (event, seq) in append.events.into_iter().zip(append.expected_head + 1..) {
        let entry = Entry { seq, at_ms: append.at_ms, epoch: append.epoch, event };
        insert_entry(&transaction, &entry)?;
        entries.push(entry);
    }
    if let Some(receipt) = append.receipt {
        insert_receipt(&transaction, &receipt)?;
    }
    transaction.commit().map_err(|error| match from_sql(error) {
        LogError::Unavailable { reason } => LogError::Unknown { reason },
        known => known,
    })?;
    Ok(entries)
}

fn check_owner(connection: &Connection, epoch: u64, expected_head: u64) -> Result<(), LogError> {
    let query =
        "select (select value from meta where name = 'epoch'), coalesce((select max(seq) from entries), 0)";
    let (owner, head): (u64, u64) = connection
        .prepare_cached(query)
        .and_then(|mut query| query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(from_sql)?;
    if owner != epoch {
        return Err(LogError::Fenced { owner });
    }
    if head != expected_head {
        let reason = format!("the log ends at {head}, the writer expected {expected_head}");
        return Err(LogError::Unknown { reason });
    }
    Ok(())
}

fn insert_entry(connection: &Connection, entry: &Entry) -> Result<(), LogError> {
    let body = serde_json::to_string(&entry.event).map_err(|error| LogError::Unavailable {
        reason: format!("an event cannot be written as JSON: {error}"),
    })?;
    let is_text = matches!(entry.event, Event::BlockText { .. });
    connection
        .prepare_cached("insert into entries (seq, at_ms, epoch, is_text, body) values (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut insert| insert.execute(params![entry.seq, entry.at_ms, entry.epoch, is_text, body]))
        .map_err(from_sql)?;
    Ok(())
}

fn insert_receipt(connection: &Connection, receipt: &StoredReceipt) -> Result<(), LogError> {
    let problem = receipt.problem.as_ref().and_then(|problem| serde_json::to_string(problem).ok());
    connection
        .prepare_cached("insert into receipts (key, digest, seq, problem) values (?1, ?2, ?3, ?4)")
        .and_then(|mut insert| insert.execute(params![receipt.key, receipt.digest, receipt.seq, problem]))
        .map_err(|error| match error.sqlite_error_code() {
            Some(SqlCode::ConstraintViolation) => LogError::Repeated,
            _ => from_sql(error),
        })?;
    connection
        .prepare_cached("delete from receipts where number <= last_insert_rowid() - ?1")
        .and_then(|mut trim| trim.execute([RECEIPTS_KEPT]))
        .map_err(from_sql)?;
    Ok(())
}

fn read_entries(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Entry>, LogError> {
    let mut query = connection.prepare_cached(query).map_err(from_sql)?;
    let rows = query
        .query_map(parameters, |row| {
            Ok((row.get::<_, u64>(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?))
        })
        .map_err(from_sql)?;
    rows.map(|row| {
        let (seq, at_ms, epoch, body) = row.map_err(from_sql)?;
        let event = serde_json::from_str(&body).map_err(|error| LogError::Unavailable {
            reason: format!("entry {seq} cannot be read: {error}"),
        })?;
        Ok(Entry { seq, at_ms, epoch, event })
    })
    .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(LogError::Unknown { reason: format!("the log's thread ended: {error}") }))
}

// Taken by value so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn from_sql(error: rusqlite::Error) -> LogError {
    match error.sqlite_error_code() {
        Some(SqlCode::DiskFull) => LogError::Full,
        _ => LogError::Unavailable { reason: error.to_string() },
    }
}

pub(crate) fn from_io(error: &std::io::Error) -> LogError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => LogError::Full,
        _ => LogError::Unavailable { reason: error.to_string() },
    }
}
