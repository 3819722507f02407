//! Previews: ports of sandboxes, each on an origin of its own, `PORT--SESSION.DOMAIN`.
//!
//! What a sandbox serves never runs on the product's origin and never sees its cookies: a request whose `Host` is a
//! preview's is answered here and nowhere else, before any route. Who may look is found out on the product's origin
//! (`GET /sessions/{id}/previews/{port}`), which hands over a ticket that is used once (`grants`); from then on a cookie
//! of this one origin says who looks, and each request asks again whether they still may. Owns neither who may look nor
//! how a port inside is reached: that is `app`'s.

mod address;
mod grants;
mod headers;
mod over;
mod page;
mod proxy;

pub(crate) use address::{Address, base_for, is_path};
pub use address::{InvalidPreviewDomain, PreviewDomain};
pub(crate) use grants::{Grant, Grants};

use crate::ApiState;
use crate::error::not_signed_in;
use crate::extract::Caller;
use crate::layers::{Checks, authority_of, person_of};
use crate::limits::address_of;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_app::PreviewUse;
use greenroom_domain::{ErrorCode, Problem, Right};
use http::header::{CACHE_CONTROL, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::time::Duration;
use tokio::time::Instant;

/// Paths below it are ours on a preview's origin.
const OURS: &str = "/.greenroom";
pub(crate) const OPEN: &str = "/.greenroom/open";
/// A stopped sandbox may have to be brought back first.
const CONNECT_TIME: Duration = Duration::from_secs(20);

/// The outermost layer.
pub(crate) async fn dispatch(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let asked = authority_of(request.uri(), request.headers())
        .and_then(|host| address::parse(&host, &state.settings).map(|address| (host, address)));
    let Some((host, address)) = asked else { return next.run(request).await };
    let method = request.method().clone();
    let visit = Visit { state, host, address };
    let (session, port) = (address.session, address.port);
    let response = visit.answer(request).await;
    tracing::debug!(%session, port, %method, status = response.status().as_u16(), "preview answered");
    response
}

/// One request to a preview.
struct Visit {
    state: ApiState,
    /// As the client named it.
    host: Authority,
    address: Address,
}

impl Visit {
    async fn answer(self, request: Request) -> Response {
        let wants_page = page::is_wanted(request.headers());
        let product = address::product_origin(&self.state.settings);
        let address = self.address;
        let path = request.uri().path();
        let is_ours = path == OURS || path.strip_prefix(OURS).is_some_and(|rest| rest.starts_with('/'));
        let answered = match self.state.limits.preview_address(address_of(&self.state.limits, &request)) {
            Err(problem) => Err(problem),
            Ok(()) if is_ours => self.sign_in(&request),
            Ok(()) => self.proxied(request).await,
        };
        answered.unwrap_or_else(|problem| page::of(&problem, address, &product, wants_page))
    }

    /// Takes the ticket, sets the cookie, and leads to the clean address.
    fn sign_in(&self, request: &Request) -> Result<Response, Problem> {
        if request.uri().path() != OPEN || request.method() != Method::GET {
            return Err(Problem::new(ErrorCode::NotFound, "There is nothing at this address."));
        }
        let query = request.uri().query().unwrap_or_default();
        let mut ticket = String::new();
        let mut to = "/".to_owned();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "ticket" => ticket = value.into_owned(),
                "to" if address::is_path(&value) => to = value.into_owned(),
                _ => {}
            }
        }
        let (secret, age) = self.state.previews.redeem(&ticket, self.address).ok_or_else(|| {
            Problem::new(ErrorCode::NotSignedIn, "This link to the preview has been used, or is too old.")
                .hint("Open the preview from its session again.")
        })?;
        let is_secure = address::is_secure(&self.host, &self.state.settings);
        let cookie = headers::cookie(&secret, age, is_secure);
        let mut response = StatusCode::SEE_OTHER.into_response();
        let answer = response.headers_mut();
        answer.insert(LOCATION, value_of(&to)?);
        answer.insert(SET_COOKIE, value_of(&cookie)?);
        answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }

    async fn proxied(&self, request: Request) -> Result<Response, Problem> {
        let (Grant { caller, page, .. }, until) = self.grant(request.headers()).await?;
        self.refuse_foreign(&request)?;
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            let message = format!("A preview does not take {}.", request.method());
            return Err(Problem::new(ErrorCode::MethodNotAllowed, message));
        }
        let slot = self.state.preview_requests.enter(caller.person.id)?;
        // Before the right is asked for: what changes from here on ends the request, whatever it waits for.
        let of = Some((self.address.session, Right::View));
        let checks = Checks::begin(self.state.clone(), &caller, of);
        let wanted = if only_reads(&request) { PreviewUse::Look } else { PreviewUse::Act };
        let reached = self.state.app.preview(&caller.person, self.address.session, self.address.port, wanted);
        let (stream, right) = tokio::time::timeout(CONNECT_TIME, reached).await.map_err(|_| {
            Problem::new(ErrorCode::Deadline, "The sandbox did not answer in time.")
                .hint("Try again in a moment.")
        })??;
        let way = proxy::Way {
            over: Box::pin(over::over(checks.needing(right).standing(), self.state.shutdown.clone(), until)),
            slot,
            host: self.host.clone(),
            is_secure: address::is_secure(&self.host, &self.state.settings),
            page,
        };
        way.forward(request, stream).await
    }

    /// Who looks, asked anew each time: a person who was signed out, by themselves or by an admin, sees no more.
    async fn grant(&self, asked: &HeaderMap) -> Result<(Grant, Instant), Problem> {
        let found = headers::secrets(asked).find_map(|secret| self.state.previews.find(secret, self.address));
        let Some((grant, until)) = found else { return Err(closed_to_strangers()) };
        let person = person_of(&self.state, &grant.caller.credential).await.map_err(|problem| {
            if problem.code == ErrorCode::NotSignedIn { closed_to_strangers() } else { problem }
        })?;
        self.state.limits.previewer(person.id)?;
        let caller = Caller { person, credential: grant.caller.credential };
        Ok((Grant { caller, ..grant }, until))
    }

    /// What changes something comes from a preview of the same session, or from no page.
    fn refuse_foreign(&self, request: &Request) -> Result<(), Problem> {
        let Some(origin) = request.headers().get(ORIGIN).filter(|_| !only_reads(request)) else {
            return Ok(());
        };
        let from = origin.to_str().ok().and_then(|text| text.split_once("://")?.1.parse().ok());
        let from = from.and_then(|host| address::parse(&host, &self.state.settings));
        if from.is_some_and(|from| from.session == self.address.session) {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::OriginRefused, "The request comes from a page of another origin."))
    }
}

fn only_reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !headers::is_socket(request.headers())
}

fn closed_to_strangers() -> Problem {
    not_signed_in().hint("Open the preview from its session: that signs you in here.")
}

fn value_of(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|_| Problem::new(ErrorCode::Internal, "A header could not be made."))
}
