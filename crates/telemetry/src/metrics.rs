//! The registry: every metric with its name, unit and labels. Label values come from bounded sets; where people choose
//! them (models, repositories, tool names that a model made up), the first ones keep their names and the rest is `other`.

use crate::gauges::Gauges;
use greenroom_domain::ErrorCode;
use greenroom_domain::event::{SandboxStart, TimelineMark, ToolOutcome, TurnOutcome};
use greenroom_domain::money::Usage;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Names that people choose and that get a value of their own, of each kind.
const NAMES: usize = 100;
const OTHER: &str = "other";

/// Seconds, from one tenth of a millisecond to ten minutes.
const BUCKETS: [f64; 16] =
    [1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

#[derive(Clone, Copy, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

type Timed<L> = Family<L, Histogram, Seconds>;

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),* })*) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),* })*
    };
}

labels! {
    HttpLabels { route: String, method: String, status: u16 }
    CodeLabels { code: &'static str }
    StageLabels { stage: &'static str }
    FromLabels { made_from: &'static str }
    ToolLabels { tool: String, outcome: &'static str }
    OutcomeLabels { outcome: &'static str }
    ReasonLabels { reason: String }
    ModelLabels { model: String }
    TokenLabels { model: String, kind: &'static str }
    StatusLabels { status: &'static str }
    PoolLabels { repository: String, state: &'static str }
    KindLabels { kind: &'static str }
}

/// What becomes of turns on their way to a collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceCounts {
    turns: Family<OutcomeLabels, Counter>,
}

impl TraceCounts {
    /// `outcome` is `sent` or `failed`; what failed is sent again.
    pub(crate) fn add(&self, outcome: &'static str, turns: u64) {
        self.turns.get_or_create(&OutcomeLabels { outcome }).inc_by(turns);
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    http: Timed<HttpLabels>,
    refusals: Family<CodeLabels, Counter>,
    pub(crate) prompts: Counter,
    commands_refused: Family<CodeLabels, Counter>,
    pub(crate) commits: Histogram,
    stages: Timed<StageLabels>,
    starts: Family<FromLabels, Counter>,
    turns: Timed<OutcomeLabels>,
    tools: Timed<ToolLabels>,
    retries: Family<CodeLabels, Counter>,
    requests: Family<ModelLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<ModelLabels, Counter<f64, AtomicU64>>,
    builds: Timed<OutcomeLabels>,
    denied: Family<ReasonLabels, Counter>,
    pub(crate) traces: TraceCounts,
    now: Now,
    names: Mutex<Names>,
    /// Gauges are set and read by one at a time.
    rendering: Mutex<()>,
}

/// Which names have a value of their own.
#[derive(Debug, Default)]
struct Names {
    models: BTreeSet<String>,
    tools: BTreeSet<String>,
    repositories: BTreeSet<String>,
    routes: BTreeSet<String>,
}

fn known(names: &mut BTreeSet<String>, name: &str) -> String {
    if names.contains(name) || names.len() < NAMES {
        names.insert(name.to_owned());
        return name.to_owned();
    }
    OTHER.to_owned()
}

#[derive(Debug, Default)]
struct Now {
    sessions: Family<StatusLabels, Gauge>,
    open: Gauge,
    queued: Gauge,
    index: Gauge,
    builds: Gauge,
    sandboxes: Gauge,
    sandboxes_limit: Gauge,
    blanks: Gauge,
    pools: Family<PoolLabels, Gauge>,
    disk: Family<KindLabels, Gauge>,
    streams: Gauge,
    requests: Gauge,
    draining: Gauge,
}

/// Registers metrics under `greenroom_`.
struct Registrar(Registry);

impl Registrar {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: &M) {
        self.0.register(name, help, metric.clone());
    }

    fn timed<M: Metric + Clone + EncodeMetric>(&mut self, name: &str, help: &str, metric: &M) {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
    }
}

fn timed<L: Clone + std::hash::Hash + Eq>() -> Timed<L> {
    Family::new_with_constructor(Seconds)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            http: timed(),
            refusals: Family::default(),
            prompts: Counter::default(),
            commands_refused: Family::default(),
            commits: Seconds.new_metric(),
            stages: timed(),
            starts: Family::default(),
            turns: timed(),
            tools: timed(),
            retries: Family::default(),
            requests: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            builds: timed(),
            denied: Family::default(),
            traces: TraceCounts::default(),
            now: Now::default(),
            names: Mutex::default(),
            rendering: Mutex::default(),
        };
        metrics.registry = metrics.registered();
        metrics
    }

    fn registered(&self) -> Registry {
        let mut to = Registrar(Registry::with_prefix("greenroom"));
        to.timed(
            "http_request",
            "Answered HTTP requests, by route template; streams count until they begin",
            &self.http,
        );
        to.add("refusals", "Errors that somebody was answered with", &self.refusals);
        to.add("prompts", "Prompts that were accepted", &self.prompts);
        to.add("commands_refused", "Commands that their session refused", &self.commands_refused);
        to.timed("commit", "Appends of running turns to their logs, waiting included", &self.commits);
        to.timed("start_stage", "From a prompt's arrival to a stage of its turn's start: model_called is its request, first_token the first word", &self.stages);
        to.add("sandbox_starts", "Sandboxes of turns, by what they were made from", &self.starts);
        to.timed("turn", "Turns that ended", &self.turns);
        to.timed("tool", "Tool calls that ended", &self.tools);
        to.add("model_retries", "Requests to models that were repeated, by why", &self.retries);
        to.add("model_requests", "Requests to models that were answered", &self.requests);
        to.add("model_tokens", "Tokens that models counted", &self.tokens);
        to.add("model_cost_usd", "US dollars, where a model's price is known", &self.cost);
        to.timed("image_build", "Builds of images", &self.builds);
        to.add("egress_denied", "Connections of sandboxes that were refused", &self.denied);
        to.add("traces", "Turns on their way to the OpenTelemetry collector", &self.traces.turns);
        let now = &self.now;
        to.add("sessions", "Sessions by status", &now.sessions);
        to.add("sessions_open", "Sessions in memory", &now.open);
        to.add("prompts_queued", "Prompts that wait for their turn", &now.queued);
        to.add("index_waiting", "Lines of the session index that wait to be written", &now.index);
        to.add("image_builds_running", "Image builds that run or wait for a place", &now.builds);
        to.add("sandboxes", "Sandboxes of sessions and pools that are alive", &now.sandboxes);
        to.add("sandboxes_limit", "The setting max_sandboxes", &now.sandboxes_limit);
        to.add("blanks", "Started sandboxes without an image", &now.blanks);
        to.add("pool_entries", "Warm sandboxes by repository", &now.pools);
        to.0.register_with_unit(
            "disk",
            "The file system that sandboxes write to",
            Unit::Bytes,
            now.disk.clone(),
        );
        to.add("streams", "Open WebSockets and event streams of sessions", &now.streams);
        to.add("requests_in_flight", "Requests of signed-in people that are being answered", &now.requests);
        to.add("draining", "1 while the server refuses new work because it stops", &now.draining);
        to.0
    }

    pub(crate) fn http(&self, route: &str, method: &str, status: u16, took: Duration) {
        let route = known(&mut self.names().routes, route);
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
            _ => OTHER,
        };
        let labels = HttpLabels { route, method: method.to_owned(), status };
        self.http.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn refusals(&self, code: ErrorCode) {
        self.refusals.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }

    pub(crate) fn command_refused(&self, code: ErrorCode) {
        self.commands_refused.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }

    pub(crate) fn image_built(&self, is_good: bool, took: Duration) {
        let outcome = if is_good { "good" } else { "failed" };
        self.builds.get_or_create(&OutcomeLabels { outcome }).observe(took.as_secs_f64());
    }

    pub(crate) fn egress_denied(&self, reason: &str) {
        self.denied.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
    }

    pub(crate) fn tool(&self, name: &str, outcome: ToolOutcome, took: Duration) {
        let outcome = match outcome {
            ToolOutcome::Succeeded => "succeeded",
            ToolOutcome::Failed => "failed",
            ToolOutcome::Cancelled => "cancelled",
            ToolOutcome::Unknown => "unknown",
        };
        let tool = known(&mut self.names().tools, name);
        self.tools.get_or_create(&ToolLabels { tool, outcome }).observe(took.as_secs_f64());
    }

    pub(crate) fn used(&self, model: &str, usage: Usage) {
        let model = known(&mut self.names().models, model);
        let kinds = [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_read", usage.cache_read_tokens),
            ("cache_write", usage.cache_write_tokens),
        ];
        for (kind, tokens) in kinds {
            self.tokens.get_or_create(&TokenLabels { model: model.clone(), kind }).inc_by(tokens);
        }
        let labels = ModelLabels { model };
        self.requests.get_or_create(&labels).inc_by(usage.requests);
        self.cost.get_or_create(&labels).inc_by(usage.cost_microusd as f64 / 1e6);
    }

    pub(crate) fn model_retried(&self, code: ErrorCode) {
        self.retries.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }

    pub(crate) fn started(&self, marks: &[TimelineMark], sandbox: Option<SandboxStart>) {
        for mark in marks {
            let labels = StageLabels { stage: mark.stage.as_str() };
            self.stages.get_or_create(&labels).observe(Duration::from_micros(mark.at_us).as_secs_f64());
        }
        let made_from = match sandbox {
            None => return,
            Some(SandboxStart::Running) => "running",
            Some(SandboxStart::Warm) => "warm",
            Some(SandboxStart::Blank) => "blank",
            Some(SandboxStart::Cold) => "cold",
        };
        self.starts.get_or_create(&FromLabels { made_from }).inc();
    }

    pub(crate) fn turn(&self, outcome: &TurnOutcome, took: Duration) {
        let outcome = match outcome {
            TurnOutcome::Completed => "completed",
            TurnOutcome::Stopped => "stopped",
            TurnOutcome::Failed { .. } => "failed",
            TurnOutcome::BudgetReached { .. } => "budget_reached",
        };
        self.turns.get_or_create(&OutcomeLabels { outcome }).observe(took.as_secs_f64());
    }

    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.set(gauges, &mut self.names());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn set(&self, gauges: &Gauges, names: &mut Names) {
        self.sessions.clear();
        for (status, count) in &gauges.sessions {
            set(&self.sessions.get_or_create(&StatusLabels { status }), *count);
        }
        self.disk.clear();
        for (kind, bytes) in &gauges.disk_bytes {
            set(&self.disk.get_or_create(&KindLabels { kind }), *bytes);
        }
        self.pools.clear();
        for pool in &gauges.pools {
            let repository = known(&mut names.repositories, &pool.repository);
            for (state, count) in
                [("ready", pool.ready), ("preparing", pool.preparing), ("reserved", pool.reserved)]
            {
                let labels = PoolLabels { repository: repository.clone(), state };
                self.pools.get_or_create(&labels).inc_by(signed(count));
            }
        }
        set(&self.open, gauges.sessions_open);
        set(&self.queued, gauges.prompts_queued);
        set(&self.index, gauges.index_waiting);
        set(&self.builds, gauges.builds_running);
        set(&self.sandboxes, gauges.sandboxes);
        set(&self.sandboxes_limit, gauges.sandboxes_limit);
        set(&self.blanks, gauges.blanks);
        set(&self.streams, gauges.streams);
        set(&self.requests, gauges.requests);
        set(&self.draining, u64::from(gauges.is_draining));
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(signed(value));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauges::PoolGauge;

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let metrics = Metrics::new();
        for number in 0..NAMES + 20 {
            metrics.used(&format!("model-{number:03}"), Usage { requests: 1, ..Usage::default() });
        }
        let pool = |number| PoolGauge {
            repository: format!("repo-{number:03}"),
            ready: 1,
            preparing: 0,
            reserved: 0,
        };
        let gauges = Gauges { pools: (0..NAMES + 20).map(pool).collect(), ..Gauges::default() };
        let text = metrics.render(&gauges);
        assert!(text.contains("greenroom_model_requests_total{model=\"other\"} 20\n"), "{text}");
        assert!(text.contains("greenroom_pool_entries{repository=\"other\",state=\"ready\"} 20\n"), "{text}");
        assert_eq!(text.matches("greenroom_model_requests_total{").count(), NAMES + 1);
        assert!(metrics.render(&gauges).contains("state=\"ready\"} 20\n"), "a second look counts the same");
    }
}
