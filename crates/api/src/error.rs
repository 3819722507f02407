//! Errors as answers: every one has the shape of `ErrorBody`, whoever made it.
//!
//! A handler gives a `Problem`; it travels in the answer's extensions to the outermost layer, which knows the
//! request's id and writes the body (`layers::request`).

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use greenroom_domain::{ErrorCode, Problem};
use http::StatusCode;

#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Problem);

pub(crate) type Answer<T> = Result<axum::Json<T>, ApiError>;

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status_of(&self.0).into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

pub(crate) fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, message)
}

pub(crate) fn not_signed_in() -> Problem {
    Problem::new(ErrorCode::NotSignedIn, "This needs a signed-in person.")
        .hint("Sign in, or send `Authorization: Bearer` with a token from `greenroom token create`.")
}

pub(crate) fn no_such_route() -> Problem {
    Problem::new(ErrorCode::NotFound, "There is nothing at this address.")
        .hint("The routes are listed at /api/v1/openapi.json.")
}

pub(crate) fn shutting_down() -> Problem {
    Problem::new(ErrorCode::ShuttingDown, "The server is stopping.").hint("Connect again in a moment.")
}

pub(crate) fn panicked() -> Problem {
    Problem::new(ErrorCode::Internal, "The server met a bug while it answered this request.")
        .hint("The server's log has the details under the request's id.")
}

pub(crate) async fn method_not_allowed(request: Request) -> ApiError {
    let message = format!("This address does not take {}.", request.method());
    ApiError(
        Problem::new(ErrorCode::MethodNotAllowed, message).hint("The `allow` header says what it takes."),
    )
}
