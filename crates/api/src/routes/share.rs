//! Who takes part in a session, and links that let others in. Roles are given and taken by commands.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PathOf};
use crate::limits::client_address;
use axum::Json;
use axum::extract::State;
use greenroom_domain::{ErrorCode, SessionId, ShareLinkId};
use greenroom_wire::{
    CreateShareLink, ErrorBody, SessionPeople, SessionView, ShareLinkCreated, ShareLinkView, UseShareLink,
};
use http::{Extensions, StatusCode};

/// List who takes part in a session
///
/// With what everyone of the installation may do in it, and what the caller may. Changed by the commands
/// `set_participant`, `remove_participant` and `set_team_access`.
#[utoipa::path(get, path = "/sessions/{id}/participants", operation_id = "session_people", tag = "sharing",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = SessionPeople),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn people(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<SessionPeople> {
    Ok(Json(state.app.session_people(&caller.person, id).await?))
}

/// List a session's share links
///
/// Newest first, those that do not work any more included. Their secrets are kept nowhere.
#[utoipa::path(get, path = "/sessions/{id}/share-links", operation_id = "share_links", tag = "sharing",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Vec<ShareLinkView>),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Vec<ShareLinkView>> {
    Ok(Json(state.app.share_links(&caller.person, id).await?))
}

/// Make a share link
///
/// People of the installation who follow it, signed in, may look at the session or take part in it. Answers its secret
/// this once. Said again, it makes another link: at most 20 of a session live at a time.
#[utoipa::path(post, path = "/sessions/{id}/share-links", operation_id = "create_share_link", tag = "sharing",
    params(("id" = SessionId, Path)),
    request_body = CreateShareLink,
    responses(
        (status = 200, body = ShareLinkCreated),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 413, description = "`quota_reached`, `too_large`", body = ErrorBody),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<CreateShareLink>,
) -> Answer<ShareLinkCreated> {
    Ok(Json(state.app.create_share_link(&caller.person, id, body).await?))
}

/// Revoke a share link
///
/// Nobody comes by it any more, and who takes part only by it does so no more: their open streams end at once. For its
/// maker and the session's owners.
#[utoipa::path(delete, path = "/sessions/{id}/share-links/{link}", operation_id = "revoke_share_link", tag = "sharing",
    params(("id" = SessionId, Path), ("link" = ShareLinkId, Path)),
    responses(
        (status = 204),
        (status = 404, description = "`session_unknown`, `share_link_unknown`", body = ErrorBody),
    ))]
pub(super) async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf((id, link)): PathOf<(SessionId, ShareLinkId)>,
) -> Result<StatusCode, ApiError> {
    state.app.revoke_share_link(&caller.person, id, link).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follow a share link
///
/// Lets the caller into its session and answers the session. The same again says the same. An address from which many links
/// are followed that do not work waits longer and longer.
#[utoipa::path(post, path = "/share-links/use", operation_id = "use_share_link", tag = "sharing",
    request_body = UseShareLink,
    responses(
        (status = 200, body = SessionView),
        (status = 404, description = "`share_link_unknown`", body = ErrorBody),
    ))]
pub(super) async fn follow(
    State(state): State<ApiState>,
    caller: Caller,
    extensions: Extensions,
    JsonBody(body): JsonBody<UseShareLink>,
) -> Answer<SessionView> {
    let attempt = state.limits.begin_share_link(client_address(&extensions))?;
    let followed = state.app.use_share_link(&caller.person, body).await;
    if !matches!(&followed, Err(problem) if problem.code == ErrorCode::ShareLinkUnknown) {
        attempt.was_known();
    }
    Ok(Json(followed?))
}
