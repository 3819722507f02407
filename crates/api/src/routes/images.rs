//! Environment images: builds, their state and their logs, and their way to other machines.

use super::sse;
use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PathOf};
use crate::layers::standing;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures::StreamExt;
use greenroom_domain::{ImageId, RepositoryName};
use greenroom_wire::{
    BuildFrame, ErrorBody, ExportImage, ExportedImage, ImageContents, ImageView, ImportImage, ListedImage,
};
use http::StatusCode;

/// Build an image
///
/// Of the default branch's head; answers the running build when there is one.
#[utoipa::path(post, path = "/repositories/{name}/images", operation_id = "build_image", tag = "images",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 202, body = ImageView),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn build(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Result<(StatusCode, Json<ImageView>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(state.app.build_image(&caller.person, &name).await?)))
}

/// Export an image
///
/// For another machine, into a directory of the server's `<data>/exchange`: each layer as a blob named by its SHA-256, and
/// `image.json`, which names them. An admin's act. May take minutes for large layers.
#[utoipa::path(post, path = "/images/{id}/export", operation_id = "export_image", tag = "images",
    params(("id" = ImageId, Path)),
    request_body = ExportImage,
    responses(
        (status = 200, body = ExportedImage),
        (status = 404, description = "`not_found`", body = ErrorBody),
        (status = 409, description = "`image_missing`, `name_taken`: the directory holds another image", body = ErrorBody),
        (status = 429, description = "`too_many_requests`: another image is being exported", body = ErrorBody),
    ))]
pub(super) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ImageId>,
    JsonBody(body): JsonBody<ExportImage>,
) -> Answer<ExportedImage> {
    Ok(Json(state.app.export_image(&caller.person, id, body.to).await?))
}

/// Import an image
///
/// That another machine exported, from a directory of the server's `<data>/exchange`. An admin's act. What this machine
/// cannot run is refused at once; a running build of the repository is cancelled, and the import is followed as a build is.
#[utoipa::path(post, path = "/repositories/{name}/images/import", operation_id = "import_image", tag = "images",
    params(("name" = RepositoryName, Path)),
    request_body = ImportImage,
    responses(
        (status = 202, body = ImageView),
        (status = 404, description = "`repository_unknown`, `file_unknown`: there is no exported image", body = ErrorBody),
        (status = 409, description = "`image_unfit`: another version, runtime, host, repository or branch", body = ErrorBody),
        (status = 422, description = "`image_damaged`", body = ErrorBody),
    ))]
pub(super) async fn import(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
    JsonBody(body): JsonBody<ImportImage>,
) -> Result<(StatusCode, Json<ImageView>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(state.app.import_image(&caller.person, &name, body.from).await?)))
}

/// List a repository's images
///
/// Newest first, each with why it is kept.
#[utoipa::path(get, path = "/repositories/{name}/images", operation_id = "images", tag = "images",
    params(("name" = RepositoryName, Path)),
    responses(
        (status = 200, body = Vec<ListedImage>),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(name): PathOf<RepositoryName>,
) -> Answer<Vec<ListedImage>> {
    Ok(Json(state.app.images(&caller.person, &name).await?))
}

/// Show an image
#[utoipa::path(get, path = "/images/{id}", operation_id = "image", tag = "images",
    params(("id" = ImageId, Path)),
    responses(
        (status = 200, body = ImageView),
        (status = 404, description = "`image_missing`", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ImageId>,
) -> Answer<ImageView> {
    Ok(Json(state.app.image(&caller.person, id).await?))
}

/// Show what an image holds
///
/// Its layers with their sizes, the verdicts of its checks, the services and ports that its recipe declares.
#[utoipa::path(get, path = "/images/{id}/contents", operation_id = "image_contents", tag = "images",
    params(("id" = ImageId, Path)),
    responses(
        (status = 200, body = ImageContents),
        (status = 404, description = "`image_missing`: it is being built, or failed, or was removed", body = ErrorBody),
    ))]
pub(super) async fn contents(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ImageId>,
) -> Answer<ImageContents> {
    Ok(Json(state.app.image_contents(&caller.person, id).await?))
}

/// Follow a build's log
///
/// Server-sent events, each a `BuildFrame`, from the log's beginning; the last is `finished`.
#[utoipa::path(get, path = "/images/{id}/log", operation_id = "image_log", tag = "images",
    params(("id" = ImageId, Path)),
    responses(
        (status = 200, content_type = "text/event-stream", body = BuildFrame),
        (status = 404, description = "`image_missing`", body = ErrorBody),
    ))]
pub(super) async fn log(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<ImageId>,
) -> Result<Response, ApiError> {
    let standing = standing(state.clone(), &caller, None);
    let frames = state.app.image_log(&caller.person, id).await?;
    let events = frames.map(|frame| {
        let name = match frame {
            BuildFrame::Output { .. } => "output",
            BuildFrame::Finished { .. } => "finished",
        };
        sse::Event { name, id: None, data: sse::data_of(&frame) }
    });
    sse::answer(&state, &caller, standing, events, |_| None)
}
