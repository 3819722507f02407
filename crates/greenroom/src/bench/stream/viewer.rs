//! A viewer of one session, and the account of what it saw.

use super::record::{Clock, RECORD, records};
use crate::exit::Failure;
use futures::{SinkExt, StreamExt};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::message::Content;
use greenroom_domain::{BlockId, ErrorCode, Event, Problem, SessionId};
use greenroom_wire::{Frame, PROTOCOL};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest silence of a session that is watched.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const BY_DELTA: u8 = 1;
const BY_ENTRY: u8 = 2;

/// What one viewer saw.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    /// By number of the delta: which kinds of frame brought it.
    deltas: Vec<u8>,
    /// When it was written, and how long it took, in microseconds.
    times: Vec<(u64, u32)>,
    block: Option<BlockId>,
    last_seq: u64,
    /// Deltas that the source wrote; known at the end.
    written: usize,
    frames: u64,
    repeated: u64,
    skipped: u64,
    resumed: u64,
    broke_off: bool,
    /// How the turn ended, where it was not completed.
    ended: Option<TurnOutcome>,
}

/// What all viewers of a row saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When each was written, in microseconds since it counts, and how long it took.
    pub(super) latencies: Vec<(u32, u32)>,
    pub(super) frames: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) resumed: u64,
    /// A turn that was not completed measures nothing.
    pub(super) ended: Option<TurnOutcome>,
}

impl Seen {
    /// Latencies of what was written between two instants, everything else of the whole time.
    pub(super) fn gather(
        viewers: Vec<Result<Viewer, tokio::task::JoinError>>,
        from: u64,
        until: u64,
    ) -> Self {
        let mut all = Self::default();
        for viewer in viewers {
            let Ok(viewer) = viewer else {
                all.lost += 1;
                continue;
            };
            let counts = viewer.times.iter().filter(|(written, _)| (from..until).contains(written));
            let since = |written: u64| u32::try_from(written - from).unwrap_or(u32::MAX);
            all.latencies.extend(counts.map(|(written, took)| (since(*written), *took)));
            all.add_counts(&viewer.counts());
        }
        all
    }

    pub(super) fn add_counts(&mut self, other: &Self) {
        self.frames += other.frames;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.resumed += other.resumed;
        self.ended = self.ended.take().or_else(|| other.ended.clone());
    }
}

pub(super) async fn watch(
    address: &str,
    token: &str,
    session: SessionId,
    clock: Clock,
) -> Result<JoinHandle<Viewer>, Failure> {
    let url = format!("ws{}/api/v1/sessions/{session}/socket", address.trim_start_matches("http"));
    let mut socket = connect(&url, Some(token)).await?;
    let hello = json!({ "type": "hello", "protocol": PROTOCOL, "after_seq": 0 }).to_string();
    socket.send(Message::text(hello)).await.map_err(broken)?;
    let mut viewer = Viewer::default();
    while let Some(text) = next(&mut socket).await {
        let frame = frame_of(&text)?;
        viewer.take(&frame, clock.micros());
        if matches!(frame, Frame::CaughtUp { .. }) {
            return Ok(tokio::spawn(viewer.run(socket, clock)));
        }
    }
    Err(broken("it ended before it was live"))
}

pub(super) async fn connect(url: &str, token: Option<&str>) -> Result<Socket, Failure> {
    let mut request = url.into_client_request().map_err(broken)?;
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().map_err(broken)?;
        request.headers_mut().insert("authorization", value);
    }
    let (socket, _) =
        tokio_tungstenite::connect_async_with_config(request, None, true).await.map_err(broken)?;
    Ok(socket)
}

pub(super) fn broken(error: impl std::fmt::Display) -> Failure {
    Problem::new(ErrorCode::Internal, format!("A measured stream failed: {error}.")).into()
}

/// The next text; `None` at the end, also of patience.
pub(super) async fn next(socket: &mut Socket) -> Option<String> {
    loop {
        match timeout(PATIENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => return Some(text.to_string()),
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
            _ => return None,
        }
    }
}

fn frame_of(text: &str) -> Result<Frame, Failure> {
    serde_json::from_str(text).map_err(broken)
}

impl Viewer {
    async fn run(mut self, mut socket: Socket, clock: Clock) -> Self {
        while let Some(text) = next(&mut socket).await {
            let now = clock.micros();
            let Ok(frame) = frame_of(&text) else { break };
            self.take(&frame, now);
            if matches!(frame, Frame::Resume { .. }) {
                let hello = json!({ "type": "hello", "protocol": PROTOCOL, "after_seq": self.last_seq });
                if socket.send(Message::text(hello.to_string())).await.is_err() {
                    break;
                }
            }
            if is_over(&frame) {
                return self;
            }
        }
        self.broke_off = true;
        self
    }

    pub(super) fn take(&mut self, frame: &Frame, now: u64) {
        self.frames += 1;
        match frame {
            Frame::Delta { block, text, .. } => {
                self.block = Some(*block);
                self.text(text, BY_DELTA, now);
            }
            Frame::Entry { entry } => {
                match entry.seq {
                    seq if seq <= self.last_seq => self.repeated += 1,
                    seq => self.skipped += seq - self.last_seq - 1,
                }
                self.last_seq = self.last_seq.max(entry.seq);
                match &entry.event {
                    Event::BlockText { text, .. } => self.text(text, BY_ENTRY, now),
                    Event::AssistantMessage { content, .. } => self.answer(content, now),
                    Event::TurnFinished { outcome, .. } if *outcome != TurnOutcome::Completed => {
                        self.ended = Some(outcome.clone());
                    }
                    _ => {}
                }
            }
            Frame::Resume { .. } => self.resumed += 1,
            _ => {}
        }
    }

    /// The whole answer: what came in no other way is there with it.
    fn answer(&mut self, content: &[Content], now: u64) {
        for content in content {
            if let Content::Text { text } = content {
                self.written = text.len() / RECORD;
                self.text(text, 0, now);
            }
        }
    }

    fn text(&mut self, text: &str, by: u8, now: u64) {
        for (number, written_at) in records(text) {
            if self.deltas.len() <= number {
                self.deltas.resize(number + 1, 0);
            }
            if self.deltas[number] == 0 {
                self.times
                    .push((written_at, u32::try_from(now.saturating_sub(written_at)).unwrap_or(u32::MAX)));
                // So that it counts as seen, whatever brought it.
                self.deltas[number] |= 4;
            }
            self.repeated += u64::from(by != 0 && self.deltas[number] & by != 0);
            self.deltas[number] |= by;
        }
    }

    /// The source says how many it wrote.
    pub(super) fn ends(&mut self, written: usize) {
        self.written = written;
    }

    fn counts(&self) -> Seen {
        let missing = self.deltas.iter().filter(|by| **by == 0).count();
        let never = self.written.saturating_sub(self.deltas.len());
        Seen {
            latencies: vec![],
            frames: self.frames,
            lost: self.skipped + (missing + never) as u64 + u64::from(self.broke_off),
            repeated: self.repeated,
            resumed: self.resumed,
            ended: self.ended.clone(),
        }
    }
}

fn is_over(frame: &Frame) -> bool {
    matches!(frame, Frame::Entry { entry } if matches!(entry.event, Event::TurnFinished { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(clock: Clock, numbers: std::ops::Range<usize>) -> Frame {
        let text: String = numbers.clone().map(|number| clock.record(number)).collect();
        Frame::Delta { block: BlockId::from_parts(1, 1), offset: (numbers.start * RECORD) as u64, text }
    }

    #[test]
    fn what_is_missing_is_lost_and_what_comes_twice_is_repeated() {
        let clock = Clock::start();
        let mut viewer = Viewer::default();
        viewer.take(&delta(clock, 0..2), clock.micros());
        viewer.take(&delta(clock, 1..2), clock.micros());
        viewer.take(&delta(clock, 4..5), clock.micros());
        viewer.ends(6);
        let seen = Seen::gather(vec![Ok(viewer)], 0, u64::MAX);
        assert_eq!((seen.lost, seen.repeated, seen.latencies.len()), (3, 1, 3));
    }
}
