//! A model, a log and a sandbox of plain memory for the loop's tests. Time is tokio's paused time: it passes only when
//! nothing else can happen.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

mod children;
mod sandbox;

pub use children::FakeChildren;
pub use sandbox::{Behaviour, FakeSandbox, OpenTerminal};

use async_trait::async_trait;
use greenroom_agent::tools::{Files, Terminals};
use greenroom_agent::{
    Artifacts, Changes, Finished, Hands, Instructions, Log, OpenedChange, Permissions, Reading, SystemClock,
    Transcript, TurnContext, TurnEnded, Used, run,
};
use greenroom_domain::event::{Durability, Event, StartStage, ToolOutcome};
use greenroom_domain::message::{Content, Message, RawItems, StopReason, ToolCall, ToolResult};
use greenroom_domain::money::{Budget, Usage};
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Asked, Attachment, BlockId, ErrorCode, Problem, TurnId};
use greenroom_model::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent};
use greenroom_sandbox::Sandbox;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One answer of the scripted model.
pub enum Step {
    Answer(Response),
    /// The request itself fails.
    Refuse(Error),
    /// These events, then the connection closes.
    Cut(Vec<StreamEvent>),
    /// These events, then silence.
    Hang(Vec<StreamEvent>),
}

pub struct Model {
    pub window: AtomicU64,
    steps: Mutex<VecDeque<Step>>,
    /// Answers to requests for a summary.
    pub summaries: Mutex<VecDeque<Step>>,
    pub requests: Mutex<Vec<Request>>,
    pub edits_by_patch: AtomicBool,
    label: &'static str,
    /// Streams kept open.
    open: Mutex<Vec<mpsc::Sender<StreamEvent>>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            edits_by_patch: AtomicBool::new(false),
            window: AtomicU64::new(200_000),
            steps: Mutex::default(),
            summaries: Mutex::default(),
            requests: Mutex::default(),
            label: "test/model",
            open: Mutex::default(),
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

impl Model {
    pub fn new(label: &'static str, steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into()), label, ..Self::default() })
    }

    pub fn asked(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl Provider for Model {
    fn model(&self) -> &str {
        self.label
    }

    fn context_window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    fn edits_by_patch(&self) -> bool {
        self.edits_by_patch.load(Ordering::Relaxed)
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        let steps = if asks_for_summary(&request) { &self.summaries } else { &self.steps };
        self.requests.lock().unwrap().push(request);
        let step = steps.lock().unwrap().pop_front().expect("the model was called more often than scripted");
        let (sender, receiver) = mpsc::channel(256);
        let (events, is_open) = match step {
            Step::Refuse(error) => return Err(error),
            Step::Answer(response) => (whole(response), false),
            Step::Cut(events) => (events, false),
            Step::Hang(events) => (events, true),
        };
        for event in events {
            sender.try_send(event).expect("scripts are short");
        }
        if is_open {
            self.open.lock().unwrap().push(sender);
        }
        Ok(receiver)
    }
}

pub fn asks_for_summary(request: &Request) -> bool {
    let asks = |text: &str| text.contains("Stop working for a moment");
    matches!(request.messages.last(), Some(Message::User { text, .. }) if asks(text))
}

/// The deltas of a response, and its end.
fn whole(response: Response) -> Vec<StreamEvent> {
    let mut events = Vec::new();
    for (index, part) in response.content.iter().enumerate() {
        match part {
            Content::Text { text } => {
                events.extend(text.split_inclusive(' ').map(|text| self::text(index, text)));
            }
            Content::Thinking { text } => {
                events.push(StreamEvent::Delta(Delta::Thinking { index, text: text.clone() }));
            }
            Content::ToolCall(call) => events.push(StreamEvent::Delta(Delta::ToolCallStarted {
                index,
                id: call.id.clone(),
                name: call.name.clone(),
            })),
        }
    }
    events.push(StreamEvent::Done(Box::new(response)));
    events
}

pub fn text(index: usize, text: &str) -> StreamEvent {
    StreamEvent::Delta(Delta::Text { index, text: text.to_owned() })
}

pub fn response(content: Vec<Content>, stop_reason: StopReason) -> Response {
    let items = content.iter().map(|part| serde_json::to_value(part).unwrap()).collect();
    let raw = Some(RawItems { format: "test".to_owned(), items, model: None });
    let usage = Usage { input_tokens: 100, output_tokens: 10, requests: 1, ..Usage::default() };
    Response { content, raw, stop_reason, usage }
}

pub fn say(text: &str) -> Step {
    Step::Answer(response(vec![Content::Text { text: text.to_owned() }], StopReason::EndTurn))
}

pub fn call(id: &str, name: &str, input: Value) -> Content {
    Content::ToolCall(ToolCall { id: id.to_owned(), name: name.to_owned(), input })
}

pub fn bash(id: &str, command: &str) -> Content {
    call(id, "bash", json!({"command": command}))
}

pub fn calls(calls: Vec<Content>) -> Step {
    Step::Answer(response(calls, StopReason::ToolUse))
}

#[derive(Debug)]
pub struct MemoryLog {
    pub commits: Mutex<Vec<(Vec<Event>, Durability)>>,
    pub deltas: Mutex<Vec<(BlockId, u64, String)>>,
    pub outputs: Mutex<Vec<(String, u64, Vec<u8>)>>,
    pub marks: Mutex<Vec<StartStage>>,
    pub inserts: Mutex<VecDeque<Vec<String>>>,
    /// What people were asked.
    pub asked: Mutex<Vec<(String, Asked)>>,
    /// How each ask in turn ends; without one, nobody ever answers.
    pub ends: Mutex<VecDeque<AskEnd>>,
    /// How long people take to answer.
    pub thinking: Mutex<Duration>,
    /// Commits after this many are fenced.
    pub fenced_after: AtomicU64,
    next_block: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            commits: Mutex::default(),
            deltas: Mutex::default(),
            outputs: Mutex::default(),
            marks: Mutex::default(),
            inserts: Mutex::default(),
            asked: Mutex::default(),
            ends: Mutex::default(),
            thinking: Mutex::default(),
            fenced_after: AtomicU64::new(u64::MAX),
            next_block: AtomicU64::default(),
            changed: watch::Sender::new(0),
        }
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn commit(&self, events: Vec<Event>, durability: Durability) -> Result<(), TurnEnded> {
        let mut commits = self.commits.lock().unwrap();
        if commits.len() as u64 >= self.fenced_after.load(Ordering::Relaxed) {
            return Err(TurnEnded::new("fenced"));
        }
        commits.push((events, durability));
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn delta(&self, block: BlockId, offset: u64, text: &str) {
        self.deltas.lock().unwrap().push((block, offset, text.to_owned()));
        self.changed.send_modify(|count| *count += 1);
    }

    fn output(&self, call: &str, offset: u64, bytes: &[u8]) {
        self.outputs.lock().unwrap().push((call.to_owned(), offset, bytes.to_vec()));
        self.changed.send_modify(|count| *count += 1);
    }

    fn mark(&self, stage: StartStage) {
        self.marks.lock().unwrap().push(stage);
    }

    fn next_block_id(&self) -> BlockId {
        BlockId::from_parts(1, u128::from(self.next_block.fetch_add(1, Ordering::Relaxed)))
    }

    async fn take_inserts(&self) -> Result<Vec<greenroom_agent::Said>, TurnEnded> {
        let texts = self.inserts.lock().unwrap().pop_front().unwrap_or_default();
        Ok(texts.into_iter().map(Into::into).collect())
    }

    async fn ask_people(&self, call: &str, of: Asked) -> Result<AskEnd, TurnEnded> {
        self.asked.lock().unwrap().push((call.to_owned(), of));
        self.changed.send_modify(|count| *count += 1);
        let thinking = *self.thinking.lock().unwrap();
        tokio::time::sleep(thinking).await;
        let end = self.ends.lock().unwrap().pop_front();
        match end {
            Some(end) => Ok(end),
            None => std::future::pending().await,
        }
    }
}

impl MemoryLog {
    pub fn events(&self) -> Vec<Event> {
        self.commits.lock().unwrap().iter().flat_map(|(events, _)| events.clone()).collect()
    }

    /// Waits until something was shown or committed that satisfies `condition`.
    pub async fn wait_until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !condition(self) {
                changes.changed().await.expect("the log lives");
            }
        };
        tokio::time::timeout(Duration::from_secs(100), wait).await.expect("the condition came true");
    }

    pub fn results(&self) -> Vec<(String, ToolOutcome, String)> {
        let finished = |event| match event {
            Event::ToolFinished { call, outcome, text, .. } => Some((call, outcome, text)),
            _ => None,
        };
        self.events().into_iter().filter_map(finished).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.events().iter().map(name).collect()
    }
}

pub fn name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned()
}

#[derive(Debug)]
pub struct FakeHands {
    /// Given in turn; the last one stays.
    pub sandboxes: Mutex<VecDeque<Result<Arc<FakeSandbox>, Problem>>>,
    /// Given to reads while the sync is on its way, which is then waited for by everything else.
    pub reader: Mutex<Option<Arc<FakeSandbox>>>,
    pub is_synced: watch::Sender<bool>,
}

#[async_trait]
impl Hands for FakeHands {
    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, Problem> {
        self.is_synced.subscribe().wait_for(|is_synced| *is_synced).await.expect("the test lives");
        let mut sandboxes = self.sandboxes.lock().unwrap();
        let is_gone =
            sandboxes.front().is_some_and(|first| first.as_ref().is_ok_and(|sandbox| sandbox.is_lost()));
        if is_gone && sandboxes.len() > 1 {
            sandboxes.pop_front();
        }
        match sandboxes.front().expect("a sandbox") {
            Ok(sandbox) => Ok(sandbox.clone()),
            Err(problem) => Err(problem.clone()),
        }
    }

    async fn reader(&self) -> Result<Reading, Problem> {
        let early = self.reader.lock().unwrap().clone().filter(|_| !*self.is_synced.borrow());
        match early {
            Some(sandbox) => Ok(Reading { sandbox, is_before_sync: true, hold: None }),
            None => Ok(Reading::current(self.sandbox().await?)),
        }
    }

    fn tool_env(&self) -> Vec<(String, String)> {
        vec![("GIT_AUTHOR_NAME".to_owned(), "Ada".to_owned())]
    }
}

#[derive(Debug, Default)]
pub struct FakeChanges {
    pub opened: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl Changes for FakeChanges {
    async fn open_change(&self, title: &str, body: &str) -> Result<OpenedChange, Problem> {
        self.opened.lock().unwrap().push((title.to_owned(), body.to_owned()));
        if title == "Nothing" {
            return Err(Problem::new(ErrorCode::NothingToPropose, "There is nothing to propose."));
        }
        Ok(OpenedChange {
            number: 7,
            title: title.to_owned(),
            branch: "greenroom/x".parse().unwrap(),
            commit: "a".repeat(40).parse().unwrap(),
            url: "http://localhost/changes/7".to_owned(),
        })
    }
}

#[derive(Debug, Default)]
pub struct FakeArtifacts {
    pub kept: Mutex<Vec<(String, Vec<u8>)>>,
}

#[async_trait]
impl Artifacts for FakeArtifacts {
    fn limit(&self) -> u64 {
        1_500_000
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<Attachment, Problem> {
        let file = Attachment {
            digest: "0".repeat(64).parse().unwrap(),
            name: name.rsplit('/').next().unwrap().to_owned(),
            media_type: "text/plain".to_owned(),
            bytes: bytes.len() as u64,
            width: None,
            height: None,
        };
        self.kept.lock().unwrap().push((name.to_owned(), bytes));
        Ok(file)
    }
}

/// A session with its model, log and sandbox.
pub struct Stand {
    pub model: Arc<Model>,
    pub log: Arc<MemoryLog>,
    pub sandbox: Arc<FakeSandbox>,
    pub hands: Arc<FakeHands>,
    pub changes: Arc<FakeChanges>,
    pub artifacts: Arc<FakeArtifacts>,
    pub children: Arc<FakeChildren>,
    pub can_spawn: bool,
    pub files: Arc<Files>,
    pub terminals: Arc<Terminals>,
    pub cancel: CancellationToken,
    pub budget: Budget,
    pub history: Transcript,
    pub fallbacks: Vec<Arc<Model>>,
    pub permissions: Permissions,
}

impl Stand {
    pub fn new(steps: Vec<Step>) -> Self {
        let sandbox = Arc::new(FakeSandbox::default());
        let hands = FakeHands {
            sandboxes: Mutex::new(VecDeque::from([Ok(sandbox.clone())])),
            reader: Mutex::default(),
            is_synced: watch::Sender::new(true),
        };
        Self {
            model: Model::new("test/model", steps),
            log: Arc::default(),
            sandbox,
            hands: Arc::new(hands),
            changes: Arc::default(),
            artifacts: Arc::default(),
            children: Arc::default(),
            can_spawn: false,
            files: Arc::default(),
            terminals: Arc::default(),
            cancel: CancellationToken::new(),
            budget: Budget::default(),
            history: vec![Message::user("Do it.")].into(),
            fallbacks: vec![],
            permissions: Permissions::default(),
        }
    }

    pub fn script(&self, steps: Vec<Step>) {
        self.model.steps.lock().unwrap().extend(steps);
    }

    pub fn context(&self) -> TurnContext {
        TurnContext {
            provider: self.model.clone(),
            fallbacks: self.fallbacks.iter().map(|model| model.clone() as Arc<dyn Provider>).collect(),
            log: self.log.clone(),
            hands: self.hands.clone(),
            changes: self.changes.clone(),
            artifacts: self.artifacts.clone(),
            children: self.children.clone(),
            clock: Arc::new(SystemClock::new()),
            files: self.files.clone(),
            terminals: self.terminals.clone(),
            instructions: Instructions { can_spawn: self.can_spawn, ..Instructions::default() },
            permissions: self.permissions.clone(),
            history: self.history.clone(),
            is_compaction: false,
            budget: self.budget,
            used: Used::default(),
            cancel: self.cancel.clone(),
            max_output_tokens: 8_000,
            effort: None,
            cache_key: "ses_x".to_owned(),
        }
    }

    pub async fn try_run(&self) -> Result<Finished, TurnEnded> {
        run(turn_id(), self.context()).await
    }

    pub async fn run(&self) -> Finished {
        self.try_run().await.expect("the turn is not fenced")
    }

    pub fn start(&self) -> tokio::task::JoinHandle<Result<Finished, TurnEnded>> {
        tokio::spawn(run(turn_id(), self.context()))
    }

    pub fn requests(&self) -> Vec<Request> {
        self.model.requests.lock().unwrap().clone()
    }

    /// The results that the last request carried, oldest first.
    pub fn told(&self) -> Vec<ToolResult> {
        let requests = self.requests();
        let messages = &requests.last().expect("a request").messages;
        let results = messages.iter().filter_map(|message| match message {
            Message::ToolResults { results } => Some(results.clone()),
            _ => None,
        });
        results.flatten().collect()
    }
}

pub fn turn_id() -> TurnId {
    TurnId::from_parts(1, 1)
}
