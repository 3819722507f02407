//! Changes: what sessions propose, review and merge.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, JsonBody, PathOf, QueryOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::{ChangeId, RepositoryName};
use greenroom_wire::{ApproveChange, ChangeView, ErrorBody, FileDiffView};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Only changes of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
}

/// List changes
///
/// Newest first.
#[utoipa::path(get, path = "/changes", operation_id = "changes", tag = "changes", params(Of),
    responses(
        (status = 200, body = Vec<ChangeView>),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(of): QueryOf<Of>,
) -> Answer<Vec<ChangeView>> {
    Ok(Json(state.app.changes(&caller.person, of.repository.as_ref()).await?))
}

/// Show a change
#[utoipa::path(get, path = "/changes/{id}", operation_id = "change", tag = "changes",
    params(("id" = ChangeId, Path)),
    responses(
        (status = 200, body = ChangeView),
        (status = 404, description = "`change_unknown`", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ChangeId>,
) -> Answer<ChangeView> {
    Ok(Json(state.app.change(&caller.person, id).await?))
}

/// Compare a change with its base
#[utoipa::path(get, path = "/changes/{id}/diff", operation_id = "change_diff", tag = "changes",
    params(("id" = ChangeId, Path)),
    responses(
        (status = 200, body = Vec<FileDiffView>),
        (status = 404, description = "`change_unknown`", body = ErrorBody),
    ))]
pub(super) async fn diff(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ChangeId>,
) -> Answer<Vec<FileDiffView>> {
    Ok(Json(state.app.change_diff(&caller.person, id).await?))
}

/// Approve a change
///
/// The commit that was looked at, and no later one. Nobody approves a change that holds their own work.
#[utoipa::path(post, path = "/changes/{id}/approve", operation_id = "approve_change", tag = "changes",
    params(("id" = ChangeId, Path)), request_body = ApproveChange,
    responses(
        (status = 200, body = ChangeView),
        (status = 403, description = "`self_approval`, `not_allowed`, `origin_refused`", body = ErrorBody),
        (status = 404, description = "`change_unknown`", body = ErrorBody),
        (status = 409, description = "`change_not_open`, `change_moved`", body = ErrorBody),
    ))]
pub(super) async fn approve(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ChangeId>,
    JsonBody(body): JsonBody<ApproveChange>,
) -> Answer<ChangeView> {
    Ok(Json(state.app.approve_change(&caller.person, id, body).await?))
}

/// Merge a change
///
/// With a merge commit in the caller's name. Needs the repository's required approvals for the change's head.
#[utoipa::path(post, path = "/changes/{id}/merge", operation_id = "merge_change", tag = "changes",
    params(("id" = ChangeId, Path)),
    responses(
        (status = 200, body = ChangeView),
        (status = 404, description = "`change_unknown`", body = ErrorBody),
        (status = 409, description = "`approval_missing`, `merge_conflict`, `change_not_open`", body = ErrorBody),
    ))]
pub(super) async fn merge(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ChangeId>,
) -> Answer<ChangeView> {
    Ok(Json(state.app.merge_change(&caller.person, id).await?))
}
