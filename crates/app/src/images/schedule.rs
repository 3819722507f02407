//! When images are built: every now and then, after a push, on demand. Only what would be another image is built, and a
//! commit that failed is tried again ever more seldom.

use super::Look;
use crate::{Inner, Result};
use greenroom_directory::{ImageRow, ImageState, RepositoryRow};
use greenroom_domain::CommitHash;
use greenroom_wire::ImageView;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Of the history that decides.
const LOOKED_AT: u32 = 16;
/// A failing commit's pause is doubled this often at most.
const DOUBLINGS: u32 = 6;

impl Inner {
    /// After something on this server moved a branch, where images are built without being asked for.
    pub(crate) fn branches_moved(self: &Arc<Self>, repository: RepositoryRow) {
        if self.config.image_schedule.is_some() {
            self.build_in_background(repository, Look::Here);
        }
    }

    pub(super) fn build_in_background(self: &Arc<Self>, repository: RepositoryRow, look: Look) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if look == Look::AtSource {
                inner.refresh_source(&repository, || ()).await;
            }
            inner.build_if_behind_or_warn(&repository).await;
        });
    }

    /// Now, whatever failed before.
    pub(crate) async fn build_if_behind_or_warn(self: &Arc<Self>, repository: &RepositoryRow) {
        if let Err(problem) = self.build_if_behind(repository, Duration::ZERO).await {
            tracing::warn!(repository = %repository.name, %problem, "a build after a push could not start");
        }
    }

    /// Looks at every repository once per interval, until the app is gone. Repositories take turns over the interval, each
    /// turn a quarter shorter or longer by chance, so that neither their builds nor those of many servers begin together.
    pub(crate) async fn build_on_schedule(inner: Weak<Self>, every: Duration) {
        loop {
            let Some(app) = inner.upgrade() else { return };
            let repositories = app.directory.repositories().await.unwrap_or_default();
            let turns = u32::try_from(repositories.len().max(1)).unwrap_or(u32::MAX);
            let pauses: Vec<Duration> =
                (0..turns).map(|_| jittered(every / turns, app.clock.random())).collect();
            drop(app);
            if repositories.is_empty() {
                tokio::time::sleep(pauses[0]).await;
            }
            for (repository, pause) in repositories.into_iter().zip(pauses) {
                tokio::time::sleep(pause).await;
                let Some(app) = inner.upgrade() else { return };
                app.refresh_source(&repository, || ()).await;
                if let Err(problem) = app.build_if_behind(&repository, every).await {
                    tracing::warn!(repository = %repository.name, %problem, "a scheduled build could not start");
                }
            }
        }
    }

    /// `patience`: the pause after a failure of the same commit, which grows with each; zero does not wait.
    async fn build_if_behind(
        self: &Arc<Self>,
        repository: &RepositoryRow,
        patience: Duration,
    ) -> Result<Option<ImageView>> {
        let Some(head) = self.forge.branch_head(repository.id, &repository.default_branch).await? else {
            return Ok(None);
        };
        if self.images.running_build(repository.id).is_some() {
            return self.start_build(repository, Look::Here).await.map(Some);
        }
        let history = self.directory.images(repository.id, LOOKED_AT).await?;
        let is_current = self.is_newest_current(&history).await;
        if is_due(&history, &head, is_current, patience, self.now_ms()) {
            return self.start_build(repository, Look::Here).await.map(Some);
        }
        Ok(None)
    }

    /// Whether the newest good image stands on the programs that this machine has now.
    async fn is_newest_current(&self, history: &[ImageRow]) -> bool {
        let Some(newest) = history.iter().find(|image| image.state == ImageState::Ready) else {
            return false;
        };
        let Ok(manifest) = self.manifest(newest.id).await else { return false };
        let fingerprint = super::fingerprint(&self.images.toolchains).await;
        fingerprint.is_ok_and(|fingerprint| manifest.is_base_current(&fingerprint))
    }
}

/// Three to five quarters of `pause`.
fn jittered(pause: Duration, random: u128) -> Duration {
    pause.mul_f64(0.75 + (random % 1000) as f64 / 2000.0)
}

/// `history` is newest first.
fn is_due(
    history: &[ImageRow],
    head: &CommitHash,
    is_base_current: bool,
    patience: Duration,
    now_ms: i64,
) -> bool {
    let ready = history.iter().find(|image| image.state == ImageState::Ready);
    if is_base_current && ready.is_some_and(|image| image.commit.as_ref() == Some(head)) {
        return false;
    }
    let is_failure_here = |image: &&ImageRow| {
        image.state == ImageState::Failed && image.commit.as_ref().is_none_or(|commit| commit == head)
    };
    let failures = history.iter().take_while(is_failure_here).count();
    let Some(last) = history.first().filter(|_| failures > 0 && !patience.is_zero()) else { return true };
    let doublings = u32::try_from(failures - 1).unwrap_or(DOUBLINGS).min(DOUBLINGS);
    let pause = patience.saturating_mul(1 << doublings).as_millis();
    let since = now_ms - last.finished_at_ms.unwrap_or(last.started_at_ms);
    u128::try_from(since).is_ok_and(|since| since >= pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::{ImageId, RepositoryId};

    const EVERY: Duration = Duration::from_secs(30 * 60);

    fn commit(letter: &str) -> CommitHash {
        letter.repeat(40).parse().unwrap()
    }

    fn image(state: ImageState, letter: Option<&str>, finished_at_ms: i64) -> ImageRow {
        ImageRow {
            id: ImageId::from_parts(1, 1),
            repository: RepositoryId::from_parts(1, 1),
            state,
            commit: letter.map(commit),
            steps: serde_json::json!([]),
            problem: None,
            started_at_ms: finished_at_ms - 1,
            finished_at_ms: Some(finished_at_ms),
        }
    }

    #[test]
    fn what_would_be_the_same_image_is_not_built() {
        let good = [image(ImageState::Ready, Some("a"), 0)];
        assert!(is_due(&[], &commit("a"), false, EVERY, 0));
        assert!(!is_due(&good, &commit("a"), true, EVERY, i64::MAX / 2));
        assert!(is_due(&good, &commit("b"), true, EVERY, 0));
        assert!(is_due(&good, &commit("a"), false, EVERY, 0), "the machine's programs changed");
    }

    #[test]
    fn a_failing_commit_is_tried_ever_more_seldom_and_at_once_when_asked_for() {
        let minutes = |minutes: i64| minutes * 60_000;
        let failed = || image(ImageState::Failed, Some("b"), 0);
        let once = [failed(), image(ImageState::Ready, Some("a"), 0)];
        assert!(!is_due(&once, &commit("b"), true, EVERY, minutes(29)));
        assert!(is_due(&once, &commit("b"), true, EVERY, minutes(30)));
        assert!(is_due(&once, &commit("c"), true, EVERY, minutes(1)), "another commit has not failed");
        let thrice = [failed(), image(ImageState::Failed, None, 0), failed()];
        assert!(!is_due(&thrice, &commit("b"), true, EVERY, minutes(119)));
        assert!(is_due(&thrice, &commit("b"), true, EVERY, minutes(120)));
        let always: Vec<_> = (0..16).map(|_| failed()).collect();
        assert!(is_due(&always, &commit("b"), true, EVERY, minutes(30 * 64)));
        assert!(is_due(&always, &commit("b"), true, Duration::ZERO, 0));
    }

    #[test]
    fn chance_moves_a_turn_by_a_quarter_at_most() {
        for random in [0, 1, 999, u128::MAX] {
            let pause = jittered(Duration::from_secs(100), random);
            assert!((75..=125).contains(&pause.as_secs()), "{pause:?}");
        }
        assert_ne!(jittered(EVERY, 1), jittered(EVERY, 700));
    }
}
