//! `bench ttft`: from sending a prompt to the model's server receiving the request. The server speaks TLS behind a
//! delay, so that a connection that is not there in advance would show.

use super::disk;
use super::stats::Report;
use super::world::World;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::new_key;
use greenroom_domain::{Command, Delivery, ErrorCode, Event, Problem, SessionId};
use greenroom_model::testing::{Recorded, Turn, WireServer, WireServerOptions};
use greenroom_model::{ProviderKind, Secret, connect_with};
use greenroom_wire::{CreateSession, Frame, SessionStatus};
use std::time::{Duration, Instant};

const ROUND_TRIP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);
const AGENTS_TEXT: &str = "Measured instructions: prices are whole cents.";
const SKILL_TEXT: &str = "How releases of the measured repository are made";
const SKILL: &str = "---\nname: measured-release\ndescription: How releases of the measured repository are made\n---\nTag it.\n";

pub(crate) async fn run(global: &Global, out: Output, n: u32) -> Result<Exit, Failure> {
    let server =
        WireServer::start(WireServerOptions { tls: true, http2: true, round_trip: ROUND_TRIP }).await?;
    server.respond_with(|_| Turn::text("Done."));
    let config = server.config(ProviderKind::Anthropic);
    let provider = connect_with(&config, Some(Secret::new("measured")), server.endpoint_options())?;
    out.progress("Building the image to measure with…\n");
    let files = [
        ("AGENTS.md", AGENTS_TEXT),
        (".greenroom/skills/measured-release/SKILL.md", SKILL),
        ("tracked.txt", "x\n"),
    ];
    let world = World::with_provider(global, out, provider, &files).await?;
    let measured = measure(&world, &server, n).await;
    world.stop().await;
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

async fn measure(world: &World, server: &WireServer, n: u32) -> Result<Report, Failure> {
    let mut samples = vec![];
    // One more than counted: the first turn pays for what is done once per process.
    for i in 0..=n {
        let sample = once(world, server).await?;
        if i > 0 {
            samples.push(sample);
        }
    }
    let mut report = Report::default();
    report.fact("injected_round_trip_ms", u64::try_from(ROUND_TRIP.as_millis()).unwrap_or(0));
    report.fact("connections", server.connections());
    let net: Vec<_> = samples.iter().map(|sample| sample.saturating_sub(ROUND_TRIP / 2)).collect();
    if let Some(stats) = super::stats::Stats::of(net.clone()) {
        report.fact("p50_ms", stats.p50_ms);
        report.fact("p95_ms", stats.p95_ms);
        report.fact("p99_ms", stats.p99_ms);
        report.fact("n", stats.n);
    }
    report.row("prompt_to_request", net);
    report.row("with_injected_delay", samples);
    report.row("fdatasync", disk::fdatasync(world.data(), n)?);
    Ok(report)
}

/// One prompt to a new session without a sandbox; answers the time until the request was there.
async fn once(world: &World, server: &WireServer) -> Result<Duration, Failure> {
    let client = &world.desk.client;
    let body = CreateSession {
        repository: world.repository.clone(),
        prompt: None,
        attachments: vec![],
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    };
    let session = client.create_session(&new_key(), &body).await?.id;
    let seen = server.requests().len();
    let prompt =
        Command::Prompt { text: "Say done.".to_owned(), delivery: Delivery::Queue, attachments: vec![] };
    let begun = Instant::now();
    let receipt = client.submit(session, &new_key(), &prompt).await?;
    if let Some(problem) = receipt.problem {
        return Err(problem.into());
    }
    let requests = server.wait_for_requests(seen + 1, PATIENCE).await.map_err(|error| {
        Problem::new(ErrorCode::Deadline, format!("The request did not arrive: {error}."))
    })?;
    let request = requests.last().expect("waited for");
    check(request)?;
    let sample = request.received_at.saturating_duration_since(begun);
    until_idle(world, session).await?;
    client.delete_session(session).await?;
    Ok(sample)
}

/// AGENTS.md and the skill, from the image's manifest, are in the request.
fn check(request: &Recorded) -> Result<(), Failure> {
    let body = String::from_utf8_lossy(&request.body);
    if body.contains(AGENTS_TEXT) && body.contains(SKILL_TEXT) {
        return Ok(());
    }
    let missing = "The request lacks the repository's instructions: AGENTS.md or the skill.";
    Err(Problem::new(ErrorCode::Internal, missing).into())
}

async fn until_idle(world: &World, session: SessionId) -> Result<(), Failure> {
    let mut frames = world.desk.client.follow(session, 0);
    while let Some(frame) = futures::StreamExt::next(&mut frames).await {
        let is_over = |event: &Event| matches!(event, Event::TurnFinished { .. });
        if matches!(frame?, Frame::Entry { entry } if is_over(&entry.event)) {
            break;
        }
    }
    let view = world.desk.client.session(session).await?;
    match view.status {
        SessionStatus::Failed => {
            Err(Problem::new(ErrorCode::Internal, "A measured turn failed; see the session's log.").into())
        }
        _ => Ok(()),
    }
}
