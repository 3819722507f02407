//! The push hook: its secret, for admins, and the call itself, which nobody has to sign in for.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, PathOf, read_bounded};
use axum::Json;
use axum::extract::{Request, State};
use greenroom_app::HookCall;
use greenroom_domain::{ErrorCode, Problem, RepositoryName};
use greenroom_wire::{ErrorBody, HookCreated};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// A push of thousands of commits is told in less.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// Whoever is slower holds a place that others need.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Make a push hook
///
/// Answers where a forge elsewhere is to say that something was pushed, and the secret that it signs with. The secret is
/// shown this once; an earlier one is of no use any more.
#[utoipa::path(post, path = "/repositories/{name}/hook", operation_id = "create_hook", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 200, body = HookCreated),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Answer<HookCreated> {
    Ok(Json(state.app.create_hook(&caller.person, &name).await?))
}

/// Remove a push hook
#[utoipa::path(delete, path = "/repositories/{name}/hook", operation_id = "remove_hook", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 204),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Result<StatusCode, ApiError> {
    state.app.remove_hook(&caller.person, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say that something was pushed
///
/// For webhooks of a forge elsewhere: `X-Hub-Signature-256` is `sha256=` and the HMAC of the body under the hook's secret. The
/// repository's source is looked at soon after, and an image is built where it moved. Other events than `push` (in
/// `X-GitHub-Event`) are taken and change nothing. Calling again does no harm.
#[utoipa::path(post, path = "/hooks/{name}", operation_id = "push_hook", tag = "repositories", security(()),
    params(
        ("name" = RepositoryName, Path),
        ("X-Hub-Signature-256" = String, Header),
        ("X-GitHub-Event" = Option<String>, Header),
    ),
    request_body(content = String, description = "Whatever was signed; at most 4 MiB."),
    responses(
        (status = 202),
        (status = 401, description = "`hook_refused`", body = ErrorBody),
        (status = 413, description = "`too_large`", body = ErrorBody),
        (status = 429, description = "`too_many_requests`", body = ErrorBody),
    ))]
pub(super) async fn push(
    State(state): State<ApiState>,
    PathOf(name): PathOf<RepositoryName>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let _place = state.hook_calls.try_acquire().map_err(|_| busy())?;
    let (parts, body) = request.into_parts();
    let reading = tokio::time::timeout(BODY_TIME, read_bounded(body, None, BODY_LIMIT));
    let body = reading.await.map_err(|_| too_slow())?.map_err(|problem| match problem.code {
        ErrorCode::TooLarge => problem.hint("The schedule looks at the source in any case."),
        _ => problem,
    })?;
    let call = HookCall {
        signature: text(&parts.headers, "x-hub-signature-256"),
        event: text(&parts.headers, "x-github-event"),
        body: &body,
    };
    state.app.push_hook(&name, call).await?;
    Ok(StatusCode::ACCEPTED)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn too_slow() -> Problem {
    Problem::new(ErrorCode::Deadline, "The body did not arrive in time.")
        .hint("Let the forge deliver it again.")
}

fn busy() -> Problem {
    Problem::new(ErrorCode::TooManyRequests, "Too many hooks are being called at this moment.")
        .hint("Let the forge deliver it again; the schedule looks at the source in any case.")
}
