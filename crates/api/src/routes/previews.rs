//! The way to a preview: who asks is known here, on the product's origin, and only here.

use crate::ApiState;
use crate::error::{ApiError, invalid};
use crate::extract::{Caller, PathOf, QueryOf};
use crate::layers::{authority_of, own_origin};
use crate::preview::{Address, Grant, OPEN, base_for, is_path};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use greenroom_domain::{ErrorCode, Problem, SessionId};
use greenroom_wire::ErrorBody;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Opened {
    /// Path and query to open there; `/` when not said.
    to: Option<String>,
}

/// Open a preview
///
/// Leads the browser to a port inside, on an origin of its own, and signs the caller in there: the address holds a ticket
/// that works once, for half a minute.
#[utoipa::path(get, path = "/sessions/{id}/previews/{port}", operation_id = "open_preview", tag = "sessions",
    params(("id" = SessionId, Path), ("port" = u16, Path), Opened),
    responses(
        (status = 303, description = "`Location` is the preview's address."),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 501, description = "`sandbox_unsupported`: previews have no address that this browser reaches", body = ErrorBody),
    ))]
pub(super) async fn open(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf((session, port)): PathOf<(SessionId, u16)>,
    QueryOf(opened): QueryOf<Opened>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let to = opened.to.unwrap_or_else(|| "/".to_owned());
    if port == 0 || !is_path(&to) {
        return Err(invalid("A preview is a port from 1 to 65535 and a path on it.").into());
    }
    state.app.session(&caller.person, session).await?;
    let address = Address { session, port };
    let host = authority_of(&uri, &headers).ok_or_else(|| invalid("The request has no `Host` header."))?;
    let base = base_for(address, &host, &state.settings)?;
    let page = own_origin(&state.settings, &uri, &headers)?;
    let ticket = state.previews.issue(Grant { caller, address, page }).map_err(no_randomness)?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("ticket", &ticket)
        .append_pair("to", &to)
        .finish();
    let location = HeaderValue::try_from(format!("{base}{OPEN}?{query}"))
        .map_err(|_| invalid("The path is no part of an address."))?;
    Ok((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response())
}

fn no_randomness(error: getrandom::Error) -> Problem {
    Problem::new(ErrorCode::Internal, format!("The system gives no random numbers: {error}."))
}
