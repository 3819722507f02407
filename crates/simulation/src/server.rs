//! One life of the process: the registry of sessions with the agent behind it, put together as `app` does.

use crate::brain::Brain;
use crate::dice::Dice;
use crate::disk::{Disk, Sessions};
use crate::hands::{self, TurnHands};
use crate::world::Shared;
use async_trait::async_trait;
use greenroom_agent::ports::{Log, TurnEnded};
use greenroom_agent::{Instructions, Material, Permissions, Said, Speakers, Transcript, TurnContext, Used};
use greenroom_domain::event::StartStage;
use greenroom_domain::permission::{Action, Rule};
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Asked, BlockId, Durability, Entry, Event, SessionId, SessionState};
use greenroom_sandbox::fake::FakeProvider;
use greenroom_session::{Clock, Effects, Hibernation, Registry, Summary, TurnHandle};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long people are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The world's time goes on from life to life.
#[derive(Debug)]
pub(crate) struct WorldClock {
    pub(crate) begun_ms: i64,
    pub(crate) born: Instant,
    pub(crate) dice: Dice,
}

impl Clock for WorldClock {
    fn now_ms(&self) -> i64 {
        self.begun_ms + i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u128 {
        u128::from(self.dice.next()) << 64 | u128::from(self.dice.next())
    }
}

/// The newest line of each session that the index was given.
pub(crate) type Index = Arc<Mutex<BTreeMap<SessionId, SessionState>>>;

pub(crate) struct Server {
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<WorldClock>,
    pub(crate) index: Index,
}

impl Server {
    /// Within a runtime whose clock is paused.
    pub(crate) fn start(shared: &Shared, begun_ms: i64) -> Self {
        let clock = Arc::new(WorldClock { begun_ms, born: Instant::now(), dice: shared.dice.clone() });
        let index = Index::default();
        let effects = SimulatedEffects {
            brain: Arc::new(Brain {
                dice: shared.dice.clone(),
                disk: Arc::clone(&shared.disk),
                ledger: Arc::clone(&shared.ledger),
                heard: shared.heard.clone(),
            }),
            disk: Arc::clone(&shared.disk),
            sandboxes: hands::provider(&shared.ledger),
            clock: Arc::clone(&clock),
            claims: Arc::default(),
            index: Arc::clone(&index),
        };
        let idle = Duration::from_millis(shared.dice.range(20, 5_000));
        let hibernation = Hibernation { idle, most_awake: shared.dice.range(1, 4) as usize };
        let sessions = Arc::new(Sessions(Arc::clone(&shared.disk)));
        let registry = Registry::new(sessions, Arc::new(effects), Arc::clone(&clock) as _, hibernation);
        Self { registry, clock, index }
    }
}

#[derive(Debug)]
struct SimulatedEffects {
    brain: Arc<Brain>,
    disk: Arc<Disk>,
    sandboxes: FakeProvider,
    clock: Arc<WorldClock>,
    claims: Arc<AtomicU64>,
    index: Index,
}

#[async_trait]
impl Effects for SimulatedEffects {
    fn run_turn(&self, turn: TurnHandle, state: SessionState, conversation: Option<Vec<Entry>>) {
        let hands = TurnHands {
            disk: Arc::clone(&self.disk),
            provider: self.sandboxes.clone(),
            session: turn.session().id(),
            epoch: turn.session().epoch(),
            claims: Arc::clone(&self.claims),
            sandbox: tokio::sync::Mutex::default(),
        };
        let (brain, clock) = (Arc::clone(&self.brain), Arc::clone(&self.clock));
        tokio::spawn(work(turn, state, conversation, Arc::new(hands), brain, clock));
    }

    fn publish(&self, summary: Summary) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.insert(summary.session, summary.state);
    }

    fn rights_changed(&self, _: SessionId) {}

    async fn model_of(&self, _: &SessionState) -> Option<String> {
        self.disk.point().await;
        Some("simulated/model".into())
    }
}

async fn work(
    turn: TurnHandle,
    state: SessionState,
    conversation: Option<Vec<Entry>>,
    hands: Arc<TurnHands>,
    brain: Arc<Brain>,
    clock: Arc<WorldClock>,
) {
    let begun = Instant::now();
    let entries = match conversation {
        Some(entries) => entries,
        None => match turn.session().conversation().await {
            Ok(entries) => entries,
            Err(_) => return,
        },
    };
    let Some(origin) = &state.origin else { return };
    let running = state.running.as_ref();
    let used = running.map_or_else(Used::default, |running| Used {
        usage: running.usage,
        tool_calls: running.tool_calls,
        wall_ms: 0,
    });
    // Nobody attaches a file here.
    let material = Material::default();
    let speakers = Mutex::new(Speakers::after(entries.iter(), &material));
    let log = TurnLog { turn: turn.clone(), speakers, clock };
    let context = TurnContext {
        provider: brain,
        fallbacks: std::collections::VecDeque::new(),
        log: Arc::new(log),
        hands: Arc::clone(&hands) as _,
        changes: Arc::clone(&hands) as _,
        artifacts: hands,
        children: Arc::new(greenroom_agent::NoChildren),
        clock: Arc::new(greenroom_agent::SystemClock::new()),
        files: Arc::default(),
        terminals: Arc::default(),
        instructions: Instructions::default(),
        permissions: permissions(&state),
        history: Transcript::of(entries.iter(), &material),
        is_compaction: running.is_some_and(|running| running.prompts.is_empty()),
        budget: origin.budget,
        used,
        cancel: turn.cancelled(),
        max_output_tokens: 1000,
        effort: None,
        cache_key: turn.session().id().to_string(),
    };
    match greenroom_agent::run(turn.turn(), context).await {
        Ok(finished) => {
            let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            turn.finish(finished.outcome, finished.used.usage, duration_ms).await;
        }
        Err(_) => turn.give_up().await,
    }
}

/// One command in ten needs leave.
fn permissions(state: &SessionState) -> Permissions {
    let rule = Rule { permission: "bash".into(), pattern: "echo command-*7".into(), action: Action::Ask };
    Permissions { installation: vec![rule], grants: state.grants.clone(), ..Permissions::default() }
}

#[derive(Debug)]
struct TurnLog {
    turn: TurnHandle,
    speakers: Mutex<Speakers>,
    clock: Arc<WorldClock>,
}

#[async_trait]
impl Log for TurnLog {
    async fn commit(&self, events: Vec<Event>, durability: Durability) -> Result<(), TurnEnded> {
        self.turn.commit(events, durability).await.map_err(|ended| TurnEnded::new(ended.to_string()))
    }

    fn delta(&self, block: BlockId, offset: u64, text: &str) {
        self.turn.delta(block, offset, text);
    }

    fn output(&self, call: &str, offset: u64, bytes: &[u8]) {
        self.turn.output(call, offset, &String::from_utf8_lossy(bytes));
    }

    fn mark(&self, _: StartStage) {}

    fn next_block_id(&self) -> BlockId {
        BlockId::from_parts(u64::try_from(self.clock.now_ms()).unwrap_or(0), self.clock.random())
    }

    async fn take_inserts(&self) -> Result<Vec<Said>, TurnEnded> {
        let inserted = self.turn.take_inserts().await.map_err(|ended| TurnEnded::new(ended.to_string()))?;
        let mut speakers = self.speakers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(inserted.iter().map(|prompt| speakers.say(&prompt.author, &prompt.text).into()).collect())
    }

    async fn ask_people(&self, call: &str, of: Asked) -> Result<AskEnd, TurnEnded> {
        let end = self.turn.ask_people(call, of, PATIENCE).await;
        end.map_err(|ended| TurnEnded::new(ended.to_string()))
    }
}
