//! `bench start`: from creating a session to its first command's output, and commands in a running sandbox, over the
//! public API and at the library, beside the floor and the peers that are installed.

use super::library::Library;
use super::served::Knobs;
use super::stats::Report;
use super::world::World;
use super::{disk, peers};
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::{Client, new_key};
use greenroom_domain::{ErrorCode, Problem, SessionId};
use greenroom_wire::{CreateSession, Exec};
use std::time::{Duration, Instant};

const TRACKED: &str = "a tracked file\n";
const BURST: usize = 100;
/// Who start them: one person may ask for 64 things at a time.
const PEOPLE: usize = 4;
const IDLE: Duration = Duration::from_secs(2);
/// The row takes this many times `IDLE`.
const IDLE_STARTS: u32 = 25;
/// Between starts, so that each finds what is made in advance.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a warm sandbox is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sessions that are made alive at the same time.
const TOGETHER: usize = 8;

const FILES: &[(&str, &str)] = &[("tracked.txt", TRACKED)];

pub(crate) async fn run(global: &Global, out: Output, n: u32, alive: &[u32]) -> Result<Exit, Failure> {
    out.progress("Building the image to measure with…\n");
    let most = alive.iter().max().copied().unwrap_or(0) as usize + BURST + 16;
    let mut world = World::start(global, out, Knobs::usual(most).without_pool(), FILES).await?;
    let mut report = Report::default();
    for count in alive {
        let mut part = Report::default();
        world = measure_over_http(world, out, n, *count, most, &mut part).await?;
        if *count == 0 {
            measure_once(&world, out, n, &mut part).await?;
            report.absorb(part);
        } else {
            report.part(&format!("alive_{count}"), &part);
        }
    }
    let data = world.data().to_owned();
    let library = Library::start(&data, 0).await?;
    let measured = library.measure(out, n).await;
    library.stop().await;
    report.part("library", &measured?);
    world.stop().await;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

/// Each row against the server that shows it: without blanks, with them, with a pool.
async fn measure_over_http(
    world: World,
    out: Output,
    n: u32,
    alive: u32,
    most: usize,
    report: &mut Report,
) -> Result<World, Failure> {
    let usual = Knobs::usual(most);
    let world = world.again(Knobs { blanks: Some(0), ..usual.without_pool() }).await?;
    let running = begin(&world, out, alive).await?;
    out.progress("cold: a session's first command, nothing made in advance…\n");
    report.row("cold", starts(&world, n, Ready::Pause(PAUSE)).await?);
    out.progress("exec: a command in a running sandbox…\n");
    report.row("exec", execs(&world, running[0], n * 4).await?);
    if alive == 0 {
        out.progress("burst100_cold: a hundred at once, nothing made in advance…\n");
        report.row("burst100_cold", burst(&world, 0).await?);
    }
    end(&world, running).await?;

    let world = world.again(usual.without_pool()).await?;
    let running = begin(&world, out, alive).await?;
    out.progress("blank: the same with blanks…\n");
    report.row("blank", starts(&world, n, Ready::Pause(PAUSE)).await?);
    if alive == 0 {
        out.progress("burst100: a hundred at once…\n");
        until_blank(&world).await?;
        report.row("burst100", burst(&world, PEOPLE).await?);
        until_blank(&world).await?;
        out.progress("after_idle: one every two seconds…\n");
        report.row("after_idle", starts(&world, IDLE_STARTS.min(n), Ready::Pause(IDLE)).await?);
    }
    end(&world, running).await?;

    let world = world.again(usual).await?;
    let running = begin(&world, out, alive).await?;
    out.progress("warm: the same with a synced sandbox in the pool…\n");
    report.row("warm", starts(&world, n, Ready::Warm).await?);
    end(&world, running).await?;
    Ok(world)
}

/// What does not depend on sandboxes alive.
async fn measure_once(world: &World, out: Output, n: u32, report: &mut Report) -> Result<(), Failure> {
    out.progress("floor and peers…\n");
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
    Ok(())
}

/// The first session pays for what is done once per process; it stays, with those that are to be alive besides.
async fn begin(world: &World, out: Output, alive: u32) -> Result<Vec<SessionId>, Failure> {
    let mut running = vec![create(world).await?];
    exec(world, running[0], "first").await?;
    if alive > 0 {
        out.progress(&format!("{alive} sandboxes alive…\n"));
    }
    for some in (0..alive).collect::<Vec<_>>().chunks(TOGETHER) {
        let started = some.iter().map(|number| async move {
            let session = create(world).await?;
            exec(world, session, &format!("alive-{number}")).await?;
            Ok::<_, Failure>(session)
        });
        for session in futures::future::join_all(started).await {
            running.push(session?);
        }
    }
    Ok(running)
}

async fn end(world: &World, running: Vec<SessionId>) -> Result<(), Failure> {
    for some in running.chunks(TOGETHER) {
        let ended = some.iter().map(|session| world.desk.client.delete_session(*session));
        for result in futures::future::join_all(ended).await {
            result?;
        }
    }
    Ok(())
}

/// What is waited for before a start.
#[derive(Clone, Copy)]
enum Ready {
    Pause(Duration),
    /// A synced sandbox in the pool.
    Warm,
}

async fn starts(world: &World, n: u32, ready: Ready) -> Result<Vec<Duration>, Failure> {
    let mut samples = vec![];
    for i in 0..n {
        match ready {
            Ready::Pause(pause) => tokio::time::sleep(pause).await,
            Ready::Warm => until_warm(world).await?,
        }
        let (sample, session) = start(world, &format!("start-{i}")).await?;
        samples.push(sample);
        world.desk.client.delete_session(session).await?;
    }
    Ok(samples)
}

/// As many blanks as the server keeps.
async fn until_blank(world: &World) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let resources = world.desk.client.machine_resources().await?;
        if resources.blanks >= resources.blanks_wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::new(ErrorCode::Deadline, "The server made no blanks.").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn until_warm(world: &World) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        tokio::time::sleep(PAUSE).await;
        let resources = world.desk.client.machine_resources().await?;
        if resources.pools.iter().any(|pool| pool.ready > 0 && pool.preparing == 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::new(ErrorCode::Deadline, "The pool made no warm sandbox.").into());
        }
    }
}

async fn start(world: &World, nonce: &str) -> Result<(Duration, SessionId), Failure> {
    let begun = Instant::now();
    let session = create(world).await?;
    exec(world, session, nonce).await?;
    Ok((begun.elapsed(), session))
}

/// Each from the same instant, by people who are new: the first of them bears the number `first`.
async fn burst(world: &World, first: usize) -> Result<Vec<Duration>, Failure> {
    let mut people = vec![];
    for number in first..first + PEOPLE {
        people.push(world.person(number).await?);
    }
    let begun = Instant::now();
    let starts = (0..BURST).map(|number| {
        let client = &people[number % PEOPLE];
        async move {
            let session = create_by(client, world).await?;
            exec_by(client, session, &format!("burst-{number}")).await?;
            Ok::<_, Failure>((begun.elapsed(), session))
        }
    });
    let mut samples = vec![];
    let mut sessions = vec![];
    for started in futures::future::join_all(starts).await {
        let (sample, session) = started?;
        samples.push(sample);
        sessions.push(session);
    }
    end(world, sessions).await?;
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
    create_by(&world.desk.client, world).await
}

async fn create_by(client: &Client, world: &World) -> Result<SessionId, Failure> {
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
    Ok(client.create_session(&new_key(), &body).await?.id)
}

async fn exec(world: &World, session: SessionId, nonce: &str) -> Result<(), Failure> {
    exec_by(&world.desk.client, session, nonce).await
}

/// Runs the script and checks that the output is this run's own.
async fn exec_by(client: &Client, session: SessionId, nonce: &str) -> Result<(), Failure> {
    let body = Exec { command: peers::script(nonce, "tracked.txt"), timeout_ms: None };
    let result = client.exec(session, &body).await?;
    if result.output == format!("{nonce}\n{TRACKED}") && result.exit_code == Some(0) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Internal, "A command did not print what it should.")
        .detail(result.output)
        .into())
}
