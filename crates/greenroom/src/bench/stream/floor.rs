//! The floor of `bench stream`: a relay in a process of its own. A source's WebSocket brings frames as text; each goes to
//! every viewer of its number. Nothing else: no session, no log, no sign-in, no replay; who is too slow loses frames.

use super::record::{Clock, RECORD};
use super::viewer::{self, Seen, Viewer, broken, connect, next};
use super::{Measured, SETTLE, STAGGER, Usage};
use crate::bench::process::Process;
use crate::exit::{Exit, Failure};
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures::SinkExt;
use futures::future::join_all;
use greenroom_domain::BlockId;
use greenroom_wire::Frame;
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite;

const BEHIND: usize = 2048;
/// The last message of a source, and of each of its viewers.
const END: &str = "end";

type Rooms = Arc<Mutex<HashMap<u64, broadcast::Sender<Utf8Bytes>>>>;

/// Runs until its standard input ends.
pub(in crate::bench) async fn serve() -> Result<Exit, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut stdout = tokio::io::stdout();
    stdout.write_all(format!("{}\n", listener.local_addr()?).as_bytes()).await?;
    stdout.flush().await?;
    let routes = Router::new().route("/source/{number}", any(source)).route("/viewer/{number}", any(viewer));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, routes.with_state(Rooms::default()));
    let mut rest = vec![];
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        served = async { serving.await } => served?,
        read = stdin.read_to_end(&mut rest) => drop(read?),
    }
    Ok(Exit::Done)
}

fn room(rooms: &Rooms, number: u64) -> broadcast::Sender<Utf8Bytes> {
    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    rooms.entry(number).or_insert_with(|| broadcast::Sender::new(BEHIND)).clone()
}

async fn source(State(rooms): State<Rooms>, Path(number): Path<u64>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket: WebSocket| {
        let room = room(&rooms, number);
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            // Nobody may be watching.
            let _ = room.send(text);
        }
    })
}

async fn viewer(State(rooms): State<Rooms>, Path(number): Path<u64>, upgrade: WebSocketUpgrade) -> Response {
    let mut frames = room(&rooms, number).subscribe();
    upgrade.on_upgrade(async move |mut socket: WebSocket| {
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Ok(text) => if socket.send(Message::Text(text)).await.is_err() { return },
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
            }
        }
    })
}

pub(super) async fn measure(
    clock: Clock,
    sessions: usize,
    rate: u32,
    viewers: usize,
    seconds: u64,
) -> Result<Measured, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "stream-floor"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn()?;
    let address = greeting(&mut process).await?;
    let measured = Process::new(process.id().ok_or_else(|| broken("the floor ended"))?);
    let is_over = watch::Sender::new(false);
    let mut watching = vec![];
    for at in 0..sessions * viewers {
        let socket = connect(&format!("ws://{address}/viewer/{}", at / viewers), None).await?;
        watching.push(tokio::spawn(watch(socket, clock)));
    }
    let mut sources = vec![];
    for number in 0..sessions {
        let socket = connect(&format!("ws://{address}/source/{number}"), None).await?;
        sources.push(tokio::spawn(say(socket, clock, rate, is_over.subscribe())));
        tokio::time::sleep(STAGGER).await;
    }
    tokio::time::sleep(SETTLE).await;
    let (from, before) = (clock.micros(), measured.cpu()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let usage = Usage::since(&measured, before)?;
    let until = clock.micros();
    is_over.send_replace(true);
    for source in sources {
        source.await.map_err(broken)??;
    }
    let seen = Seen::gather(join_all(watching).await, from, until);
    drop(process.stdin.take());
    process.wait().await?;
    Ok(Measured { seen, noise: 0, usage })
}

async fn greeting(process: &mut Child) -> Result<String, Failure> {
    let stdout = process.stdout.take().ok_or_else(|| broken("the floor has no output"))?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    line.ok_or_else(|| broken("the floor did not start"))
}

/// As the product's source, in the viewers' own form.
async fn say(
    mut socket: viewer::Socket,
    clock: Clock,
    rate: u32,
    mut is_over: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let block = BlockId::from_parts(1, 1);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while !*is_over.borrow_and_update() {
        pace.tick().await;
        let offset = (number * RECORD) as u64;
        let frame = Frame::Delta { block, offset, text: clock.record(number) };
        number += 1;
        send(&mut socket, serde_json::to_string(&frame).map_err(broken)?).await?;
    }
    send(&mut socket, format!("{END} {number}")).await?;
    socket.close(None).await.map_err(broken)
}

async fn send(socket: &mut viewer::Socket, text: String) -> Result<(), Failure> {
    socket.send(tungstenite::Message::text(text)).await.map_err(broken)
}

async fn watch(mut socket: viewer::Socket, clock: Clock) -> Viewer {
    let mut viewer = Viewer::default();
    while let Some(text) = next(&mut socket).await {
        let now = clock.micros();
        if let Some(written) = text.strip_prefix(END) {
            viewer.ends(written.trim().parse().unwrap_or(usize::MAX));
            return viewer;
        }
        if let Ok(frame) = serde_json::from_str(&text) {
            viewer.take(&frame, now);
        }
    }
    viewer.ends(usize::MAX);
    viewer
}
