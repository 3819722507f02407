//! What leaves an installation about itself: metrics for Prometheus, traces by OpenTelemetry, and the id of the request
//! that something is done for.
//!
//! Owned by the server, handed to `app` and `api`, which measure at their seams; the crates below know nothing of it.
//! Never holds what people wrote: labels are names of routes, tools, models, repositories and codes, each bounded.

mod gauges;
mod metrics;
pub mod request;
mod spans;
mod traces;

pub use gauges::{Gauges, PoolGauge};
pub use traces::{TraceSettings, Traced};

use greenroom_domain::event::ToolOutcome;
use greenroom_domain::{ErrorCode, Event};
use metrics::Metrics;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use traces::Traces;

/// Cheap to clone. One per server.
#[derive(Clone, Debug)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    traces: Option<Traces>,
}

impl Default for Telemetry {
    /// Counts, and exports nothing.
    fn default() -> Self {
        Self { inner: Arc::new(Inner { metrics: Metrics::new(), traces: None }) }
    }
}

impl Telemetry {
    /// Sends the traces of finished turns to a collector, in the background of the current runtime.
    ///
    /// # Errors
    /// In words, when the collector's address cannot be used.
    pub fn exporting(settings: &TraceSettings) -> Result<Self, String> {
        let metrics = Metrics::new();
        let traces = Traces::start(settings, metrics.traces.clone())?;
        Ok(Self { inner: Arc::new(Inner { metrics, traces: Some(traces) }) })
    }

    /// An answered HTTP request; `route` is the template, such as `/api/v1/sessions/{id}`.
    pub fn http(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.inner.metrics.http(route, method, status, took);
    }

    /// An error that somebody was answered with.
    pub fn refused(&self, code: ErrorCode) {
        self.inner.metrics.refusals(code);
    }

    pub fn prompt_accepted(&self) {
        self.inner.metrics.prompts.inc();
    }

    /// A command that its session refused, by code.
    pub fn command_refused(&self, code: ErrorCode) {
        self.inner.metrics.command_refused(code);
    }

    /// From a turn's call of its session to the durable append.
    pub fn committed(&self, took: Duration) {
        self.inner.metrics.commits.observe(took.as_secs_f64());
    }

    pub fn image_built(&self, is_good: bool, took: Duration) {
        self.inner.metrics.image_built(is_good, took);
    }

    pub fn egress_denied(&self, reason: &str) {
        self.inner.metrics.egress_denied(reason);
    }

    pub fn turn(&self) -> TurnMeter {
        TurnMeter { telemetry: self.clone(), tools: Mutex::default() }
    }

    /// Whether finished turns are to be handed to `export`.
    pub fn exports(&self) -> bool {
        self.inner.traces.is_some()
    }

    /// Sends a finished turn, and waits until the collector took it. Sending it again is harmless.
    ///
    /// # Errors
    /// In words, when the collector did not take it.
    pub async fn export(&self, traced: Traced) -> Result<(), String> {
        match &self.inner.traces {
            Some(traces) => traces.send(traced).await,
            None => Ok(()),
        }
    }

    /// Sends what is queued, for at most `within`.
    pub async fn flush(&self, within: Duration) {
        if let Some(traces) = &self.inner.traces {
            traces.flush(within).await;
        }
    }

    /// The OpenMetrics text, with these gauges as they are now.
    pub fn render(&self, gauges: &Gauges) -> String {
        self.inner.metrics.render(gauges)
    }
}

/// Measures one turn by the events that it commits.
#[derive(Debug)]
pub struct TurnMeter {
    telemetry: Telemetry,
    /// Tools of calls that run.
    tools: Mutex<HashMap<String, String>>,
}

impl TurnMeter {
    pub fn observe(&self, events: &[Event]) {
        events.iter().for_each(|event| self.observe_one(event));
    }

    fn observe_one(&self, event: &Event) {
        let metrics = &self.telemetry.inner.metrics;
        match event {
            Event::ToolStarted { call, name, .. } => {
                let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
                tools.insert(call.clone(), name.clone());
            }
            Event::ToolFinished { call, outcome, duration_ms, .. } => {
                let name = self.tools.lock().unwrap_or_else(PoisonError::into_inner).remove(call);
                // What was cut off has no duration.
                if let (Some(name), false) = (name, *outcome == ToolOutcome::Unknown) {
                    metrics.tool(&name, *outcome, Duration::from_millis(*duration_ms));
                }
            }
            Event::AssistantMessage { usage, model, .. } | Event::ContextCompacted { usage, model, .. } => {
                metrics.used(model, *usage);
            }
            Event::ModelRetry { problem, .. } | Event::ModelFallback { problem, .. } => {
                metrics.model_retried(problem.code)
            }
            Event::StartTimeline { marks, sandbox, .. } => metrics.started(marks, *sandbox),
            Event::TurnFinished { outcome, duration_ms, .. } => {
                metrics.turn(outcome, Duration::from_millis(*duration_ms));
            }
            _ => {}
        }
    }
}
