//! Sending traces to an OpenTelemetry collector by OTLP over HTTP (protobuf). One task, one bounded queue: whoever sends a
//! turn waits until the collector took it or did not, and repeats it then; nothing else waits for a collector.

use crate::metrics::TraceCounts;
use crate::spans;
use async_trait::async_trait;
use bytes::Bytes;
use greenroom_domain::SessionId;
use greenroom_domain::trace::TurnTrace;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use url::Url;

/// Turns that may wait for the collector.
const QUEUE: usize = 512;
/// Turns sent in one request.
const BATCH: usize = 32;
const SEND_TIME: Duration = Duration::from_secs(10);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Of a collector's answer; more is not read.
const ANSWER_LIMIT: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The collector's base address, such as `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub endpoint: Url,
    pub version: &'static str,
}

/// A finished turn for the collector.
#[derive(Clone, Debug)]
pub struct Traced {
    pub trace: TurnTrace,
    pub session: SessionId,
    pub repository: String,
}

#[derive(Debug)]
enum Work {
    Turn(Box<Traced>, oneshot::Sender<Result<(), String>>),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(crate) struct Traces {
    queue: mpsc::Sender<Work>,
}

impl Traces {
    pub(crate) fn start(settings: &TraceSettings, counts: TraceCounts) -> Result<Self, String> {
        let client = reqwest_client(&settings.endpoint)?;
        let path = format!("{}/v1/traces", settings.endpoint.path().trim_end_matches('/'));
        let mut endpoint = settings.endpoint.clone();
        endpoint.set_path(&path);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(client))
            .with_endpoint(endpoint.as_str())
            .with_timeout(SEND_TIME)
            .build();
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(
            &Resource::builder_empty()
                .with_attributes([
                    KeyValue::new("service.name", "greenroom"),
                    KeyValue::new("service.version", settings.version),
                ])
                .build(),
        );
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send(exporter, waiting, counts));
        Ok(Self { queue })
    }

    pub(crate) async fn send(&self, traced: Traced) -> Result<(), String> {
        let (done, sent) = oneshot::channel();
        let ended = || "the task that sends traces has ended".to_owned();
        self.queue.send(Work::Turn(Box::new(traced), done)).await.map_err(|_| ended())?;
        sent.await.map_err(|_| ended())?
    }

    pub(crate) async fn flush(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        let flushed = async {
            let _ = self.queue.send(Work::Flush(done)).await;
            let _ = wait.await;
        };
        if tokio::time::timeout(within, flushed).await.is_err() {
            tracing::warn!("the collector did not take the last traces in time");
        }
    }
}

/// Until the last sender is gone.
async fn send(exporter: SpanExporter, mut waiting: mpsc::Receiver<Work>, counts: TraceCounts) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (mut turns, mut waiting, mut flushes) = (vec![], vec![], vec![]);
        for work in batch.drain(..) {
            match work {
                Work::Turn(traced, done) => {
                    turns.push(traced);
                    waiting.push(done);
                }
                Work::Flush(done) => flushes.push(done),
            }
        }
        if !turns.is_empty() {
            let sending = async {
                let spans = turns.iter().flat_map(|traced| spans::of_turn(traced)).collect();
                tokio::time::timeout(SEND_TIME * 2, exporter.export(spans)).await
            };
            let sent = match greenroom_tasks::caught("the sending of traces", sending).await {
                Ok(Ok(sent)) => sent.map_err(|error| error.to_string()),
                Ok(Err(_late)) => Err(format!("it did not answer within {} s", (SEND_TIME * 2).as_secs())),
                Err(panicked) => Err(panicked.to_string()),
            };
            counts.add(if sent.is_ok() { "sent" } else { "failed" }, turns.len() as u64);
            for done in waiting {
                let _ = done.send(sent.clone());
            }
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

fn reqwest_client(endpoint: &Url) -> Result<reqwest::Client, String> {
    // Harmless where the program installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIME)
        .timeout(SEND_TIME)
        .redirect(reqwest::redirect::Policy::none());
    let builder = if endpoint.scheme() == "https" { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| error.to_string())
}

/// The exporter's way out.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err("the collector's answer is too long".into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response.body(body.into())?)
    }
}
