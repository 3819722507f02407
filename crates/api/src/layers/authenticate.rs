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
use greenroom_domain::{ErrorCode, Person, PersonId, Problem};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

const CHECK_AGAIN: Duration = Duration::from_secs(20);

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

pub(crate) async fn person_of(state: &ApiState, credential: &Credential) -> Result<Person, Problem> {
    match credential {
        Credential::Cookie(secret) => state.app.person_of_cookie(secret).await,
        Credential::Token(secret) => state.app.person_of_token(secret).await,
    }
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

/// Ends when the caller's credential does: a stream outlives the moment at which its caller was checked.
pub(crate) async fn revoked(state: ApiState, caller: Caller) {
    let mut ended = state.watched.clone().receiver(state, caller);
    // Nothing is ever sent: it closes.
    let _ = ended.changed().await;
}

/// Credentials with open streams. Each is looked at by one task, however many streams it has.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<HashMap<Credential, watch::Sender<()>>>>);

impl Watched {
    /// Closes when the credential is not valid any more.
    fn receiver(&self, state: ApiState, caller: Caller) -> watch::Receiver<()> {
        let mut watched = self.lock();
        if let Some(sender) = watched.get(&caller.credential) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(());
        watched.insert(caller.credential.clone(), sender);
        let ended = state.app.ended_credentials();
        tokio::spawn(self.clone().look_after(state, caller, ended));
        receiver
    }

    async fn look_after(self, state: ApiState, caller: Caller, mut ended: broadcast::Receiver<PersonId>) {
        let Caller { person, credential } = caller;
        let shutdown = state.shutdown.clone();
        let watching = async {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(CHECK_AGAIN) => {}
                    () = told_of(&mut ended, person.id) => {}
                }
                if self.is_unused(&credential) {
                    return;
                }
                let found = person_of(&state, &credential).await;
                if found.is_err_and(|problem| problem.code == ErrorCode::NotSignedIn) {
                    self.lock().remove(&credential);
                    return;
                }
            }
        };
        // Streams end by themselves when the server stops; nothing of the app is held on to.
        let _ = shutdown.run_until_cancelled(watching).await;
    }

    /// Then nobody can begin to use it before it is removed.
    fn is_unused(&self, credential: &Credential) -> bool {
        let mut watched = self.lock();
        let is_unused = watched.get(credential).is_none_or(|sender| sender.receiver_count() == 0);
        if is_unused {
            watched.remove(credential);
        }
        is_unused
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Credential, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when a credential of this person may have ended.
async fn told_of(ended: &mut broadcast::Receiver<PersonId>, person: PersonId) {
    loop {
        match ended.recv().await {
            Ok(whose) if whose == person => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
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
