//! Who is calling: the session cookie of a browser, a bearer token, or git's basic authentication with a token.

use super::origin;
use crate::error::{ApiError, not_signed_in};
use crate::extract::Caller;
use crate::{ApiState, Settings};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use greenroom_domain::{Person, Problem};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use std::sync::Arc;

pub(crate) const SESSION_COOKIE: &str = "greenroom_session";
/// By https: browsers let no other host set it, so that a neighbour (a preview, say) cannot slip in a session of its own.
const SESSION_COOKIE_BY_HTTPS: &str = "__Host-greenroom_session";

impl Settings {
    pub(crate) fn is_https(&self) -> bool {
        self.public_origin.as_ref().is_some_and(|origin| origin.scheme() == "https")
    }

    pub(crate) fn session_cookie(&self) -> &'static str {
        if self.is_https() { SESSION_COOKIE_BY_HTTPS } else { SESSION_COOKIE }
    }
}

/// What the caller showed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    Cookie(String),
    Token(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cookie(_) => "Cookie",
            Self::Token(_) => "Token",
        })
    }
}

impl Credential {
    /// A program's token counts before a browser's cookie.
    fn of(headers: &HeaderMap, cookie: &str) -> Option<Self> {
        let token = || authorization(headers, "Bearer").map(|token| Self::Token(token.to_owned()));
        token().or_else(|| session_cookie(headers, cookie).map(|secret| Self::Cookie(secret.to_owned())))
    }

    /// As git sends it: the token is the password, or the user name where there is no password.
    pub(crate) fn of_git(headers: &HeaderMap) -> Option<Self> {
        let bearer = authorization(headers, "Bearer").map(str::to_owned);
        bearer.or_else(|| basic(headers)).map(Self::Token)
    }
}

fn authorization<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (given, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

fn basic(headers: &HeaderMap) -> Option<String> {
    let decoded = BASE64_STANDARD.decode(authorization(headers, "Basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

fn session_cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, secret)| secret)
}

pub(crate) async fn person_of(state: &ApiState, credential: &Credential) -> Result<Arc<Person>, Problem> {
    let person = match credential {
        Credential::Cookie(secret) => state.app.person_of_cookie(secret).await,
        Credential::Token(secret) => state.app.person_of_token(secret).await,
    };
    person.map(Arc::new)
}

/// Around every route that is not public: puts a [`Caller`] into the request.
pub(crate) async fn authenticate(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let credential =
        Credential::of(request.headers(), state.settings.session_cookie()).ok_or_else(not_signed_in)?;
    if matches!(credential, Credential::Cookie(_)) {
        origin::check_page(&state.settings, &request)?;
    }
    let person = person_of(&state, &credential).await?;
    state.limits.person(person.id)?;
    request.extensions_mut().insert(Caller { person, credential });
    Ok(next.run(request).await)
}

/// Around public routes: a page of another origin may not sign its visitor in here.
pub(crate) async fn not_from_elsewhere(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    origin::check_not_foreign(&state.settings, &request)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_counts_before_a_cookie() {
        let both = headers(&[(COOKIE, "a=b; greenroom_session=c"), (AUTHORIZATION, "bearer grt_x")]);
        assert_eq!(Credential::of(&both, SESSION_COOKIE), Some(Credential::Token("grt_x".into())));
        let cookie = headers(&[(COOKIE, "a=b; greenroom_session=c")]);
        assert_eq!(Credential::of(&cookie, SESSION_COOKIE), Some(Credential::Cookie("c".into())));
        assert_eq!(Credential::of(&headers(&[(COOKIE, "xgreenroom_session=c")]), SESSION_COOKIE), None);
        assert_eq!(Credential::of(&cookie, SESSION_COOKIE_BY_HTTPS), None, "a neighbour may have set it");
    }

    #[test]
    fn git_may_send_the_token_as_password_or_as_user() {
        for text in ["ada:grt_x", "grt_x:", "anything:grt_x"] {
            let sent = headers(&[(AUTHORIZATION, &format!("Basic {}", BASE64_STANDARD.encode(text)))]);
            assert_eq!(Credential::of_git(&sent), Some(Credential::Token("grt_x".into())), "{text}");
        }
        assert_eq!(Credential::of_git(&headers(&[(AUTHORIZATION, "Basic ???")])), None);
    }

    #[test]
    fn credentials_do_not_show_in_logs() {
        assert_eq!(format!("{:?}", Credential::Token("grt_x".into())), "Token");
    }
}
