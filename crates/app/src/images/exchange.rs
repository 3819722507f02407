//! Images leave this machine and enter it, at `<data>/exchange/NAME`: who reads and writes there is a person of the
//! machine, so callers give a name and never a path. An import is a build whose layers are there already.

use super::{fingerprint, internal};
use crate::{App, Result, require};
use greenroom_domain::{ErrorCode, ExchangeName, ImageId, Person, Problem, RepositoryName, Role};
use greenroom_image::{Exchanged, Here, export};
use greenroom_wire::{ExportedImage, ImageView};
use std::sync::Arc;

impl App {
    /// Answers when all of it is on the disk. One at a time.
    pub async fn export_image(
        &self,
        caller: &Person,
        id: ImageId,
        to: ExchangeName,
    ) -> Result<ExportedImage> {
        require(caller, Role::Admin)?;
        let row = self.inner.image_row(id).await?;
        let images = &self.inner.images;
        let held = images.hold(id).ok_or_else(|| {
            Problem::new(ErrorCode::ImageMissing, "The image is being removed.")
                .hint("List those that are there with `greenroom image list NAME`.")
        })?;
        let manifest = self.inner.manifest(id).await?;
        let repository = self.inner.directory.repository(row.repository).await?.ok_or_else(|| {
            Problem::new(ErrorCode::RepositoryUnknown, "The image's repository was removed.")
        })?;
        let one = Arc::clone(&images.export).try_lock_owned().map_err(|_| {
            Problem::new(ErrorCode::TooManyRequests, "Another image is being exported.")
                .hint("Export again when it is done.")
        })?;
        let layers = images.layers.clone();
        let work = move || {
            let _until_it_is_done = (held, one);
            export(&layers, &manifest, &repository.name, &to)
        };
        let exported = tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))??;
        Ok(ExportedImage {
            image: id,
            directory: exported.directory.display().to_string(),
            blobs: exported.blobs as u64,
            size_bytes: exported.bytes,
        })
    }

    /// Refuses at once what this machine cannot run; the rest is followed as a build is.
    pub async fn import_image(
        &self,
        caller: &Person,
        name: &RepositoryName,
        from: ExchangeName,
    ) -> Result<ImageView> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(name).await?;
        let images = &self.inner.images;
        let here = Here {
            repository: row.name.clone(),
            branch: row.default_branch.clone(),
            runtime_version: images.runtime_version.clone(),
            base_fingerprint: fingerprint(&images.toolchains).await?,
        };
        let layers = images.layers.clone();
        let opened = tokio::task::spawn_blocking(move || Exchanged::open(&layers, &from, &here));
        let exchanged = opened.await.map_err(|error| internal(&error))??;
        self.inner.start_import(&row, exchanged).await
    }
}
