//! Quotas: what admins set, and what people used.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, JsonBody, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::LoginName;
use greenroom_domain::quota::Quotas;
use greenroom_wire::{ErrorBody, QuotaUsage, QuotasView};

/// List quotas
///
/// What is set for everyone, and for single people.
#[utoipa::path(get, path = "/quotas", operation_id = "quotas", tag = "people",
    responses(
        (status = 200, body = QuotasView),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
    ))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Answer<QuotasView> {
    Ok(Json(state.app.quotas(&caller.person).await?))
}

/// Set everyone's quotas
///
/// In place of what was set. What is left out is without bound.
#[utoipa::path(put, path = "/quotas", operation_id = "set_quotas", tag = "people", request_body = Quotas,
    responses(
        (status = 200, body = QuotasView),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
    ))]
pub(super) async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Quotas>,
) -> Answer<QuotasView> {
    Ok(Json(state.app.set_quotas(&caller.person, None, body).await?))
}

/// Show what a person used of their quotas
///
/// One's own, or for an admin anybody's.
#[utoipa::path(get, path = "/people/{login}/quotas", operation_id = "quota_usage", tag = "people",
    params(("login" = LoginName, Path)),
    responses(
        (status = 200, body = QuotaUsage),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 404, description = "`person_unknown`", body = ErrorBody),
    ))]
pub(super) async fn usage(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(login): PathOf<LoginName>,
) -> Answer<QuotaUsage> {
    Ok(Json(state.app.quota_usage(&caller.person, &login).await?))
}

/// Set a person's quotas
///
/// In place of what was set for them. What is left out is as for everyone.
#[utoipa::path(put, path = "/people/{login}/quotas", operation_id = "set_person_quotas", tag = "people",
    params(("login" = LoginName, Path)), request_body = Quotas,
    responses(
        (status = 200, body = QuotasView),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 404, description = "`person_unknown`", body = ErrorBody),
    ))]
pub(super) async fn set_for_person(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(login): PathOf<LoginName>,
    JsonBody(body): JsonBody<Quotas>,
) -> Answer<QuotasView> {
    Ok(Json(state.app.set_quotas(&caller.person, Some(&login), body).await?))
}
