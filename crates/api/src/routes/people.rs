//! People of the installation.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, JsonBody};
use axum::Json;
use axum::extract::State;
use greenroom_domain::Person;
use greenroom_wire::{AddPerson, ErrorBody, PersonAdded};

/// List people
#[utoipa::path(get, path = "/people", operation_id = "people", tag = "people",
    responses((status = 200, body = Vec<Person>)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Answer<Vec<Person>> {
    Ok(Json(state.app.people(&caller.person).await?))
}

/// Add a person
///
/// Only an admin. Answers a one-time link with which the person sets a password.
#[utoipa::path(post, path = "/people", operation_id = "add_person", tag = "people", request_body = AddPerson,
    responses(
        (status = 200, body = PersonAdded),
        (status = 409, description = "`name_taken`", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<AddPerson>,
) -> Answer<PersonAdded> {
    Ok(Json(state.app.add_person(&caller.person, body).await?))
}
