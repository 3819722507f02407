//! One history, from its seed to its end.

use crate::brain::Heard;
use crate::check;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::hands::Ledger;
use crate::people::{self, Person};
use crate::server::Server;
use greenroom_domain::money::Budget;
use greenroom_domain::{Author, Event, PersonId, RepositoryId, SessionId, Via};
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// What all lives have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dice: Dice,
    pub(crate) disk: Arc<Disk>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) heard: Heard,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) people: Vec<Arc<Person>>,
    violations: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn violation(&self, message: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

/// What came of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub seed: u64,
    /// How often the process began.
    pub lives: u64,
    pub entries: u64,
    pub commands: u64,
    /// Of all logs: equal for equal histories.
    pub digest: u64,
    /// Promises that were not kept; empty when all is well.
    pub violations: Vec<String>,
}

/// How long the last life may take until everything is quiet, in the world's time.
const PATIENCE: Duration = Duration::from_secs(3_600);

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A task that panics ends silently otherwise: the runtime catches it.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            usual(panic);
        }));
    });
    PANICS.take();
}

/// Plays the history of a seed. Of one thread, and the same each time.
pub fn run(seed: u64) -> History {
    catch_panics();
    let dice = Dice::new(seed);
    let sessions = (0..dice.range(1, 4)).map(|number| SessionId::from_parts(1, u128::from(number) + 1));
    let sessions: Vec<SessionId> = sessions.collect();
    let people = (0..dice.range(2, 5)).map(Person::new).collect();
    let shared = Arc::new(Shared {
        disk: Disk::new(dice.clone()),
        dice,
        ledger: Arc::default(),
        heard: Heard::default(),
        sessions,
        people,
        violations: Mutex::default(),
    });
    let lives = shared.dice.range(1, 5);
    let mut now_ms = 1_000_000;
    for life in 0..=lives {
        let is_last = life == lives;
        let last_point = (!is_last).then(|| shared.dice.range(10, 1_500));
        shared.disk.begin_life(last_point);
        now_ms = live(&shared, now_ms);
        shared.disk.crash();
    }
    check::everything(&shared);
    for panic in PANICS.take() {
        shared.violation(format!("panicked: {panic}"));
    }
    let mut digest = DefaultHasher::new();
    let mut entries = 0;
    for session in &shared.sessions {
        let log = shared.disk.entries(*session);
        entries += log.len() as u64;
        format!("{log:?}").hash(&mut digest);
    }
    let commands = shared.people.iter().map(|person| person.known().said.len() as u64).sum();
    let violations = std::mem::take(&mut *shared.violations.lock().unwrap_or_else(PoisonError::into_inner));
    History { seed, lives: lives + 1, entries, commands, digest: digest.finish(), violations }
}

/// One process, until it dies or, in the last life, until there is nothing left to do. Answers the time then.
fn live(shared: &Arc<Shared>, now_ms: i64) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without drivers");
    runtime.block_on(async {
        let server = Arc::new(Server::start(shared, now_ms));
        let work = everyone(Arc::clone(shared), Arc::clone(&server));
        tokio::select! {
            biased;
            () = shared.disk.died.notified() => {}
            ended = tokio::time::timeout(PATIENCE, work) => {
                if ended.is_err() && shared.disk.is_kind() {
                    shared.violation("the last life does not come to rest".into());
                }
            }
        }
        greenroom_session::Clock::now_ms(&*server.clock)
    })
    // The runtime ends here, and every task with it, wherever it stands.
}

async fn everyone(shared: Arc<Shared>, server: Arc<Server>) {
    for session in &shared.sessions {
        // There already, in every life but the first; or the disk is full.
        let _ = server.registry.create(*session, vec![created()]).await;
    }
    for person in &shared.people {
        for session in &shared.sessions {
            tokio::spawn(people::watch(
                Arc::clone(&shared),
                Arc::clone(&server),
                Arc::clone(person),
                *session,
            ));
        }
    }
    let is_kind = shared.disk.is_kind();
    let mut busy = tokio::task::JoinSet::new();
    for person in &shared.people {
        let (shared, server, person) = (Arc::clone(&shared), Arc::clone(&server), Arc::clone(person));
        if is_kind {
            busy.spawn(people::insist(shared, server, person));
        } else {
            let actions = shared.dice.range(1, 12);
            busy.spawn(people::act(shared, server, person, actions));
        }
    }
    let weather = tokio::spawn(weather(Arc::clone(&shared)));
    busy.join_all().await;
    weather.abort();
    shared.disk.set_full(false);
    until_quiet(&shared, &server).await;
    if is_kind {
        check::index(&shared, &server);
    }
}

/// The disk is full now and then.
async fn weather(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_millis(shared.dice.range(200, 8_000))).await;
        shared.disk.set_full(shared.dice.chance(25));
    }
}

/// Every prompt is answered, and everybody has seen it.
async fn until_quiet(shared: &Arc<Shared>, server: &Arc<Server>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut is_quiet = true;
        for session in &shared.sessions {
            let Ok(handle) = server.registry.get(*session).await else {
                is_quiet = false;
                continue;
            };
            let Ok(state) = handle.state().await else {
                is_quiet = false;
                continue;
            };
            let all_see = shared.people.iter().all(|person| {
                person.known().views.get(session).is_some_and(|view| view.seq >= state.head_seq)
            });
            if shared.disk.is_kind() && state.queue.iter().any(|queued| queued.is_held) {
                people::release(shared, server, *session).await;
            }
            is_quiet &= state.running.is_none() && state.queue.is_empty() && all_see;
        }
        if is_quiet {
            return;
        }
    }
}

fn created() -> Event {
    Event::SessionCreated {
        repository: RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().expect("a name"),
        title: "A session".into(),
        author: Author {
            on_behalf_of: PersonId::from_parts(1, 0),
            via: Via::Person,
            name: "Person 0".into(),
            email: "person0@example.org".into(),
        },
        branch: "greenroom/x".parse().expect("a branch"),
        base_branch: "main".parse().expect("a branch"),
        model: None,
        effort: None,
        budget: Budget::default(),
        image: None,
        forked_from: None,
        imported_from: None,
        parent: None,
        team_access: Default::default(),
    }
}
