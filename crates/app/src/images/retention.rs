//! Which images and layers are kept: the newest good ones of each repository, whatever a session's files or a warm sandbox
//! stand on, and the logs of failed builds for some time. Layers that no kept image needs are removed once they are a day
//! old, so that the next try of a failed build finds those that it made. `quota` removes more when the disk asks for it.

use super::internal;
use crate::{Inner, Result};
use greenroom_directory::{Archived, ImageRow, ImageState, Onlooker, RepositoryRow};
use greenroom_domain::{ErrorCode, ImageId, RepositoryId};
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
pub(super) const ROWS: u32 = 1000;

impl Inner {
    /// After a build of the repository.
    pub(super) async fn prune_images(&self, repository: &RepositoryRow) -> Result<()> {
        let rows = self.directory.images(repository.id, ROWS).await?;
        let history = self.config.image_history;
        if superfluous(&rows, &HashSet::new(), history, self.now_ms()).is_empty() {
            return Ok(());
        }
        let _one = self.images.removal.lock().await;
        self.images.uses.begin_removal();
        let used = self.images_in_use(repository.id).await?;
        let gone = superfluous(&rows, &used, history, self.now_ms());
        self.remove_images(gone).await?;
        self.remove_unused_layers(self.now_ms() - LAYER_GRACE_MS).await
    }

    /// Failed builds that were kept for as long as they are, and the bytes of their logs. Also of repositories that are
    /// not built any more, which `prune_images` does not come by.
    pub(crate) async fn old_failed_builds(&self) -> Result<(Vec<ImageId>, u64)> {
        let mut old = vec![];
        for repository in self.directory.repositories().await? {
            let rows = self.directory.images(repository.id, ROWS).await?;
            let (history, now) = (self.config.image_history, self.now_ms());
            old.extend(rows.iter().filter(|row| is_old_failure(row, history, now)).map(|row| row.id));
        }
        let layers = self.images.layers.clone();
        let directories: Vec<_> = old.iter().map(|image| layers.image_directory(*image)).collect();
        let work = move || directories.iter().map(|directory| crate::disk::tree_bytes(directory)).sum();
        let bytes = tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?;
        Ok((old, bytes))
    }

    pub(crate) async fn remove_failed_builds(&self, images: Vec<ImageId>) -> Result<()> {
        let _one = self.images.removal.lock().await;
        self.images.uses.begin_removal();
        self.remove_images(images).await
    }

    /// With a repository that no session stands on.
    pub(crate) async fn forget_images(&self, repository: RepositoryId) -> Result<()> {
        let _one = self.images.removal.lock().await;
        let rows = self.directory.images(repository, u32::MAX).await?;
        self.images.uses.begin_removal();
        self.remove_images(rows.into_iter().map(|row| row.id).collect()).await?;
        if let Err(problem) = self.remove_unused_layers(self.now_ms() - LAYER_GRACE_MS).await {
            tracing::warn!(%problem, "layers of a removed repository are left until the next build");
        }
        Ok(())
    }

    /// From the directory first: a crash in between leaves files that nothing refers to, never a line without its files.
    /// Those that somebody holds stay.
    pub(super) async fn remove_images(&self, images: Vec<ImageId>) -> Result<()> {
        let gone = self.images.uses.part_with(images);
        for image in &gone {
            self.directory.remove_image(*image).await?;
            self.images.forget(*image);
        }
        let layers = self.images.layers.clone();
        let work = move || gone.iter().try_for_each(|image| layers.remove_image(*image));
        let removed = tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?;
        removed.map_err(|error| internal(&error))
    }

    /// From the sessions' own logs, which alone are sure; only asked for when there is something to remove. A snapshot
    /// stands on the image of each session that needs it.
    pub(super) async fn images_in_use(&self, repository: RepositoryId) -> Result<HashSet<ImageId>> {
        let mut used = HashSet::new();
        for row in self.directory.sessions(Onlooker::All, Some(repository), Archived::Shown, u32::MAX).await?
        {
            let state = self.sessions().get(row.id).await?.state().await?;
            used.extend(state.workspace.image);
            used.extend(state.origin.and_then(|origin| origin.image));
        }
        Ok(used)
    }

    /// Builds may run meanwhile: they hold what they found and made until their manifest says it.
    pub(super) async fn remove_unused_layers(&self, made_before_ms: i64) -> Result<()> {
        let collection = self.images.layers.begin_collection();
        let mut needed: HashSet<LayerKey> = HashSet::new();
        for repository in self.directory.repositories().await? {
            let rows = self.directory.images(repository.id, ROWS).await?;
            let newest = rows.iter().find(|row| row.state == ImageState::Ready).map(|row| row.id);
            for row in rows.iter().filter(|row| row.state != ImageState::Failed) {
                let manifest = match self.manifest(row.id).await {
                    Ok(manifest) => manifest,
                    // Its layers are held.
                    Err(problem)
                        if row.state == ImageState::Building && problem.code == ErrorCode::ImageMissing =>
                    {
                        continue;
                    }
                    // An image that cannot be read keeps everything as it is.
                    Err(problem) => return Err(problem),
                };
                needed.extend(manifest.keys().cloned());
                if row.state == ImageState::Building || newest == Some(row.id) {
                    needed.extend(manifest.build_keys().cloned());
                }
            }
        }
        let remove = move || collection.remove_unused(&needed, made_before_ms);
        let removed = tokio::task::spawn_blocking(remove).await.map_err(|error| internal(&error))?;
        let collected = removed.map_err(|error| internal(&error))?;
        if collected.layers > 0 {
            tracing::info!(layers = collected.layers, bytes = collected.bytes, "unused layers were removed");
        }
        Ok(())
    }
}

/// `rows` are newest first.
fn superfluous(
    rows: &[ImageRow],
    used: &HashSet<ImageId>,
    history: ImageHistory,
    now_ms: i64,
) -> Vec<ImageId> {
    let mut good = 0;
    let mut is_kept = |row: &ImageRow| match row.state {
        ImageState::Building => true,
        ImageState::Ready => {
            good += 1;
            good <= history.good.max(1) || used.contains(&row.id)
        }
        ImageState::Failed => !is_old_failure(row, history, now_ms),
    };
    rows.iter().filter(|row| !is_kept(row)).map(|row| row.id).collect()
}

fn is_old_failure(row: &ImageRow, history: ImageHistory, now_ms: i64) -> bool {
    let failed_ms = i64::from(history.failed_days) * DAY_MS;
    row.state == ImageState::Failed && now_ms - row.finished_at_ms.unwrap_or(row.started_at_ms) > failed_ms
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
