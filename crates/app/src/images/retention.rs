//! Which images and layers are kept: the newest good ones of each repository, whatever a session's files stand on, and the
//! logs of failed builds for some time. Layers that no kept image needs are removed once they are a day old, so that the
//! next try of a failed build finds those that it made.

use super::internal;
use crate::{Inner, Result};
use greenroom_directory::{ImageRow, ImageState, RepositoryRow};
use greenroom_domain::{ImageId, RepositoryId};
use greenroom_image::LayerKey;
use std::collections::HashSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHistory {
    /// Good images of one repository, the newest first; at least 1.
    pub good: usize,
    /// How long a failed build's line and log are kept.
    pub failed_days: u32,
}

impl Default for ImageHistory {
    fn default() -> Self {
        Self { good: 3, failed_days: 14 }
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const LAYER_GRACE_MS: i64 = DAY_MS;
/// Beyond these, older ones are looked at after the next build.
const ROWS: u32 = 1000;

impl Inner {
    /// After a build of the repository. Images are removed from the directory first: a crash in between leaves files that
    /// nothing refers to, never a line without its files.
    pub(super) async fn prune_images(&self, repository: &RepositoryRow) -> Result<()> {
        let rows = self.directory.images(repository.id, ROWS).await?;
        let history = self.config.image_history;
        if superfluous(&rows, &HashSet::new(), history, self.now_ms()).is_empty() {
            return Ok(());
        }
        let used = self.images_in_use(repository.id).await?;
        let gone = superfluous(&rows, &used, history, self.now_ms());
        for image in &gone {
            self.directory.remove_image(*image).await?;
            self.images.forget(*image);
        }
        let layers = self.images.layers.clone();
        let removed = gone.clone();
        let work = move || removed.iter().try_for_each(|image| layers.remove_image(*image));
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))?;
        self.remove_unused_layers().await
    }

    /// From the sessions' own logs, which alone are sure; only asked for when there is something to remove.
    async fn images_in_use(&self, repository: RepositoryId) -> Result<HashSet<ImageId>> {
        let mut used = HashSet::new();
        for row in self.directory.sessions(Some(repository), u32::MAX).await? {
            let state = self.sessions().get(row.id).await?.state().await?;
            used.extend(state.workspace.image);
            used.extend(state.origin.and_then(|origin| origin.image));
        }
        Ok(used)
    }

    /// While no build runs: each holds on to layers that no manifest names yet.
    async fn remove_unused_layers(&self) -> Result<()> {
        let places = u32::try_from(super::BUILDS).expect("a small number");
        let Ok(_no_build) = self.images.places.try_acquire_many(places) else { return Ok(()) };
        let mut needed: HashSet<LayerKey> = HashSet::new();
        for repository in self.directory.repositories().await? {
            for row in self.directory.images(repository.id, ROWS).await? {
                if row.state == ImageState::Ready {
                    // An image that cannot be read keeps everything as it is.
                    needed.extend(self.manifest(row.id).await?.keys().cloned());
                }
            }
        }
        let (layers, now_ms) = (self.images.layers.clone(), self.now_ms());
        let remove = move || -> std::result::Result<(), greenroom_image::store::StoreError> {
            for layer in layers.list()? {
                let is_old = now_ms - layer.meta.created_at_ms > LAYER_GRACE_MS;
                if is_old && !needed.contains(&layer.key) {
                    layers.remove(&layer.key)?;
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(remove)
            .await
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))
    }
}

/// `rows` are newest first.
fn superfluous(
    rows: &[ImageRow],
    used: &HashSet<ImageId>,
    history: ImageHistory,
    now_ms: i64,
) -> Vec<ImageId> {
    let failed_ms = i64::from(history.failed_days) * DAY_MS;
    let mut good = 0;
    let mut is_kept = |row: &ImageRow| match row.state {
        ImageState::Building => true,
        ImageState::Ready => {
            good += 1;
            good <= history.good.max(1) || used.contains(&row.id)
        }
        ImageState::Failed => now_ms - row.finished_at_ms.unwrap_or(row.started_at_ms) <= failed_ms,
    };
    rows.iter().filter(|row| !is_kept(row)).map(|row| row.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64, state: ImageState, finished_at_ms: i64) -> ImageRow {
        ImageRow {
            id: ImageId::from_parts(number, 0),
            repository: RepositoryId::from_parts(1, 1),
            state,
            commit: None,
            steps: serde_json::json!([]),
            problem: None,
            started_at_ms: 0,
            finished_at_ms: Some(finished_at_ms),
        }
    }

    #[test]
    fn the_newest_good_images_those_in_use_and_fresh_failures_are_kept() {
        let history = ImageHistory { good: 2, failed_days: 1 };
        let rows = [
            row(9, ImageState::Building, 0),
            row(8, ImageState::Failed, 2 * DAY_MS),
            row(7, ImageState::Ready, 0),
            row(6, ImageState::Failed, 0),
            row(5, ImageState::Ready, 0),
            row(4, ImageState::Ready, 0),
            row(3, ImageState::Ready, 0),
        ];
        let used = HashSet::from([ImageId::from_parts(4, 0)]);
        let gone = superfluous(&rows, &used, history, 2 * DAY_MS);
        assert_eq!(gone, [ImageId::from_parts(6, 0), ImageId::from_parts(3, 0)]);
        let none = ImageHistory { good: 0, failed_days: 0 };
        let gone = superfluous(&rows[2..3], &used, none, DAY_MS);
        assert!(gone.is_empty(), "one good image always stays");
    }
}
