//! `session context`

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{BOLD, clean, dollars, grouped, one_line, paint};
use greenroom_domain::SessionId;
use greenroom_wire::{ContextPart, ContextPartKind, ContextView};
use std::fmt::Write as _;

pub(super) async fn perform(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let context = desk.client.session_context(session).await?;
    desk.out.document(&context, text)?;
    Ok(Exit::Done)
}

fn text(context: &ContextView) -> String {
    let model = context
        .model
        .as_deref()
        .map_or_else(|| "No model is configured.".to_owned(), |model| one_line(model, 80));
    let mut text = format!("{}\n\n", paint(BOLD, model));
    let row =
        |part: &ContextPart| vec![name(part.part).to_owned(), grouped(part.items), grouped(part.tokens)];
    let head = ["PART", "COUNT", "TOKENS, ABOUT"];
    text.push_str(&Table::new(&head, "").right(&[1, 2]).rows(&context.parts, row).text());
    let counted = match context.counted_tokens {
        0 => "estimated".to_owned(),
        counted => format!("{} counted by the provider, the rest estimated", grouped(counted)),
    };
    let _ = writeln!(text, "\nNext request: {} tokens ({counted}).", grouped(context.tokens));
    if let (Some(window), Some(reserve)) = (context.window_tokens, context.reserve_tokens) {
        let (percent, limit) = (context.tokens * 100 / window.max(1), window.saturating_sub(reserve));
        let _ = writeln!(
            text,
            "Window: {} tokens, {percent} % used; room is made at {}.",
            grouped(window),
            grouped(limit)
        );
    }
    match context.next_request {
        Some(cost) => {
            let (cached, uncached) = (dollars(cost.cached_microusd), dollars(cost.uncached_microusd));
            let _ =
                writeln!(text, "Sending it costs {cached} from the provider's cache, {uncached} without.");
        }
        None => text.push_str("What sending it costs is not known for this model.\n"),
    }
    if context.pruned_outputs > 0 {
        let count = grouped(context.pruned_outputs);
        let _ = writeln!(text, "{count} outputs of tools are notes now; the log keeps them.");
    }
    for done in &context.compactions {
        let (before, after) = (grouped(done.tokens_before), grouped(done.tokens_after));
        let _ = writeln!(text, "Summarised in {}: {before} tokens before, {after} after.", done.turn);
    }
    if let Some(summary) = &context.summary {
        let _ = writeln!(text, "\n{}\n{}", paint(BOLD, "Summary"), clean(summary));
    }
    text
}

fn name(part: ContextPartKind) -> &'static str {
    match part {
        ContextPartKind::Tools => "tools",
        ContextPartKind::System => "system prompt",
        ContextPartKind::Instructions => "AGENTS.md",
        ContextPartKind::Skills => "skills",
        ContextPartKind::Environment => "services and ports",
        ContextPartKind::Summary => "summary",
        ContextPartKind::Prompts => "prompts",
        ContextPartKind::Answers => "answers",
        ContextPartKind::ToolOutputs => "outputs of tools",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::TurnId;
    use greenroom_domain::event::CompactionReason;
    use greenroom_wire::{ContextCompaction, ContextCost};

    #[test]
    fn parts_window_cost_and_what_was_left_out_are_told() {
        let part = |part, tokens, items| ContextPart { part, tokens, items };
        let context = ContextView {
            model: Some("anthropic/claude".to_owned()),
            window_tokens: Some(200_000),
            reserve_tokens: Some(16_000),
            tokens: 50_000,
            counted_tokens: 48_000,
            parts: vec![
                part(ContextPartKind::Tools, 4_000, 9),
                part(ContextPartKind::ToolOutputs, 46_000, 30),
            ],
            next_request: Some(ContextCost { cached_microusd: 1_500, uncached_microusd: 250_000 }),
            pruned_outputs: 12,
            summary: Some("## Goal\nGreen tests.".to_owned()),
            compactions: vec![ContextCompaction {
                turn: TurnId::from_parts(1, 1),
                at_ms: 0,
                reason: CompactionReason::WindowFull,
                tokens_before: 184_500,
                tokens_after: 30_000,
            }],
        };
        let text = anstream::adapter::strip_str(&text(&context)).to_string();
        for words in [
            "outputs of tools     30         46,000",
            "50,000 tokens (48,000 counted by the provider, the rest estimated)",
            "200,000 tokens, 25 % used; room is made at 184,000",
            "$0.0015 from the provider's cache, $0.25 without",
            "12 outputs of tools are notes now",
            "184,500 tokens before, 30,000 after",
            "Green tests.",
        ] {
            assert!(text.contains(words), "{words} in\n{text}");
        }
    }
}
