//! The log of every session, as a disk keeps it: transactions in order, of which a crash leaves those that were synced and a
//! random number of the next. Every wait of the world passes [`Disk::point`], which is where the process may die.

use crate::dice::Dice;
use async_trait::async_trait;
use greenroom_domain::{Durability, Entry, Event, SessionId};
use greenroom_session::{
    Append, Checkpoint, CommitLog, LogError, Ownership, SessionDirectory, StoredReceipt, Tidy,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest pause at a point, in milliseconds of the world.
const LONGEST_PAUSE: u64 = 40;

#[derive(Debug)]
pub(crate) struct Disk {
    dice: Dice,
    files: Mutex<BTreeMap<SessionId, SessionFile>>,
    life: Mutex<Life>,
    pub(crate) died: Notify,
}

/// Of one process.
#[derive(Debug, Default)]
struct Life {
    points: u64,
    /// The process dies at this point; `None`: it lives on.
    last: Option<u64>,
    is_full: bool,
    is_kind: bool,
}

#[derive(Debug, Default)]
struct SessionFile {
    epoch: u64,
    transactions: Vec<Transaction>,
    synced: usize,
    checkpoint: Option<Checkpoint>,
}

#[derive(Clone, Debug, Default)]
struct Transaction {
    entries: Vec<Entry>,
    receipt: Option<StoredReceipt>,
}

impl SessionFile {
    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.transactions.iter().flat_map(|transaction| &transaction.entries)
    }

    fn head(&self) -> u64 {
        self.entries().next_back().map_or(0, |entry| entry.seq)
    }

    fn receipt(&self, key: &str) -> Option<&StoredReceipt> {
        let mut receipts = self.transactions.iter().filter_map(|transaction| transaction.receipt.as_ref());
        receipts.find(|receipt| receipt.key == key)
    }
}

impl Disk {
    pub(crate) fn new(dice: Dice) -> Arc<Self> {
        Arc::new(Self { dice, files: Mutex::default(), life: Mutex::default(), died: Notify::new() })
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<SessionId, SessionFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins. `last`: how many points it has to live.
    pub(crate) fn begin_life(&self, last: Option<u64>) {
        *self.life() = Life { last, is_kind: last.is_none(), ..Life::default() };
    }

    /// Nothing fails any more.
    pub(crate) fn is_kind(&self) -> bool {
        self.life().is_kind
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        let mut life = self.life();
        life.is_full = is_full && !life.is_kind;
    }

    /// Whatever was not synced is lost from some transaction on.
    pub(crate) fn crash(&self) {
        for file in self.files().values_mut() {
            let unsynced = file.transactions.len() - file.synced;
            let kept = file.synced + self.dice.range(0, unsynced as u64 + 1) as usize;
            file.transactions.truncate(kept);
            file.synced = kept;
            let head = file.head();
            let is_lost = self.dice.chance(30);
            file.checkpoint.take_if(|checkpoint| is_lost || checkpoint.seq > head);
        }
    }

    /// A place where time passes, others go first, and the process may die: then this never returns.
    pub(crate) async fn point(&self) {
        let (points, last) = {
            let mut life = self.life();
            life.points += 1;
            (life.points, life.last.unwrap_or(u64::MAX))
        };
        if points == last {
            self.died.notify_one();
        }
        if points >= last {
            std::future::pending::<()>().await;
        }
        match self.dice.range(0, 4) {
            0 => tokio::task::yield_now().await,
            1 => tokio::time::sleep(Duration::from_millis(self.dice.range(0, LONGEST_PAUSE))).await,
            _ => {}
        }
    }

    /// The whole log of a session.
    pub(crate) fn entries(&self, session: SessionId) -> Vec<Entry> {
        self.files().get(&session).map(|file| file.entries().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn receipt(&self, session: SessionId, key: &str) -> Option<StoredReceipt> {
        self.files().get(&session)?.receipt(key).cloned()
    }

    fn with<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        self.files().get_mut(&session).ok_or(LogError::Missing).and_then(work)
    }

    /// Whether a write fails for want of room.
    fn is_full(&self) -> bool {
        self.life().is_full
    }

    /// Now and then nobody can say what became of a write.
    fn forgets(&self) -> bool {
        !self.is_kind() && self.dice.next().is_multiple_of(400)
    }
}

/// The directory of one process.
#[derive(Clone, Debug)]
pub(crate) struct Sessions(pub(crate) Arc<Disk>);

#[async_trait]
impl SessionDirectory for Sessions {
    async fn create(
        &self,
        session: SessionId,
        at_ms: i64,
        events: Vec<Event>,
    ) -> Result<(Ownership, Vec<Entry>), LogError> {
        self.0.point().await;
        if self.0.is_full() {
            return Err(LogError::Full);
        }
        let entries = numbered(0, 1, at_ms, events);
        {
            let mut files = self.0.files();
            if files.contains_key(&session) {
                return Err(LogError::Exists);
            }
            let first = Transaction { entries: entries.clone(), receipt: None };
            let file =
                SessionFile { epoch: 1, transactions: vec![first], synced: 1, ..SessionFile::default() };
            files.insert(session, file);
        }
        self.0.point().await;
        Ok((self.owned(session, 1), entries))
    }

    async fn acquire(&self, session: SessionId) -> Result<Ownership, LogError> {
        self.0.point().await;
        if self.0.is_full() {
            return Err(LogError::Full);
        }
        let epoch = self.0.with(session, |file| {
            file.epoch += 1;
            Ok(file.epoch)
        })?;
        self.0.point().await;
        Ok(self.owned(session, epoch))
    }

    async fn head_seq(&self, session: SessionId) -> Result<u64, LogError> {
        self.0.point().await;
        self.0.with(session, |file| {
            Ok(file
                .transactions
                .iter()
                .flat_map(|one| &one.entries)
                .map(|entry| entry.seq)
                .max()
                .unwrap_or(0))
        })
    }

    async fn remove(&self, session: SessionId) -> Result<(), LogError> {
        self.0.point().await;
        self.0.files().remove(&session);
        Ok(())
    }
}

impl Sessions {
    fn owned(&self, session: SessionId, epoch: u64) -> Ownership {
        Ownership { epoch, log: Arc::new(SessionLog { disk: Arc::clone(&self.0), session }) }
    }
}

#[derive(Debug)]
struct SessionLog {
    disk: Arc<Disk>,
    session: SessionId,
}

impl SessionLog {
    async fn look<T>(&self, work: impl FnOnce(&SessionFile) -> T) -> Result<T, LogError> {
        self.disk.point().await;
        self.disk.with(self.session, |file| Ok(work(file)))
    }
}

#[async_trait]
impl CommitLog for SessionLog {
    async fn append(&self, append: Append) -> Result<Vec<Entry>, LogError> {
        self.disk.point().await;
        let is_full = self.disk.is_full();
        let entries = self.disk.with(self.session, |file| {
            let Append { epoch, expected_head, at_ms, events, receipt, .. } = append;
            if epoch < file.epoch {
                return Err(LogError::Fenced { owner: file.epoch });
            }
            if receipt.as_ref().is_some_and(|receipt| file.receipt(&receipt.key).is_some()) {
                return Err(LogError::Repeated);
            }
            if expected_head != file.head() {
                return Err(LogError::Unavailable { reason: "another head was expected".into() });
            }
            if is_full {
                return Err(LogError::Full);
            }
            let entries = numbered(expected_head, epoch, at_ms, events);
            file.transactions.push(Transaction { entries: entries.clone(), receipt });
            Ok(entries)
        })?;
        if append.durability == Durability::Synced {
            // Between writing and syncing the process may die, and what was written be there or not.
            self.disk.point().await;
            self.disk.with(self.session, |file| {
                file.synced = file.transactions.len();
                Ok(())
            })?;
        }
        self.disk.point().await;
        if self.disk.forgets() {
            return Err(LogError::Unknown { reason: "the disk did not answer".into() });
        }
        Ok(entries)
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.read_shown(after, 0, limit).await
    }

    async fn read_shown(&self, after: u64, text_after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        let is_shown = |entry: &&Entry| entry.seq > after && (entry.seq > text_after || !is_text(entry));
        self.look(|file| file.entries().filter(is_shown).take(limit).cloned().collect()).await
    }

    async fn read_before(&self, before: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        let is_shown = |entry: &&Entry| entry.seq < before && !is_text(entry);
        let mut newest: Vec<Entry> =
            self.look(|file| file.entries().rev().filter(is_shown).take(limit).cloned().collect()).await?;
        newest.reverse();
        Ok(newest)
    }

    async fn read_conversation(&self) -> Result<Vec<Entry>, LogError> {
        self.look(|file| file.entries().filter(|entry| !is_text(entry)).cloned().collect()).await
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        self.look(|file| file.receipt(key).cloned()).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, LogError> {
        self.look(|file| file.checkpoint.clone()).await
    }

    async fn save_checkpoint(&self, epoch: u64, checkpoint: Checkpoint, _: Tidy) -> Result<(), LogError> {
        self.disk.point().await;
        self.disk.with(self.session, |file| {
            if epoch < file.epoch {
                return Err(LogError::Fenced { owner: file.epoch });
            }
            file.checkpoint = Some(checkpoint);
            Ok(())
        })
    }
}

fn is_text(entry: &Entry) -> bool {
    matches!(entry.event, Event::BlockText { .. })
}

fn numbered(head: u64, epoch: u64, at_ms: i64, events: Vec<Event>) -> Vec<Entry> {
    let numbers = head + 1..;
    numbers.zip(events).map(|(seq, event)| Entry { seq, at_ms, epoch, event }).collect()
}
