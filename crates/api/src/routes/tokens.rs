//! Tokens, with which programs and git act for a person.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, JsonBody};
use axum::Json;
use axum::extract::State;
use greenroom_wire::{CreateToken, ErrorBody, TokenCreated};

/// Create a token
///
/// Its secret is shown in this answer and never again.
#[utoipa::path(post, path = "/tokens", operation_id = "create_token", tag = "people", request_body = CreateToken,
    responses(
        (status = 200, body = TokenCreated),
        (status = 404, description = "`person_unknown`", body = ErrorBody),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateToken>,
) -> Answer<TokenCreated> {
    Ok(Json(state.app.create_token(&caller.person, body).await?))
}
