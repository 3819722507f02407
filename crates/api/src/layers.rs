//! What happens to every request before and after its handler.
//!
//! Requests to previews never come here (`preview`). From the outside in: `request` (id, log, panics, shape of errors, security headers), `limits` (from which
//! address, and how often), `origin` (Host allow-list),
//! then, by group of routes, `authenticate` (who, and whether this browser page may), `bounds` (in flight, time) and `compress`.

mod authenticate;
mod bounds;
mod compress;
mod origin;
mod request;
mod standing;

pub(crate) use authenticate::{Credential, SESSION_COOKIE, authenticate, not_from_elsewhere, person_of};
pub(crate) use bounds::{InFlight, Slot, deadline, in_flight};
pub(crate) use compress::{streamed as compress_stream, whole as compress};
pub(crate) use origin::{authority_of, own_origin};
pub(crate) use standing::{Checks, Standing, Watched, standing};

use crate::ApiState;
use axum::Router;
use axum::middleware::from_fn_with_state;

/// Only the outermost layer: for a listener that is not the product's address.
pub(crate) fn shaped(router: Router<ApiState>, state: &ApiState) -> Router<ApiState> {
    router.layer(from_fn_with_state(state.clone(), request::answer))
}

pub(crate) fn around(router: Router<ApiState>, state: &ApiState) -> Router<ApiState> {
    router
        .layer(from_fn_with_state(state.clone(), origin::known_host))
        .layer(from_fn_with_state(state.clone(), crate::limits::know_address))
        .layer(from_fn_with_state(state.clone(), request::answer))
}
