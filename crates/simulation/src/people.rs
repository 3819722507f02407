//! People: what they say, say again, take back and see. They outlive the process; what they were told must stay true.

use crate::dice::Dice;
use crate::server::Server;
use crate::world::Shared;
use greenroom_domain::{
    Answer, AskId, Asking, Author, BlockId, Command, CommandId, Delivery, Entry, ErrorCode, Event, PersonId,
    PromptId, Role, SessionId, SessionState, Via,
};
use greenroom_session::{Live, SessionHandle, StoredReceipt, Subscription};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A command as somebody gave it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) session: SessionId,
    pub(crate) key: String,
    pub(crate) command: Command,
    /// What they were told of it.
    pub(crate) answer: Option<StoredReceipt>,
}

#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) number: u64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) said: Vec<Said>,
    pub(crate) views: BTreeMap<SessionId, View>,
}

/// What somebody's screen shows of a session.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) seq: u64,
    pub(crate) state: SessionState,
    /// Text of blocks; `None`: something of it was missed.
    blocks: BTreeMap<BlockId, Option<String>>,
    /// Owner and time of each entry, by which one that a crash took differs from the one that got its number.
    pub(crate) marks: Vec<(u64, i64)>,
    /// Of all blocks that were ever opened here.
    opened: BTreeSet<BlockId>,
}

impl Person {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, known: Mutex::default() })
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> Asking {
        let author = Author {
            on_behalf_of: PersonId::from_parts(1, u128::from(self.number)),
            via: Via::Person,
            name: format!("Person {}", self.number),
            email: format!("person{}@example.org", self.number),
        };
        let role = if self.number == 0 { Role::Admin } else { Role::Member };
        Asking { author, role, model: None, attachments: vec![], subject: None }
    }

    fn say(&self, session: SessionId, command: Command) -> usize {
        let mut known = self.known();
        let number = known.said.len();
        let key = format!("person{}-{number}", self.number);
        known.said.push(Said { session, key, command, answer: None });
        number
    }

    fn said(&self, number: usize) -> Said {
        self.known().said[number].clone()
    }
}

/// Does what people do until `actions` are done.
pub(crate) async fn act(shared: Arc<Shared>, server: Arc<Server>, person: Arc<Person>, actions: u64) {
    for _ in 0..actions {
        let pause = Duration::from_millis(shared.dice.range(0, 1_500));
        tokio::time::sleep(pause).await;
        let Some(session) = shared.dice.pick(&shared.sessions).copied() else { return };
        let deed = shared.dice.range(0, 100);
        if deed < 15 {
            repeat(&shared, &server, &person).await;
            continue;
        }
        let Some(command) = command(&shared, &person, session, deed) else { continue };
        let number = person.say(session, command);
        let telling =
            tokio::spawn(tell(Arc::clone(&shared), Arc::clone(&server), Arc::clone(&person), number));
        // Or they hang up before they have an answer.
        if shared.dice.chance(80) {
            let _ = telling.await;
        }
    }
}

fn command(shared: &Shared, person: &Person, session: SessionId, deed: u64) -> Option<Command> {
    let dice = &shared.dice;
    let text = || format!("wish {} of person {}.", person.known().said.len(), person.number);
    Some(match deed {
        15..60 => {
            let delivery = if dice.chance(30) { Delivery::Insert } else { Delivery::Queue };
            Command::Prompt { text: text(), delivery, attachments: vec![] }
        }
        60..68 => Command::EditPrompt { prompt: waiting(dice, person, session)?, text: text() },
        68..74 => Command::WithdrawPrompt { prompt: waiting(dice, person, session)? },
        74..80 => {
            let before = if dice.chance(70) { waiting(dice, person, session) } else { None };
            Command::MovePrompt { prompt: waiting(dice, person, session)?, before }
        }
        80..84 => {
            let delivery = if dice.chance(50) { Delivery::Insert } else { Delivery::Queue };
            Command::SetDelivery { prompt: waiting(dice, person, session)?, delivery }
        }
        84..87 => Command::Rename { title: text() },
        87..90 => Command::ReleaseQueue {},
        90..95 => Command::Answer { ask: asked(dice, person, session)?, answer: answer(dice) },
        _ => Command::Stop { hold_queue: dice.chance(30) },
    })
}

/// A prompt that somebody sees waiting; it may be gone by now, or another's.
fn waiting(dice: &Dice, person: &Person, session: SessionId) -> Option<PromptId> {
    let known = person.known();
    let queue = &known.views.get(&session)?.state.queue;
    dice.pick(queue).map(|queued| queued.prompt)
}

/// What somebody sees open; it may be closed by now.
fn asked(dice: &Dice, person: &Person, session: SessionId) -> Option<AskId> {
    let known = person.known();
    let open: Vec<AskId> = known.views.get(&session)?.state.open_asks().map(|open| open.ask).collect();
    dice.pick(&open).copied()
}

fn answer(dice: &Dice) -> Answer {
    match dice.range(0, 3) {
        0 => Answer::Once {},
        1 => Answer::Always {},
        _ => Answer::Deny { feedback: None },
    }
}

/// Gives the command and keeps the answer, if there is one.
pub(crate) async fn tell(shared: Arc<Shared>, server: Arc<Server>, person: Arc<Person>, number: usize) {
    let said = person.said(number);
    let Ok(handle) = server.registry.get(said.session).await else { return };
    shared.disk.point().await;
    if let Ok(receipt) = give(&handle, &person, &said, said.command.clone()).await {
        shared.disk.point().await;
        heard(&shared, &person, number, receipt);
    }
}

async fn give(
    handle: &SessionHandle,
    person: &Person,
    said: &Said,
    command: Command,
) -> Result<StoredReceipt, greenroom_domain::Problem> {
    let key: CommandId = said.key.parse().expect("a key");
    handle.command(key, command, person.asking()).await
}

fn heard(shared: &Shared, person: &Person, number: usize, receipt: StoredReceipt) {
    let mut known = person.known();
    let said = &mut known.said[number];
    match &said.answer {
        Some(before) if *before != receipt => {
            let message = format!("{} was answered with {before:?} and then with {receipt:?}", said.key);
            shared.violation(message);
        }
        _ => said.answer = Some(receipt),
    }
}

/// Says something again, or something else under an old key.
async fn repeat(shared: &Arc<Shared>, server: &Arc<Server>, person: &Arc<Person>) {
    let count = person.known().said.len() as u64;
    if count == 0 {
        return;
    }
    let number = shared.dice.range(0, count) as usize;
    let said = person.said(number);
    if said.answer.is_none() || shared.dice.chance(70) {
        return tell(Arc::clone(shared), Arc::clone(server), Arc::clone(person), number).await;
    }
    let Ok(handle) = server.registry.get(said.session).await else { return };
    let other =
        Command::Prompt { text: "something else".into(), delivery: Delivery::Queue, attachments: vec![] };
    match give(&handle, person, &said, other).await {
        Ok(receipt) => {
            shared.violation(format!("another command under the key {} got {receipt:?}", said.key));
        }
        Err(problem) if is_passing(problem.code) || problem.code == ErrorCode::KeyReused => {}
        Err(problem) => shared.violation(format!("{} was refused with {problem:?}", said.key)),
    }
}

fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::Internal
            | ErrorCode::ShuttingDown
            | ErrorCode::Deadline
            | ErrorCode::Fenced
    )
}

/// Whatever is held back is let go.
pub(crate) async fn release(shared: &Arc<Shared>, server: &Arc<Server>, session: SessionId) {
    let Some(person) = shared.people.first() else { return };
    let number = person.say(session, Command::ReleaseQueue {});
    tell(Arc::clone(shared), Arc::clone(server), Arc::clone(person), number).await;
}

/// Says again whatever was not answered, until it is.
pub(crate) async fn insist(shared: Arc<Shared>, server: Arc<Server>, person: Arc<Person>) {
    let count = person.known().said.len();
    for number in 0..count {
        for _ in 0..100 {
            if person.said(number).answer.is_some() {
                break;
            }
            tell(Arc::clone(&shared), Arc::clone(&server), Arc::clone(&person), number).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if person.said(number).answer.is_none() {
            shared.violation(format!("{} is never answered", person.said(number).key));
        }
    }
}

/// Watches a session for as long as the process lives, sometimes slowly, sometimes not at all.
pub(crate) async fn watch(shared: Arc<Shared>, server: Arc<Server>, person: Arc<Person>, session: SessionId) {
    loop {
        shared.disk.point().await;
        let after = person.known().views.entry(session).or_default().seq;
        let subscribed = match server.registry.get(session).await {
            Ok(handle) => handle.subscribe(after).await,
            Err(problem) => Err(problem),
        };
        if let Ok(subscription) = subscribed {
            follow(&shared, &person, session, subscription).await;
        }
        tokio::time::sleep(Duration::from_millis(shared.dice.range(1, 500))).await;
    }
}

async fn follow(shared: &Shared, person: &Person, session: SessionId, mut subscription: Subscription) {
    loop {
        if !shared.disk.is_kind() {
            if shared.dice.chance(1) {
                return;
            }
            if shared.dice.chance(3) {
                tokio::time::sleep(Duration::from_millis(shared.dice.range(0, 3_000))).await;
            }
        }
        let Ok(frame) = subscription.next().await else { return };
        let mut known = person.known();
        let view = known.views.entry(session).or_default();
        let Some(frame) = frame else { return };
        let seen = match frame.live() {
            Live::Lagged { after_seq } if *after_seq == view.seq => return,
            Live::Lagged { after_seq } => {
                Err(format!("told to go on after {after_seq}, but has {}", view.seq))
            }
            Live::Entry(entry) => view.take(entry),
            Live::Delta { block, offset, text } => view.show(*block, *offset, text),
            _ => Ok(()),
        };
        if let Err(reason) = seen {
            shared.violation(format!("person {} watches {session}: {reason}", person.number));
            return;
        }
    }
}

impl View {
    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        if entry.seq != self.seq + 1 {
            return Err(format!("entry {} came after {}", entry.seq, self.seq));
        }
        self.seq = entry.seq;
        self.marks.push((entry.epoch, entry.at_ms));
        let _ = self.state.step(entry);
        match &entry.event {
            Event::BlockOpened { block, .. } => {
                self.opened.insert(*block);
                self.blocks.insert(*block, Some(String::new()));
            }
            Event::BlockText { block, offset, text } => return self.show(*block, *offset, text),
            Event::BlockReset { block } => drop(self.blocks.remove(block)),
            Event::AssistantMessage { content, blocks, .. } => {
                for (part, block) in content.iter().zip(blocks) {
                    let shown = self.blocks.remove(block).flatten();
                    if let (greenroom_domain::message::Content::Text { text }, Some(shown)) = (part, shown)
                        && !text.starts_with(&shown)
                    {
                        return Err(format!("{shown:?} was shown of {text:?}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Text that overlaps what is there says the same.
    fn show(&mut self, block: BlockId, offset: u64, text: &str) -> Result<(), String> {
        if !self.opened.contains(&block) {
            return Err(format!("{text:?} is of a block that nobody opened"));
        }
        // Late: the block is closed.
        let Some(shown) = self.blocks.get_mut(&block) else { return Ok(()) };
        let Some(known) = shown else { return Ok(()) };
        let offset = offset as usize;
        if offset > known.len() {
            *shown = None;
            return Ok(());
        }
        let overlap = (known.len() - offset).min(text.len());
        if known.as_bytes()[offset..offset + overlap] != text.as_bytes()[..overlap] {
            return Err(format!("{text:?} at {offset} contradicts {known:?}"));
        }
        known.push_str(&text[overlap..]);
        Ok(())
    }
}
