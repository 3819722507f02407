//! What becomes of a turn whose runner panics: real panics, in the model's client and under a tool.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use crate::testing::{Bounds, PANICS, World, until};
use async_trait::async_trait;
use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason, ToolCall};
use greenroom_domain::money::Usage;
use greenroom_domain::{Command, CommandId, Delivery, ErrorCode, Event, PromptId, RequestId, SessionId};
use greenroom_model::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent};
use greenroom_wire::SubmitCommand;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

/// What a prompt says decides what becomes of it.
const IN_MODEL: &str = "panic in the model's client";
const IN_TOOL: &str = "panic under a tool";

/// Answers when it may.
#[derive(Debug)]
struct Shaky {
    may_answer: watch::Sender<bool>,
}

#[async_trait]
impl Provider for Shaky {
    fn model(&self) -> &'static str {
        "test/shaky"
    }

    fn context_window(&self) -> u64 {
        1000
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        let _ = self.may_answer.subscribe().wait_for(|may| *may).await;
        let last = match request.messages.last() {
            Some(Message::User { text, .. }) => text.trim_end(),
            _ => "",
        };
        assert!(!last.ends_with(IN_MODEL), "as tests do");
        let text = |text: &str| Content::Text { text: text.into() };
        let call = || ToolCall {
            id: "call".into(),
            name: "bash".into(),
            input: serde_json::json!({ "command": PANICS }),
        };
        let (content, stop_reason) = match last.ends_with(IN_TOOL) {
            true => (vec![text("so be it"), Content::ToolCall(call())], StopReason::ToolUse),
            false => (vec![text("done")], StopReason::EndTurn),
        };
        let (sender, receiver) = mpsc::channel(2);
        let said = Delta::Text { index: 0, text: "d".into() };
        sender.send(StreamEvent::Delta(said)).await.unwrap();
        let usage = Usage { requests: 1, ..Usage::default() };
        let response = Response { content, raw: None, stop_reason, usage };
        sender.send(StreamEvent::Done(Box::new(response))).await.unwrap();
        Ok(receiver)
    }
}

/// What this process logs; its other tests too.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// From now on.
    fn begin() -> Self {
        let logged = Self::default();
        let writer = logged.clone();
        tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
        logged
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Shaken {
    world: World,
    model: Arc<Shaky>,
    session: SessionId,
}

impl Shaken {
    /// One sandbox at a time.
    async fn start() -> Self {
        let model = Arc::new(Shaky { may_answer: watch::Sender::new(false) });
        let bounds = Bounds { max_sandboxes: 1, ..Bounds::without_pool() };
        let world = World::start_with_model(bounds, Arc::clone(&model) as Arc<dyn Provider>).await;
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        Self { world, model, session }
    }

    async fn prompt(&self, text: &str, delivery: Delivery) {
        let command = Command::Prompt { text: text.into(), delivery, attachments: vec![] };
        let key: CommandId = format!("key-{:032x}", self.world.inner().id_parts().1).parse().unwrap();
        let body = SubmitCommand { key, command };
        let receipt = self.world.app.submit_command(&self.world.admin, self.session, body).await.unwrap();
        assert_eq!(receipt.problem, None);
    }

    async fn is_at_rest(&self) -> bool {
        let handle = self.world.inner().sessions().get(self.session).await.unwrap();
        handle.look(|state| state.running.is_none() && state.queue.is_empty()).await.unwrap()
    }

    /// Each turn's prompts and its outcome.
    async fn turns(&self) -> Vec<(Vec<String>, TurnOutcome)> {
        let (mut said, mut turns) = (std::collections::HashMap::<PromptId, String>::new(), vec![]);
        for entry in self.world.log(self.session).await {
            match entry.event {
                Event::PromptAccepted { prompt, text, .. } => drop(said.insert(prompt, text)),
                Event::TurnStarted { prompts, .. } => {
                    turns.push((prompts.iter().map(|prompt| said[prompt].clone()).collect::<Vec<_>>(), None));
                }
                Event::PromptInserted { prompt, .. } => {
                    turns.last_mut().unwrap().0.push(said[&prompt].clone());
                }
                Event::TurnFinished { outcome, .. } => turns.last_mut().unwrap().1 = Some(outcome),
                _ => {}
            }
        }
        turns.into_iter().map(|(prompts, outcome)| (prompts, outcome.unwrap())).collect()
    }
}

fn is_broken(outcome: &TurnOutcome) -> bool {
    matches!(outcome, TurnOutcome::Failed { problem }
        if problem.code == ErrorCode::Internal && problem.message == "A fault in the server ended this turn.")
}

#[tokio::test]
async fn a_turn_whose_model_client_panics_has_failed_and_what_waited_is_answered() {
    let logged = Logged::begin();
    let shaken = Shaken::start().await;
    let request = RequestId::from_parts(1, 77);
    greenroom_telemetry::request::scope(request, shaken.prompt(IN_MODEL, Delivery::Queue)).await;
    shaken.prompt("a second", Delivery::Queue).await;
    shaken.prompt("beside the first", Delivery::Insert).await;
    shaken.model.may_answer.send_replace(true);
    until("the session is at rest", async || shaken.is_at_rest().await).await;
    let turns = shaken.turns().await;
    assert_eq!(turns[0].0, [IN_MODEL]);
    assert!(is_broken(&turns[0].1), "{turns:?}");
    let TurnOutcome::Failed { problem } = &turns[0].1 else { unreachable!() };
    assert!(
        problem.detail.as_ref().is_some_and(|detail| detail.contains(&request.to_string())),
        "{problem:?}"
    );
    let answered: Vec<_> = turns[1..].iter().flat_map(|turn| turn.0.iter().map(String::as_str)).collect();
    assert!(answered.contains(&"a second") && answered.contains(&"beside the first"), "{turns:?}");
    assert!(turns[1..].iter().all(|turn| turn.1 == TurnOutcome::Completed), "{turns:?}");
    until("no turn is counted as running", async || shaken.world.inner().drain.turns.is_empty()).await;
    let logged = logged.text();
    let is_it =
        |line: &&str| line.contains("the runner of a turn panicked") && line.contains(&request.to_string());
    let line = logged.lines().find(is_it).unwrap();
    assert!(line.contains("as tests do") && line.contains(&shaken.session.to_string()), "{line}");
}

#[tokio::test]
async fn a_turn_that_dies_under_a_tool_names_the_call_and_gives_its_sandbox_up() {
    let shaken = Shaken::start().await;
    shaken.model.may_answer.send_replace(true);
    shaken.prompt(IN_TOOL, Delivery::Queue).await;
    until("the session is at rest", async || shaken.is_at_rest().await).await;
    let turns = shaken.turns().await;
    assert!(is_broken(&turns[0].1), "{turns:?}");
    let log = shaken.world.log(shaken.session).await;
    let is_unknown =
        |event: &Event| matches!(event, Event::ToolFinished { outcome: ToolOutcome::Unknown, .. });
    assert_eq!(log.iter().filter(|entry| is_unknown(&entry.event)).count(), 1, "{log:#?}");
    assert_eq!(shaken.world.sandboxes.count().await, 1);
    // The only place goes to who needs it: no turn holds it.
    let row = shaken.world.inner().repository_row(&"sample".parse().unwrap()).await.unwrap();
    let other = shaken.world.session(&shaken.world.admin, &row).await;
    shaken.world.use_sandbox(&shaken.world.admin, other).await;
    assert_eq!(shaken.world.sandboxes.count().await, 1);
    shaken.prompt("once more", Delivery::Queue).await;
    until("it is answered", async || shaken.is_at_rest().await).await;
    assert_eq!(shaken.turns().await[1], (vec!["once more".to_owned()], TurnOutcome::Completed));
}
