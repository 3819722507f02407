//! The event streams. A broken connection is made again from the last thing that arrived, so that whoever reads
//! sees every entry once and in order; what cannot be resumed ends with an error.

use crate::{Client, Error};
use eventsource_stream::{EventStreamError, Eventsource};
use futures::stream::{BoxStream, Stream, StreamExt};
use greenroom_domain::{ImageId, RepositoryName, SessionId};
use greenroom_wire::{BuildFrame, Frame, SessionsFrame};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// How long a stream that once worked is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first pause; each following one is twice as long.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// After this long without any frame the last error is given.
    pub give_up_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            give_up_after: Duration::from_secs(120),
        }
    }
}

impl Patience {
    fn pause(&self, attempt: u32) -> Duration {
        self.first_pause.saturating_mul(1 << attempt.min(16)).min(self.longest_pause)
    }
}

/// A stream as it is given to callers.
pub type Follow<F> = BoxStream<'static, Result<F, Error>>;

impl Client {
    /// Frames of a session after the entry `after`, for ever: the stream ends only with an error. Every entry comes
    /// once; ephemeral frames (`delta`, `output`) are lost with a broken connection and follow as entries; what is so now
    /// (`presence`, `readers`, `read`, `draft`) is told again by a new one.
    pub fn follow(&self, session: SessionId, after: u64) -> Follow<Frame> {
        self.follow_with(session, after, Patience::default())
    }

    pub fn follow_with(&self, session: SessionId, after: u64, patience: Patience) -> Follow<Frame> {
        resuming(self.clone(), SessionFeed { session, after }, patience).boxed()
    }

    /// A build's log from its beginning; ends after `finished`.
    pub fn follow_build(&self, image: ImageId) -> Follow<BuildFrame> {
        let feed = BuildFeed { image, delivered: 0, repeated: 0 };
        resuming(self.clone(), feed, Patience::default()).boxed()
    }

    /// The list of sessions and its changes, for ever: the stream ends only with an error. A connection that was made
    /// again begins with a `snapshot`, which replaces everything before it.
    pub fn follow_sessions(&self, repository: Option<RepositoryName>) -> Follow<SessionsFrame> {
        resuming(self.clone(), SessionsFeed { repository }, Patience::default()).boxed()
    }
}

/// One stream's memory: where to go on, and what to do with a frame.
trait Feed: Send + 'static {
    type Frame: DeserializeOwned + Send;
    /// Called at each connection.
    fn url(&mut self, client: &Client) -> Url;
    fn accept(&mut self, frame: Self::Frame) -> Step<Self::Frame>;
}

enum Step<F> {
    Deliver(F),
    Skip,
    Reconnect,
    DeliverAndEnd(F),
}

struct SessionFeed {
    session: SessionId,
    after: u64,
}

impl Feed for SessionFeed {
    type Frame = Frame;

    fn url(&mut self, client: &Client) -> Url {
        let mut url = client.address().route(&["sessions", &self.session.to_string(), "stream"]);
        url.query_pairs_mut()
            .append_pair("after", &self.after.to_string())
            .append_pair("client", client.kind().as_str());
        url
    }

    fn accept(&mut self, frame: Frame) -> Step<Frame> {
        match frame {
            Frame::Entry { entry } if entry.seq <= self.after => Step::Skip,
            Frame::Entry { entry } if entry.seq > self.after + 1 => Step::Reconnect,
            Frame::Entry { entry } => {
                self.after = entry.seq;
                Step::Deliver(Frame::Entry { entry })
            }
            Frame::Resume { .. } => Step::Reconnect,
            other => Step::Deliver(other),
        }
    }
}

struct SessionsFeed {
    repository: Option<RepositoryName>,
}

impl Feed for SessionsFeed {
    type Frame = SessionsFrame;

    fn url(&mut self, client: &Client) -> Url {
        let mut url = client.address().route(&["sessions", "stream"]);
        if let Some(name) = &self.repository {
            url.query_pairs_mut().append_pair("repository", name.as_str());
        }
        url
    }

    fn accept(&mut self, frame: SessionsFrame) -> Step<SessionsFrame> {
        Step::Deliver(frame)
    }
}

struct BuildFeed {
    image: ImageId,
    /// Bytes of output given to the caller.
    delivered: usize,
    /// Bytes of output of this connection: it begins at the beginning.
    repeated: usize,
}

impl Feed for BuildFeed {
    type Frame = BuildFrame;

    fn url(&mut self, client: &Client) -> Url {
        self.repeated = 0;
        client.address().route(&["images", &self.image.to_string(), "log"])
    }

    fn accept(&mut self, frame: BuildFrame) -> Step<BuildFrame> {
        let BuildFrame::Output { text } = frame else { return Step::DeliverAndEnd(frame) };
        let known = self.delivered.saturating_sub(self.repeated).min(text.len());
        self.repeated += text.len();
        match text.get(known..) {
            Some("") => Step::Skip,
            rest => {
                let text = rest.map_or_else(|| text.clone(), str::to_owned);
                self.delivered = self.repeated;
                Step::Deliver(BuildFrame::Output { text })
            }
        }
    }
}

struct Resuming<F: Feed> {
    client: Client,
    feed: F,
    patience: Patience,
    connection: Option<BoxStream<'static, Result<F::Frame, Error>>>,
    has_worked: bool,
    /// The renewed token that the last connection was asked for with.
    token: Option<String>,
    last_frame: Instant,
    attempt: u32,
    is_over: bool,
}

fn resuming<F: Feed>(
    client: Client,
    feed: F,
    patience: Patience,
) -> impl Stream<Item = Result<F::Frame, Error>> {
    let state = Resuming {
        client,
        feed,
        patience,
        connection: None,
        has_worked: false,
        token: None,
        last_frame: Instant::now(),
        attempt: 0,
        is_over: false,
    };
    futures::stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item, state))
    })
}

impl<F: Feed> Resuming<F> {
    async fn next(&mut self) -> Option<Result<F::Frame, Error>> {
        while !self.is_over {
            match self.receive().await {
                Ok(Some(frame)) => match self.feed.accept(frame) {
                    Step::Deliver(frame) => return Some(Ok(frame)),
                    Step::Skip => {}
                    Step::Reconnect => self.wait().await,
                    Step::DeliverAndEnd(frame) => {
                        self.is_over = true;
                        return Some(Ok(frame));
                    }
                },
                Ok(None) if self.is_silent() => {
                    self.is_over = true;
                    return Some(Err(Error::protocol("a stream that ends again and again without a frame")));
                }
                Ok(None) => self.wait().await,
                Err(error) if self.is_worth_another(&error) => self.wait().await,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// `None`: the server ended the stream in order, which it does when it restarts or deletes the session.
    async fn receive(&mut self) -> Result<Option<F::Frame>, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                self.token = self.client.renewed_token();
                let url = self.feed.url(&self.client);
                let response = self.client.send(self.client.stream(url)).await?;
                let address = self.client.address().clone();
                let frames = response.bytes_stream().eventsource().map(move |event| match event {
                    Ok(event) => serde_json::from_str(&event.data).map_err(|error| {
                        Error::protocol(format!("a frame of type {:?}: {error}", event.event))
                    }),
                    Err(EventStreamError::Transport(source)) => Err(Error::unreachable(&address, source)),
                    Err(other) => Err(Error::protocol(other.to_string())),
                });
                self.connection.insert(frames.boxed())
            }
        };
        let frame = connection.next().await.transpose()?;
        if frame.is_some() {
            (self.has_worked, self.last_frame, self.attempt) = (true, Instant::now(), 0);
        }
        Ok(frame)
    }

    fn is_worth_another(&self, error: &Error) -> bool {
        // A server that has just started refuses the token of its last start.
        let is_passing = error.is_passing() || self.token != self.client.renewed_token();
        self.has_worked && is_passing && !self.is_silent()
    }

    fn is_silent(&self) -> bool {
        self.last_frame.elapsed() >= self.patience.give_up_after
    }

    async fn wait(&mut self) {
        self.connection = None;
        let pause = self.patience.pause(self.attempt);
        self.attempt += 1;
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(feed: &mut BuildFeed, text: &str) -> Option<String> {
        match feed.accept(BuildFrame::Output { text: text.to_owned() }) {
            Step::Deliver(BuildFrame::Output { text }) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn a_build_log_read_twice_is_given_once() {
        let id = ImageId::from_parts(1, 1);
        let mut feed = BuildFeed { image: id, delivered: 0, repeated: 0 };
        assert_eq!(output(&mut feed, "clone\n").as_deref(), Some("clone\n"));
        assert_eq!(output(&mut feed, "fetch\n").as_deref(), Some("fetch\n"));
        feed.repeated = 0;
        assert_eq!(output(&mut feed, "clone\nfet"), None);
        assert_eq!(output(&mut feed, "ch\nbuild\n").as_deref(), Some("build\n"));
        assert_eq!(output(&mut feed, "test\n").as_deref(), Some("test\n"));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let patience = Patience::default();
        assert_eq!(patience.pause(0), Duration::from_millis(100));
        assert_eq!(patience.pause(3), Duration::from_millis(800));
        assert_eq!(patience.pause(u32::MAX), Duration::from_secs(5));
    }
}
