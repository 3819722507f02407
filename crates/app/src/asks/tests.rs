//! Asking people through a whole app: rules of the repository, answers, restarts, and nobody there.

use super::*;
use crate::testing::{Bounds, World, git, until};
use async_trait::async_trait;
use greenroom_domain::event::{Event, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason, ToolCall};
use greenroom_domain::{Answer, AskId, Asked, Command, ErrorCode, Problem, QuestionAnswer, Role, TeamAccess};
use greenroom_model::{Provider, ProviderStream, Request, Response, StreamEvent};
use greenroom_wire::{Receipt, SubmitCommand};
use serde_json::{Value, json};
use std::sync::Arc;

/// Calls one tool, and is done when it has the result.
#[derive(Debug)]
struct OneCall {
    name: &'static str,
    input: Value,
}

#[async_trait]
impl Provider for OneCall {
    fn model(&self) -> &'static str {
        "test/one-call"
    }

    fn context_window(&self) -> u64 {
        1_000_000
    }

    async fn warm(&self) {}

    async fn stream(&self, request: Request) -> std::result::Result<ProviderStream, greenroom_model::Error> {
        let results =
            request.messages.iter().filter(|message| matches!(message, Message::ToolResults { .. }));
        let prompts = request.messages.iter().filter(|message| matches!(message, Message::User { .. }));
        let (content, stop_reason) = if results.count() >= prompts.count() {
            (Content::Text { text: "Done.".into() }, StopReason::EndTurn)
        } else {
            let id = format!("call-{}", request.messages.len());
            let call = ToolCall { id, name: self.name.into(), input: self.input.clone() };
            (Content::ToolCall(call), StopReason::ToolUse)
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let usage = greenroom_domain::money::Usage::default();
        let response = Response { content: vec![content], raw: None, stop_reason, usage };
        sender.try_send(StreamEvent::Done(Box::new(response))).expect("there is room");
        Ok(receiver)
    }
}

fn question() -> Arc<dyn Provider> {
    let input = json!({"questions": [{"header": "Colour", "text": "Which?", "options": [{"label": "red"}, {"label": "blue"}]}]});
    Arc::new(OneCall { name: "question", input })
}

fn runs(command: &str) -> Arc<dyn Provider> {
    Arc::new(OneCall { name: "bash", input: json!({"command": command}) })
}

fn chosen(label: &str) -> Answer {
    Answer::Chosen { answers: vec![QuestionAnswer { chosen: vec![label.into()], text: None }] }
}

fn prompt() -> Command {
    Command::Prompt { text: "do it".into(), delivery: Default::default(), attachments: vec![] }
}

struct Stage {
    world: World,
    session: SessionId,
}

impl Stage {
    async fn with(model: Arc<dyn Provider>, asks: AskSettings) -> Self {
        let world = World::start_asking(Bounds::without_pool(), model, asks).await;
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        Self { world, session }
    }

    async fn give(&self, by: &Person, key: &str, command: Command) -> Result<Receipt> {
        let body = SubmitCommand { key: key.parse().unwrap(), command };
        self.world.app.submit_command(by, self.session, body).await
    }

    async fn answer(&self, by: &Person, key: &str, ask: AskId, answer: Answer) -> Result<Receipt> {
        self.give(by, key, Command::Answer { ask, answer }).await
    }

    async fn asked(&self) -> AskView {
        until("something is asked", async || !self.open().await.is_empty()).await;
        self.open().await.remove(0)
    }

    async fn open(&self) -> Vec<AskView> {
        self.world.app.asks(&self.world.admin, self.session).await.unwrap()
    }

    async fn ended(&self) -> TurnOutcome {
        let outcome = async || {
            let state = self.world.inner().sessions().get(self.session).await.unwrap().state().await.unwrap();
            state.running.is_none().then_some(state.last_outcome).flatten()
        };
        until("the turn has ended", async || outcome().await.is_some()).await;
        outcome().await.unwrap()
    }

    async fn results(&self) -> Vec<(ToolOutcome, String)> {
        let entries = self.world.log(self.session).await;
        let results = entries.into_iter().filter_map(|entry| match entry.event {
            Event::ToolFinished { outcome, text, .. } => Some((outcome, text)),
            _ => None,
        });
        results.collect()
    }

    async fn listed(&self) -> u32 {
        let app = &self.world.app;
        let listed = app.sessions(&self.world.admin, None, crate::Archived::Hidden, 10).await.unwrap();
        listed[0].open_asks
    }
}

fn refused(receipt: Receipt) -> ErrorCode {
    receipt.problem.expect("it is refused").code
}

#[tokio::test]
async fn a_question_is_answered_by_the_first_who_may_and_the_list_shows_that_it_waits() {
    let stage = Stage::with(question(), AskSettings::default()).await;
    let (admin, ada) = (stage.world.admin.clone(), stage.world.member("ada").await);
    stage.give(&admin, "p", prompt()).await.unwrap();
    let ask = stage.asked().await;
    assert!(matches!(&ask.of, Asked::Questions { questions } if questions[0].header == "Colour"));
    assert_eq!(ask.expires_at_ms - ask.opened_at_ms, 600_000);
    until("the list shows it", async || stage.listed().await == 1).await;

    let viewer = Person { role: Role::Viewer, ..ada.clone() };
    let not_allowed = |given: Result<Receipt>| match given {
        Ok(receipt) => refused(receipt),
        Err(problem) => problem.code,
    };
    assert_eq!(not_allowed(stage.answer(&viewer, "v", ask.ask, chosen("red")).await), ErrorCode::NotAllowed);
    stage.give(&admin, "t", Command::SetTeamAccess { access: TeamAccess::View }).await.unwrap();
    assert_eq!(not_allowed(stage.answer(&ada, "a", ask.ask, chosen("red")).await), ErrorCode::NotAllowed);
    stage.give(&admin, "u", Command::SetTeamAccess { access: TeamAccess::None }).await.unwrap();
    let unknown: Problem = stage.answer(&ada, "b", ask.ask, chosen("red")).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::SessionUnknown);
    stage.give(&admin, "w", Command::SetTeamAccess { access: TeamAccess::Contribute }).await.unwrap();

    assert_eq!(
        refused(stage.answer(&ada, "c", ask.ask, chosen("green")).await.unwrap()),
        ErrorCode::InvalidRequest
    );
    let taken = stage.answer(&ada, "d", ask.ask, chosen("blue")).await.unwrap();
    assert_eq!(taken.problem, None);
    assert_eq!(
        stage.answer(&ada, "d", ask.ask, chosen("blue")).await.unwrap().seq,
        taken.seq,
        "the same key"
    );
    assert_eq!(
        refused(stage.answer(&admin, "e", ask.ask, chosen("red")).await.unwrap()),
        ErrorCode::AskClosed
    );
    assert_eq!(stage.ended().await, TurnOutcome::Completed);
    assert_eq!(stage.results().await, [(ToolOutcome::Succeeded, "ada answered.\n- Colour: blue".to_owned())]);
    until("the list shows it no more", async || stage.listed().await == 0).await;
}

#[tokio::test]
async fn an_open_question_outlives_the_server_and_the_answer_counts() {
    let stage = Stage::with(question(), AskSettings::default()).await;
    stage.give(&stage.world.admin.clone(), "p", prompt()).await.unwrap();
    let before = stage.asked().await;
    let Stage { world, session } = stage;
    let world = world.restart_asking(question()).await;
    let stage = Stage { world, session };
    let after = stage.asked().await;
    assert_eq!(after, before);
    let admin = stage.world.admin.clone();
    stage.answer(&admin, "a", after.ask, chosen("red")).await.unwrap();
    assert_eq!(stage.ended().await, TurnOutcome::Completed);
    assert_eq!(
        stage.results().await,
        [(ToolOutcome::Succeeded, "Admin answered.\n- Colour: red".to_owned())]
    );
}

#[tokio::test]
async fn nobody_answers_in_time_and_the_turn_goes_on_or_ends_as_the_installation_says() {
    let no_patience = AskSettings { patience: Duration::ZERO, ..AskSettings::default() };
    let stage = Stage::with(question(), no_patience.clone()).await;
    stage.give(&stage.world.admin.clone(), "p", prompt()).await.unwrap();
    assert_eq!(stage.ended().await, TurnOutcome::Completed);
    let (outcome, text) = stage.results().await.remove(0);
    assert!(outcome == ToolOutcome::Failed && text.contains("nobody answered"), "{text}");

    let ends = AskSettings { unattended: Unattended::EndTurn, ..no_patience };
    let stage = Stage::with(question(), ends).await;
    stage.give(&stage.world.admin.clone(), "p", prompt()).await.unwrap();
    let outcome = stage.ended().await;
    assert!(
        matches!(&outcome, TurnOutcome::Failed { problem } if problem.code == ErrorCode::Unattended),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_stop_ends_a_turn_that_waits() {
    let stage = Stage::with(question(), AskSettings::default()).await;
    let admin = stage.world.admin.clone();
    stage.give(&admin, "p", prompt()).await.unwrap();
    let ask = stage.asked().await;
    stage.give(&admin, "s", Command::Stop { hold_queue: false }).await.unwrap();
    assert_eq!(stage.ended().await, TurnOutcome::Stopped);
    assert_eq!(
        refused(stage.answer(&admin, "a", ask.ask, chosen("red")).await.unwrap()),
        ErrorCode::AskClosed
    );
}

#[tokio::test]
async fn always_lasts_for_the_session_over_a_restart_and_not_for_its_forks() {
    let rules = vec![Rule { permission: "bash".into(), pattern: "make *".into(), action: Action::Ask }];
    let asks = AskSettings { rules, ..AskSettings::default() };
    let stage = Stage::with(runs("make x"), asks).await;
    let admin = stage.world.admin.clone();
    stage.give(&admin, "p", prompt()).await.unwrap();
    let ask = stage.asked().await;
    let Asked::Permission { subjects, grants, .. } = &ask.of else { panic!("{ask:?}") };
    assert_eq!((subjects[0].as_str(), grants[0].pattern.as_str()), ("make x", "make x *"));
    stage.answer(&admin, "a", ask.ask, Answer::Always {}).await.unwrap();
    stage.ended().await;
    let Stage { world, session } = stage;
    let stage = Stage { world: world.restart_asking(runs("make x")).await, session };
    stage.give(&admin, "q", prompt()).await.unwrap();
    until("the second turn has ended", async || stage.results().await.len() == 2).await;
    let opened = stage.world.log(session).await;
    assert_eq!(opened.iter().filter(|entry| matches!(entry.event, Event::AskOpened { .. })).count(), 1);

    let body = greenroom_wire::ForkSession { turn: None, title: None, prompt: None };
    stage.ended().await;
    let fork = stage.world.app.fork_session(&admin, &"f".parse().unwrap(), session, body).await.unwrap();
    let state = stage.world.inner().sessions().get(fork.id).await.unwrap().state().await.unwrap();
    assert_eq!(state.grants, vec![]);
}

#[tokio::test]
async fn a_repository_makes_the_rules_stricter_and_a_file_that_cannot_be_used_makes_everything_ask() {
    let stage = Stage::with(runs("make x"), AskSettings::default()).await;
    let inner = stage.world.inner();
    let handle = inner.sessions().get(stage.session).await.unwrap();
    let state = handle.state().await.unwrap();
    assert_eq!(inner.repository_rules(&state).await.unwrap(), (vec![], None));

    let good = "[[permissions]]\npermission = \"bash\"\npattern = \"make *\"\naction = \"deny\"\n";
    commit(&stage.world, &state, good);
    let (rules, remark) = inner.repository_rules(&state).await.unwrap();
    assert_eq!((rules.len(), rules[0].action, remark), (1, Action::Deny, None));
    stage.give(&stage.world.admin.clone(), "p", prompt()).await.unwrap();
    assert_eq!(stage.ended().await, TurnOutcome::Completed);
    let (outcome, text) = stage.results().await.remove(0);
    assert!(outcome == ToolOutcome::Failed && text.contains("deny `make x`"), "{text}");

    for bad in ["[[permissions]]\npermission = \"bash\"\naction = \"perhaps\"\n", "allow = true\n", "\u{0}["]
    {
        commit(&stage.world, &state, bad);
        let (rules, remark) = inner.repository_rules(&state).await.unwrap();
        assert_eq!((rules[0].permission.as_str(), rules[0].action), ("*", Action::Ask), "{bad}");
        assert!(remark.unwrap().contains(RULES_FILE));
    }
}

/// The rules at the head of the default branch, as a merge puts them there.
fn commit(world: &World, state: &SessionState, rules: &str) {
    let repository = state.origin.as_ref().unwrap().repository;
    let bare = world.data.path().join("repositories").join(format!("{repository}.git"));
    let file = world.data.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    let blob = git(&bare, &["hash-object", "-w", file.to_str().unwrap()]);
    let index = ["update-index", "--add", "--cacheinfo"];
    git(&bare, &["read-tree", "main"]);
    git(&bare, &[index.as_slice(), &[&format!("100644,{},{RULES_FILE}", blob.trim())]].concat());
    let tree = git(&bare, &["write-tree"]);
    let commit = git(&bare, &["commit-tree", tree.trim(), "-p", "main", "-m", "rules"]);
    git(&bare, &["update-ref", "refs/heads/main", commit.trim()]);
}
