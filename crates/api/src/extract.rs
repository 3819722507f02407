//! What handlers take out of a request. Every refusal is a `Problem`.

use crate::error::{ApiError, invalid, not_signed_in};
use crate::layers::Credential;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use futures::StreamExt;
use greenroom_domain::{CommandId, ErrorCode, Person, Problem};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const BODY_LIMIT: usize = 64 * 1024;
/// Room for the longest prompt with its quotes and line ends escaped.
pub(crate) const PROMPT_BODY_LIMIT: usize = 512 * 1024;

/// Of a body that is too large, this much is read and thrown away: a client that is still writing would otherwise
/// meet a reset instead of the answer.
const DISCARD_LIMIT: usize = 16 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Who is calling, as `layers::authenticate` found out.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) person: Arc<Person>,
    pub(crate) credential: Credential,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| not_signed_in().into())
    }
}

/// A JSON body of at most `LIMIT` bytes.
pub(crate) struct JsonBody<T, const LIMIT: usize = BODY_LIMIT>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for JsonBody<T, LIMIT> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(invalid("The body is not declared as JSON.")
                .hint("Send the header `Content-Type: application/json`.")
                .into());
        }
        let declared = content_length(request.headers());
        let bytes = read_bounded(request.into_body(), declared, LIMIT).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| invalid(format!("The body is not what this route takes: {error}.")).into())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) async fn read_bounded(
    body: Body,
    declared: Option<usize>,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default().min(limit));
    let mut is_too_large = declared.is_some_and(|declared| declared > limit);
    while !is_too_large {
        match chunks.next().await {
            Some(Ok(chunk)) if bytes.len() + chunk.len() <= limit => bytes.extend_from_slice(&chunk),
            Some(Ok(_)) => is_too_large = true,
            Some(Err(_)) => return Err(invalid("The body broke off.")),
            None => return Ok(bytes),
        }
    }
    discard(chunks, DISCARD_LIMIT).await;
    Err(Problem::new(ErrorCode::TooLarge, format!("The body is larger than {} KiB.", limit / 1024))
        .hint("Put long material into a file of the repository and name it in the prompt."))
}

pub(crate) async fn discard(mut chunks: axum::body::BodyDataStream, most: usize) {
    let reading = async {
        let mut left = most;
        while let Some(Ok(chunk)) = chunks.next().await {
            match left.checked_sub(chunk.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    let _gave_up = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// Ids and names in the path.
pub(crate) struct PathOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(invalid(sentence("The address is wrong", &rejection.body_text())).into()),
        }
    }
}

/// The query; unknown parameters are refused by its type.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(invalid(sentence("The query is wrong", &rejection.body_text())).into()),
        }
    }
}

fn sentence(what: &str, why: &str) -> String {
    let why = why.rsplit_once("string: ").map_or(why, |(_, rest)| rest);
    format!("{what}: {}.", why.trim_end_matches('.'))
}

/// The header `Idempotency-Key`.
pub(crate) struct IdempotencyKey(pub(crate) CommandId);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let value = parts.headers.get("idempotency-key").ok_or_else(|| {
            invalid("The header `Idempotency-Key` is missing.")
                .hint("Send a new random key for each new request, and the same key when you repeat one.")
        })?;
        let key = value.to_str().ok().and_then(|text| text.parse().ok());
        key.map(Self)
            .ok_or_else(|| invalid("An idempotency key has 1 to 128 visible ASCII characters.").into())
    }
}
