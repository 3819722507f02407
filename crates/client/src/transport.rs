//! One request and its answer: credential, deadline, size limit, errors. Knows no route.

use crate::{Address, Error};
use greenroom_wire::{ClientKind, ErrorBody};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, ORIGIN};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the longest command that `exec` may run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(11 * 60);
/// Streams carry a comment at least every 15 seconds.
const STREAM_SILENCE: Duration = Duration::from_secs(60);
/// A diff or a page of a log stays far under it.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
const ERROR_LIMIT: usize = 1024 * 1024;

/// How the client proves whose it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credential {
    #[default]
    None,
    /// A token, `grt_…`.
    Token(String),
    /// A token that is another one after every start of its server: asked for before each request.
    Renewed(TokenSource),
    /// The value of the cookie that a sign-in set.
    Cookie(String),
}

/// Where a renewed token is found; `None` while there is none.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl TokenSource {
    pub fn new(source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    pub fn token(&self) -> Option<String> {
        (self.0)()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(…)")
    }
}

/// Two sources are the same where they are one.
impl PartialEq for TokenSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TokenSource {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(…)",
            Self::Renewed(_) => "Renewed(…)",
            Self::Cookie(_) => "Cookie(…)",
        })
    }
}

/// A connection pool to one server, cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    credential: Credential,
    kind: ClientKind,
    requests: reqwest::Client,
    streams: reqwest::Client,
}

impl Client {
    /// Connects at the first request. Redirects are not followed: a credential stays with its server.
    pub fn new(address: Address, credential: Credential) -> Result<Self, Error> {
        // Harmless where the program installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let builder = reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("greenroom/", env!("CARGO_PKG_VERSION")));
            // Reading the system's certificates takes milliseconds that a plain connection need not spend.
            if address.is_encrypted() { builder } else { builder.tls_certs_only([]) }
        };
        let requests = builder().timeout(ANSWER_TIMEOUT).build();
        let streams = builder().read_timeout(STREAM_SILENCE).build();
        let unreachable = |source| Error::unreachable(&address, source);
        Ok(Self {
            requests: requests.map_err(unreachable)?,
            streams: streams.map_err(unreachable)?,
            credential,
            kind: ClientKind::Api,
            address,
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same connections with another credential.
    pub fn with_credential(&self, credential: Credential) -> Self {
        Self { credential, ..self.clone() }
    }

    /// The same connections, which others at a session see as such a client.
    pub fn with_kind(&self, kind: ClientKind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// What a renewed token is now.
    pub(crate) fn renewed_token(&self) -> Option<String> {
        match &self.credential {
            Credential::Renewed(source) => source.token(),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> ClientKind {
        self.kind
    }

    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.request_url(method, self.address.route(segments))
    }

    pub(crate) fn request_url(&self, method: Method, url: Url) -> RequestBuilder {
        self.requests.request(method, url).headers(self.identity())
    }

    pub(crate) fn stream(&self, url: Url) -> RequestBuilder {
        self.streams.get(url).header("accept", "text/event-stream").headers(self.identity())
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Error> {
        self.answer(self.request(Method::GET, segments)).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &B,
    ) -> Result<T, Error> {
        self.answer(self.request(Method::POST, segments).json(body)).await
    }

    pub(crate) async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        self.read(response).await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let body = self.body(response, ANSWER_LIMIT).await?;
        serde_json::from_slice(&body).map_err(|error| Error::protocol(error.to_string()))
    }

    /// Sends and turns every answer that is not a success into an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| Error::unreachable(&self.address, source))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let body = match self.body(response, ERROR_LIMIT).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Error::Problem(Box::new(body.error)),
            Err(_) => Error::protocol(format!("HTTP {status} without an error of ours")),
        }
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|source| Error::unreachable(&self.address, source))?
        {
            if body.len() + chunk.len() > limit {
                return Err(Error::protocol(format!("more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn identity(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut secret = |name, text: String| {
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        };
        match &self.credential {
            Credential::None => {}
            Credential::Token(token) => secret(AUTHORIZATION, format!("Bearer {token}")),
            Credential::Renewed(source) => {
                if let Some(token) = source.token() {
                    secret(AUTHORIZATION, format!("Bearer {token}"));
                }
            }
            Credential::Cookie(cookie) => secret(COOKIE, format!("greenroom_session={cookie}")),
        }
        // What the server asks of browsers, so that a cookie works here too.
        headers.insert("x-greenroom", HeaderValue::from_static("1"));
        if let Ok(origin) = HeaderValue::from_str(&self.address.origin()) {
            headers.insert(ORIGIN, origin);
        }
        headers
    }
}
