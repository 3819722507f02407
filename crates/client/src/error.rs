//! What can go wrong between a client and its server.

use crate::Address;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_wire::ErrorView;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's own words.
    #[error("{}", .0.message)]
    Problem(Box<ErrorView>),
    /// No answer came: nothing listens, the name is unknown, TLS failed, or a deadline passed.
    #[error("The server at {address} cannot be reached: {reason}.")]
    Unreachable { address: Address, reason: String, source: reqwest::Error },
    /// An answer came that this version does not understand.
    #[error("The server gave an answer that this client does not understand: {what}.")]
    Protocol { what: String },
}

impl Error {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    pub(crate) fn unreachable(address: &Address, source: reqwest::Error) -> Self {
        let reason = reason_of(&source);
        Self::Unreachable { address: address.clone(), reason, source: source.without_url() }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Problem(view) => view.code,
            Self::Unreachable { .. } => ErrorCode::ServerUnreachable,
            Self::Protocol { .. } => ErrorCode::ServerUnexpected,
        }
    }

    /// In the form every client shows; an error of our own has no request id.
    pub fn into_view(self) -> ErrorView {
        let (code, message) = (self.code(), self.to_string());
        let hint = match self {
            Self::Problem(view) => return *view,
            Self::Unreachable { address, .. } if address.is_loopback() => {
                "Start it with `greenroom serve`, or name another with --server or GREENROOM_SERVER."
            }
            Self::Unreachable { .. } => "Check the address (--server, GREENROOM_SERVER) and the network.",
            Self::Protocol { .. } => {
                "Check that client and server have the same version (`greenroom --version`)."
            }
        };
        ErrorView::of(Problem::new(code, message).hint(hint), String::new())
    }

    /// Worth another attempt on a stream that already worked: the server restarts, or the network hiccups.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Problem(view) => {
                matches!(
                    view.code,
                    ErrorCode::ShuttingDown | ErrorCode::TooManyRequests | ErrorCode::Deadline
                )
            }
            Self::Unreachable { .. } => true,
            Self::Protocol { .. } => false,
        }
    }
}

/// The innermost cause in words: reqwest's own text only names the address again.
fn reason_of(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if let Some(io) = cause.downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return "nothing listens there".to_owned();
    }
    cause.to_string().trim_end_matches('.').to_owned()
}
