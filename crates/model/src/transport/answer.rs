//! The answer to a request: its head at once, its body piece by piece under a deadline for each and a limit for all.

use super::Inner;
use super::dial::{Connection, Sent, describe};
use crate::provider::Error;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use std::sync::Arc;
use std::time::Duration;

/// How long a finished HTTP/1.1 connection may take to become free again.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

pub(crate) struct AnswerBody {
    incoming: Incoming,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
    inner: Arc<Inner>,
    received: usize,
}

impl Answer {
    pub(super) fn new(sent: Sent, inner: &Arc<Inner>) -> Self {
        let (head, incoming) = sent.response.into_parts();
        let body =
            AnswerBody { incoming, connection: sent.connection, inner: Arc::clone(inner), received: 0 };
        Self { status: head.status, headers: head.headers, body }
    }
}

impl AnswerBody {
    /// The next bytes; `None` at the regular end, after which the connection is kept for another request.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let silence = self.inner.options.silence_timeout;
        loop {
            let frame = tokio::time::timeout(silence, self.incoming.frame())
                .await
                .map_err(|_| Error::Silent { seconds: silence.as_secs() })?;
            match frame {
                None => {
                    self.give_back();
                    return Ok(None);
                }
                Some(Err(error)) => return Err(Error::Broken { reason: describe(&error) }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return self.count(data).map(Some);
                    }
                }
            }
        }
    }

    /// At most `limit` bytes of the body, for an error's message. What comes later is not waited for.
    pub(crate) async fn read_up_to(mut self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            match self.next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        bytes.truncate(limit);
        bytes
    }

    /// Reads what little follows the last event, so that the connection can be used again.
    pub(crate) async fn drain(mut self) {
        let draining = async { while let Ok(Some(_)) = self.next().await {} };
        let _ = tokio::time::timeout(RETURN_TIMEOUT, draining).await;
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, Error> {
        self.received += data.len();
        let limit = self.inner.options.answer_limit;
        if self.received > limit { Err(Error::TooLarge { limit }) } else { Ok(data) }
    }

    fn give_back(&mut self) {
        let Some(mut sender) = self.connection.take() else { return };
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(RETURN_TIMEOUT, sender.ready()).await {
                inner.pool().put(Connection::Http1(sender), &inner.options);
            }
        });
    }
}
