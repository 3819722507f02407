//! An image of another machine in place of a build's parts: each of its layers is unpacked and published under a key
//! that says where it came from, so that no build ever takes it for one of its own.

use super::failure;
use super::log::BuildLog;
use super::progress::BuildEvent;
use super::run::{Run, blocking, of};
use super::{BuildFailure, BuildPlan, BuildRequest, Builder, plan};
use crate::blob::BlobStore;
use crate::exchange::{Exchanged, ExchangedLayer, Owners, damaged_layer, unpack};
use crate::key::{KeyHasher, LayerKey};
use greenroom_domain::{CommitHash, ErrorCode, Problem};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Of one layer; the largest take minutes.
const LAYER_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Where a layer lies.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Base,
    /// A chain may not hold one layer twice, so what is below is part of its key.
    Over(Option<&'a LayerKey>),
}

impl Builder {
    /// The plan of an image that was made elsewhere: the recipe is the repository's own at the image's commit. Makes
    /// nothing.
    pub async fn plan_import(
        &self,
        request: BuildRequest,
        exchanged: Exchanged,
    ) -> Result<BuildPlan, BuildFailure> {
        let commit = exchanged.commit().clone();
        let paths = match self.forge.list_files(request.repository, &commit, "").await {
            Err(greenroom_forge::Error::Git { .. }) => return Err(unknown_commit(&request, &commit).into()),
            listed => listed.map_err(failure::forge)?,
        };
        let mut plan = plan::plan_at(self, request, commit, paths).await?;
        plan.exchanged = Some(exchanged);
        Ok(plan)
    }
}

fn unknown_commit(request: &BuildRequest, commit: &CommitHash) -> Problem {
    let name = &request.name;
    let message = format!("The image was built at the commit {commit}, which {name} does not have here.");
    Problem::new(ErrorCode::ImageUnfit, message)
        .hint("Push that commit, or let the repository follow its source, and import again.")
}

impl Run {
    pub(super) async fn imported_parts(
        &mut self,
        exchanged: &Exchanged,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        if let Some(base) = exchanged.base() {
            let key = self.imported_key(base, Place::Base);
            if self.find(&key).is_none() {
                self.import(exchanged, base, &key, Owners::of(true), log).await.map_err(of(&base.name))?;
            }
            self.stand_on(key, base.name.clone(), log).await?;
        }
        for layer in exchanged.layers() {
            let key = self.imported_key(layer, Place::Over(self.layers.last().map(|below| &below.key)));
            if self.find(&key).is_some() {
                self.reuse_part(&layer.name, vec![key], log).await?;
                continue;
            }
            let started_ms = (self.builder.clock)();
            self.import(exchanged, layer, &key, Owners::of(false), log).await.map_err(of(&layer.name))?;
            self.made(&layer.name, key, started_ms);
        }
        self.checks = exchanged.checks().to_vec();
        // No build goes on from what is not known to be of its own making.
        self.reuse.clone.clear();
        Ok(())
    }

    fn imported_key(&self, layer: &ExchangedLayer, place: Place<'_>) -> LayerKey {
        let hasher = KeyHasher::new("imported")
            .part("repository", self.plan.request.repository.to_string())
            .part("runtime", &self.plan.runtime_version)
            .part("blob", layer.blob.to_string());
        match place {
            Place::Base => hasher.part("base", ""),
            Place::Over(below) => hasher.part("below", below.map_or("", LayerKey::as_str)),
        }
        .finish()
    }

    async fn import(
        &mut self,
        exchanged: &Exchanged,
        layer: &ExchangedLayer,
        key: &LayerKey,
        owners: Owners,
        log: &mut BuildLog,
    ) -> Result<(), Problem> {
        if self.cancel.is_cancelled() {
            return Err(failure::cancelled());
        }
        let _ = log.note(&format!("{} (imported)", layer.name)).await;
        self.progress.turning_point(BuildEvent::StepStarted { step: layer.name.clone() }).await;
        let place = self.builder.layers.build_directory(self.plan.request.image);
        let directory = place.join(format!("imported-{key}"));
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|error| failure::io(&error, &format!("make {}: {error}", directory.display())))?;
        let unpacked = self.unpacked_blob(exchanged, layer, directory.clone(), owners).await?;
        unpacked.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure::io(&io::ErrorKind::StorageFull.into(), "")
            }
            _ if self.cancel.is_cancelled() => failure::cancelled(),
            _ => damaged_layer(layer, &error.to_string()),
        })?;
        self.keep(key, directory, &layer.name, vec![]).await
    }

    /// Ends soon after the build is cancelled; the time is limited too.
    async fn unpacked_blob(
        &self,
        exchanged: &Exchanged,
        layer: &ExchangedLayer,
        directory: PathBuf,
        owners: Owners,
    ) -> Result<io::Result<()>, Problem> {
        let (blobs, blob) = (exchanged.blobs.clone(), layer.blob.clone());
        let stop = self.cancel.child_token();
        let stopped = stop.clone();
        let work = move || blobs.get(&blob).and_then(|blob| unpack(blob, &directory, owners, &stopped));
        let mut work = std::pin::pin!(blocking(work));
        tokio::select! {
            unpacked = &mut work => unpacked,
            () = tokio::time::sleep(LAYER_LIMIT) => {
                stop.cancel();
                let _ = work.await;
                Err(failure::deadline("Unpacking a layer", LAYER_LIMIT.as_secs()))
            }
        }
    }
}
