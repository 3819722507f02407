//! `bench stream`: from the moment a model server writes a delta to the moment a viewer has it, over WebSockets, with the
//! whole product between: model client, turn, log, session, API. This process is the model server and all viewers; the
//! measured server is another, and only its processor time counts.
//!
//! The floor is a relay with the same WebSocket library: it takes frames that are already JSON and sends each to every
//! viewer. It lacks the model's protocol, turns, the log, commands, sign-in and replay; `unwatched_cpu_s` says what those
//! cost here, for the same turns without a viewer.

mod floor;
mod record;
mod source;
mod viewer;

use super::process::Process;
use super::served::Knobs;
use super::stats::Stats;
use super::world::World;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::table::Table;
pub(super) use floor::serve as serve_floor;
use futures::future::join_all;
use greenroom_client::{Client, new_key};
use greenroom_domain::{Command, Delivery, SessionId};
use greenroom_wire::{AddModel, CreateSession, Exec, ModelProvider};
use record::Clock;
use serde_json::{Value, json};
use source::{Ask, Source};
use std::time::Duration;
use tokio::task::JoinHandle;
use viewer::{Seen, Viewer};

/// Viewers of one person: the server bounds how many streams each may have.
const STREAMS_EACH: usize = 200;
/// Between the starts of two streams.
const STAGGER: Duration = Duration::from_millis(20);
/// After the last start, before it counts.
const SETTLE: Duration = Duration::from_secs(3);
const NOISY_RATE: u32 = 5_000;
const NOISY_OUTPUT: u32 = 10_000_000;
/// The server takes 16 MiB of one answer, which the noisy one's has in 16 s.
const NOISY_SECONDS: u64 = 12;
const HOW: &str = "From the model server's write of a delta to the viewer's read of a frame with its text. cpu_s: the server's \
    alone, while it counts. unwatched_cpu_s: the same turns without viewers; the floor has nothing of that (no model protocol, turn, \
    log, replay). floor: a bare relay, same library, one frame for each delta, serialised by the load process. lost: deltas and \
    entries that no frame brought. slowest_second: p99 of the second that was the slowest. repeated: deltas and entries that came twice by the same kind of frame.";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) sessions: usize,
    pub(crate) rate: u32,
    pub(crate) viewers: usize,
    pub(crate) crowd: usize,
    pub(crate) seconds: u64,
}

/// Streams that run at once, and who watches each.
#[derive(Clone, Copy, Debug)]
struct Row {
    sessions: usize,
    rate: u32,
    viewers: usize,
    seconds: u64,
}

pub(crate) async fn run(global: &Global, out: Output, load: Load) -> Result<Exit, Failure> {
    let clock = Clock::start();
    let source = Source::start(clock).await?;
    out.progress("Building the image to measure with…\n");
    // One sandbox, which the noisy session takes: the others' turns use none.
    let world = World::start(global, out, Knobs::usual(1).without_pool(), &[("tracked.txt", "x\n")]).await?;
    let measured = measure(&world, out, &source, clock, load).await;
    world.stop().await;
    let report = measured?;
    out.document(&report, text_of)?;
    Ok(Exit::Done)
}

async fn measure(
    world: &World,
    out: Output,
    source: &Source,
    clock: Clock,
    load: Load,
) -> Result<Value, Failure> {
    let model = AddModel {
        name: "streaming".to_owned(),
        provider: ModelProvider::OpenaiChat,
        model: "streaming".to_owned(),
        base_url: Some(source.url()),
        key: None,
        effort: None,
        is_default: true,
        is_text_only: false,
    };
    world.desk.client.add_model(&model).await?;
    let streams = load.sessions * load.viewers;
    let mut tokens = vec![];
    for number in 0..streams.max(load.crowd).max(1).div_ceil(STREAMS_EACH) {
        tokens.push(world.token(number).await?);
    }
    let bench = Bench { world, source, clock, tokens };

    let row = Row { sessions: load.sessions, rate: load.rate, viewers: load.viewers, seconds: load.seconds };
    let mut report = bench.beside_floor(out, "many sessions", row).await?;
    report["how"] = HOW.into();
    let crowd = Row { sessions: 1, rate: load.rate, viewers: load.crowd, seconds: load.seconds };
    report["one_session"] = bench.beside_floor(out, "one session, many viewers", crowd).await?;
    let seconds = load.seconds.min(NOISY_SECONDS);
    let quiet = Row { sessions: (load.sessions / 6).max(1), viewers: load.viewers.max(1), seconds, ..row };
    report["beside_noise"] = bench.beside_noise(out, quiet).await?;
    Ok(report)
}

struct Bench<'a> {
    world: &'a World,
    source: &'a Source,
    clock: Clock,
    tokens: Vec<String>,
}

/// What a process used while it counted.
struct Usage {
    cpu_s: f64,
    rss_mb: f64,
}

impl Usage {
    fn since(process: &Process, before: Duration) -> Result<Self, Failure> {
        let cpu_s = process.cpu()?.saturating_sub(before).as_secs_f64();
        Ok(Self { cpu_s, rss_mb: process.resident()? as f64 / 1e6 })
    }
}

struct Measured {
    seen: Seen,
    /// Deltas of the noisy session that its viewers saw.
    noise: usize,
    usage: Usage,
}

impl Bench<'_> {
    async fn beside_floor(&self, out: Output, name: &str, row: Row) -> Result<Value, Failure> {
        out.progress(&format!("{name}: {row:?}\n"));
        let ours = self.product(row, None).await?;
        out.progress(&format!("{name}: the same turns without viewers…\n"));
        let unwatched = self.product(Row { viewers: 0, ..row }, None).await?;
        out.progress(&format!("{name}: the floor…\n"));
        let floor = floor::measure(self.clock, row.sessions, row.rate, row.viewers, row.seconds).await?;
        let mut report = figures(row, &ours);
        report["unwatched_cpu_s"] = rounded(unwatched.usage.cpu_s);
        report["floor"] = figures(row, &floor);
        report["cpu_over_floor"] = rounded(ours.usage.cpu_s / floor.usage.cpu_s);
        let streaming = (ours.usage.cpu_s - unwatched.usage.cpu_s).max(0.0);
        report["streaming_cpu_over_floor"] = rounded(streaming / floor.usage.cpu_s);
        Ok(report)
    }

    async fn beside_noise(&self, out: Output, row: Row) -> Result<Value, Failure> {
        out.progress(&format!("quiet sessions: {row:?}\n"));
        let alone = self.product(row, None).await?;
        out.progress("beside a noisy one…\n");
        let noisy = self.create().await?;
        // Its sandbox is there before the noise.
        let body = Exec { command: "true".to_owned(), timeout_ms: None };
        self.world.desk.client.exec(noisy, &body).await?;
        let beside = self.product(row, Some(noisy)).await?;
        self.world.desk.client.delete_session(noisy).await?;
        let mut report = figures(row, &beside);
        let p99 = |measured: &Measured| percentiles(&measured.seen).map_or(0.0, |stats| stats.p99_ms);
        report["noisy_deltas"] = beside.noise.into();
        report["p99_alone_ms"] = rounded(p99(&alone));
        report["p99_over_alone"] = rounded(p99(&beside) / p99(&alone));
        Ok(report)
    }

    async fn product(&self, row: Row, noisy: Option<SessionId>) -> Result<Measured, Failure> {
        self.source.begin();
        let mut sessions = vec![];
        for _ in 0..row.sessions {
            sessions.push(self.create().await?);
        }
        let mut watching = vec![];
        for (at, session) in sessions.iter().enumerate() {
            for viewer in 0..row.viewers {
                watching.push(self.watch(at * row.viewers + viewer, *session).await?);
            }
        }
        let mut noise = vec![];
        for number in 0..noisy.map_or(0, |_| row.viewers) {
            noise.push(self.watch(number, noisy.expect("there is one")).await?);
        }
        if let Some(session) = noisy {
            // Its turn runs from here on, so that its sandbox stays; it is silent until it counts.
            self.prompt(session, &Ask { rate: NOISY_RATE, output: NOISY_OUTPUT }).await?;
        }
        for session in &sessions {
            self.prompt(*session, &Ask { rate: row.rate, output: 0 }).await?;
            tokio::time::sleep(STAGGER).await;
        }
        tokio::time::sleep(SETTLE).await;
        let (process, from) = (self.world.process()?, self.clock.micros());
        let before = process.cpu()?;
        self.source.make_noise();
        tokio::time::sleep(Duration::from_secs(row.seconds)).await;
        let usage = Usage::since(&process, before)?;
        let until = self.clock.micros();
        self.source.end();
        let mut seen = Seen::gather(join_all(watching).await, from, until);
        // Theirs is not measured, but nothing of it may be lost either.
        let noise = Seen::gather(join_all(noise).await, from, until);
        seen.add_counts(&noise);
        self.source.finished().await;
        for session in sessions {
            self.world.desk.client.delete_session(session).await?;
        }
        if let Some(outcome) = &seen.ended {
            return Err(viewer::broken(format!("a turn ended with {outcome:?}")));
        }
        Ok(Measured { seen, noise: noise.latencies.len(), usage })
    }

    async fn watch(&self, number: usize, session: SessionId) -> Result<JoinHandle<Viewer>, Failure> {
        let token = &self.tokens[number / STREAMS_EACH];
        viewer::watch(self.world.address(), token, session, self.clock).await
    }

    async fn create(&self) -> Result<SessionId, Failure> {
        let body = CreateSession {
            repository: self.world.repository.clone(),
            prompt: None,
            title: None,
            model: None,
            effort: None,
            base_branch: None,
            budget: None,
            team_access: Default::default(),
            attachments: vec![],
        };
        let client: &Client = &self.world.desk.client;
        Ok(client.create_session(&new_key(), &body).await?.id)
    }

    async fn prompt(&self, session: SessionId, ask: &Ask) -> Result<(), Failure> {
        let (text, delivery) = (ask.to_string(), Delivery::Queue);
        let prompt = Command::Prompt { text, delivery, attachments: vec![] };
        let receipt = self.world.desk.client.submit(session, &new_key(), &prompt).await?;
        receipt.problem.map_or(Ok(()), |problem| Err(problem.into()))
    }
}

fn percentiles(seen: &Seen) -> Option<Stats> {
    stats_of(seen.latencies.iter())
}

/// So that a row which stalled once can be told from one that is slow.
fn slowest_second(seen: &Seen) -> Option<f64> {
    let second = |(written, _): &(u32, u32)| written / 1_000_000;
    let mut latencies: Vec<_> = seen.latencies.iter().collect();
    latencies.sort_unstable_by_key(|latency| second(latency));
    let seconds = latencies.chunk_by(|one, other| second(one) == second(other));
    let p99s = seconds.filter_map(|of_one| Some(stats_of(of_one.iter().copied())?.p99_ms));
    p99s.max_by(f64::total_cmp)
}

fn stats_of<'a>(latencies: impl Iterator<Item = &'a (u32, u32)>) -> Option<Stats> {
    Stats::of(latencies.map(|(_, took)| Duration::from_micros(u64::from(*took))).collect())
}

fn figures(row: Row, measured: &Measured) -> Value {
    let stats = percentiles(&measured.seen);
    let ms = |of: fn(&Stats) -> f64| stats.as_ref().map(of);
    json!({
        "sessions": row.sessions, "deltas_per_s": row.rate, "viewers": row.viewers, "seconds": row.seconds,
        "p50_ms": ms(|stats| stats.p50_ms), "p95_ms": ms(|stats| stats.p95_ms), "p99_ms": ms(|stats| stats.p99_ms),
        "slowest_second_p99_ms": slowest_second(&measured.seen),
        "n": stats.as_ref().map_or(0, |stats| stats.n),
        "frames": measured.seen.frames, "lost": measured.seen.lost, "repeated": measured.seen.repeated,
        "resumed": measured.seen.resumed,
        "cpu_s": rounded(measured.usage.cpu_s), "rss_mb": rounded(measured.usage.rss_mb),
    })
}

fn rounded(number: f64) -> Value {
    ((number * 1000.0).round() / 1000.0).into()
}

fn text_of(report: &Value) -> String {
    let rows = [
        ("many sessions", report),
        ("  floor", &report["floor"]),
        ("one session", &report["one_session"]),
        ("  floor", &report["one_session"]["floor"]),
        ("beside noise", &report["beside_noise"]),
    ];
    let columns = [
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "slowest_second_p99_ms",
        "frames",
        "lost",
        "repeated",
        "cpu_s",
        "unwatched_cpu_s",
        "rss_mb",
    ];
    let heads = [
        "ROW",
        "P50 MS",
        "P95 MS",
        "P99 MS",
        "SLOWEST S",
        "FRAMES",
        "LOST",
        "REPEATED",
        "CPU S",
        "UNWATCHED",
        "RSS MB",
    ];
    let table = Table::new(&heads, "Nothing was measured.").right(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let table = table.rows(&rows, |(name, row)| {
        let cell = |column: &&str| match &row[*column] {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        std::iter::once((*name).to_owned()).chain(columns.iter().map(cell)).collect()
    });
    format!(
        "{}\ncpu over floor: {} (streaming alone: {}), one session: {} ({})\np99 beside noise over alone: {}\n{HOW}\n",
        table.text(),
        report["cpu_over_floor"],
        report["streaming_cpu_over_floor"],
        report["one_session"]["cpu_over_floor"],
        report["one_session"]["streaming_cpu_over_floor"],
        report["beside_noise"]["p99_over_alone"],
    )
}
