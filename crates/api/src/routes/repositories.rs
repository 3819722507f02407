//! Configured repositories.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::RepositoryName;
use greenroom_wire::{AddRepository, ErrorBody, RepositoryView, WarmRepository, WarmView};
use http::StatusCode;

/// List repositories
#[utoipa::path(get, path = "/repositories", operation_id = "repositories", tag = "repositories",
    responses((status = 200, body = Vec<RepositoryView>)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Answer<Vec<RepositoryView>> {
    Ok(Json(state.app.repositories(&caller.person).await?))
}

/// Add a repository
///
/// Mirrors its branches and tags from a path on the server or a URL, and starts the first image build. May take
/// minutes for a large source.
#[utoipa::path(post, path = "/repositories", operation_id = "add_repository", tag = "repositories",
    request_body = AddRepository,
    responses(
        (status = 200, body = RepositoryView),
        (status = 409, description = "`name_taken`", body = ErrorBody),
        (status = 422, description = "`clone_failed`", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<AddRepository>,
) -> Answer<RepositoryView> {
    Ok(Json(state.app.add_repository(&caller.person, body).await?))
}

/// Show a repository
#[utoipa::path(get, path = "/repositories/{name}", operation_id = "repository", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 200, body = RepositoryView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Answer<RepositoryView> {
    Ok(Json(state.app.repository(&caller.person, &name).await?))
}

/// Remove a repository
///
/// With its mirror and images; refused while sessions of it exist.
#[utoipa::path(delete, path = "/repositories/{name}", operation_id = "remove_repository", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 204),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
        (status = 409, description = "`session_busy`", body = ErrorBody),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Result<StatusCode, ApiError> {
    state.app.remove_repository(&caller.person, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a sandbox ready
///
/// Because a prompt is being written: reserves one for the caller, starts its sync, and gives it back when it is not used
/// in time. Asked again while it is reserved, it answers the same one.
#[utoipa::path(post, path = "/repositories/{name}/warm", operation_id = "warm_repository", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    request_body = WarmRepository,
    responses(
        (status = 200, body = WarmView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn warm(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
    JsonBody(body): JsonBody<WarmRepository>,
) -> Answer<WarmView> {
    Ok(Json(state.app.warm(&caller.person, &name, body).await?))
}
