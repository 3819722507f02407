//! Secrets that people hold: made here, shown once, kept as digests. Those that an admin declares for sandboxes are in
//! `declared`.

pub(crate) mod declared;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use greenroom_session::Clock;
use sha2::{Digest, Sha256};

pub(crate) const TOKEN_PREFIX: &str = "grt_";
/// Keeps the secret of a share link from beginning with `-`, which a command line takes for an option.
pub(crate) const LINK_PREFIX: &str = "grl_";

/// 256 random bits in URL-safe base64.
pub(crate) fn new_secret(clock: &dyn Clock) -> String {
    let halves = [clock.random().to_le_bytes(), clock.random().to_le_bytes()].concat();
    URL_SAFE_NO_PAD.encode(halves)
}

pub(crate) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
