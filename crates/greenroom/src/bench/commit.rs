//! `bench commit`: commands until their receipts, over HTTP, each with its receipt synced to the disk before it is
//! answered; of one session and of many at once, beside a bare fdatasync on the same disk.

use super::disk;
use super::idle::stop;
use super::served::Knobs;
use super::stats::Report;
use super::world::World;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use futures::future::try_join_all;
use greenroom_client::{Client, new_key};
use greenroom_domain::SessionId;
use greenroom_wire::CreateSession;
use std::time::{Duration, Instant};

/// The server bounds how much one person asks for at once.
const EACH: usize = 50;
const SYNCS: u32 = 1000;

pub(crate) async fn run(global: &Global, out: Output, counts: &[u32], seconds: u32) -> Result<Exit, Failure> {
    let knobs = Knobs { blanks: Some(0), ..Knobs::usual(1).without_pool() };
    let world = World::start(global, out, knobs, &[("tracked.txt", "x\n")]).await?;
    let measured = measure(&world, out, counts, Duration::from_secs(seconds.into())).await;
    world.stop().await;
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

async fn measure(world: &World, out: Output, counts: &[u32], length: Duration) -> Result<Report, Failure> {
    let mut report = Report::default();
    report.fact("durability", "each command's receipt is in the session's SQLite file, in WAL mode with synchronous=FULL: one fdatasync before the answer");
    let most = counts.iter().max().copied().unwrap_or(1) as usize;
    let mut people = vec![];
    for number in 0..most.div_ceil(EACH) {
        people.push(world.person(number).await?);
    }
    for count in counts {
        out.progress(&format!("{count} sessions at once…\n"));
        let samples = together(world, &people, *count as usize, length).await?;
        let rate = samples.len() as f64 / length.as_secs_f64();
        report.fact(&format!("commits_per_second_{count}"), rate.round());
        report.row(&format!("commit_{count}"), samples);
    }
    let floor = disk::fdatasync(world.data(), SYNCS)?;
    let taken: Duration = floor.iter().sum();
    report.fact("fdatasync_per_second", (f64::from(SYNCS) / taken.as_secs_f64()).round());
    report.row("fdatasync", floor);
    Ok(report)
}

/// Each session is sent its next command when the one before is answered.
async fn together(
    world: &World,
    people: &[Client],
    count: usize,
    length: Duration,
) -> Result<Vec<Duration>, Failure> {
    let mut sessions: Vec<(&Client, SessionId)> = vec![];
    for number in 0..count {
        let client = &people[number / EACH];
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
        sessions.push((client, client.create_session(&new_key(), &body).await?.id));
    }
    let until = Instant::now() + length;
    let one = |(client, session): (&Client, SessionId)| {
        let client = client.clone();
        async move {
            let mut samples = vec![];
            while Instant::now() < until {
                samples.push(stop(&client, session).await?);
            }
            Ok::<_, Failure>(samples)
        }
    };
    Ok(try_join_all(sessions.into_iter().map(one)).await?.concat())
}
