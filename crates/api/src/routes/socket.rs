//! A session's stream over WebSocket: frames out, commands in, over one connection.
//!
//! `hello` from the client, then replay, `caught_up`, and live. One task owns the connection; what it does at each
//! moment is the `select!` in [`Connection::serve`]. A client that reads too slowly loses ephemeral frames first, then
//! is told to `resume` (see [`super::outbox`]); one that answers no ping is gone. When the caller's rights
//! change it is asked again at once whether they may be here; the last frame, `error`, says why not.

mod live;
mod wire;

use super::outbox::{Outbox, Pushed, Sent};
use crate::ApiState;
use crate::error::{ApiError, invalid};
use crate::extract::{Caller, PathOf};
use crate::layers::{Checks, Slot, Standing};
use crate::port::Frames;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::{FutureExt, StreamExt};
use greenroom_app::{FrameKind, SharedFrame};
use greenroom_domain::{CommandId, ErrorCode, Person, Problem, Right, SessionId};
use greenroom_wire::{
    ClientFrame, ClientKind, ErrorBody, Frame, FrameCompression, PROTOCOL, Receipt, ResumeReason,
    SubmitCommand, WriteDraft,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use live::Saying;
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::error::CapacityError;
use tungstenite::handshake::server::create_response;
use wire::{Outgoing, Wire};

const HELLO_TIME: Duration = Duration::from_secs(10);
/// Proxies commonly cut what was silent for a minute; each costs the server two wake-ups.
const PING: Duration = Duration::from_secs(45);
const SILENCE: Duration = Duration::from_secs(100);
const GOODBYE_TIME: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(2);
const FRAME_LIMIT: usize = 1024 * 1024;
/// Above `FRAME_LIMIT`, so that a frame which is a little too large gets a reason; beyond this the reader itself stops.
const READ_LIMIT: usize = 4 * FRAME_LIMIT;
const BAD_FRAMES: u32 = 20;
/// Commands that may wait; then nothing more is read until one is done.
const COMMANDS: usize = 16;
/// Answers that may wait for a client that does not take them; then nothing more is read from it.
const ANSWERS: usize = 64;

const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const FAILED: u16 = 1011;

/// Follow and command a session
///
/// A WebSocket; each message is a `ClientFrame` or a `Frame` as JSON text. The first is `hello`, within ten seconds; it
/// may be said again to go on from another entry. A client whose `hello` has a `compression` gets frames from 1 KiB on
/// as binary messages, compressed so; it sends text only. By cookie the handshake's `Origin` must be the server's own.
#[utoipa::path(get, path = "/sessions/{id}/socket", operation_id = "session_socket", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 101, description = "From here on frames, not HTTP."),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn socket(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(session): PathOf<SessionId>,
    request: Request,
) -> Result<Response, ApiError> {
    let (response, upgrade) = handshake(request)?;
    let checks = Checks::begin(state.clone(), &caller, Some((session, Right::View)));
    let person = checks.person();
    state.app.session(&person, session).await?;
    let slot = state.streams.enter(person.id)?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let wire = Wire::new(TokioIo::new(upgraded), READ_LIMIT).await;
                let connection = Connection::new(state, person, session, slot, wire);
                // Boxed: what is moved into a future and out of it is there twice.
                Box::new(connection).run(checks.standing()).await;
            }
            Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
        }
    });
    Ok(response)
}

/// What to answer, and the connection once that is sent.
fn handshake(mut request: Request) -> Result<(Response, OnUpgrade), Problem> {
    let refused = || {
        invalid("This address takes WebSocket handshakes only.")
            .hint("Plain HTTP clients read /api/v1/sessions/{id}/stream.")
    };
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(refused)?;
    let (parts, _) = request.into_parts();
    let response = create_response(&http::Request::from_parts(parts, ())).map_err(|_| refused())?;
    Ok((response.map(|()| Body::empty()), upgrade))
}

struct Connection {
    wire: Wire<TokioIo<Upgraded>>,
    state: ApiState,
    person: Arc<Person>,
    session: SessionId,
    _slot: Slot,
    outbox: Outbox,
    /// `None` until the client said hello, and after the stream ended.
    frames: Option<Frames>,
    compression: Option<FrameCompression>,
    hello_until: Instant,
    ping_at: Instant,
    heard_at: Instant,
    commands: VecDeque<SubmitCommand>,
    running: Option<JoinHandle<Receipt>>,
    saying: Saying,
    bad_frames: u32,
}

/// Why the connection is over.
enum End {
    /// The client closed it, or is gone.
    Gone,
    Closed(u16, &'static str),
}

type Step = Result<(), End>;

impl Connection {
    fn new(
        state: ApiState,
        person: Arc<Person>,
        session: SessionId,
        slot: Slot,
        wire: Wire<TokioIo<Upgraded>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            wire,
            state,
            person,
            session,
            _slot: slot,
            outbox: Outbox::default(),
            frames: None,
            compression: None,
            hello_until: now + HELLO_TIME,
            ping_at: now + PING,
            heard_at: now,
            commands: VecDeque::new(),
            running: None,
            saying: Saying::default(),
            bad_frames: 0,
        }
    }

    async fn run(mut self: Box<Self>, standing: Standing) {
        let end = self.serve(standing).await;
        if let Err(End::Closed(code, reason)) = end {
            let goodbye = Box::pin(self.say_goodbye(code, reason));
            let _gave_up = tokio::time::timeout(GOODBYE_TIME, goodbye).await;
        }
    }

    /// Everything that is seldom and large is boxed: of this there is one for each open connection.
    async fn serve(&mut self, mut standing: Standing) -> Step {
        // Made once: a connection wakes for every frame, and what is polled each time should cost little.
        let stopping = self.state.shutdown.clone().cancelled_owned();
        let clock = tokio::time::sleep_until(self.due());
        tokio::pin!(stopping, clock);
        loop {
            if self.due() < clock.deadline() {
                clock.as_mut().reset(self.due());
            }
            let (may_take, may_read) = (self.outbox.may_take(), self.may_read());
            tokio::select! {
                () = &mut stopping => return Err(End::Closed(GOING_AWAY, "the server is stopping")),
                Some(checked) = standing.next() => self.recheck(checked)?,
                () = &mut clock => {
                    self.on_time()?;
                    clock.as_mut().reset(self.due());
                }
                receipt = finished(&mut self.running) => self.command_done(receipt),
                said = self.saying.next() => self.said(said),
                frame = next_frame(&mut self.frames), if may_take => self.forward_all(frame)?,
                heard = exchange(&mut self.wire, &mut self.outbox, self.compression, may_read) => match heard? {
                    Exchanged::Sent => {}
                    Exchanged::Heard(message) => Box::pin(self.receive(message)).await?,
                },
            }
            // Most often the socket takes it at once; when not, the next round waits for it.
            if let Some(sent) = self.send_all().now_or_never() {
                sent?;
            }
        }
    }

    /// When to look at the clock again.
    fn due(&self) -> Instant {
        match self.frames {
            Some(_) => self.ping_at,
            None => self.ping_at.min(self.hello_until),
        }
    }

    fn on_time(&mut self) -> Step {
        let now = Instant::now();
        if self.frames.is_none() && now >= self.hello_until {
            return Err(End::Closed(POLICY, "no hello within 10 seconds"));
        }
        if now >= self.ping_at {
            self.ping_at = now + PING;
            return self.keep_alive();
        }
        Ok(())
    }

    /// Hands everything that waits to the system as far as it takes it. Cancel safe: a frame leaves the outbox only into
    /// the connection.
    async fn send_all(&mut self) -> Step {
        poll_fn(|context| self.wire.poll_send(context, || next_of(&mut self.outbox, self.compression)))
            .await
            .map_err(|_| End::Gone)
    }

    /// Sends what still waits and the reason, then reads what the client still sends: a connection that is closed with
    /// unread data is reset, and the reason with it.
    async fn say_goodbye(&mut self, code: u16, reason: &'static str) {
        self.compression = None;
        if self.send_all().await.is_err() || self.wire.close(code, reason).await.is_err() {
            return;
        }
        let mut is_answered = false;
        while let Some(Ok(message)) = poll_fn(|context| self.wire.poll_next(context)).await {
            is_answered |= matches!(message, Message::Close(_));
        }
        if !is_answered {
            // A frame over `READ_LIMIT` is not read to its end. Who reads while writing still sees the reason.
            tokio::time::sleep(LINGER).await;
        }
    }

    /// The caller's role counts as it is now, or they may not be here any more.
    fn recheck(&mut self, checked: Result<Arc<Person>, Problem>) -> Step {
        match checked {
            Ok(person) => {
                self.person = person;
                Ok(())
            }
            Err(problem) => {
                let reason = match problem.code {
                    ErrorCode::NotSignedIn => "signed out",
                    ErrorCode::SessionUnknown => "the session is gone",
                    _ => "not allowed any more",
                };
                self.error(problem);
                Err(End::Closed(POLICY, reason))
            }
        }
    }

    fn keep_alive(&mut self) -> Step {
        if self.heard_at.elapsed() > SILENCE {
            return Err(End::Gone);
        }
        self.outbox.ping();
        Ok(())
    }

    fn may_read(&self) -> bool {
        self.commands.len() < COMMANDS && self.outbox.answers() < ANSWERS
    }

    async fn receive(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Step {
        self.heard_at = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) if text.len() > FRAME_LIMIT => {
                Err(End::Closed(TOO_LARGE, "a frame has at most 1 MiB"))
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(frame) => self.obey(frame).await,
                Err(error) => self.refuse_frame(format!("The frame is not one of the protocol: {error}.")),
            },
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                self.refuse_frame("Frames are JSON text, not bytes.".into())
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(error)) if is_too_large(&error) => {
                Err(End::Closed(TOO_LARGE, "a frame has at most 1 MiB"))
            }
            Some(Err(_)) => Err(End::Gone),
        }
    }

    async fn obey(&mut self, frame: ClientFrame) -> Step {
        if let Err(problem) = self.state.limits.person(self.person.id) {
            return self.too_fast(frame, problem);
        }
        match frame {
            ClientFrame::Hello { protocol, .. } if protocol != PROTOCOL => {
                let message = format!("This server speaks protocol {PROTOCOL}, not {protocol}.");
                self.error(
                    Problem::new(ErrorCode::InvalidFrame, message).hint("Reload or update the client."),
                );
                Err(End::Closed(POLICY, "unknown protocol"))
            }
            ClientFrame::Hello { after_seq, window, client, compression, .. } => {
                self.compression = compression;
                self.subscribe(after_seq, window, client).await
            }
            _ if self.frames.is_none() => self.refuse_frame("The first frame is `hello`.".into()),
            ClientFrame::Command { key, command } => {
                self.commands.push_back(SubmitCommand { key, command });
                self.run_next_command();
                Ok(())
            }
            ClientFrame::Typing { is_typing } => self.say(|saying| saying.types(is_typing)),
            ClientFrame::Read { seq } => self.say(|saying| saying.has_read(seq)),
            ClientFrame::Draft { text, revision } => {
                self.say(|saying| saying.typed(WriteDraft { text, revision }))
            }
        }
    }

    /// A command is answered as such; of the rest the newest is said again by the client anyway.
    fn too_fast(&mut self, frame: ClientFrame, problem: Problem) -> Step {
        match frame {
            ClientFrame::Command { key, .. } => self.outbox.answer(Frame::Receipt(refused(key, problem))),
            ClientFrame::Hello { .. } => {
                self.error(problem);
                return Err(End::Closed(POLICY, "too many requests"));
            }
            _ => self.error(problem),
        }
        Ok(())
    }

    fn say(&mut self, what: impl FnOnce(&mut Saying)) -> Step {
        what(&mut self.saying);
        self.saying.go_on(&self.state, &self.person, self.session);
        Ok(())
    }

    fn said(&mut self, said: Result<Option<Frame>, Problem>) {
        match said {
            Ok(frame) => frame.into_iter().for_each(|frame| self.outbox.answer(frame)),
            Err(problem) => self.error(problem),
        }
        self.saying.go_on(&self.state, &self.person, self.session);
    }

    async fn subscribe(&mut self, after_seq: u64, window: Option<u32>, client: ClientKind) -> Step {
        let (person, session) = (&self.person, self.session);
        match self.state.app.subscribe(person, session, after_seq, window, client).await {
            Ok(frames) => {
                self.saying.is_client(client);
                self.outbox.begin(after_seq);
                self.frames = Some(frames);
                Ok(())
            }
            Err(problem) => {
                self.error(problem);
                Err(End::Closed(FAILED, "the session cannot be followed"))
            }
        }
    }

    /// A frame of the session and whatever else is there already.
    fn forward_all(&mut self, first: Option<SharedFrame>) -> Step {
        self.forward(first)?;
        while self.outbox.may_take() {
            match next_frame(&mut self.frames).now_or_never() {
                Some(frame) => self.forward(frame)?,
                None => break,
            }
        }
        Ok(())
    }

    /// A frame of the session, or the end of its stream.
    fn forward(&mut self, frame: Option<SharedFrame>) -> Step {
        let Some(frame) = frame else { return Err(self.stream_ended()) };
        let is_over = matches!(frame.kind, FrameKind::Error);
        let is_behind = matches!(frame.kind, FrameKind::Resume);
        if is_behind || self.outbox.push(frame) == Pushed::Overflow {
            self.await_hello();
        }
        match is_over {
            true => Err(End::Closed(FAILED, "the session cannot be followed")),
            false => Ok(()),
        }
    }

    fn stream_ended(&mut self) -> End {
        if !self.state.app.is_draining() {
            return End::Closed(GOING_AWAY, "the session's stream ended");
        }
        self.outbox.end(ResumeReason::Stopping);
        End::Closed(GOING_AWAY, "the server is stopping")
    }

    /// The client was too slow: it is told where to go on, and has to say hello again.
    fn await_hello(&mut self) {
        self.outbox.resume(ResumeReason::TooSlow);
        self.frames = None;
        self.hello_until = Instant::now() + HELLO_TIME;
    }

    fn refuse_frame(&mut self, message: String) -> Step {
        self.bad_frames += 1;
        let hint = "Send one JSON text message per frame: `hello` first, then `command`.";
        self.error(Problem::new(ErrorCode::InvalidFrame, message).hint(hint));
        match self.bad_frames {
            BAD_FRAMES.. => Err(End::Closed(POLICY, "20 malformed frames")),
            _ => Ok(()),
        }
    }

    fn error(&mut self, problem: Problem) {
        self.outbox.answer(Frame::Error { problem });
    }

    /// One at a time, in the order they came. A command runs to its end even when the client leaves.
    fn run_next_command(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(body) = self.commands.pop_front() {
            let (app, person, session) = (self.state.app.clone(), Arc::clone(&self.person), self.session);
            self.running = Some(tokio::spawn(async move {
                let key = body.key.clone();
                app.submit_command(&person, session, body)
                    .await
                    .unwrap_or_else(|problem| refused(key, problem))
            }));
        }
    }

    fn command_done(&mut self, receipt: Option<Receipt>) {
        self.running = None;
        match receipt {
            Some(receipt) => self.outbox.answer(Frame::Receipt(receipt)),
            None => self.error(crate::error::panicked()),
        }
        self.run_next_command();
    }
}

fn refused(key: CommandId, problem: Problem) -> Receipt {
    Receipt { key, seq: None, problem: Some(problem) }
}

async fn next_frame(frames: &mut Option<Frames>) -> Option<SharedFrame> {
    match frames {
        Some(frames) => frames.next().await,
        None => pending().await,
    }
}

enum Exchanged {
    Sent,
    Heard(Option<Result<Message, tungstenite::Error>>),
}

/// Sends what waits, and hears what the client says. Cancel safe.
async fn exchange(
    wire: &mut Wire<TokioIo<Upgraded>>,
    outbox: &mut Outbox,
    compression: Option<FrameCompression>,
    may_read: bool,
) -> Result<Exchanged, End> {
    let must_send = wire.is_sending() || !outbox.is_empty();
    poll_fn(|context| {
        if must_send && let Poll::Ready(sent) = wire.poll_send(context, || next_of(outbox, compression)) {
            return Poll::Ready(sent.map(|()| Exchanged::Sent).map_err(|_| End::Gone));
        }
        match may_read {
            true => wire.poll_next(context).map(|message| Ok(Exchanged::Heard(message))),
            false => Poll::Pending,
        }
    })
    .await
}

fn next_of(outbox: &mut Outbox, compression: Option<FrameCompression>) -> Option<Outgoing> {
    Some(match outbox.pop()? {
        Sent::Ping => Outgoing::Ping,
        Sent::Frame { written, .. } => {
            match compression.and_then(|FrameCompression::DeflateRaw| written.packed()) {
                Some(packed) => Outgoing::Binary(packed),
                None => Outgoing::Text(written.text().clone()),
            }
        }
    })
}

/// `None` when the command's task panicked.
async fn finished(running: &mut Option<JoinHandle<Receipt>>) -> Option<Receipt> {
    match running {
        Some(task) => task.await.ok(),
        None => pending().await,
    }
}

fn is_too_large(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// One of each for every open connection, however quiet: what grew here is better boxed where it is seldom needed.
    #[test]
    fn a_quiet_connection_stays_small() {
        let run = size_of_future(Connection::run);
        let sizes =
            (run, size_of::<Connection>(), size_of::<greenroom_app::FrameStream>(), size_of::<Checks>());
        let (run, connection, frames, checks) = sizes;
        assert!(run <= 1184 && connection <= 768 && frames <= 384 && checks <= 128, "{sizes:?}");
    }
}
