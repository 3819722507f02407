//! `bench start`: cold start and exec over the public API, beside the floor and the peers that are installed.

use super::stats::Report;
use super::world::World;
use super::{disk, peers};
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::new_key;
use greenroom_domain::{ErrorCode, Problem, SessionId};
use greenroom_wire::{CreateSession, Exec};
use std::time::{Duration, Instant};

const TRACKED: &str = "a tracked file\n";

pub(crate) async fn run(global: &Global, out: Output, n: u32) -> Result<Exit, Failure> {
    out.progress("Building the image to measure with…\n");
    let world = World::start(global, out, None, &[("tracked.txt", TRACKED)]).await?;
    let measured = measure(&world, out, n).await;
    world.stop().await;
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

async fn measure(world: &World, out: Output, n: u32) -> Result<Report, Failure> {
    let mut report = Report::default();
    // The first session pays for what is done once per process.
    let warm_up = create(world).await?;
    exec(world, warm_up, "warm-up").await?;
    out.progress("cold: create a session, run its first command…\n");
    report.row("cold", cold(world, n).await?);
    out.progress("exec: a command in a running sandbox…\n");
    report.row("exec", execs(world, warm_up, n).await?);
    world.desk.client.delete_session(warm_up).await?;

    let directory = tempfile::tempdir()?;
    let tracked = directory.path().join("tracked.txt");
    std::fs::write(&tracked, TRACKED)?;
    report.row("floor", peers::floor(n, &tracked)?);
    for (name, samples) in
        [("bwrap", peers::bwrap(n, directory.path())), ("runc", peers::runc(n, directory.path()))]
    {
        match samples {
            Some(samples) => report.row(name, samples?),
            None => report.fact(name, "not installed"),
        }
    }
    report.row("fdatasync", disk::fdatasync(world.data(), n)?);
    Ok(report)
}

async fn cold(world: &World, n: u32) -> Result<Vec<Duration>, Failure> {
    let mut samples = vec![];
    for i in 0..n {
        let begun = Instant::now();
        let session = create(world).await?;
        exec(world, session, &format!("cold-{i}")).await?;
        samples.push(begun.elapsed());
        world.desk.client.delete_session(session).await?;
    }
    Ok(samples)
}

async fn execs(world: &World, session: SessionId, n: u32) -> Result<Vec<Duration>, Failure> {
    let mut samples = vec![];
    for i in 0..n {
        let begun = Instant::now();
        exec(world, session, &format!("exec-{i}")).await?;
        samples.push(begun.elapsed());
    }
    Ok(samples)
}

async fn create(world: &World) -> Result<SessionId, Failure> {
    let body = CreateSession {
        repository: world.repository.clone(),
        prompt: None,
        title: None,
        model: None,
        base_branch: None,
        budget: None,
    };
    Ok(world.desk.client.create_session(&new_key(), &body).await?.id)
}

/// Runs the script and checks that the output is this run's own.
async fn exec(world: &World, session: SessionId, nonce: &str) -> Result<(), Failure> {
    let body = Exec { command: peers::script(nonce, "tracked.txt"), timeout_ms: None };
    let result = world.desk.client.exec(session, &body).await?;
    if result.output == format!("{nonce}\n{TRACKED}") && result.exit_code == Some(0) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Internal, "A command did not print what it should.")
        .detail(result.output)
        .into())
}
