//! The people of one room. Pure: the time is an argument.

use greenroom_directory::ReaderRow;
use greenroom_domain::{Person, PersonId};
use greenroom_wire::{ClientKind, Presence, PresentPerson, Reader, Readers};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct People {
    here: HashMap<PersonId, Here>,
    /// How many have come so far.
    arrivals: u64,
    readers: HashMap<PersonId, Reader>,
    /// Readers that the directory has, those that are not in `readers` included.
    reader_count: u64,
    unwritten: HashSet<PersonId>,
}

#[derive(Debug)]
struct Here {
    name: String,
    since_ms: i64,
    /// The how-manieth to come: those who came in one millisecond keep their order.
    arrival: u64,
    /// Connections of each kind; none of a kind with which somebody only types.
    clients: BTreeMap<ClientKind, Client>,
}

#[derive(Debug, Default)]
struct Client {
    connections: u32,
    types_until: Option<Instant>,
}

impl Client {
    fn is_gone(&self) -> bool {
        self.connections == 0 && self.types_until.is_none()
    }
}

impl People {
    pub(crate) fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    pub(crate) fn join(&mut self, person: &Person, client: ClientKind, now_ms: i64) {
        self.client(person, client, now_ms).connections += 1;
    }

    pub(crate) fn leave(&mut self, person: PersonId, client: ClientKind) {
        let Some(here) = self.here.get_mut(&person) else { return };
        if let Some(left) = here.clients.get_mut(&client) {
            left.connections = left.connections.saturating_sub(1);
            if left.connections == 0 {
                here.clients.remove(&client);
            }
        }
        if here.clients.is_empty() {
            self.here.remove(&person);
        }
    }

    pub(crate) fn types(&mut self, person: &Person, client: ClientKind, until: Option<Instant>, now_ms: i64) {
        if until.is_some() || self.here.contains_key(&person.id) {
            self.client(person, client, now_ms).types_until = until;
            self.sweep();
        }
    }

    /// Typing that was not said again is over. Answers when the next is.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        for client in self.here.values_mut().flat_map(|here| here.clients.values_mut()) {
            client.types_until = client.types_until.filter(|until| *until > now);
        }
        self.sweep();
        let clients = self.here.values().flat_map(|here| here.clients.values());
        clients.filter_map(|client| client.types_until).min()
    }

    /// Answers how far the person has read now.
    pub(crate) fn read(&mut self, person: &Person, seq: u64) -> u64 {
        let reader = self.readers.entry(person.id).or_insert_with(|| Reader {
            person: person.id,
            name: person.name.clone(),
            seq: 0,
        });
        if seq > reader.seq {
            reader.seq = seq;
            self.unwritten.insert(person.id);
        }
        let seq = reader.seq;
        self.reader_count = self.reader_count.max(self.readers.len() as u64);
        seq
    }

    /// What the directory says.
    pub(crate) fn know(&mut self, rows: Vec<ReaderRow>, count: u64) {
        for row in rows {
            let reader = self.readers.entry(row.person).or_insert_with(|| Reader {
                person: row.person,
                name: row.name,
                seq: 0,
            });
            reader.seq = reader.seq.max(row.seq);
        }
        self.reader_count = self.reader_count.max(count).max(self.readers.len() as u64);
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    pub(crate) fn take_unwritten(&mut self) -> impl Iterator<Item = (PersonId, u64)> {
        let taken = std::mem::take(&mut self.unwritten);
        let reads: Vec<_> =
            taken.into_iter().filter_map(|id| Some((id, self.readers.get(&id)?.seq))).collect();
        reads.into_iter()
    }

    pub(crate) fn presence(&self, most: usize) -> Presence {
        let mut people: Vec<_> = self.here.iter().collect();
        people.sort_by_key(|(_, one)| (!one.is_typing(), one.since_ms, one.arrival));
        let more = people.len().saturating_sub(most);
        people.truncate(most);
        people.sort_by_key(|(_, one)| (one.since_ms, one.arrival));
        let people = people.into_iter().map(|(id, one)| one.view(*id)).collect();
        Presence { people, more: u32::try_from(more).unwrap_or(u32::MAX) }
    }

    pub(crate) fn readers(&self, most: usize) -> Readers {
        let mut readers: Vec<_> = self.readers.values().filter(|reader| reader.seq > 0).cloned().collect();
        readers.sort_by_key(|reader| (std::cmp::Reverse(reader.seq), reader.person));
        readers.truncate(most);
        let more = self.reader_count.saturating_sub(readers.len() as u64);
        Readers { readers, more: u32::try_from(more).unwrap_or(u32::MAX) }
    }

    fn client(&mut self, person: &Person, client: ClientKind, now_ms: i64) -> &mut Client {
        let here = self.here.entry(person.id).or_insert_with(|| {
            self.arrivals += 1;
            Here {
                name: person.name.clone(),
                since_ms: now_ms,
                arrival: self.arrivals,
                clients: BTreeMap::new(),
            }
        });
        here.clients.entry(client).or_default()
    }

    fn sweep(&mut self) {
        self.here.retain(|_, here| {
            here.clients.retain(|_, client| !client.is_gone());
            !here.clients.is_empty()
        });
    }
}

impl Here {
    fn is_typing(&self) -> bool {
        self.clients.values().any(|client| client.types_until.is_some())
    }

    fn view(&self, person: PersonId) -> PresentPerson {
        PresentPerson {
            person,
            name: self.name.clone(),
            clients: self.clients.keys().copied().collect(),
            since_ms: self.since_ms,
            is_typing: self.is_typing(),
        }
    }
}
