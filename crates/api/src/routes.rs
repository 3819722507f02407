//! The table of routes under `/api/v1`, in groups by what is around them.

mod archive;
mod asks;
mod attachments;
mod changes;
mod exec;
mod hooks;
mod images;
mod live;
mod machine;
mod models;
mod network;
mod outbox;
mod people;
mod previews;
mod queue;
mod quotas;
mod repositories;
mod retention;
mod search;
mod session_outbox;
mod sessions;
mod share;
mod sign_in;
mod socket;
mod sse;
mod stream;
mod tokens;
mod trees;

use crate::ApiState;
use crate::layers::{authenticate, compress, compress_stream, deadline, in_flight, not_from_elsewhere};
use crate::openapi::Document;
use axum::middleware::{from_fn, from_fn_with_state};
use std::time::Duration;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Routes = OpenApiRouter<ApiState>;

const PLAIN: Duration = Duration::from_secs(60);
/// Mirroring a repository, uploads, exporting an image, and commands of at most ten minutes.
const LONG: Duration = Duration::from_secs(11 * 60);

fn public() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(machine::health))
        .routes(routes!(machine::document))
        .routes(routes!(sign_in::with_password))
        .routes(routes!(sign_in::with_link))
        .routes(routes!(hooks::push))
}

fn plain() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(machine::machine))
        .routes(routes!(machine::resources))
        .routes(routes!(retention::show))
        .routes(routes!(retention::plan))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(sign_in::me))
        .routes(routes!(people::list, people::add))
        .routes(routes!(quotas::list, quotas::set))
        .routes(routes!(quotas::usage, quotas::set_for_person))
        .routes(routes!(tokens::create))
        .routes(routes!(repositories::list))
        .routes(routes!(repositories::show, repositories::remove))
        .routes(routes!(repositories::warm))
        .routes(routes!(hooks::create, hooks::remove))
        .routes(routes!(network::egress, network::set_egress))
        .routes(routes!(network::secrets, network::add_secret))
        .routes(routes!(network::remove_secret))
        .routes(routes!(images::list, images::build))
        .routes(routes!(images::import))
        .routes(routes!(images::show))
        .routes(routes!(images::contents))
        .routes(routes!(models::list, models::add))
        .routes(routes!(models::remove))
        .routes(routes!(models::test))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::show, sessions::delete))
        .routes(routes!(sessions::fork))
        .routes(routes!(sessions::tree))
        .routes(routes!(sessions::environment))
        .routes(routes!(previews::open))
        .routes(routes!(sessions::submit))
        .routes(routes!(queue::list))
        .routes(routes!(asks::list))
        .routes(routes!(session_outbox::show))
        .routes(routes!(share::people))
        .routes(routes!(share::list, share::create))
        .routes(routes!(share::revoke))
        .routes(routes!(share::follow))
        .routes(routes!(search::search))
        .routes(routes!(search::statistics))
        .routes(routes!(sessions::entries))
        .routes(routes!(trees::diff))
        .routes(routes!(trees::steps))
        .routes(routes!(sessions::blame))
        .routes(routes!(live::presence))
        .routes(routes!(live::typing))
        .routes(routes!(live::read))
        .routes(routes!(live::reads))
        .routes(routes!(live::draft, live::write_draft))
        .routes(routes!(live::new_draft, live::write_new_draft))
        .routes(routes!(attachments::artifacts))
        .routes(routes!(attachments::blob))
        .routes(routes!(sessions::trace))
        .routes(routes!(sessions::context))
        .routes(routes!(changes::list))
        .routes(routes!(changes::show))
        .routes(routes!(changes::diff))
        .routes(routes!(changes::approve))
        .routes(routes!(changes::merge))
}

fn long() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(repositories::add))
        .routes(routes!(attachments::stage))
        .routes(routes!(attachments::attach))
        .routes(routes!(archive::export))
        .routes(routes!(archive::import))
        .routes(routes!(images::export))
        .routes(routes!(retention::run))
        .routes(routes!(exec::exec))
}

fn streams() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(images::log))
        .routes(routes!(stream::sessions))
        .routes(routes!(stream::stream))
        .routes(routes!(socket::socket))
}

/// Every route with nothing around it: what the document is made from.
pub(crate) fn table() -> Routes {
    under_prefix(public().merge(plain()).merge(long()).merge(streams()))
}

pub(crate) fn documented(state: &ApiState) -> Routes {
    let bounded = |routes: Routes, time| {
        routes
            .route_layer(compress())
            .route_layer(from_fn(move |request, next| deadline(time, request, next)))
            .route_layer(from_fn_with_state(state.clone(), in_flight))
    };
    let private = bounded(plain(), PLAIN)
        .merge(bounded(long(), LONG))
        .merge(streams().route_layer(from_fn(compress_stream)))
        .route_layer(from_fn_with_state(state.clone(), authenticate));
    let public = public()
        .route_layer(compress())
        .route_layer(from_fn(move |request, next| deadline(PLAIN, request, next)))
        .route_layer(from_fn_with_state(state.clone(), not_from_elsewhere));
    under_prefix(public.merge(private))
}

fn under_prefix(routes: Routes) -> Routes {
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", routes)
}
