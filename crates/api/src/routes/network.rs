//! What a repository's sandboxes may reach, and the secrets that are added on their way out.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::RepositoryName;
use greenroom_wire::{AddSecret, EgressView, ErrorBody, SecretView, SetEgress};
use http::StatusCode;

/// Show what a repository's sandboxes may reach
#[utoipa::path(get, path = "/repositories/{name}/egress", operation_id = "egress", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 200, body = EgressView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn egress(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Answer<EgressView> {
    Ok(Json(state.app.egress(&caller.person, &name).await?))
}

/// Set what a repository's sandboxes may reach besides
///
/// Replaces all additions of admins. In force from the next connection on.
#[utoipa::path(put, path = "/repositories/{name}/egress", operation_id = "set_egress", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    request_body = SetEgress,
    responses(
        (status = 200, body = EgressView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn set_egress(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
    JsonBody(body): JsonBody<SetEgress>,
) -> Answer<EgressView> {
    Ok(Json(state.app.set_egress(&caller.person, &name, body).await?))
}

/// List a repository's secrets
///
/// Names, hosts and placeholders; values are never given back.
#[utoipa::path(get, path = "/repositories/{name}/secrets", operation_id = "secrets", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 200, body = Vec<SecretView>),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn secrets(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Answer<Vec<SecretView>> {
    Ok(Json(state.app.secrets(&caller.person, &name).await?))
}

/// Add a secret
///
/// Or replace the one of that name. It is added to requests for its hosts outside the sandbox.
#[utoipa::path(post, path = "/repositories/{name}/secrets", operation_id = "add_secret", tag = "repositories",
    params(("name" = RepositoryName, Path)),
    request_body = AddSecret,
    responses(
        (status = 200, body = SecretView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn add_secret(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
    JsonBody(body): JsonBody<AddSecret>,
) -> Answer<SecretView> {
    Ok(Json(state.app.add_secret(&caller.person, &name, body).await?))
}

/// Remove a secret
#[utoipa::path(delete, path = "/repositories/{name}/secrets/{secret}", operation_id = "remove_secret",
    tag = "repositories",
    params(("name" = RepositoryName, Path), ("secret" = String, Path)),
    responses(
        (status = 204),
        (status = 404, description = "`repository_unknown`, `secret_unknown`", body = ErrorBody),
    ))]
pub(super) async fn remove_secret(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf((name, secret)): PathOf<(RepositoryName, String)>,
) -> Result<StatusCode, ApiError> {
    state.app.remove_secret(&caller.person, &name, &secret).await?;
    Ok(StatusCode::NO_CONTENT)
}
