//! What a session's turns did and when, as aligned lines with a bar each.

use super::text::{BAD, BOLD, DIM, GOOD, NOTE, PLAIN, WARN, dollars, grouped, one_line, paint};
use anstyle::Style;
use greenroom_domain::event::{SandboxStart, TurnOutcome};
use greenroom_domain::trace::{SpanKind, SpanStatus, TraceSpan, TurnTrace};
use std::fmt::Write as _;

/// Characters of a bar.
const BAR: u64 = 32;
const NAME_CHARS: usize = 28;

pub(crate) fn text(turns: &[TurnTrace]) -> String {
    if turns.is_empty() {
        return "No turn yet.\n".to_owned();
    }
    turns.iter().map(turn).collect::<Vec<_>>().join("\n")
}

fn turn(trace: &TurnTrace) -> String {
    let mut text = format!("{}  {}\n", paint(BOLD, format!("Turn {}", trace.number)), headline(trace));
    let ended = trace.spans.iter().map(|span| span.start_us + span.duration_us.unwrap_or(0)).max();
    let whole = trace.duration_us.or(ended).unwrap_or(0).max(ended.unwrap_or(0)).max(1);
    for span in &trace.spans {
        let (style, mark) = look(span);
        let name = one_line(&name_of(span), NAME_CHARS);
        let gap = " ".repeat(NAME_CHARS.saturating_sub(name.chars().count()));
        let length = span.duration_us.map_or_else(|| "runs".to_owned(), time);
        let line =
            format!("  {:>9}  {name}{gap}  {}  {length:>9}", time(span.start_us), bar(span, whole, mark));
        let detail = detail(span);
        let _ = writeln!(
            text,
            "{}{}",
            paint(style, line),
            if detail.is_empty() { detail } else { format!("  {detail}") }
        );
    }
    text
}

fn headline(trace: &TurnTrace) -> String {
    let outcome = match &trace.outcome {
        None => paint(NOTE, "runs"),
        Some(TurnOutcome::Completed) => paint(GOOD, "completed"),
        Some(TurnOutcome::Stopped) => paint(WARN, "stopped"),
        Some(TurnOutcome::Failed { problem }) => {
            paint(BAD, format!("failed: {}", one_line(&problem.message, 80)))
        }
        Some(TurnOutcome::BudgetReached { .. }) => paint(WARN, "its budget was reached"),
    };
    let mut parts = vec![outcome];
    parts.extend(trace.duration_us.map(time));
    parts.extend(trace.sandbox.map(|made_from| match made_from {
        SandboxStart::Running => "sandbox was running".to_owned(),
        SandboxStart::Warm => "warm sandbox".to_owned(),
        SandboxStart::Blank => "blank sandbox".to_owned(),
        SandboxStart::Cold => "cold sandbox".to_owned(),
    }));
    if trace.usage.total_tokens() > 0 {
        parts.push(format!("{} tokens", grouped(trace.usage.total_tokens())));
    }
    if trace.usage.cost_microusd > 0 {
        parts.push(dollars(trace.usage.cost_microusd));
    }
    match trace.interruptions {
        0 => {}
        1 => parts.push("the server restarted once".to_owned()),
        times => parts.push(format!("the server restarted {times} times")),
    }
    parts.extend(trace.request.map(|id| paint(DIM, id)));
    parts.join(" · ")
}

fn name_of(span: &TraceSpan) -> String {
    match (span.kind, &span.model) {
        (SpanKind::Stage, _) => span.name.replace('_', " "),
        (SpanKind::Model, Some(model)) if model.attempt > 1 => {
            format!("{}, attempt {}", span.name, model.attempt)
        }
        _ => span.name.clone(),
    }
}

fn look(span: &TraceSpan) -> (Style, char) {
    let style = match (span.status, span.kind) {
        (SpanStatus::Failed, _) => BAD,
        (SpanStatus::Cancelled | SpanStatus::Interrupted, _) => WARN,
        (_, SpanKind::Stage | SpanKind::Snapshot) => DIM,
        (_, SpanKind::Model) => NOTE,
        (_, SpanKind::Tool) => PLAIN,
    };
    (style, if span.kind == SpanKind::Stage { '-' } else { '#' })
}

/// Where in the turn the span lies; at least one mark wide.
fn bar(span: &TraceSpan, whole: u64, mark: char) -> String {
    let at = |us: u64| u128::from(us) * u128::from(BAR) / u128::from(whole);
    let begin = at(span.start_us).min(u128::from(BAR) - 1);
    let end = span.duration_us.map_or(u128::from(BAR), |us| at(span.start_us.saturating_add(us)));
    let end = end.clamp(begin + 1, u128::from(BAR));
    (0..u128::from(BAR)).map(|column| if (begin..end).contains(&column) { mark } else { '.' }).collect()
}

fn detail(span: &TraceSpan) -> String {
    let mut parts = vec![];
    if let Some(model) = &span.model {
        parts.extend(model.first_token_us.map(|us| format!("first text after {}", time(us))));
        if model.usage.total_tokens() > 0 {
            let (read, written) =
                (model.usage.total_tokens() - model.usage.output_tokens, model.usage.output_tokens);
            parts.push(format!("{} tokens in, {} out", grouped(read), grouped(written)));
        }
    }
    parts.extend(span.title.as_ref().map(|title| one_line(title, 60)));
    let is_own_word = span.status == SpanStatus::Interrupted;
    parts.extend(is_own_word.then(|| "interrupted".to_owned()));
    if let (Some(problem), SpanStatus::Failed) = (&span.problem, span.status) {
        parts.push(one_line(problem, 80));
    }
    parts.join(", ")
}

/// Three figures are enough.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", us / 1000),
        _ => super::text::duration(us / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::TurnId;
    use greenroom_domain::money::Usage;
    use greenroom_domain::trace::ModelSpan;

    fn span(
        kind: SpanKind,
        name: &str,
        start_us: u64,
        duration_us: Option<u64>,
        status: SpanStatus,
    ) -> TraceSpan {
        TraceSpan {
            kind,
            name: name.into(),
            title: None,
            start_us,
            duration_us,
            status,
            problem: None,
            model: None,
        }
    }

    #[test]
    fn a_turn_is_a_waterfall() {
        let usage =
            Usage { input_tokens: 1200, output_tokens: 80, cost_microusd: 12_000, ..Usage::default() };
        let model = ModelSpan { attempt: 2, first_token_us: Some(300_000), usage };
        let trace = TurnTrace {
            turn: TurnId::from_parts(1, 1),
            number: 1,
            request: None,
            began_at_us: 0,
            duration_us: Some(2_000_000),
            outcome: Some(TurnOutcome::Completed),
            sandbox: Some(SandboxStart::Warm),
            interruptions: 0,
            usage,
            spans: vec![
                span(SpanKind::Stage, "model_called", 0, Some(1_500), SpanStatus::Ok),
                TraceSpan {
                    model: Some(model),
                    ..span(SpanKind::Model, "m", 1_500, Some(1_000_000), SpanStatus::Ok)
                },
                TraceSpan {
                    title: Some("Run `false`".into()),
                    problem: Some("exit 1".into()),
                    ..span(SpanKind::Tool, "bash", 1_001_500, Some(500_000), SpanStatus::Failed)
                },
                span(SpanKind::Tool, "read", 1_600_000, None, SpanStatus::Running),
            ],
        };
        let plain = anstream::adapter::strip_str(&text(&[trace])).to_string();
        insta::assert_snapshot!(plain, @r"
        Turn 1  completed · 2.0 s · warm sandbox · 1,280 tokens · $0.01
               0 us  model called                  -...............................     1.5 ms
             1.5 ms  m, attempt 2                  ################................      1.0 s  first text after 300 ms, 1,200 tokens in, 80 out
              1.0 s  bash                          ................########........     500 ms  Run `false`, exit 1
              1.6 s  read                          .........................#######       runs
        ");
    }
}
