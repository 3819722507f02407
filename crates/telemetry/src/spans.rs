//! A turn's trace as OpenTelemetry spans. Ids follow from the turn's own id, so that a turn that is sent twice is one trace.

use crate::traces::Traced;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::trace::{SpanKind, SpanStatus, TraceSpan};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The turn's own span first, then one for each of its parts.
pub(crate) fn of_turn(traced: &Traced) -> Vec<SpanData> {
    let Traced { trace, session, repository } = traced;
    let turn = trace.turn.to_string();
    let began = UNIX_EPOCH + Duration::from_micros(u64::try_from(trace.began_at_us).unwrap_or(0));
    let end = |start_us: u64, duration_us: Option<u64>| {
        began + Duration::from_micros(start_us.saturating_add(duration_us.unwrap_or(0)))
    };
    let mut attributes = vec![
        KeyValue::new("greenroom.session", session.to_string()),
        KeyValue::new("greenroom.turn", turn.clone()),
        KeyValue::new("greenroom.repository", repository.clone()),
        KeyValue::new("greenroom.turn.number", number(trace.number)),
        KeyValue::new("greenroom.turn.interruptions", number(trace.interruptions)),
        KeyValue::new("gen_ai.usage.input_tokens", number(trace.usage.input_tokens)),
        KeyValue::new("gen_ai.usage.output_tokens", number(trace.usage.output_tokens)),
        KeyValue::new("greenroom.cost_usd", trace.usage.cost_microusd as f64 / 1e6),
    ];
    attributes.extend(trace.request.map(|id| KeyValue::new("greenroom.request", id.to_string())));
    let root_status = match &trace.outcome {
        Some(TurnOutcome::Failed { problem } | TurnOutcome::BudgetReached { problem }) => {
            attributes.push(KeyValue::new("error.type", problem.code.as_str()));
            Status::error(problem.message.clone())
        }
        _ => Status::Ok,
    };
    let root = span_id(&turn, 0);
    let part = |(at, span): (usize, &TraceSpan)| {
        let start = end(span.start_us, None);
        let end = end(span.start_us, span.duration_us);
        let id = span_id(&turn, at as u64 + 1);
        data(&turn, id, root, name_of(span), start..end, attributes_of(span), status_of(span))
    };
    let whole = began..end(0, trace.duration_us);
    let first = data(&turn, root, SpanId::INVALID, "turn".to_owned(), whole, attributes, root_status);
    std::iter::once(first).chain(trace.spans.iter().enumerate().map(part)).collect()
}

fn name_of(span: &TraceSpan) -> String {
    match span.kind {
        SpanKind::Stage => span.name.clone(),
        SpanKind::Model => format!("chat {}", span.name),
        SpanKind::Tool => format!("execute_tool {}", span.name),
        SpanKind::Snapshot => "snapshot".to_owned(),
    }
}

/// By the semantic conventions for generative AI, where they have a name for it.
fn attributes_of(span: &TraceSpan) -> Vec<KeyValue> {
    let mut attributes = match span.kind {
        SpanKind::Stage | SpanKind::Snapshot => vec![],
        SpanKind::Model => vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.request.model", span.name.clone()),
        ],
        SpanKind::Tool => vec![
            KeyValue::new("gen_ai.operation.name", "execute_tool"),
            KeyValue::new("gen_ai.tool.name", span.name.clone()),
        ],
    };
    if let Some(model) = &span.model {
        attributes.extend([
            KeyValue::new("greenroom.attempt", i64::from(model.attempt)),
            KeyValue::new("gen_ai.usage.input_tokens", number(model.usage.input_tokens)),
            KeyValue::new("gen_ai.usage.output_tokens", number(model.usage.output_tokens)),
        ]);
        let first = model.first_token_us.map(|us| us as f64 / 1e6);
        attributes.extend(first.map(|s| KeyValue::new("gen_ai.response.time_to_first_chunk", s)));
    }
    attributes
}

/// What a tool answered may hold anything: only that it failed is told, not the words.
fn status_of(span: &TraceSpan) -> Status {
    match (span.status, span.kind) {
        (SpanStatus::Failed, SpanKind::Model) => Status::error(span.problem.clone().unwrap_or_default()),
        (SpanStatus::Failed, _) => Status::error("failed"),
        (SpanStatus::Interrupted, _) => Status::error("interrupted"),
        (SpanStatus::Cancelled, _) => Status::error("cancelled"),
        (SpanStatus::Ok | SpanStatus::Running, _) => Status::Ok,
    }
}

fn data(
    turn: &str,
    id: SpanId,
    parent: SpanId,
    name: String,
    time: std::ops::Range<SystemTime>,
    attributes: Vec<KeyValue>,
    status: Status,
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(trace_id(turn), id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: OtelKind::Internal,
        name: name.into(),
        start_time: time.start,
        end_time: time.end,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("greenroom").build(),
    }
}

fn trace_id(turn: &str) -> TraceId {
    TraceId::from((u128::from(hash(turn, "high")) << 64 | u128::from(hash(turn, "low"))).max(1))
}

fn span_id(turn: &str, at: u64) -> SpanId {
    SpanId::from(hash(turn, at).max(1))
}

/// The same in every process: the hasher has fixed keys.
fn hash(turn: &str, what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    turn.hash(&mut hasher);
    what.hash(&mut hasher);
    hasher.finish()
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
