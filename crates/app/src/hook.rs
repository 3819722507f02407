//! The push hook: a forge elsewhere says that something was pushed to a repository's source. Whoever calls proves it by the
//! SHA-256 HMAC of the body under the repository's own secret, as GitHub and most other forges send it. What the body says
//! is not looked at: the source itself is asked, so that a repeated or belated call does no harm, and any number of them
//! is one look after the running one.

use crate::secrets::new_secret;
use crate::{App, Inner, Result, require};
use greenroom_directory::RepositoryRow;
use greenroom_domain::{ErrorCode, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_tasks::caught;
use greenroom_vault::Secret;
use greenroom_wire::HookCreated;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A call as it came.
#[derive(Clone, Copy, Debug)]
pub struct HookCall<'a> {
    /// `X-Hub-Signature-256`.
    pub signature: Option<&'a str>,
    /// `X-GitHub-Event`, where the forge names one: only pushes are of interest.
    pub event: Option<&'a str>,
    pub body: &'a [u8],
}

/// Repositories whose source is going to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Expected(Mutex<HashSet<RepositoryId>>);

impl Expected {
    /// False when it was expected already.
    fn add(&self, repository: RepositoryId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(repository)
    }

    fn remove(&self, repository: RepositoryId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&repository);
    }
}

impl App {
    /// Makes the repository's secret for pushes, or another one in its place. It is shown this once.
    pub async fn create_hook(&self, caller: &Person, name: &RepositoryName) -> Result<HookCreated> {
        require(caller, Role::Admin)?;
        let inner = &self.inner;
        let row = inner.repository_row(name).await?;
        let secret = new_secret(&*inner.clock);
        inner.vault.put(&vault_name(row.id), &Secret::from(secret.clone()))?;
        inner.tell_forge_what_is_secret();
        inner.directory.set_hook(row.id, Some(inner.now_ms())).await?;
        let url = format!("{}/api/v1/hooks/{name}", inner.config.public_url);
        Ok(HookCreated { url, secret })
    }

    /// Nobody may say any more that something was pushed.
    pub async fn remove_hook(&self, caller: &Person, name: &RepositoryName) -> Result<()> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(name).await?;
        self.inner.vault.remove(&vault_name(row.id))?;
        self.inner.tell_forge_what_is_secret();
        Ok(self.inner.directory.set_hook(row.id, None).await?)
    }

    /// A forge says that something was pushed. Who has no secret learns nothing, not even which repositories there are.
    pub async fn push_hook(&self, name: &RepositoryName, call: HookCall<'_>) -> Result<()> {
        let row = self.inner.directory.repository_by_name(name.clone()).await?;
        let secret = match &row {
            Some(row) => self.inner.vault.get(&vault_name(row.id))?,
            None => None,
        };
        let is_signed = secret.is_some_and(|secret| is_signed(secret.expose(), &call));
        let Some(row) = row.filter(|_| is_signed) else { return Err(refused()) };
        if call.event.is_none_or(|event| event == "push") {
            self.inner.source_moved(row);
        }
        Ok(())
    }
}

impl Inner {
    fn source_moved(self: &Arc<Self>, repository: RepositoryRow) {
        if !self.expected.add(repository.id) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            // From here on another push is another look.
            let look = inner.refresh_source(&repository, || inner.expected.remove(repository.id));
            if caught("a look at a source", look).await.is_err() {
                inner.expected.remove(repository.id);
            }
            inner.build_if_behind_or_warn(&repository).await;
        });
    }
}

fn is_signed(secret: &[u8], call: &HookCall<'_>) -> bool {
    let Some(claimed) = call.signature.and_then(|text| text.strip_prefix("sha256=")).and_then(bytes_of_hex)
    else {
        return false;
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(call.body);
    // In constant time.
    mac.verify_slice(&claimed).is_ok()
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let is_digest = digits.len() == 64;
    is_digest.then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn refused() -> Problem {
    Problem::new(
        ErrorCode::HookRefused,
        "This call is not signed with the secret of a repository's push hook.",
    )
    .hint("Send X-Hub-Signature-256 with the secret that `greenroom repository hook NAME` shows.")
}

pub(crate) fn vault_name(repository: RepositoryId) -> String {
    format!("hook/{repository}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    #[test]
    fn a_signature_is_githubs_and_any_other_is_refused() {
        let secret = b"It's a Secret to Everybody";
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |signature: Option<&str>, body: &[u8]| {
            is_signed(secret, &HookCall { signature, event: None, body })
        };
        assert!(refused().hint.is_some());
        assert!(signed(Some(good), b"Hello, World!"));
        assert!(signed(Some(&good.to_uppercase().replace("SHA256", "sha256")), b"Hello, World!"));
        assert!(!signed(Some(good), b"Hello, World"));
        let short = &good[..good.len() - 2];
        let sha1 = "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
        for bad in
            [None, Some(""), Some("sha256="), Some(short), Some(sha1), Some(&good[7..]), Some("sha256=ü")]
        {
            assert!(!signed(bad, b"Hello, World!"), "{bad:?}");
        }
    }
}
