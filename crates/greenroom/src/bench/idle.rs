//! `bench idle`: open WebSockets to sessions that have left memory. What each holds of the server, what all of them cost
//! while nothing happens, and how long a command takes that has to wake its session first.

use super::disk;
use super::process::Process;
use super::served::Knobs;
use super::stats::{Report, Stats};
use super::world::{World, client_with};
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use greenroom_client::{Client, new_key};
use greenroom_domain::{Command, ErrorCode, Problem, SessionId};
use greenroom_wire::{ClientFrame, ClientKind, CreateSession, Frame, PROTOCOL};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

type Socket = WebSocketStream<TcpStream>;

/// The server bounds the streams that one person has open.
const EACH: u32 = 200;
const TOGETHER: usize = 16;
const IDLE_SECONDS: u32 = 3;
/// How long nothing happens while the processor's time is counted.
const QUIET: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);
const WAKES: usize = 200;

pub(crate) async fn run(global: &Global, out: Output, sockets: u32) -> Result<Exit, Failure> {
    room_for_descriptors(sockets)?;
    let knobs =
        Knobs { blanks: Some(0), session_idle_seconds: Some(IDLE_SECONDS), ..Knobs::usual(1).without_pool() };
    let world = World::start(global, out, knobs, &[("tracked.txt", "x\n")]).await?;
    out.progress(&format!("{sockets} sessions…\n"));
    let mut people = vec![];
    for number in 0..sockets.div_ceil(EACH) {
        people.push(world.token(number as usize).await?);
    }
    let sessions = make_sessions(&world, &people, sockets).await?;
    // What making them left behind is not what open connections hold.
    let world = world.again(knobs).await?;
    let measured = measure(&world, out, &people, &sessions).await;
    world.stop().await;
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

/// One for each connection on either side: the server's process inherits the limit.
fn room_for_descriptors(sockets: u32) -> Result<(), Failure> {
    let needed = u64::from(sockets) + 2000;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = Some(needed);
    limit.maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, limit).map_err(|error| {
        let message =
            format!("{sockets} connections need {needed} descriptors, which the system refuses: {error}.");
        Problem::new(ErrorCode::SettingsInvalid, message)
            .hint("Raise `ulimit -n`, or ask for fewer with --sockets.")
    })?;
    Ok(())
}

async fn make_sessions(world: &World, people: &[String], count: u32) -> Result<Vec<SessionId>, Failure> {
    let clients: Vec<Client> =
        people.iter().map(|token| client_with(world.address(), token.clone())).collect::<Result<_, _>>()?;
    let make = |number: u32| {
        let client = &clients[number as usize % clients.len()];
        let body = CreateSession {
            repository: world.repository.clone(),
            prompt: None,
            attachments: vec![],
            title: Some(format!("Idle {number}")),
            model: None,
            effort: None,
            base_branch: None,
            budget: None,
            team_access: Default::default(),
        };
        async move { Ok::<_, Failure>(client.create_session(&new_key(), &body).await?.id) }
    };
    stream::iter(0..count).map(make).buffered(TOGETHER).try_collect().await
}

async fn measure(
    world: &World,
    out: Output,
    people: &[String],
    sessions: &[SessionId],
) -> Result<Report, Failure> {
    let process = world.process()?;
    world.desk.client.machine().await?;
    until_asleep(&process).await?;
    tokio::time::sleep(SETTLE).await;
    let at_rest = process.resident()?;
    out.progress("connecting…\n");
    let connect = |number: usize| {
        let token = &people[number / EACH as usize];
        let followed = follow(world.address(), token, sessions[number], None);
        async move { Ok::<_, Failure>(followed.await?.0) }
    };
    let sockets: Vec<Socket> =
        stream::iter(0..sessions.len()).map(connect).buffered(TOGETHER).try_collect().await?;
    let open_sockets = sockets.len();
    let reading = tokio::spawn(stay(sockets));
    until_asleep(&process).await?;
    tokio::time::sleep(SETTLE).await;
    let connected = process.resident()?;
    out.progress("nothing happens…\n");
    let (began, cpu) = (Instant::now(), process.cpu()?);
    tokio::time::sleep(QUIET).await;
    let share = (process.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    out.progress("waking some…\n");
    let wakes = wake(world, people, sessions).await?;
    let awake = warm(world, sessions[0]).await?;
    reading.abort();

    let mut report = Report::default();
    let per_socket = connected.saturating_sub(at_rest) / open_sockets as u64;
    report.fact("sockets", open_sockets);
    report.fact("bytes_per_socket", per_socket);
    report.fact("cpu_percent", (share * 10_000.0).round() / 100.0);
    if let Some(stats) = Stats::of(wakes.clone()) {
        report.fact("wake_p50_ms", stats.p50_ms);
        report.fact("wake_p99_ms", stats.p99_ms);
    }
    report.fact("rss_at_rest_mb", (at_rest as f64 / 1e5).round() / 10.0);
    report.fact("rss_connected_mb", (connected as f64 / 1e5).round() / 10.0);
    report.fact(
        "how",
        "Resident memory of the server's process: started over the sessions, and again with a connection to each that \
         has caught up and whose session has left memory. A wake is a command over HTTP to such a session until its \
         receipt, which is synced.",
    );
    report.row("wake", wakes);
    report.row("awake", awake);
    report.row("fdatasync", disk::fdatasync(world.data(), 200)?);
    Ok(report)
}

/// A connection that has what it asked for, and how many entries that was.
pub(super) async fn follow(
    address: &str,
    token: &str,
    session: SessionId,
    window: Option<u32>,
) -> Result<(Socket, u64), Failure> {
    let host = address.trim_start_matches("http://");
    let request = format!("ws://{host}/api/v1/sessions/{session}/socket").into_client_request();
    let mut request = request.map_err(broken)?;
    let bearer = format!("Bearer {token}").parse().map_err(broken)?;
    request.headers_mut().insert("authorization", bearer);
    let small = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(1024);
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async_with_config(request, stream, Some(small)).await.map_err(broken)?;
    let hello = ClientFrame::Hello {
        protocol: PROTOCOL,
        after_seq: 0,
        window,
        client: ClientKind::Cli,
        compression: None,
    };
    let hello = serde_json::to_string(&hello).map_err(broken)?;
    socket.send(Message::text(hello)).await.map_err(broken)?;
    let mut entries = 0;
    while let Some(message) = socket.next().await {
        let Ok(text) = message.map_err(broken)?.into_text() else { continue };
        match serde_json::from_str(&text) {
            Ok(Frame::CaughtUp { .. }) => return Ok((socket, entries)),
            Ok(Frame::Entry { .. }) => entries += 1,
            _ => {}
        }
    }
    Err(broken("it ended before the log did").into())
}

fn broken(what: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::ServerUnexpected, format!("A connection broke: {what}."))
}

/// Answers pings.
async fn stay(sockets: Vec<Socket>) {
    let mut messages = stream::select_all(sockets);
    while messages.next().await.is_some() {}
}

pub(super) async fn until_asleep(process: &Process) -> Result<(), Failure> {
    let asleep = async {
        // Each open session has its file open; those made in advance are no session's.
        let is_open = |path: &str| path.ends_with("/session.db") && !path.contains("/.spare/");
        while process.open_files(is_open)? > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok::<_, std::io::Error>(())
    };
    let late = Problem::new(ErrorCode::Deadline, "The sessions did not leave memory in time.");
    Ok(tokio::time::timeout(PATIENCE, asleep).await.map_err(|_| late)??)
}

/// A command to sessions that sleep, each once.
async fn wake(world: &World, people: &[String], sessions: &[SessionId]) -> Result<Vec<Duration>, Failure> {
    let client = client_with(world.address(), people[0].clone())?;
    let step = (sessions.len() / WAKES).max(1);
    let mut samples = vec![];
    for session in sessions.iter().step_by(step) {
        samples.push(stop(&client, *session).await?);
    }
    Ok(samples)
}

/// The same command to a session that is awake.
async fn warm(world: &World, session: SessionId) -> Result<Vec<Duration>, Failure> {
    let client = &world.desk.client;
    stop(client, session).await?;
    let mut samples = vec![];
    for _ in 0..WAKES {
        samples.push(stop(client, session).await?);
    }
    Ok(samples)
}

/// Refused, as nothing runs: the refusal is a receipt, stored and synced like any other.
pub(super) async fn stop(client: &Client, session: SessionId) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let receipt = client.submit(session, &new_key(), &Command::Stop { hold_queue: false }).await?;
    let took = begun.elapsed();
    match receipt.problem {
        Some(problem) if problem.code == ErrorCode::NotRunning => Ok(took),
        Some(problem) => Err(problem.into()),
        None => Err(Problem::new(ErrorCode::ServerUnexpected, "A stop of nothing was accepted.").into()),
    }
}
