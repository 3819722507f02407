//! What a session's turns did and when, computed from its log: the one place that the command line, the page and exported
//! traces share. Times are of the log, in milliseconds, but for the stages of a start, which are measured in microseconds.

use crate::event::{OUTCOME_UNKNOWN, SandboxStart, StartStage, TimelineMark, ToolOutcome, TurnOutcome};
use crate::money::Usage;
use crate::{Entry, Event, RequestId, TurnId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// One turn. Its spans are in the order in which they began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TurnTrace {
    pub turn: TurnId,
    /// 1 is the first turn of the log; a fork counts those that it took over, and shows only its own.
    pub number: u64,
    /// The request that brought the prompt; `None`: from before requests were noted, or the turn went on after a restart.
    pub request: Option<RequestId>,
    /// The prompt's arrival, microseconds since 1970-01-01 UTC.
    pub began_at_us: i64,
    /// To the turn's end; `None`: it runs.
    pub duration_us: Option<u64>,
    pub outcome: Option<TurnOutcome>,
    /// What its sandbox was made from.
    pub sandbox: Option<SandboxStart>,
    /// Times that the server restarted in the middle.
    pub interruptions: u64,
    pub usage: Usage,
    pub spans: Vec<TraceSpan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceSpan {
    pub kind: SpanKind,
    /// A stage's name, a model's, a tool's.
    pub name: String,
    /// What a tool call was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Microseconds since the turn began.
    pub start_us: u64,
    /// `None`: it is not over.
    pub duration_us: Option<u64>,
    pub status: SpanStatus,
    /// Why it failed, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpan>,
}

/// More about a request to a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelSpan {
    pub attempt: u32,
    /// From the request to its first text; of requests after a turn's first to within 150 ms. `None`: none came, or only
    /// tool calls.
    pub first_token_us: Option<u64>,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Of the start, from the stage before it that it follows.
    Stage,
    Model,
    Tool,
    Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanStatus {
    Running,
    Ok,
    Failed,
    /// A person stopped it.
    Cancelled,
    /// The server restarted in the middle; of a tool call nobody knows how far it came.
    Interrupted,
}

/// Every turn of `entries` that this session worked on, oldest first. Entries are a session's log from its beginning, with or without coalesced text.
pub fn turns(entries: &[Entry]) -> Vec<TurnTrace> {
    let mut reader = Reader::default();
    entries.iter().for_each(|entry| reader.read(entry));
    reader.turns.into_iter().map(Building::finish).collect()
}

#[derive(Default)]
struct Reader {
    turns: Vec<Building>,
    by_id: HashMap<TurnId, usize>,
    count: u64,
    /// A fork's log begins with turns of another session, whose times it does not have. They end with this one.
    inherited_until: Option<TurnId>,
}

/// The span of a request that asks for a summary of the conversation.
const SUMMARY: &str = "summary";

/// A turn that is being read: `at_us` of its spans count from 1970 until it is finished.
struct Building {
    trace: TurnTrace,
    started_us: i64,
    marks: Vec<TimelineMark>,
    /// The last restart before the timeline: then its stages count from there.
    resumed_us: Option<i64>,
    spans: Vec<Open>,
    calls: HashMap<String, usize>,
    request: Option<usize>,
    ended_us: Option<i64>,
}

struct Open {
    span: TraceSpan,
    at_us: i64,
}

impl Reader {
    fn read(&mut self, entry: &Entry) {
        let at_us = entry.at_ms.saturating_mul(1000);
        match &entry.event {
            Event::SessionCreated { forked_from, imported_from, .. } => {
                self.inherited_until =
                    crate::state::inherited_until(forked_from.as_ref(), imported_from.as_ref());
                return;
            }
            Event::TurnStarted { turn, .. } => return self.started(*turn, at_us),
            _ => {}
        }
        let turn = match &entry.event {
            Event::SnapshotTaken { turn, .. } => *turn,
            event => event.turn(),
        };
        let found = turn.and_then(|turn| self.by_id.get(&turn)).and_then(|at| self.turns.get_mut(*at));
        if let Some(building) = found {
            building.read(&entry.event, at_us);
        }
    }

    fn started(&mut self, turn: TurnId, at_us: i64) {
        self.count += 1;
        if let Some(until) = self.inherited_until {
            if until == turn {
                self.inherited_until = None;
            }
            return;
        }
        self.by_id.insert(turn, self.turns.len());
        self.turns.push(Building::new(turn, self.count, at_us));
    }
}

impl Building {
    fn new(turn: TurnId, number: u64, started_us: i64) -> Self {
        let trace = TurnTrace {
            turn,
            number,
            request: None,
            began_at_us: started_us,
            duration_us: None,
            outcome: None,
            sandbox: None,
            interruptions: 0,
            usage: Usage::default(),
            spans: vec![],
        };
        Self {
            trace,
            started_us,
            marks: vec![],
            resumed_us: None,
            spans: vec![],
            calls: HashMap::new(),
            request: None,
            ended_us: None,
        }
    }

    fn read(&mut self, event: &Event, at_us: i64) {
        match event {
            Event::ModelRequested { model, attempt, .. } => self.requested(model, *attempt, at_us),
            Event::BlockOpened { .. } => self.first_text(at_us),
            Event::ModelRetry { problem, .. } | Event::ModelFallback { problem, .. } => {
                self.answered(at_us, SpanStatus::Failed, Some(&problem.message), Usage::default());
            }
            Event::AssistantMessage { usage, .. } => self.answered(at_us, SpanStatus::Ok, None, *usage),
            Event::CompactionStarted { .. } => self.requested(SUMMARY, 1, at_us),
            Event::ContextCompacted { usage, .. } => self.answered(at_us, SpanStatus::Ok, None, *usage),
            Event::ToolStarted { call, name, title, .. } => {
                self.calls.insert(call.clone(), self.spans.len());
                let title = Some(title.clone());
                self.open(SpanKind::Tool, name, at_us).title = title;
            }
            Event::ToolFinished { call, outcome, text, duration_ms, .. } => {
                self.tool_finished(call, *outcome, text, *duration_ms, at_us);
            }
            Event::SnapshotTaken { duration_ms, .. } => self.snapshot(*duration_ms, at_us),
            Event::StartTimeline { marks, sandbox, request, .. } if self.marks.is_empty() => {
                self.marks.clone_from(marks);
                self.trace.sandbox = *sandbox;
                self.trace.request = *request;
            }
            Event::TurnInterrupted { .. } => self.interrupted(at_us),
            Event::TurnFinished { outcome, usage, .. } => self.finished(outcome, *usage, at_us),
            _ => {}
        }
    }

    fn open(&mut self, kind: SpanKind, name: &str, at_us: i64) -> &mut TraceSpan {
        let span = TraceSpan {
            kind,
            name: name.to_owned(),
            title: None,
            start_us: 0,
            duration_us: None,
            status: SpanStatus::Running,
            problem: None,
            model: None,
        };
        self.spans.push(Open { span, at_us });
        &mut self.spans.last_mut().expect("just pushed").span
    }

    fn requested(&mut self, model: &str, attempt: u32, at_us: i64) {
        // One whose end is not in the log: its turn went on after a restart, or the answer was withdrawn.
        self.answered(at_us, SpanStatus::Interrupted, None, Usage::default());
        self.request = Some(self.spans.len());
        self.open(SpanKind::Model, model, at_us).model = Some(ModelSpan { attempt, ..ModelSpan::default() });
    }

    fn first_text(&mut self, at_us: i64) {
        let Some(open) = self.request.and_then(|at| self.spans.get_mut(at)) else { return };
        let since = micros(at_us - open.at_us);
        if let Some(model) = &mut open.span.model {
            model.first_token_us.get_or_insert(since);
        }
    }

    fn answered(&mut self, at_us: i64, status: SpanStatus, problem: Option<&str>, usage: Usage) {
        let Some(open) = self.request.take().and_then(|at| self.spans.get_mut(at)) else { return };
        open.end(at_us, status);
        open.span.problem = problem.map(str::to_owned);
        if let Some(model) = &mut open.span.model {
            model.usage = usage;
        }
    }

    fn tool_finished(&mut self, call: &str, outcome: ToolOutcome, text: &str, duration_ms: u64, at_us: i64) {
        let Some(open) = self.calls.remove(call).and_then(|at| self.spans.get_mut(at)) else { return };
        let status = match outcome {
            ToolOutcome::Succeeded => SpanStatus::Ok,
            ToolOutcome::Failed => SpanStatus::Failed,
            ToolOutcome::Cancelled => SpanStatus::Cancelled,
            ToolOutcome::Unknown => SpanStatus::Interrupted,
        };
        open.end(at_us, status);
        // Measured; what the log's times say beside it is the wait for the other calls' results.
        if outcome != ToolOutcome::Unknown {
            open.span.duration_us = Some(duration_ms.saturating_mul(1000));
        }
        open.span.problem = match outcome {
            ToolOutcome::Failed => text.lines().next().map(|line| line.chars().take(200).collect()),
            ToolOutcome::Unknown => Some(OUTCOME_UNKNOWN.to_owned()),
            _ => None,
        };
    }

    fn snapshot(&mut self, duration_ms: u64, at_us: i64) {
        let duration_us = duration_ms.saturating_mul(1000);
        let began = at_us.saturating_sub_unsigned(duration_us);
        let span = self.open(SpanKind::Snapshot, "snapshot", began);
        (span.duration_us, span.status) = (Some(duration_us), SpanStatus::Ok);
    }

    fn interrupted(&mut self, at_us: i64) {
        self.trace.interruptions += 1;
        if self.marks.is_empty() {
            self.resumed_us = Some(at_us);
        }
        self.answered(at_us, SpanStatus::Interrupted, None, Usage::default());
    }

    fn finished(&mut self, outcome: &TurnOutcome, usage: Usage, at_us: i64) {
        let (status, problem) = match outcome {
            TurnOutcome::Completed => (SpanStatus::Ok, None),
            TurnOutcome::Stopped => (SpanStatus::Cancelled, None),
            TurnOutcome::Failed { problem } | TurnOutcome::BudgetReached { problem } => {
                (SpanStatus::Failed, Some(problem.message.as_str()))
            }
        };
        self.answered(at_us, status, problem, Usage::default());
        let open_calls: Vec<usize> = self.calls.drain().map(|(_, at)| at).collect();
        for at in open_calls {
            self.spans[at].end(at_us, SpanStatus::Interrupted);
        }
        self.trace.outcome = Some(outcome.clone());
        self.trace.usage = usage;
        self.ended_us = Some(at_us);
    }

    /// The turn began with its prompt's arrival, which lies before the commit by what the timeline says.
    fn finish(mut self) -> TurnTrace {
        let mark = |wanted| self.marks.iter().find(|mark| mark.stage == wanted).map(|mark| mark.at_us);
        let (committed, called) = (mark(StartStage::Committed), mark(StartStage::ModelCalled));
        let first_token = mark(StartStage::FirstToken);
        let began_us = match self.resumed_us {
            Some(_) => self.started_us,
            None => self.started_us.saturating_sub_unsigned(committed.unwrap_or(0)),
        };
        if self.resumed_us.is_none() {
            self.refine_first_request(called, first_token, began_us);
        }
        let stages_from = self.resumed_us.map_or(0, |resumed_us| micros(resumed_us - began_us));
        let from_turn = |open: Open| TraceSpan { start_us: micros(open.at_us - began_us), ..open.span };
        let mut spans: Vec<TraceSpan> = self.spans.into_iter().map(from_turn).collect();
        spans.extend(stages(&self.marks, stages_from));
        spans.sort_by_key(|span| (span.start_us, span.kind));
        let duration_us = self.ended_us.map(|ended_us| micros(ended_us - began_us));
        TurnTrace { began_at_us: began_us, duration_us, spans, ..self.trace }
    }

    /// The timeline knows to the microsecond when the first request left and was answered.
    fn refine_first_request(&mut self, called: Option<u64>, first_token: Option<u64>, began_us: i64) {
        let first = self.spans.iter_mut().find(|open| open.span.kind == SpanKind::Model);
        let (Some(open), Some(called)) = (first, called) else { return };
        let called_at = began_us.saturating_add_unsigned(called);
        if let Some(duration) = &mut open.span.duration_us {
            let end = open.at_us.saturating_add_unsigned(*duration);
            *duration = micros(end - called_at);
        }
        open.at_us = called_at;
        let is_answered = open.span.status != SpanStatus::Failed;
        if let (Some(model), Some(first_token), true) = (&mut open.span.model, first_token, is_answered) {
            model.first_token_us = Some(first_token.saturating_sub(called));
        }
    }
}

impl Open {
    fn end(&mut self, at_us: i64, status: SpanStatus) {
        self.span.duration_us = Some(micros(at_us - self.at_us));
        self.span.status = status;
    }
}

fn micros(since: i64) -> u64 {
    u64::try_from(since).unwrap_or(0)
}

/// Each stage as the time since the one that it follows: the sandbox's stages follow one another, and the model's do.
fn stages(marks: &[TimelineMark], from_us: u64) -> Vec<TraceSpan> {
    use StartStage::{Claimed, Committed, FirstToken, ModelCalled, Queued, Restored, Synced};
    let at = |stage| marks.iter().find(|mark| mark.stage == stage).map(|mark| mark.at_us);
    let before = |stage| match stage {
        Queued => None,
        Committed => at(Queued),
        ModelCalled | Claimed => at(Committed),
        FirstToken => at(ModelCalled),
        Restored => at(Claimed),
        Synced => at(Restored).or_else(|| at(Claimed)),
    };
    let span = |mark: &TimelineMark| {
        // What was ready before its predecessor began has no length.
        let start_us = before(mark.stage).unwrap_or(0).min(mark.at_us);
        TraceSpan {
            kind: SpanKind::Stage,
            name: mark.stage.as_str().to_owned(),
            title: None,
            start_us: from_us + start_us,
            duration_us: Some(mark.at_us - start_us),
            status: SpanStatus::Ok,
            problem: None,
            model: None,
        }
    };
    marks.iter().map(span).collect()
}

#[cfg(test)]
mod tests;
