//! Configured models.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_wire::{AddModel, ErrorBody, ModelTested, ModelView};
use http::StatusCode;

/// List models
#[utoipa::path(get, path = "/models", operation_id = "models", tag = "models",
    responses((status = 200, body = Vec<ModelView>)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Answer<Vec<ModelView>> {
    Ok(Json(state.app.models(&caller.person).await?))
}

/// Add or replace a model
///
/// Only an admin. Its key is stored encrypted and never given back.
#[utoipa::path(post, path = "/models", operation_id = "add_model", tag = "models", request_body = AddModel,
    responses(
        (status = 200, body = ModelView),
        (status = 424, description = "`model_key_refused` and other reasons why it could not be used", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<AddModel>,
) -> Answer<ModelView> {
    Ok(Json(state.app.add_model(&caller.person, body).await?))
}

/// Remove a model
#[utoipa::path(delete, path = "/models/{name}", operation_id = "remove_model", tag = "models",
    params(("name" = String, Path)),
    responses(
        (status = 204),
        (status = 404, description = "`model_unknown`", body = ErrorBody),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, ApiError> {
    state.app.remove_model(&caller.person, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Test a model
///
/// Asks it for one word, and answers how long the first token took.
#[utoipa::path(post, path = "/models/{name}/test", operation_id = "test_model", tag = "models",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = ModelTested),
        (status = 404, description = "`model_unknown`", body = ErrorBody),
        (status = 424, description = "`model_key_refused`, `model_unreachable` and the provider's other refusals",
            body = ErrorBody),
    ))]
pub(super) async fn test(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<String>,
) -> Answer<ModelTested> {
    Ok(Json(state.app.test_model(&caller.person, &name).await?))
}
