//! Signing in and out with a local account. The session's secret goes into a cookie that no script can read.

use crate::ApiState;
use crate::error::{Answer, ApiError, panicked};
use crate::extract::{Caller, JsonBody};
use crate::layers::Credential;
use crate::limits::client_address;
use crate::port::WebSession;
use axum::Json;
use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Response};
use greenroom_wire::{ErrorBody, SignIn, SignedIn, UseSignInLink};
use http::header::SET_COOKIE;
use http::{Extensions, StatusCode};
use std::sync::Arc;
use tokio::sync::SemaphorePermit;

/// Sign in with login and password
///
/// Sets the cookie `greenroom_session`, by https `__Host-greenroom_session`.
#[utoipa::path(post, path = "/sign-in", operation_id = "sign_in", tag = "people", security(()),
    request_body = SignIn,
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "`wrong_credentials`", body = ErrorBody),
        (status = 429, description = "`too_many_requests`", body = ErrorBody),
    ))]
pub(super) async fn with_password(
    State(state): State<ApiState>,
    extensions: Extensions,
    JsonBody(body): JsonBody<SignIn>,
) -> Result<Response, ApiError> {
    let attempt = state.limits.begin_sign_in(Some(body.login.as_str()), client_address(&extensions))?;
    let _turn = wait_for_turn(&state).await?;
    let session = state.app.sign_in(body).await?;
    attempt.succeeded();
    Ok(signed_in(&state, session))
}

/// Use a one-time sign-in link
///
/// Sets the person's password and the cookie `greenroom_session`. The link works once.
#[utoipa::path(post, path = "/sign-in/link", operation_id = "use_sign_in_link", tag = "people", security(()),
    request_body = UseSignInLink,
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "`wrong_credentials`", body = ErrorBody),
        (status = 429, description = "`too_many_requests`", body = ErrorBody),
    ))]
pub(super) async fn with_link(
    State(state): State<ApiState>,
    extensions: Extensions,
    JsonBody(body): JsonBody<UseSignInLink>,
) -> Result<Response, ApiError> {
    let attempt = state.limits.begin_sign_in(None, client_address(&extensions))?;
    let _turn = wait_for_turn(&state).await?;
    let session = state.app.use_sign_in_link(body).await?;
    attempt.succeeded();
    Ok(signed_in(&state, session))
}

/// Sign out
///
/// Ends the browser's session; with a token it does nothing.
#[utoipa::path(post, path = "/sign-out", operation_id = "sign_out", tag = "people",
    responses((status = 204)))]
pub(super) async fn sign_out(State(state): State<ApiState>, caller: Caller) -> Result<Response, ApiError> {
    if let Credential::Cookie(secret) = &caller.credential {
        state.app.sign_out(secret).await?;
    }
    let gone = cookie(&state, "", 0);
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, gone)])).into_response())
}

/// Who am I
#[utoipa::path(get, path = "/me", operation_id = "me", tag = "people", responses((status = 200, body = SignedIn)))]
pub(super) async fn me(caller: Caller) -> Answer<SignedIn> {
    Ok(Json(SignedIn { person: Arc::unwrap_or_clone(caller.person) }))
}

/// Password hashes are made a few at a time; the request's deadline ends the wait.
async fn wait_for_turn(state: &ApiState) -> Result<SemaphorePermit<'_>, ApiError> {
    state.sign_ins.acquire().await.map_err(|_| panicked().into())
}

fn signed_in(state: &ApiState, session: WebSession) -> Response {
    let cookie = cookie(state, &session.secret, session.max_age_s);
    let body = Json(SignedIn { person: session.person });
    (AppendHeaders([(SET_COOKIE, cookie)]), body).into_response()
}

fn cookie(state: &ApiState, secret: &str, max_age_s: i64) -> String {
    let name = state.settings.session_cookie();
    let secure = if state.settings.is_https() { "; Secure" } else { "" };
    format!("{name}={secret}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
}
