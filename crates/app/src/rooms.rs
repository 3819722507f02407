//! Who is at a session. A *room* exists while somebody has the session open: it knows the connections, who types, and how
//! far people have read, and tells all of them, never through the session's actor, whose life it does not prolong.
//!
//! What is told is always the whole, and only the newest matters: a slow or a thousandth viewer costs nothing more. One
//! task per room tells at once what changes, and then at most once in `PAUSE`; it also writes reads to the directory,
//! those of one pause together.

mod people;
#[cfg(test)]
mod tests;

use crate::{Inner, Result};
use greenroom_directory::{ReadRow, ReaderRow};
use greenroom_domain::{Person, PersonId, SessionId};
use greenroom_wire::{ClientKind, Presence, Readers};
use people::People;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Between two tellings.
const PAUSE: Duration = Duration::from_millis(250);
/// After the last word of somebody's typing.
const TYPING: Duration = Duration::from_secs(6);
/// People named in what is told; the others are counted.
pub(crate) const NAMED: usize = 50;

/// All rooms. Locked before any single room's people.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<SessionId, Arc<Room>>>,
}

#[derive(Debug)]
pub(crate) struct Room {
    session: SessionId,
    people: Mutex<People>,
    /// The newest entry that anybody here was sent: nobody can have read further.
    head_seq: AtomicU64,
    changed: Notify,
    presence: watch::Sender<Arc<Presence>>,
    readers: watch::Sender<Arc<Readers>>,
}

/// One connection's place in a room, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    app: Weak<Inner>,
    room: Arc<Room>,
    person: PersonId,
    client: ClientKind,
    pub(crate) presence: watch::Receiver<Arc<Presence>>,
    pub(crate) readers: watch::Receiver<Arc<Readers>>,
}

impl Seat {
    /// An entry was sent to this connection.
    pub(crate) fn saw(&self, seq: u64) {
        self.room.head_seq.fetch_max(seq, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.people().leave(self.person, self.client);
        self.room.changed.notify_one();
        if let Some(app) = self.app.upgrade() {
            app.rooms.close_if_empty(self.room.session);
        }
    }
}

impl Room {
    fn new(session: SessionId) -> Self {
        Self {
            session,
            people: Mutex::default(),
            head_seq: AtomicU64::new(0),
            changed: Notify::new(),
            presence: watch::Sender::default(),
            readers: watch::Sender::default(),
        }
    }

    pub(crate) fn presence(&self) -> Presence {
        self.people().presence(NAMED)
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what differs from what was told. Answers what to write, and when somebody's typing passes.
    fn tell(&self, now: Instant) -> (Vec<ReadRow>, Option<Instant>) {
        let mut people = self.people();
        let next = people.expire(now);
        put_newer(&self.presence, people.presence(NAMED));
        put_newer(&self.readers, people.readers(NAMED));
        let reads = people.take_unwritten();
        (reads.map(|(person, seq)| ReadRow { person, session: self.session, seq }).collect(), next)
    }
}

fn put_newer<T: PartialEq>(told: &watch::Sender<Arc<T>>, now: T) {
    told.send_if_modified(|told| {
        let is_new = **told != now;
        if is_new {
            *told = Arc::new(now);
        }
        is_new
    });
}

impl Rooms {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn room(&self, session: SessionId) -> Option<Arc<Room>> {
        self.all().get(&session).cloned()
    }

    /// Nobody is left, and nobody's typing is still shown.
    fn close_if_empty(&self, session: SessionId) {
        let mut rooms = self.all();
        if rooms.get(&session).is_some_and(|room| room.people().is_empty()) {
            rooms.remove(&session);
        }
    }

    fn has(&self, room: &Arc<Room>) -> bool {
        self.all().get(&room.session).is_some_and(|known| Arc::ptr_eq(known, room))
    }

    /// Reads that are not in the directory yet.
    fn unwritten(&self) -> Vec<ReadRow> {
        let rooms: Vec<_> = self.all().values().cloned().collect();
        rooms.iter().flat_map(|room| room.tell(Instant::now()).0).collect()
    }
}

impl Inner {
    /// A place for one connection. `readers` are those the directory knows; `head_seq` is the session's last entry.
    pub(crate) fn enter_room(
        self: &Arc<Self>,
        session: SessionId,
        person: &Person,
        client: ClientKind,
        head_seq: u64,
        known: (Vec<ReaderRow>, u64),
    ) -> Seat {
        let room = self.with_room(session, |people, now_ms| {
            people.know(known.0, known.1);
            people.join(person, client, now_ms);
        });
        room.head_seq.fetch_max(head_seq, Ordering::Relaxed);
        let (mut presence, mut readers) = (room.presence.subscribe(), room.readers.subscribe());
        // Nothing was told yet in a new room: it will be, at once.
        if !presence.borrow().people.is_empty() {
            presence.mark_changed();
        }
        if !readers.borrow().readers.is_empty() {
            readers.mark_changed();
        }
        Seat { app: Arc::downgrade(self), room, person: person.id, client, presence, readers }
    }

    /// Who types without a connection of that kind is here until it passes.
    pub(crate) fn note_typing(
        self: &Arc<Self>,
        session: SessionId,
        person: &Person,
        client: ClientKind,
        is_typing: bool,
    ) {
        if !is_typing && self.rooms.room(session).is_none() {
            return;
        }
        let until = is_typing.then(|| Instant::now() + TYPING);
        self.with_room(session, |people, now_ms| people.types(person, client, until, now_ms));
        self.rooms.close_if_empty(session);
    }

    /// Answers the position that counts: not behind an earlier one, not beyond what was written.
    pub(crate) async fn note_read(&self, session: SessionId, person: &Person, seq: u64) -> Result<u64> {
        if let Some(room) = self.rooms.room(session) {
            let seq = seq.min(room.head_seq.load(Ordering::Relaxed));
            let seq = room.people().read(person, seq);
            room.changed.notify_one();
            return Ok(seq);
        }
        let head = self.directory.session(session).await?.map_or(0, |row| row.head_seq);
        let known = self.directory.read_position(person.id, session).await?.unwrap_or(0);
        let seq = seq.min(head).max(known);
        self.directory.put_reads(vec![ReadRow { person: person.id, session, seq }]).await?;
        Ok(seq)
    }

    /// Before the server stops.
    pub(crate) async fn write_reads(&self) {
        if let Err(error) = self.directory.put_reads(self.rooms.unwritten()).await {
            tracing::warn!(%error, "how far people have read is not written");
        }
    }

    fn with_room(self: &Arc<Self>, session: SessionId, act: impl FnOnce(&mut People, i64)) -> Arc<Room> {
        let mut rooms = self.rooms.all();
        let room = rooms.entry(session).or_insert_with(|| {
            let room = Arc::new(Room::new(session));
            let (app, of) = (Arc::downgrade(self), Arc::clone(&room));
            tokio::spawn(greenroom_tasks::keep("a room", move || keep(Weak::clone(&app), Arc::clone(&of))));
            room
        });
        act(&mut room.people(), self.now_ms());
        room.changed.notify_one();
        Arc::clone(room)
    }
}

/// Tells and writes until the room is closed.
async fn keep(app: Weak<Inner>, room: Arc<Room>) {
    loop {
        let Some(inner) = app.upgrade() else { return };
        let (reads, next) = room.tell(Instant::now());
        if !reads.is_empty()
            && let Err(error) = inner.directory.put_reads(reads).await
        {
            tracing::warn!(session = %room.session, %error, "how far people have read is not written");
        }
        inner.rooms.close_if_empty(room.session);
        if !inner.rooms.has(&room) && !room.people().has_unwritten() {
            return;
        }
        drop(inner);
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = room.changed.notified() => {}
            () = wait_until(next) => {}
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
