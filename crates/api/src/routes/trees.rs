//! Steps of a session, and what differs between their trees.

use crate::ApiState;
use crate::error::{Answer, invalid};
use crate::extract::{Caller, PathOf, QueryOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::{SessionId, TurnId};
use greenroom_wire::{ErrorBody, FileDiffView, SessionSteps, TreesOf};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Compared {
    /// Only what this step changed.
    step: Option<u64>,
    /// Only what this turn's steps changed.
    #[param(value_type = Option<TurnId>)]
    turn: Option<TurnId>,
    /// What putting the files back to this step would change.
    revert_to: Option<u64>,
}

/// Show what a session, a turn or a step changed
///
/// Without a parameter the working tree is compared with the session's base commit. With one of them it is trees that are
/// compared, of which there is one for each step; ignored files are in none.
#[utoipa::path(get, path = "/sessions/{id}/diff", operation_id = "session_diff", tag = "sessions",
    params(("id" = SessionId, Path), Compared),
    responses(
        (status = 200, body = Vec<FileDiffView>),
        (status = 404, description = "`session_unknown`, `turn_unknown`, `step_unknown`", body = ErrorBody),
        (status = 502, description = "`sandbox_lost`, `sandbox_failed`", body = ErrorBody),
    ))]
pub(super) async fn diff(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<Compared>,
) -> Answer<Vec<FileDiffView>> {
    let of = match query {
        Compared { step: None, turn: None, revert_to: None } => {
            return Ok(Json(state.app.session_diff(&caller.person, id).await?));
        }
        Compared { step: Some(step), turn: None, revert_to: None } => TreesOf::Step(step),
        Compared { step: None, turn: Some(turn), revert_to: None } => TreesOf::Turn(turn),
        Compared { step: None, turn: None, revert_to: Some(step) } => TreesOf::Revert(step),
        _ => return Err(invalid("Only one of `step`, `turn` and `revert_to` can be asked for.").into()),
    };
    Ok(Json(state.app.tree_diff(&caller.person, id, of).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Before {
    /// Only steps before this one.
    before: Option<u64>,
}

/// List a session's steps
///
/// Newest first, at most 200. A step is what tool calls of one answer changed, or people in between; the command `revert`
/// puts the files back to how one left them.
#[utoipa::path(get, path = "/sessions/{id}/steps", operation_id = "session_steps", tag = "sessions",
    params(("id" = SessionId, Path), Before),
    responses(
        (status = 200, body = SessionSteps),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn steps(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<Before>,
) -> Answer<SessionSteps> {
    Ok(Json(state.app.session_steps(&caller.person, id, query.before).await?))
}
