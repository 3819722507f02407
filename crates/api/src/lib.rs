//! The HTTP interface: the routes of docs/openapi.json, the streams of sessions, git's smart HTTP, the web page, and
//! previews on origins of their own.
//!
//! Owns everything between a socket and a use case: who is calling, whether a browser may call from where it does,
//! bounds and deadlines, the shape of errors. Decides nothing about sessions or permissions: that is `app`'s, reached
//! through [`UseCases`]. Knows no SQL.

mod app;
mod error;
mod extract;
mod git;
mod health;
mod layers;
mod limits;
mod metrics;
mod openapi;
mod port;
mod preview;
mod routes;
mod serve;
mod state;
mod web;

pub use limits::{RateLimits, TrustedProxies};
pub use metrics::metrics_router;
pub use openapi::openapi;
pub use port::{BuildFrames, Frames, Preview, PreviewStream, SessionsFrames, UseCases, WebSession};
pub use preview::{InvalidPreviewDomain, PreviewDomain};
pub use serve::serve;
pub use state::{ApiState, Settings};

use axum::Router;
use axum::middleware::from_fn_with_state;

/// Everything the server answers.
pub fn router(state: ApiState) -> Router {
    let (api, _document) = routes::documented(&state).split_for_parts();
    let router = api
        .merge(git::routes(&state))
        .merge(metrics::routes(&state))
        .merge(health::routes())
        .fallback(web::page_or_asset)
        .method_not_allowed_fallback(error::method_not_allowed);
    let product = layers::around(router, &state);
    product.layer(from_fn_with_state(state.clone(), preview::dispatch)).with_state(state)
}
