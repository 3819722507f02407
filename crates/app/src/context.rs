//! What the model sees of a session, for people. Computed from the log each time, by the code that makes requests.

use crate::attachments::files_of;
use crate::{App, Result};
use greenroom_agent::context::{self, PartKind, Window};
use greenroom_agent::tools::Editing;
use greenroom_agent::{Material, Transcript};
use greenroom_domain::money::Usage;
use greenroom_domain::{Entry, Event, Person, Right, SessionId};
use greenroom_wire::{ContextCompaction, ContextCost, ContextPart, ContextPartKind, ContextView};

/// Of one answer: the last ones.
const COMPACTIONS: usize = 20;

impl App {
    pub async fn session_context(&self, caller: &Person, id: SessionId) -> Result<ContextView> {
        let handle = self.open(caller, Right::View, id).await?;
        let state = handle.state().await?;
        let instructions = self.inner.instructions(id, &state).await?;
        let provider = self.inner.provider(state.choice.model).await.ok();
        let entries = handle.conversation().await?;
        let mut material = Material::new(provider.as_ref().is_none_or(|provider| provider.sees_images()));
        self.inner.load(id, &files_of(&entries), &mut material).await;
        let editing = provider.as_deref().map_or(Editing::Replace, Editing::of);
        let shown = context::describe(&Transcript::of(entries.iter(), &material), &instructions, editing);
        let window = provider.as_ref().map(|provider| Window::new(provider.context_window()));
        let cost = |cached: u64| {
            let usage =
                Usage { input_tokens: shown.tokens - cached, cache_read_tokens: cached, ..Usage::default() };
            provider.as_ref()?.price_microusd(&usage)
        };
        let next_request = cost(shown.counted)
            .zip(cost(0))
            .map(|(cached_microusd, uncached_microusd)| ContextCost { cached_microusd, uncached_microusd });
        let mut compactions: Vec<ContextCompaction> = entries.iter().filter_map(compaction).collect();
        let summary = entries.iter().rev().find_map(|entry| match &entry.event {
            Event::ContextCompacted { summary, .. } => Some(summary.clone()),
            _ => None,
        });
        Ok(ContextView {
            model: provider.as_ref().map(|provider| provider.model().to_owned()),
            window_tokens: window.map(|window| window.tokens),
            reserve_tokens: window.map(Window::reserve),
            tokens: shown.tokens,
            counted_tokens: shown.counted,
            parts: shown.parts.into_iter().map(part).collect(),
            next_request,
            pruned_outputs: shown.pruned_outputs,
            summary,
            compactions: compactions.split_off(compactions.len().saturating_sub(COMPACTIONS)),
        })
    }
}

fn compaction(entry: &Entry) -> Option<ContextCompaction> {
    match entry.event {
        Event::ContextCompacted { turn, reason, tokens_before, tokens_after, .. } => {
            Some(ContextCompaction { turn, at_ms: entry.at_ms, reason, tokens_before, tokens_after })
        }
        _ => None,
    }
}

fn part(part: context::Part) -> ContextPart {
    let kind = match part.kind {
        PartKind::Tools => ContextPartKind::Tools,
        PartKind::System => ContextPartKind::System,
        PartKind::Instructions => ContextPartKind::Instructions,
        PartKind::Skills => ContextPartKind::Skills,
        PartKind::Environment => ContextPartKind::Environment,
        PartKind::Summary => ContextPartKind::Summary,
        PartKind::Prompts => ContextPartKind::Prompts,
        PartKind::Answers => ContextPartKind::Answers,
        PartKind::ToolOutputs => ContextPartKind::ToolOutputs,
    };
    ContextPart { part: kind, tokens: part.tokens, items: part.items }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bounds, World, until};
    use greenroom_domain::event::{CompactionReason, TurnOutcome};
    use greenroom_domain::{Command, Durability, ErrorCode, SessionId, TurnId};
    use greenroom_model::testing::{Recorded, Tokens, Turn, WireServer, WireServerOptions};
    use greenroom_session::{Append, FileSessions, SessionDirectory};
    use greenroom_wire::{AddModel, ModelProvider, Receipt, SubmitCommand};

    fn is_for_a_summary(request: &Recorded) -> bool {
        String::from_utf8_lossy(&request.body).contains("Stop working for a moment")
    }

    async fn with_model(
        answer: impl Fn(&Recorded) -> Turn + Send + Sync + 'static,
    ) -> (World, WireServer, SessionId) {
        let world = World::start(Bounds::without_pool()).await;
        let server = WireServer::start(WireServerOptions::default()).await.unwrap();
        server.respond_with(answer);
        let body = AddModel {
            name: "main".into(),
            provider: ModelProvider::Anthropic,
            model: "claude-opus-5-5".into(),
            base_url: Some(server.url()),
            key: Some("key".into()),
            effort: None,
            is_text_only: false,
            is_default: true,
        };
        world.app.add_model(&world.admin, body).await.unwrap();
        let row = world.add_repository("sample").await;
        let session = world.session(&world.admin, &row).await;
        (world, server, session)
    }

    fn answer(request: &Recorded) -> Turn {
        let tokens = Tokens { input: 5_000, output: 20, cache_read: 1_000, cache_write: 0 };
        let said = if is_for_a_summary(request) { "## Goal\nGreen tests." } else { "Done." };
        Turn { tokens, ..Turn::text(said) }
    }

    async fn submit(world: &World, session: SessionId, key: &str, command: Command) -> Receipt {
        let body = SubmitCommand { key: key.parse().unwrap(), command };
        world.app.submit_command(&world.admin, session, body).await.unwrap()
    }

    fn prompt(text: &str) -> Command {
        Command::Prompt { text: text.into(), delivery: Default::default(), attachments: vec![] }
    }

    /// As an earlier process left it.
    async fn append_in_the_file(world: &World, session: SessionId, events: Vec<Event>) {
        let files = FileSessions::open(world.data.path().join("sessions")).unwrap();
        let owned = files.acquire(session).await.unwrap();
        let expected_head = owned.log.read(0, 1000).await.unwrap().last().unwrap().seq;
        let (epoch, at_ms, durability) = (owned.epoch, world.inner().now_ms(), Durability::Synced);
        owned
            .log
            .append(Append { epoch, expected_head, at_ms, events, durability, receipt: None })
            .await
            .unwrap();
        files.close().await;
    }

    async fn ended(world: &World, session: SessionId, turns: usize) -> Vec<Event> {
        let end = |event: &Event| matches!(event, Event::TurnFinished { .. });
        let log = async || -> Vec<Event> {
            world.log(session).await.into_iter().map(|entry| entry.event).collect()
        };
        until("the turn ends", async || log().await.iter().filter(|event| end(event)).count() >= turns).await;
        log().await
    }

    #[tokio::test]
    async fn a_person_has_the_conversation_summarised_and_sees_what_the_model_sees() {
        let (world, server, session) = with_model(answer).await;
        let refused = submit(&world, session, "early", Command::Compact {}).await.problem.unwrap();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
        submit(&world, session, "one", prompt("Make the tests pass.")).await;
        ended(&world, session, 1).await;

        let before = world.app.session_context(&world.admin, session).await.unwrap();
        assert_eq!((before.tokens, before.counted_tokens), (6_020, 6_020));
        let cost = before.next_request.expect("the catalog knows the price");
        assert!(cost.cached_microusd > 0 && cost.cached_microusd * 5 < cost.uncached_microusd, "{cost:?}");
        assert!(before.window_tokens > before.reserve_tokens && before.summary.is_none());

        assert_eq!(submit(&world, session, "two", Command::Compact {}).await.problem, None);
        let log = ended(&world, session, 2).await;
        let compacted = |event: &&Event| matches!(event, Event::ContextCompacted { reason: CompactionReason::Asked, summary, .. } if summary.contains("Green tests"));
        assert_eq!(log.iter().filter(compacted).count(), 1);
        let Some(Event::TurnFinished { outcome, usage, .. }) =
            log.iter().rev().find(|event| matches!(event, Event::TurnFinished { .. }))
        else {
            panic!("no end")
        };
        assert_eq!((outcome, usage.requests, usage.input_tokens), (&TurnOutcome::Completed, 1, 5_000));
        let handle = world.inner().sessions().get(session).await.unwrap();
        assert_eq!(handle.state().await.unwrap().usage.requests, 2, "its cost counts for the session");
        let spent = async || world.inner().directory.cost_since(world.admin.id, 0).await.unwrap();
        let all = handle.state().await.unwrap().usage.cost_microusd;
        until("the cost is the person's", async || spent().await == all).await;
        assert_eq!(world.sandboxes.count().await, 1, "the first prompt's alone");

        let after = world.app.session_context(&world.admin, session).await.unwrap();
        assert_eq!(after.compactions.len(), 1);
        assert!(after.summary.unwrap().contains("Green tests"));
        assert!(after.parts.iter().any(|part| part.part == ContextPartKind::Summary));

        submit(&world, session, "three", prompt("And now?")).await;
        ended(&world, session, 3).await;
        let last = server.requests().pop().unwrap();
        let text = last.json()["messages"].to_string();
        assert!(text.contains("Green tests") && text.contains("Make the tests pass."), "{text}");
        assert!(text.contains("And now?"));
    }

    #[tokio::test]
    async fn a_summary_that_the_server_did_not_live_to_see_is_made_once() {
        let (world, _server, session) = with_model(answer).await;
        submit(&world, session, "one", prompt("Make the tests pass.")).await;
        ended(&world, session, 1).await;
        world.app.shutdown().await;
        let turn = TurnId::from_parts(9, 9);
        let begun = vec![
            Event::TurnStarted { turn, prompts: vec![] },
            Event::CompactionRequested { turn, author: world.admin.as_author() },
            Event::CompactionStarted { turn, reason: CompactionReason::Asked, tokens: 6_020 },
        ];
        append_in_the_file(&world, session, begun).await;
        let world = world.crash().await;
        let log = ended(&world, session, 2).await;
        let done = log.iter().filter(|event| matches!(event, Event::ContextCompacted { .. })).count();
        assert_eq!(done, 1);
        let completed = |event: &&Event| matches!(event, Event::TurnFinished { turn: of, outcome: TurnOutcome::Completed, .. } if *of == turn);
        assert_eq!(log.iter().filter(completed).count(), 1);

        // And when it did live to see it, but not the turn's end.
        world.app.shutdown().await;
        let turn = TurnId::from_parts(9, 10);
        let begun = vec![
            Event::TurnStarted { turn, prompts: vec![] },
            Event::CompactionRequested { turn, author: world.admin.as_author() },
            log.iter()
                .find(|event| matches!(event, Event::ContextCompacted { .. }))
                .cloned()
                .map(|mut event| {
                    if let Event::ContextCompacted { turn: of, .. } = &mut event {
                        *of = turn;
                    }
                    event
                })
                .unwrap(),
        ];
        append_in_the_file(&world, session, begun).await;
        let world = world.crash().await;
        let log = ended(&world, session, 3).await;
        assert_eq!(log.iter().filter(|event| matches!(event, Event::CompactionStarted { .. })).count(), 2);
        assert!(matches!(
            log.iter().rev().find(|event| matches!(event, Event::TurnFinished { .. })),
            Some(Event::TurnFinished { outcome: TurnOutcome::Completed, .. })
        ));
    }
}
