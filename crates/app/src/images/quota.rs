//! The part of the disk that image layers may take. Looked at before and after each build: what no image needs goes at
//! once, then images, oldest first. The newest good one of each repository and what sessions and warm sandboxes stand on
//! stay; when those alone are too much, no build begins, and it is said.

use super::internal;
use super::retention::ROWS;
use crate::{Inner, Result};
use greenroom_directory::ImageState;
use greenroom_domain::{ErrorCode, ImageId, Problem};
use greenroom_image::LayerKey;
use greenroom_image::store::{StoredImage, over_quota};
use std::collections::HashMap;

/// Of the file system, where no setting says more or less.
const SHARE: u64 = 2;

impl Inner {
    /// Bytes that the layers may take; by default half of the file system that they lie on. Blocking.
    pub(crate) fn layers_limit(&self) -> std::io::Result<u64> {
        if let Some(limit) = self.config.layers_limit {
            return Ok(limit);
        }
        let space = rustix::fs::statvfs(self.storage.root())?;
        Ok(space.f_blocks * space.f_frsize / SHARE)
    }

    /// `disk_full` when what must stay leaves no room for another image.
    pub(super) async fn keep_layers_within_limit(&self) -> Result<()> {
        let limit = self.layers_limit().map_err(|error| internal(&error))?;
        if self.layer_bytes().await? <= limit {
            return Ok(());
        }
        self.remove_unused_layers(i64::MAX).await?;
        if self.layer_bytes().await? <= limit {
            return Ok(());
        }
        let _one = self.images.removal.lock().await;
        self.images.uses.begin_removal();
        let images = self.stored_images().await?;
        let (gone, _) = over_quota(&images, &self.layer_sizes().await?, limit);
        if !gone.is_empty() {
            tracing::info!(images = gone.len(), limit, "old images are removed to make room");
            self.remove_images(gone).await?;
            self.remove_unused_layers(i64::MAX).await?;
        }
        let used = self.layer_bytes().await?;
        if used <= limit { Ok(()) } else { Err(too_much(used, limit)) }
    }

    async fn layer_bytes(&self) -> Result<u64> {
        Ok(self.layer_sizes().await?.values().sum())
    }

    pub(super) async fn layer_sizes(&self) -> Result<HashMap<LayerKey, u64>> {
        let layers = self.images.layers.clone();
        let listed =
            tokio::task::spawn_blocking(move || layers.list()).await.map_err(|error| internal(&error))?;
        let listed = listed.map_err(|error| internal(&error))?;
        Ok(listed.into_iter().map(|layer| (layer.key, layer.meta.size_bytes)).collect())
    }

    async fn stored_images(&self) -> Result<Vec<StoredImage<ImageId>>> {
        let mut images = vec![];
        for repository in self.directory.repositories().await? {
            let rows = self.directory.images(repository.id, ROWS).await?;
            let used = self.images_in_use(repository.id).await?;
            for (nth, row) in rows.iter().filter(|row| row.state == ImageState::Ready).enumerate() {
                let manifest = self.manifest(row.id).await?;
                let mut layers: Vec<LayerKey> = manifest.keys().cloned().collect();
                if nth == 0 {
                    layers.extend(manifest.build_keys().cloned());
                }
                layers.sort();
                layers.dedup();
                let is_needed = nth == 0 || used.contains(&row.id);
                images.push(StoredImage {
                    id: row.id,
                    created_at_ms: manifest.created_at_ms,
                    layers,
                    is_needed,
                });
            }
        }
        Ok(images)
    }
}

fn too_much(used: u64, limit: u64) -> Problem {
    const GIB: f64 = (1_u64 << 30) as f64;
    let (used, limit) = (used as f64 / GIB, limit as f64 / GIB);
    let message = format!(
        "The images that are in use take {used:.1} GiB of the {limit:.1} GiB that image layers may have."
    );
    Problem::new(ErrorCode::DiskFull, message).hint(
        "Delete sessions or repositories that nobody needs, or raise the server's setting `layers_gib` (docs/settings.md).",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_much_and_which_setting() {
        let problem = too_much(3 << 29, 1 << 30);
        assert_eq!(problem.code, ErrorCode::DiskFull);
        assert!(problem.message.contains("1.5 GiB of the 1.0 GiB"), "{}", problem.message);
    }
}
