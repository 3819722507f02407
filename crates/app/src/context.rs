//! What the model sees of a session, for people. Computed from the log each time, by the code that makes requests.

use crate::attachments::files_of;
use crate::{App, Result};
use greenroom_agent::context::{self, PartKind, Window};
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
        let provider = self.inner.provider(state.origin.and_then(|origin| origin.model)).await.ok();
        let entries = handle.conversation().await?;
        let mut material = Material::new(provider.as_ref().is_none_or(|provider| provider.sees_images()));
        self.inner.load(id, &files_of(&entries), &mut material).await;
        let shown = context::describe(&Transcript::of(entries.iter(), &material), &instructions);
        let window = provider.as_ref().map(|provider| Window::new(provider.context_window()));
        let cost = |cached: u64| {
            let usage = Usage {
                input_tokens: shown.tokens - cached,
                cache_read_tokens: cached,
                ..Usage::default()
            };
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
