//! What agents begin, through turns of a scripted model: whose it is, every bound, and what a crash leaves of it.

use crate::testing::{Bounds, World, until};
use async_trait::async_trait;
use greenroom_directory::RepositoryRow;
use greenroom_domain::message::{Content, Message, StopReason, ToolCall};
use greenroom_domain::money::Usage;
use greenroom_domain::quota::{QuotaLimit, Quotas};
use greenroom_domain::{
    ChildOutcome, Command, CommandId, Delivery, ErrorCode, Event, Person, Problem, SessionId, SessionState,
    SpawnLimits, TeamAccess, Via,
};
use greenroom_model::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent};
use greenroom_wire::SubmitCommand;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};

/// Prompts are scripts: each line is a tool and its input, one call a step; the last answer repeats all results. A line
/// `hold` waits until it is let go.
#[derive(Debug)]
struct Scripts {
    may_go: watch::Sender<bool>,
    calls: AtomicUsize,
}

#[async_trait]
impl Provider for Scripts {
    fn model(&self) -> &'static str {
        "test/scripts"
    }

    fn context_window(&self) -> u64 {
        100_000
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        let at = request.messages.iter().rposition(|message| matches!(message, Message::User { .. }));
        let (script, since) = match at.map(|at| (&request.messages[at], &request.messages[at + 1..])) {
            Some((Message::User { text, .. }, since)) => (text.clone(), since),
            _ => (String::new(), &[][..]),
        };
        let script = script.rsplit("\n\n").next().unwrap_or_default().to_owned();
        // With a name before it where several people prompt.
        let script = match script.strip_prefix('[') {
            Some(named) => named.split_once("] ").map_or(String::new(), |(_, said)| said.to_owned()),
            None => script,
        };
        let step = since.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let results: Vec<String> = since
            .iter()
            .filter_map(|message| match message {
                Message::ToolResults { results } => Some(results),
                _ => None,
            })
            .flatten()
            .map(|result| result.text.clone())
            .collect();
        if script == "hold" {
            let _ = self.may_go.subscribe().wait_for(|may| *may).await;
        }
        let call =
            script.lines().nth(step).and_then(|line| line.split_once(' ')).and_then(|(name, input)| {
                let input: Value = serde_json::from_str(input).ok()?;
                Some(Content::ToolCall(ToolCall {
                    id: format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed)),
                    name: name.to_owned(),
                    input,
                }))
            });
        let stop_reason = if call.is_some() { StopReason::ToolUse } else { StopReason::EndTurn };
        let content =
            vec![call.unwrap_or_else(|| Content::Text { text: format!("done\n{}", results.join("\n")) })];
        let (sender, receiver) = mpsc::channel(2);
        let said = Delta::Text { index: 0, text: "d".into() };
        let _ = sender.send(StreamEvent::Delta(said)).await;
        let usage = Usage { input_tokens: 1_000, requests: 1, ..Usage::default() };
        let response = Response { content, raw: None, stop_reason, usage };
        let _ = sender.send(StreamEvent::Done(Box::new(response))).await;
        Ok(receiver)
    }
}

struct Home {
    world: World,
    model: Arc<Scripts>,
    row: RepositoryRow,
}

impl Home {
    async fn start(spawn: SpawnLimits) -> Self {
        let model = Arc::new(Scripts { may_go: watch::Sender::new(false), calls: AtomicUsize::new(0) });
        let bounds = Bounds { spawn, ..Bounds::without_pool() };
        let world = World::start_with_model(bounds, Arc::clone(&model) as Arc<dyn Provider>).await;
        let row = world.add_repository("sample").await;
        Self { world, model, row }
    }

    async fn command(&self, by: &Person, session: SessionId, command: Command) -> Option<Problem> {
        let key: CommandId = format!("key-{:032x}", self.world.inner().id_parts().1).parse().unwrap();
        let body = SubmitCommand { key, command };
        self.world.app.submit_command(by, session, body).await.unwrap().problem
    }

    async fn prompt(&self, by: &Person, session: SessionId, text: &str) {
        let command = Command::Prompt { text: text.into(), delivery: Delivery::Queue, attachments: vec![] };
        assert_eq!(self.command(by, session, command).await, None);
    }

    async fn state(&self, session: SessionId) -> SessionState {
        self.world.inner().sessions().get(session).await.unwrap().state().await.unwrap()
    }

    async fn rests(&self, session: SessionId) -> SessionState {
        until("the session rests", async || {
            let state = self.state(session).await;
            state.running.is_none() && state.queue.is_empty()
        })
        .await;
        self.state(session).await
    }

    /// What the last answer said.
    async fn said(&self, session: SessionId) -> String {
        let handle = self.world.inner().sessions().get(session).await.unwrap();
        super::last_words(&handle).await.unwrap()
    }

    /// A session of this person in which the script was played to its end.
    async fn play(&self, by: &Person, script: &str) -> SessionId {
        let session = self.world.session(by, &self.row).await;
        self.prompt(by, session, script).await;
        self.rests(session).await;
        session
    }
}

fn spawn(prompt: &str) -> String {
    format!("spawn_session {}", json!({ "prompt": prompt }))
}

fn spawn_with(input: &Value) -> String {
    format!("spawn_session {input}")
}

#[tokio::test]
async fn a_child_is_its_prompters_and_as_open_as_its_parent_and_its_end_is_told() {
    let home = Home::start(SpawnLimits::default()).await;
    let ann = home.world.member("ann").await;
    let parent = home.world.session(&home.world.admin, &home.row).await;
    home.prompt(&home.world.admin, parent, "hello").await;
    home.rests(parent).await;
    home.prompt(&ann, parent, &[spawn("look around"), "wait_session {}".into()].join("\n")).await;
    home.rests(parent).await;
    assert!(home.said(parent).await.contains("Its last words: done"), "{}", home.said(parent).await);
    until("the parent is told", async || home.state(parent).await.children[0].end.is_some()).await;
    let state = home.state(parent).await;
    let known = &state.children[0];
    assert_eq!(known.end.as_ref().unwrap().outcome, ChildOutcome::Completed);
    let child = home.state(known.session).await;
    let origin = child.origin.as_ref().unwrap();
    assert_eq!((origin.author.on_behalf_of, origin.author.via), (ann.id, Via::Parent));
    assert_eq!(origin.parent.as_ref().map(|parent| (parent.session, parent.depth)), Some((parent, 1)));
    assert_eq!(child.access.team, TeamAccess::Contribute);
    // The admin's words may be in it: they do not approve what comes of it.
    let contributors: Vec<_> = child.contributors().map(|author| author.on_behalf_of).collect();
    assert_eq!(contributors, [ann.id, home.world.admin.id]);
    // A quarter of what the turn had left, which 1,000 tokens were used of.
    assert_eq!(origin.budget.tokens, (home.state(parent).await.origin.unwrap().budget.tokens - 1_000) / 4);
    let tree = home.world.app.session_tree(&ann, known.session).await.unwrap();
    assert_eq!((tree.root, tree.sessions.len()), (parent, 2));
}

#[tokio::test]
async fn a_private_sessions_child_is_private() {
    let home = Home::start(SpawnLimits::default()).await;
    let (ann, ben) = (home.world.member("ann").await, home.world.member("ben").await);
    let parent = home.world.session(&ann, &home.row).await;
    let private = Command::SetTeamAccess { access: TeamAccess::None };
    assert_eq!(home.command(&ann, parent, private).await, None);
    home.prompt(&ann, parent, &spawn("look around")).await;
    let child = home.rests(parent).await.children[0].session;
    home.rests(child).await;
    let refused = home.world.app.session(&ben, child).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionUnknown);
    home.world.app.session(&ann, child).await.unwrap();
}

#[tokio::test]
async fn nobody_begins_through_an_agent_what_they_may_not_begin_themselves() {
    let home = Home::start(SpawnLimits::default()).await;
    let ann = home.world.member("ann").await;
    let parent = home.play(&ann, &spawn_with(&json!({"prompt": "x", "repository": "elsewhere"}))).await;
    let said = home.said(parent).await;
    assert!(
        said.contains("no repository named \"elsewhere\"") && said.contains("Use one of: sample."),
        "{said}"
    );
    let parent = home.play(&ann, &spawn_with(&json!({"prompt": "x", "base_branch": "nowhere"}))).await;
    assert!(home.said(parent).await.contains("no branch nowhere"));
    assert_eq!(home.state(parent).await.children, []);
}

#[tokio::test]
async fn a_persons_quota_of_sessions_counts_what_their_agents_begin() {
    let home = Home::start(SpawnLimits::default()).await;
    let ann = home.world.member("ann").await;
    let quotas = Quotas { sessions: Some(QuotaLimit::AtMost(2)), ..Quotas::default() };
    home.world.app.set_quotas(&home.world.admin, Some(&ann.login), quotas).await.unwrap();
    let parent = home.play(&ann, &[spawn("one"), spawn("two")].join("\n")).await;
    assert!(
        home.said(parent).await.contains("You have 2 open sessions, and may have 2."),
        "{}",
        home.said(parent).await
    );
    assert_eq!(home.state(parent).await.children.len(), 1);
}

#[tokio::test]
async fn children_of_children_end_at_the_depth_that_is_set() {
    let home = Home::start(SpawnLimits { depth: 1, ..SpawnLimits::default() }).await;
    let parent =
        home.play(&home.world.admin, &[spawn(&spawn("deeper")), "wait_session {}".into()].join("\n")).await;
    let child = home.state(parent).await.children[0].session;
    assert!(
        home.said(child).await.contains("There is no tool named \"spawn_session\""),
        "{}",
        home.said(child).await
    );
    let home = Home::start(SpawnLimits { depth: 2, ..SpawnLimits::default() }).await;
    let parent =
        home.play(&home.world.admin, &[spawn(&spawn("deeper")), "wait_session {}".into()].join("\n")).await;
    let child = home.state(parent).await.children[0].session;
    let grandchild = home.rests(child).await.children[0].session;
    assert_eq!(home.rests(grandchild).await.depth(), 2);
    let tree = home.world.app.session_tree(&home.world.admin, grandchild).await.unwrap();
    let ids: Vec<_> = tree.sessions.iter().map(|session| session.id).collect();
    assert_eq!(ids, [parent, child, grandchild]);
}

#[tokio::test]
async fn no_more_are_at_work_at_once_than_is_set_and_one_that_ended_makes_place() {
    let home = Home::start(SpawnLimits { at_once: 1, ..SpawnLimits::default() }).await;
    let parent = home.play(&home.world.admin, &[spawn("hold"), spawn("two")].join("\n")).await;
    let said = home.said(parent).await;
    assert!(
        said.contains("No more than 1 of the sessions begun here") && said.contains("wait_session"),
        "{said}"
    );
    home.model.may_go.send_replace(true);
    until("it has ended", async || home.state(parent).await.children[0].end.is_some()).await;
    home.prompt(&home.world.admin, parent, &spawn("two")).await;
    assert_eq!(home.rests(parent).await.children.len(), 2);
}

#[tokio::test]
async fn a_message_goes_on_with_a_child_and_a_stop_of_it_stops_what_it_does() {
    let home = Home::start(SpawnLimits::default()).await;
    let admin = home.world.admin.clone();
    let parent = home.play(&admin, &[spawn("one"), "wait_session {}".into()].join("\n")).await;
    let child = home.state(parent).await.children[0].session;
    until("the parent is told", async || home.state(parent).await.children[0].end.is_some()).await;
    let message = format!("message_session {}", json!({"session": child, "text": "hold"}));
    let cancel = format!("cancel_session {}", json!({"session": child}));
    home.prompt(&admin, parent, &[message, cancel, "wait_session {}".into()].join("\n")).await;
    home.rests(parent).await;
    assert!(home.said(parent).await.contains("stopped"), "{}", home.said(parent).await);
    let state = home.rests(child).await;
    assert_eq!(state.turns, 2);
    until("the parent is told of the second end", async || {
        let state = home.state(parent).await;
        state.children[0].end.as_ref().is_some_and(|end| end.outcome == ChildOutcome::Stopped)
    })
    .await;
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_a_prompt_to_the_parent_once() {
    let home = Home::start(SpawnLimits::default()).await;
    let admin = home.world.admin.clone();
    let parent = home.play(&admin, &spawn_with(&json!({"prompt": "hold", "notify": true}))).await;
    assert_eq!(home.state(parent).await.turns, 1);
    home.model.may_go.send_replace(true);
    until("the parent answers", async || home.state(parent).await.turns == 2).await;
    home.rests(parent).await;
    let child = home.state(parent).await.children[0].session;
    home.prompt(&admin, child, "again").await;
    home.rests(child).await;
    until("the second end is told", async || {
        let log = home.world.log(parent).await;
        log.iter().filter(|entry| matches!(entry.event, Event::ChildEnded { .. })).count() == 2
    })
    .await;
    assert_eq!(home.rests(parent).await.turns, 2, "once");
}

#[tokio::test]
async fn an_end_of_the_process_between_intent_and_effect_loses_and_doubles_nothing() {
    let home = Home::start(SpawnLimits::default()).await;
    let admin = home.world.admin.clone();
    let parent = home.play(&admin, &spawn("hold")).await;
    let first = home.state(parent).await.children[0].clone();
    // The log has the intent of a second one, and the server begins nothing any more.
    home.world.app.begin_drain();
    let second = SessionId::from_parts(home.world.inner().id_parts().0, 77);
    let (turn, child, request) = (first.turn, second, first.request.clone());
    let intent = Event::ChildSpawned { turn, call: "cut-off".into(), child, request };
    home.world.inner().sessions().get(parent).await.unwrap().record(vec![intent]).await.unwrap();
    assert!(!home.world.inner().has_log(second));
    // The model lets go of the process that ends.
    home.model.may_go.send_replace(true);
    let world = home.world.restart().await;
    until("it is there", async || world.inner().has_log(second)).await;
    let log = world.log(second).await;
    let made = |event: &Event| matches!(event, Event::SessionCreated { parent: Some(point), .. } if point.session == parent);
    assert_eq!(log.iter().filter(|entry| made(&entry.event)).count(), 1);
    let of_parent = async || {
        let sessions = world.app.sessions(&admin, None, crate::Archived::Shown, 100).await.unwrap();
        sessions.iter().filter(|session| session.parent == Some(parent)).count()
    };
    until("the list has both", async || of_parent().await == 2).await;
}

#[tokio::test]
async fn a_deleted_child_is_told_and_a_deleted_parent_leaves_its_children() {
    let home = Home::start(SpawnLimits::default()).await;
    let admin = home.world.admin.clone();
    let parent = home.play(&admin, &[spawn("hold"), spawn("hold")].join("\n")).await;
    let children: Vec<_> = home.state(parent).await.children.iter().map(|child| child.session).collect();
    home.world.app.delete_session(&admin, children[0]).await.unwrap();
    let end = home.state(parent).await.children[0].end.clone().unwrap();
    assert_eq!(end.outcome, ChildOutcome::Deleted);
    let refused = home.world.app.delete_session(&admin, parent).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionBusy);
    assert_eq!(home.command(&admin, parent, Command::ReleaseChildren {}).await, None);
    home.world.app.delete_session(&admin, parent).await.unwrap();
    home.model.may_go.send_replace(true);
    home.rests(children[1]).await;
    let tree = home.world.app.session_tree(&admin, children[1]).await.unwrap();
    assert_eq!(tree.root, children[1]);
}
