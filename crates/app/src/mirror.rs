//! Repositories follow the places that they were mirrored from: looked at before a build that a person asks for, on the
//! schedule, and when the place says that something was pushed (`hook`). How a look ended is kept for people to see. Credentials of a
//! source's URL are in the vault and nowhere else. Never decides whether an image is built.

use crate::{Inner, Result};
use greenroom_directory::RepositoryRow;
use greenroom_domain::{ErrorCode, Problem, RepositoryId};
use greenroom_forge::Refreshed;
use greenroom_vault::Secret;
use greenroom_wire::MirrorView;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use url::Url;

/// Sources that are looked at at the same time.
const AT_ONCE: usize = 2;
/// The forge has deadlines of its own for each of its steps; this ends them all.
const DEADLINE: Duration = Duration::from_secs(15 * 60);
/// A shorter password would forbid every push that holds a common word.
const SHORTEST_PASSWORD: usize = 8;

#[derive(Debug)]
pub(crate) struct Mirrors {
    places: Semaphore,
    /// Held during a look; when the last one began.
    looks: Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<Option<Instant>>>>>,
}

impl Mirrors {
    pub(crate) fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE), looks: Mutex::default() }
    }

    fn look(&self, repository: RepositoryId) -> Arc<tokio::sync::Mutex<Option<Instant>>> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(looks.entry(repository).or_default())
    }

    fn forget(&self, repository: RepositoryId) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).remove(&repository);
    }
}

impl Inner {
    /// Fetches what is new at the source; whoever asks meanwhile shares a look that begins after they asked. What goes wrong
    /// is kept and shown, and stops nothing: what is here is still good.
    /// `begins` is called when the look begins.
    pub(crate) async fn refresh_source(&self, repository: &RepositoryRow, begins: impl FnOnce() + Send) {
        let asked = Instant::now();
        let look = self.mirrors.look(repository.id);
        let mut began = look.lock().await;
        if began.is_some_and(|began| began >= asked) {
            return begins();
        }
        let _place = self.mirrors.places.acquire().await.expect("never closed");
        *began = Some(Instant::now());
        begins();
        let source = self.full_source(repository);
        let refreshing = self.forge.refresh(repository.id, &source);
        let refreshed = match tokio::time::timeout(DEADLINE, refreshing).await {
            Ok(refreshed) => refreshed.map_err(Problem::from),
            Err(_) => {
                Err(Problem::new(ErrorCode::Deadline, "The repository's source did not answer in time."))
            }
        };
        self.record_refresh(repository, refreshed).await;
    }

    async fn record_refresh(&self, repository: &RepositoryRow, refreshed: Result<Refreshed>) {
        let (at_ms, problem) = match refreshed {
            Ok(refreshed) => {
                if !refreshed.moved.is_empty() {
                    tracing::info!(repository = %repository.name, branches = refreshed.moved.len(), "the source has new commits");
                    self.pool.wake();
                }
                (Some(self.now_ms()), diverged(&refreshed))
            }
            Err(problem) => (None, Some(problem)),
        };
        let known = self.directory.mirror(repository.id).await.ok().and_then(|mirror| mirror.problem);
        if let Some(problem) = problem.as_ref().filter(|problem| known.as_ref() != Some(problem)) {
            tracing::warn!(repository = %repository.name, %problem, "the repository does not follow its source");
        }
        if let Err(error) = self.directory.put_refresh(repository.id, at_ms, problem).await {
            tracing::warn!(repository = %repository.name, %error, "a look at the source could not be recorded");
        }
    }

    pub(crate) async fn mirror_view(&self, repository: RepositoryId) -> Result<MirrorView> {
        let row = self.directory.mirror(repository).await?;
        Ok(MirrorView {
            refreshed_at_ms: row.refreshed_at_ms,
            problem: row.problem,
            hook_made_at_ms: row.hook_made_at_ms,
        })
    }

    /// What the row says without, with its credentials.
    fn full_source(&self, repository: &RepositoryRow) -> String {
        let kept = self.vault.get(&vault_name(repository.id)).ok().flatten();
        let text = kept.as_ref().and_then(Secret::text).map(str::to_owned);
        text.unwrap_or_else(|| repository.source.clone())
    }

    /// Of a source whose row does not say all of it.
    pub(crate) fn keep_source(&self, repository: &RepositoryRow, source: &str) -> Result<()> {
        if repository.source != source {
            self.vault.put(&vault_name(repository.id), &Secret::from(source.to_owned()))?;
            self.tell_forge_what_is_secret();
        }
        Ok(())
    }

    pub(crate) fn forget_mirror(&self, repository: RepositoryId) -> Result<()> {
        self.vault.remove(&vault_name(repository))?;
        self.vault.remove(&crate::hook::vault_name(repository))?;
        self.mirrors.forget(repository);
        Ok(())
    }
}

const PREFIX: &str = "source/";

fn vault_name(repository: RepositoryId) -> String {
    format!("{PREFIX}{repository}")
}

/// What of a kept secret nobody may push: of a source the password, of everything else the whole.
pub(crate) fn unpushable(name: &str, text: &str) -> Option<String> {
    if !name.starts_with(PREFIX) {
        return Some(text.to_owned());
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let password = url.password().filter(|password| !password.is_empty()).unwrap_or(url.username());
    let password = percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned();
    (password.len() >= SHORTEST_PASSWORD).then_some(password)
}

fn diverged(refreshed: &Refreshed) -> Option<Problem> {
    const SHOWN: usize = 5;
    if refreshed.diverged.is_empty() {
        return None;
    }
    let shown: Vec<&str> = refreshed.diverged.iter().take(SHOWN).map(|branch| branch.as_str()).collect();
    let more = match refreshed.diverged.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "Here and at the source there are commits that the other does not have, on {}{more}.",
        shown.join(", ")
    );
    Some(
        Problem::new(ErrorCode::SourceDiverged, message).hint(
            "Merge this server's branch into the source's, and push it there: then it is followed again.",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_source_only_its_password_may_not_be_pushed() {
        let of = |text: &str| unpushable("source/rep_1", text);
        assert_eq!(of("https://ann:s3cr%40t-long@host/x").as_deref(), Some("s3cr@t-long"));
        assert_eq!(of("https://a-token-as-user@host/x").as_deref(), Some("a-token-as-user"));
        for harmless in ["ssh://git@host/x", "https://ann:short@host/x", "git@host:x"] {
            assert_eq!(of(harmless), None);
        }
        assert_eq!(unpushable("secret/rep_1/KEY", "value").as_deref(), Some("value"));
    }

    #[test]
    fn branches_that_went_apart_are_named_but_not_endlessly() {
        let branches = |count: u32| (0..count).map(|n| format!("b{n}").parse().unwrap()).collect();
        let of = |count| diverged(&Refreshed { moved: vec![], diverged: branches(count) });
        assert_eq!(of(0), None);
        assert!(of(1).unwrap().message.ends_with("on b0."));
        assert!(of(7).unwrap().message.ends_with("b4 and 2 more."));
    }
}
