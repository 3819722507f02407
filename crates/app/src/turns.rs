//! Turns: what a session's effects do. Runs the agent with the ports it needs, each a thin view of this app.

use crate::attachments::{Placed, files_of};
use crate::blame::Asked;
use crate::children::ChildSessions;
use crate::exec::Shell;
use crate::outbox::Outbox;
use crate::quotas::Spending;
use crate::timeline::{Arrival, Timeline};
use crate::workspaces::git_identity;
use crate::{Inner, Result, RightsOf};
use async_trait::async_trait;
use futures::future::OptionFuture;
use greenroom_agent::ports::{Artifacts, Changes, Hands, Log, OpenedChange};
use greenroom_agent::{
    Finished, Instructions, Material, Port, Reading, Said, Skill, Speakers, Transcript, TurnContext,
    TurnEnded, Used,
};
use greenroom_domain::access::unknown_session;
use greenroom_domain::event::{StartStage, TurnOutcome};
use greenroom_domain::money::Usage;
use greenroom_domain::permission::Rule;
use greenroom_domain::state::{AskEnd, QueuedPrompt};
use greenroom_domain::{
    Asked as AskedPeople, Attachment, Author, BlockId, ChangeId, CommitHash, Durability, Entry, ErrorCode,
    Event, Problem, RequestId, SessionId, SessionState, Via,
};
use greenroom_forge::OpenChange;
use greenroom_sandbox::Sandbox;
use greenroom_session::{Effects, Shelf, Summary, TurnHandle};
use greenroom_tasks::{caught, keep};
use greenroom_telemetry::TurnMeter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tracing::Instrument;

const MAX_OUTPUT_TOKENS: u32 = 16_000;
/// How long a turn's sandbox lets the model's request go first.
const REQUEST_FIRST: Duration = Duration::from_millis(5);
const PUBLISH_DEADLINE_MS: u64 = 180_000;

/// Connects sessions to this app. Holds it weakly: the app owns the sessions.
#[derive(Debug)]
pub(crate) struct TurnEffects {
    app: Weak<Inner>,
    outbox: Arc<Outbox>,
}

impl TurnEffects {
    /// Starts the background work that lives as long as the app.
    pub(crate) fn new(app: &Arc<Inner>) -> Self {
        let outbox = Arc::clone(&app.outbox);
        outbox.run(&Arc::downgrade(app));
        let of = Arc::downgrade(app);
        tokio::spawn(keep("ending idle sandboxes", move || Inner::sweep_idle(Weak::clone(&of))));
        Self { app: Arc::downgrade(app), outbox }
    }
}

#[async_trait]
impl Effects for TurnEffects {
    fn run_turn(&self, turn: TurnHandle, state: SessionState, conversation: Option<Vec<Entry>>) {
        let Some(app) = self.app.upgrade() else { return };
        let arrived = app.arrivals.take(turn.session().id()).unwrap_or_else(Arrival::now);
        let request = arrived.request;
        let span = tracing::info_span!(
            "turn", session = %turn.session().id(), turn = %turn.turn(), request = arrived.request.map(tracing::field::display)
        );
        let timeline = Arc::new(Timeline::new(arrived));
        timeline.mark(StartStage::Queued, arrived.at);
        timeline.mark(StartStage::Committed, Instant::now());
        let meter = Arc::new(app.telemetry.turn());
        let turns = app.drain.turns.clone();
        let asked = Arc::new(Asked::of(&state));
        let runner = TurnRunner { app, turn, state, conversation, timeline, meter, asked };
        tokio::spawn(turns.track_future(runner.run_or_fail(request).instrument(span)));
    }

    fn publish(&self, summary: Summary) {
        let Some(app) = self.app.upgrade() else { return };
        self.outbox.publish(&summary, app.telemetry.exports());
        app.families.tell(&summary.state);
    }

    fn rests(&self, session: SessionId, head_seq: u64) {
        let Some(app) = self.app.upgrade() else { return };
        app.memories.rests(session);
        self.outbox.rests(session, head_seq, app.stamp(session));
    }

    fn may_begin(&self) -> bool {
        self.app.upgrade().is_some_and(|app| !app.drain.is_draining())
    }

    fn rights_changed(&self, session: SessionId) {
        if let Some(app) = self.app.upgrade() {
            app.rights.changed(RightsOf::Session(session));
        }
    }

    async fn model_of(&self, state: &SessionState) -> Option<String> {
        let app = self.app.upgrade()?;
        app.model_label(&state.choice).await
    }
}

/// What the turns of a session share while it is in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    instructions: Instructions,
    /// Of the repository.
    rules: Vec<Rule>,
    seen: Seen,
}

/// What its sandboxes have seen: outlives the session's time in memory, as they do.
#[derive(Clone, Debug, Default)]
struct Seen {
    files: Arc<greenroom_agent::tools::Files>,
    terminals: Arc<greenroom_agent::tools::Terminals>,
    placed: Arc<tokio::sync::Mutex<Placed>>,
}

#[derive(Debug, Default)]
pub(crate) struct Memories {
    by_session: Mutex<HashMap<SessionId, Arc<Memory>>>,
    /// There before the first turn is: a sync may have something to say.
    seen: Mutex<HashMap<SessionId, Seen>>,
}

impl Memories {
    fn get(&self, session: SessionId) -> Option<Arc<Memory>> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    fn keep(&self, session: SessionId, memory: Memory) -> Arc<Memory> {
        let mut memories = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(session).or_insert_with(|| Arc::new(memory)))
    }

    fn seen(&self, session: SessionId) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(session).or_default().clone()
    }

    pub(crate) fn files(&self, session: SessionId) -> Arc<greenroom_agent::tools::Files> {
        self.seen(session).files
    }

    /// The session leaves memory, and the text of its instructions with it.
    fn rests(&self, session: SessionId) {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        self.rests(session);
    }
}

/// One turn on its way.
struct TurnRunner {
    app: Arc<Inner>,
    turn: TurnHandle,
    state: SessionState,
    conversation: Option<Vec<Entry>>,
    timeline: Arc<Timeline>,
    meter: Arc<TurnMeter>,
    asked: Arc<Asked>,
}

impl TurnRunner {
    /// A turn that this program cannot run ends here: nobody else would end it.
    async fn run_or_fail(self, request: Option<RequestId>) {
        let begun = Instant::now();
        let (app, meter, asked) = (Arc::clone(&self.app), Arc::clone(&self.meter), Arc::clone(&self.asked));
        let (turn, start) = (self.turn.clone(), self.start());
        app.turn_begins(turn.session().id(), turn.turn());
        let ran = caught("the runner of a turn", Box::pin(self.run())).await;
        app.turn_is_over(turn.session().id(), turn.turn());
        if ran.is_ok() {
            return;
        }
        start.commit().await;
        app.turn_ends(turn.session(), turn.turn(), asked.work(turn.turn()));
        let problem = broken_turn(request);
        let outcome = TurnOutcome::Failed { problem: problem.clone() };
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let usage = Usage::default();
        meter.observe(&[Event::TurnFinished { turn: turn.turn(), outcome, usage, duration_ms }]);
        turn.fail(problem).await;
    }

    fn start(&self) -> Start {
        Start {
            timeline: Arc::clone(&self.timeline),
            turn: self.turn.clone(),
            meter: Arc::clone(&self.meter),
        }
    }

    async fn run(self) {
        let begun = Instant::now();
        // The sandbox starts while the model thinks; nobody waits for it here.
        let start = self.start();
        let starting = (!self.is_compaction()).then(|| start_sandbox(Arc::clone(&self.app), start.clone()));
        let marks = tokio::spawn(OptionFuture::from(starting).in_current_span());
        let used = self.used();
        let finished = match Box::pin(self.work(used)).await {
            Ok(Some(finished)) => finished,
            // The session has another owner, or closes, and goes on from its log; or its own actor begins the turn again.
            Ok(None) => {
                marks.abort();
                return self.turn.give_up().await;
            }
            Err(problem) => Finished { outcome: TurnOutcome::Failed { problem }, used },
        };
        marks.abort();
        if !self.is_compaction() {
            start.commit().await;
        }
        let turn = self.turn.turn();
        self.app.turn_ends(self.turn.session(), turn, self.asked.work(turn));
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(outcome = ?finished.outcome, duration_ms, "the turn ended");
        let (outcome, usage) = (finished.outcome, finished.used.usage);
        self.meter.observe(&[Event::TurnFinished { turn, outcome: outcome.clone(), usage, duration_ms }]);
        self.turn.finish(outcome, usage, duration_ms).await;
    }

    /// The turn has no prompt: a person asked for a summary of the conversation, and for nothing else.
    fn is_compaction(&self) -> bool {
        self.state.running.as_ref().is_some_and(|running| running.prompts.is_empty())
    }

    /// What the turn used before a restart.
    fn used(&self) -> Used {
        let running = self.state.running.as_ref();
        running.map_or_else(Used::default, |running| Used {
            usage: running.usage,
            tool_calls: running.tool_calls,
            wall_ms: u64::try_from(self.app.now_ms() - running.started_at_ms)
                .unwrap_or(0)
                .saturating_sub(running.waited_until(self.app.now_ms())),
        })
    }

    async fn work(&self, used: Used) -> Result<Option<Finished>> {
        let app = &self.app;
        let origin = self.state.origin.as_ref().ok_or_else(unknown_session)?;
        let Some(author) = self.author() else {
            // The summary that it was for is in the log: a restart came between that and its end.
            return Ok(Some(Finished { outcome: TurnOutcome::Completed, used }));
        };
        let choice = self.state.running.as_ref().map_or(&self.state.choice, |running| &running.choice);
        let provider = app.provider_of_turn(choice).await?;
        let fallbacks = app.fallbacks_of(&provider).await;
        let memory = self.memory().await?;
        let entries = match &self.conversation {
            Some(entries) => entries.clone(),
            None => self.turn.session().conversation().await?,
        };
        app.step_was_cut_off(self.turn.session(), &entries);
        if let Some(untold) = &self.state.trees.untold {
            app.tell_of_revert(self.turn.session(), untold);
        }
        let attached = files_of(&entries);
        let mut material = Material::new(provider.sees_images());
        app.load(self.turn.session().id(), &attached, &mut material).await;
        let history = Transcript::of(entries.iter(), &material);
        let began_ms =
            self.state.running.as_ref().map_or_else(|| app.now_ms(), |running| running.started_at_ms);
        let (person, spent) = (author.on_behalf_of, used.usage.cost_microusd);
        if spent > 0 {
            // It goes on after a restart: its last answer may not be counted yet.
            app.directory.put_cost(self.turn.turn(), person, began_ms, spent).await?;
        }
        let budget = app.bounded_budget(origin.budget, person, spent).await?;
        let budget = match author.via {
            Via::Parent => self.state.granted(budget),
            _ => budget,
        };
        let children = ChildSessions::new(app, &self.turn, &author, budget, &self.state);
        let spending = Spending::new(self.turn.turn(), person, began_ms, spent);
        let ports = Arc::new(Ports {
            app: Arc::clone(app),
            turn: self.turn.clone(),
            start: self.start(),
            author,
            asked: Arc::clone(&self.asked),
            speakers: Mutex::new(Speakers::after(entries.iter(), &material)),
            memory: Arc::clone(&memory),
            attached: Mutex::new(attached),
            material: tokio::sync::Mutex::new(material),
            tails: Mutex::default(),
            spending,
        });
        let context = TurnContext {
            provider,
            fallbacks,
            log: Arc::clone(&ports) as Arc<dyn Log>,
            hands: Arc::clone(&ports) as Arc<dyn Hands>,
            changes: Arc::clone(&ports) as Arc<dyn Changes>,
            artifacts: ports,
            children: Arc::new(children),
            clock: Arc::new(greenroom_agent::SystemClock::new()),
            files: Arc::clone(&memory.seen.files),
            terminals: Arc::clone(&memory.seen.terminals),
            instructions: memory.instructions.clone(),
            permissions: app.permissions(&self.state, &memory.rules),
            history,
            is_compaction: self.is_compaction(),
            budget,
            used,
            cancel: self.turn.cancelled(),
            max_output_tokens: MAX_OUTPUT_TOKENS,
            effort: choice.effort,
            cache_key: self.turn.session().id().to_string(),
        };
        Ok(greenroom_agent::run(self.turn.turn(), context).await.ok())
    }

    /// In whose name the turn works: who asked for it first.
    fn author(&self) -> Option<Author> {
        let running = self.state.running.as_ref()?;
        let first = running.prompts.first().map(|queued| &queued.author);
        first.or(running.compaction.as_ref()).cloned()
    }

    /// Instructions are part of the prompt's stable prefix: taken once, from the image the session began with.
    async fn memory(&self) -> Result<Arc<Memory>> {
        let session = self.turn.session().id();
        if let Some(memory) = self.app.memories.get(session) {
            return Ok(memory);
        }
        let (instructions, (rules, remark)) =
            tokio::try_join!(self.app.instructions_of(&self.state), self.app.repository_rules(&self.state))?;
        let mut instructions = instructions;
        instructions.notes.extend(remark);
        let seen = self.app.memories.seen(session);
        Ok(self.app.memories.keep(session, Memory { instructions, rules, seen }))
    }
}

fn broken_turn(request: Option<RequestId>) -> Problem {
    let problem = Problem::new(ErrorCode::Internal, "A fault in the server ended this turn.")
        .hint("What was done before is kept. Send the prompt again; the server's log says what went wrong.");
    match request {
        Some(request) => problem.detail(format!("The log says it under request {request}.")),
        None => problem,
    }
}

impl Inner {
    /// What the next turn of the session will be told.
    pub(crate) async fn instructions(
        &self,
        session: SessionId,
        state: &SessionState,
    ) -> Result<Instructions> {
        match self.memories.get(session) {
            Some(memory) => Ok(memory.instructions.clone()),
            None => self.instructions_of(state).await,
        }
    }

    async fn instructions_of(&self, state: &SessionState) -> Result<Instructions> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let (mut services, mut ports) = (vec![], vec![]);
        let can_spawn = state.depth() < self.config.spawn.depth;
        let manifest = match state.workspace.image.or(origin.image) {
            Some(image) => self.manifest_if_known(image).await?,
            None => None,
        };
        let found = match manifest {
            Some(manifest) => {
                services = manifest.services.iter().map(crate::services::for_the_agent).collect();
                ports = manifest
                    .ports
                    .iter()
                    .map(|port| Port { port: port.port, name: port.name.clone() })
                    .collect();
                manifest.instructions.clone()
            }
            None => match self.forge.branch_head(origin.repository, &origin.base_branch).await? {
                Some(head) => {
                    greenroom_image::instructions::read(self.forge.as_ref(), origin.repository, &head).await?
                }
                None => return Ok(Instructions { can_spawn, ..Instructions::default() }),
            },
        };
        let skill = |skill: greenroom_image::instructions::Skill| Skill {
            name: skill.name,
            description: skill.description,
            path: skill.path,
        };
        let skills = found.skills.into_iter().map(skill).collect();
        Ok(Instructions {
            agents_md: found.agents_md,
            skills,
            notes: found.notes,
            services,
            ports,
            can_spawn,
        })
    }
}

/// Starts the sandbox as soon as the request has left, so that the two do not compete for the processor; at once when the
/// request takes long. Marks when it was ready, and commits the timeline once it is complete.
async fn start_sandbox(app: Arc<Inner>, start: Start) {
    let Start { timeline, turn, .. } = &start;
    // Late is late: the sandbox does not wait for a slow connection.
    let _ = tokio::time::timeout(REQUEST_FIRST, timeline.model_called()).await;
    let sandbox = app.start_sandbox(turn.session());
    let Ok(ready) = sandbox.ready().await else { return };
    let stages = ready.stages;
    timeline.sandbox_is(stages.made_from, stages.synced);
    timeline.mark(StartStage::Claimed, stages.claimed);
    if let Some(restored) = stages.restored {
        timeline.mark(StartStage::Restored, restored);
    }
    timeline.mark(StartStage::Synced, stages.synced);
    if timeline.is_complete() {
        start.commit().await;
    }
}

/// A turn's start, as it is told in its log.
#[derive(Clone, Debug)]
struct Start {
    timeline: Arc<Timeline>,
    turn: TurnHandle,
    meter: Arc<TurnMeter>,
}

impl Start {
    /// Once: when the start is complete, and otherwise before the turn ends, whatever it reached.
    async fn commit(&self) {
        let Some(marks) = self.timeline.take_marks() else { return };
        let (sandbox, request) = (self.timeline.sandbox(), self.timeline.request());
        let events = vec![Event::StartTimeline { turn: self.turn.turn(), marks, sandbox, request }];
        self.meter.observe(&events);
        // Refused only when the turn is over, which says so itself.
        let _ = self.turn.commit(events, Durability::Synced).await;
    }
}

/// The agent's ports, for one turn.
#[derive(Debug)]
struct Ports {
    app: Arc<Inner>,
    turn: TurnHandle,
    start: Start,
    author: Author,
    asked: Arc<Asked>,
    speakers: Mutex<Speakers>,
    memory: Arc<Memory>,
    /// Files on the session's prompts.
    attached: Mutex<Vec<Attachment>>,
    /// What the model is shown of them.
    material: tokio::sync::Mutex<Material>,
    /// Of each call's output, the beginning of a character that is still to be completed.
    tails: Mutex<HashMap<String, Vec<u8>>>,
    spending: Spending,
}

#[async_trait]
impl Log for Ports {
    async fn commit(&self, events: Vec<Event>, durability: Durability) -> Result<(), TurnEnded> {
        self.app.turn_commits(self.turn.session(), self.turn.turn(), &events);
        self.start.meter.observe(&events);
        self.spending.observe(&self.app, &events);
        let begun = Instant::now();
        let committed = self.turn.commit(events, durability).await;
        if durability == Durability::Synced {
            self.app.telemetry.committed(begun.elapsed());
        }
        committed.map_err(|ended| TurnEnded::new(ended.to_string()))
    }

    fn delta(&self, block: BlockId, offset: u64, text: &str) {
        self.turn.delta(block, offset, text);
    }

    fn output(&self, call: &str, offset: u64, bytes: &[u8]) {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails.entry(call.to_owned()).or_default();
        let begin = offset.saturating_sub(tail.len() as u64);
        tail.extend(bytes);
        let text = crate::text::take_complete(tail);
        if !text.is_empty() {
            self.turn.output(call, begin, &text);
        }
    }

    fn mark(&self, stage: StartStage) {
        let timeline = &self.start.timeline;
        timeline.mark(stage, Instant::now());
        if stage == StartStage::FirstToken && timeline.is_complete() {
            let start = self.start.clone();
            tokio::spawn(async move { start.commit().await });
        }
    }

    fn next_block_id(&self) -> BlockId {
        let (at, random) = self.app.id_parts();
        BlockId::from_parts(at, random)
    }

    async fn take_inserts(&self) -> Result<Vec<Said>, TurnEnded> {
        let inserted = self.turn.take_inserts().await.map_err(|ended| TurnEnded::new(ended.to_string()))?;
        if !inserted.is_empty() {
            self.app.prompt_joins(self.turn.session(), self.asked.work(self.turn.turn()));
            self.asked.add(&inserted);
        }
        let mut material = self.material.lock().await;
        for prompt in &inserted {
            self.app.load(self.turn.session().id(), &prompt.attachments, &mut material).await;
            let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
            attached.extend(prompt.attachments.iter().cloned());
        }
        let mut speakers = self.speakers.lock().unwrap_or_else(PoisonError::into_inner);
        let present = |prompt: &QueuedPrompt| {
            speakers.present(&prompt.author, &prompt.text, &prompt.attachments, &material)
        };
        Ok(inserted.iter().map(present).collect())
    }

    async fn ask_people(&self, call: &str, of: AskedPeople) -> Result<AskEnd, TurnEnded> {
        let patience = self.app.config.asks.patience;
        self.turn.ask_people(call, of, patience).await.map_err(|ended| TurnEnded::new(ended.to_string()))
    }
}

#[async_trait]
impl Hands for Ports {
    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>> {
        let sandbox = self.app.ensure_sandbox(self.turn.session()).await?;
        self.app.marked(self.turn.session(), &sandbox).await;
        self.app.stepped(self.turn.session()).await?;
        self.place(&sandbox).await;
        Ok(sandbox)
    }

    async fn reader(&self) -> Result<Reading> {
        let reading = self.app.reader_of(self.turn.session()).await?;
        self.app.reverted(self.turn.session()).await?;
        self.place(&reading.sandbox).await;
        Ok(reading)
    }

    fn tool_env(&self) -> Vec<(String, String)> {
        git_identity(&self.author.name, &self.author.email)
    }
}

#[async_trait]
impl Changes for Ports {
    async fn open_change(&self, title: &str, body: &str) -> Result<OpenedChange> {
        let state = self.turn.session().state().await?;
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let before = state.change.as_ref().map(|change| change.change);
        self.publish_branch(&state, title, body).await?;
        let head = self.app.forge.branch_head(origin.repository, &origin.branch).await?.ok_or_else(|| {
            Problem::new(ErrorCode::PushRefused, "The branch did not arrive at the forge.").hint("Try again.")
        })?;
        let (at, random) = self.app.id_parts();
        let session = self.turn.session().id();
        let _turn = self.app.forge_turn(session).await;
        self.app.forge_owes(Some(session)).await?;
        let debt = self.app.forge_debt(session).await?;
        let opened = self
            .app
            .forge
            .open_change(OpenChange {
                id: ChangeId::from_parts(at, random),
                repository: origin.repository,
                session: Some(session),
                title: title.to_owned(),
                body: body.to_owned(),
                branch: origin.branch.clone(),
                base: origin.base_branch.clone(),
                author: self.author.clone(),
                prompters: state.contributors().map(|author| author.on_behalf_of).collect(),
                at_ms: self.app.now_ms(),
            })
            .await;
        let change = match opened {
            Ok(change) => change,
            Err(problem) => {
                self.app.forge_paid(session, debt).await?;
                return Err(problem.into());
            }
        };
        let event = match before {
            Some(known) if known == change.id => {
                Event::ChangeUpdated { change: change.id, number: change.number, commit: change.head.clone() }
            }
            _ => Event::ChangeOpened {
                change: change.id,
                number: change.number,
                title: change.title.clone(),
                branch: change.branch.clone(),
                commit: change.head.clone(),
                author: self.author.clone(),
            },
        };
        if let Err(problem) = self.turn.session().record(vec![event]).await {
            self.app.ask_forge(session);
            return Err(problem);
        }
        self.app.forge_paid(session, debt).await?;
        Ok(OpenedChange {
            number: change.number,
            title: change.title,
            branch: change.branch,
            commit: head,
            url: format!("{}/changes/{}", self.app.config.public_url, change.id),
        })
    }
}

#[async_trait]
impl Artifacts for Ports {
    fn limit(&self) -> u64 {
        self.app.config.attachments.file
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<Attachment> {
        self.app.keep(Shelf::Session(self.turn.session().id()), name, bytes.as_slice()).await
    }
}

impl Ports {
    /// The session's attached files are there before the agent looks.
    async fn place(&self, sandbox: &Arc<dyn Sandbox>) {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.app.place(self.turn.session().id(), sandbox, &attached, &self.memory.seen.placed).await;
    }

    /// Commits what is left in the working tree and pushes the session's branch through the broker.
    async fn publish_branch(&self, state: &SessionState, title: &str, body: &str) -> Result<CommitHash> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let base = state.workspace.base_commit.clone().ok_or_else(|| {
            Problem::new(ErrorCode::SandboxFailed, "The session's files are not ready yet.")
                .hint("Try again shortly.")
        })?;
        let mut env = self.tool_env();
        let message = message_of(title, body, &self.author, state);
        env.extend([
            ("CHANGE_MESSAGE".to_owned(), message),
            ("CHANGE_BRANCH".to_owned(), origin.branch.to_string()),
            ("CHANGE_BASE".to_owned(), base.to_string()),
        ]);
        let run = Shell { command: PUBLISH, env, timeout_ms: PUBLISH_DEADLINE_MS, output_limit: 64 * 1024 };
        let result = self.app.run_in_session(self.turn.session(), run).await?;
        match result.exit_code {
            Some(0) => Ok(base),
            Some(NOTHING) => Err(Problem::new(
                ErrorCode::NothingToPropose,
                "There is nothing to propose: no file was changed.",
            )
            .hint("Change something first.")),
            _ => {
                Err(Problem::new(ErrorCode::PushRefused, "The branch could not be pushed.")
                    .detail(result.output))
            }
        }
    }
}

/// Exit status of `PUBLISH` when the branch holds nothing new.
const NOTHING: i32 = 93;

const PUBLISH: &str = r#"set -eu
git add -A
git diff --cached --quiet || printf '%s' "$CHANGE_MESSAGE" | git commit -q --no-verify -F -
[ "$(git rev-parse HEAD)" != "$CHANGE_BASE" ] || exit 93
git push -q origin "+HEAD:refs/heads/$CHANGE_BRANCH"
"#;

/// The commit's message; others whose work it may hold are named as co-authors.
fn message_of(title: &str, body: &str, author: &Author, state: &SessionState) -> String {
    let others = state.contributors().filter(|other| other.on_behalf_of != author.on_behalf_of);
    let trailers: Vec<_> =
        others.map(|other| format!("Co-authored-by: {} <{}>", other.name, other.email)).collect();
    let parts = [title.to_owned(), body.to_owned(), trailers.join("\n")];
    parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
        + "\n"
}

#[cfg(test)]
mod panics;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bounds, World};

    #[tokio::test]
    async fn a_session_that_leaves_memory_takes_its_instructions_along_and_leaves_what_was_seen() {
        let world = World::start(Bounds::without_pool()).await;
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        let inner = world.inner();
        let instructions = Instructions { agents_md: Some("text".into()), ..Instructions::default() };
        let seen = inner.memories.seen(session);
        inner.memories.keep(session, Memory { instructions, rules: vec![], seen });
        inner.memories.files(session).synced(&[], &["Something was restored.".into()]);
        let effects = TurnEffects { app: Arc::downgrade(inner), outbox: Arc::clone(&inner.outbox) };
        effects.rests(session, 1);
        assert!(inner.memories.get(session).is_none());
        assert!(inner.memories.files(session).take_notice().unwrap().contains("Something was restored."));
    }
}
