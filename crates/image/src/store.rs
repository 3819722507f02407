//! Finished layers on disk. A layer is published by one rename after its bytes are on the disk, is never changed after,
//! and is found by its key; whatever is not a published layer is a leftover and swept when the store opens. Layers and
//! builds lie on the storage (`greenroom_sandbox::Storage`), manifests and logs of images in the data directory.

mod collect;
mod squash;

pub use collect::{Collected, Collection, Hold, StoredImage, over_quota};
pub use squash::{LONG_CHAIN, squashed_key};

use crate::key::LayerKey;
use crate::manifest::{CheckReport, write_durably};
use greenroom_domain::{ExchangeName, ImageId};
use greenroom_sandbox::Storage;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of files being written; swept when the store opens.
pub(crate) const TEMPORARY_PREFIX: &str = ".writing-";
const META_VERSION: u32 = 1;

/// Cheap to clone. Methods are blocking, and short but for `publish`.
#[derive(Clone, Debug)]
pub struct LayerStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data: PathBuf,
    storage: Storage,
    uses: Arc<collect::Uses>,
}

/// Kept beside the layer as `<key>.json`, so that the layer's directory holds nothing but the sandbox's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    pub version: u32,
    pub step: String,
    /// Bytes on disk, links not followed.
    pub size_bytes: u64,
    pub created_at_ms: i64,
    /// Verdicts of the checks whose leftovers the layer holds.
    pub checks: Vec<CheckReport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    pub key: LayerKey,
    pub meta: LayerMeta,
}

#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {source}")]
pub struct StoreError {
    pub operation: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

impl LayerStore {
    /// With everything in the data directory, as plain directories.
    pub fn open(data: &Path) -> Result<Self> {
        let storage = Storage::plain(data).map_err(at("make directories of", data))?;
        Self::open_on(data, storage)
    }

    /// Makes the directories and sweeps leftovers of an earlier process (unfinished builds, half-written files, damaged
    /// layers). One process at a time may have a data directory open.
    pub fn open_on(data: &Path, storage: Storage) -> Result<Self> {
        let images = data.join("images");
        fs::create_dir_all(&images).map_err(at("make directory", &images))?;
        let store = Self { inner: Arc::new(Inner { data: data.to_owned(), storage, uses: Arc::default() }) };
        store.sweep()?;
        Ok(store)
    }

    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    fn uses(&self) -> &Arc<collect::Uses> {
        &self.inner.uses
    }

    /// Where a published layer lies.
    pub fn path(&self, key: &LayerKey) -> PathBuf {
        self.inner.storage.layers().join(key.as_str())
    }

    /// Where an admin puts archives of bases.
    pub fn bases(&self) -> PathBuf {
        self.inner.data.join("bases")
    }

    /// Where an image lies that leaves this machine, or is to enter it.
    pub fn exchange(&self, name: &ExchangeName) -> PathBuf {
        self.inner.data.join("exchange").join(name.as_str())
    }

    pub fn image_directory(&self, image: ImageId) -> PathBuf {
        self.images().join(image.to_string())
    }

    /// Where a running build keeps the workspaces of its sandboxes.
    pub fn build_directory(&self, image: ImageId) -> PathBuf {
        self.inner.storage.builds().join(image.to_string())
    }

    /// Keeps the layer from a collection that is under way.
    pub fn get(&self, key: &LayerKey) -> Option<LayerMeta> {
        self.uses().touch(key);
        self.peek(key)
    }

    fn peek(&self, key: &LayerKey) -> Option<LayerMeta> {
        if !self.path(key).is_dir() {
            return None;
        }
        let meta: LayerMeta = serde_json::from_slice(&fs::read(self.meta_path(key)).ok()?).ok()?;
        (meta.version == META_VERSION).then_some(meta)
    }

    /// Makes a finished directory (on the same file system) a layer. When this returns, the layer is on the disk. If
    /// another build was first with the same key, its layer stays and this one is discarded.
    pub fn publish(
        &self,
        key: &LayerKey,
        directory: &Path,
        step: &str,
        checks: Vec<CheckReport>,
        created_at_ms: i64,
    ) -> Result<LayerMeta> {
        let meta = LayerMeta {
            version: META_VERSION,
            step: step.to_owned(),
            size_bytes: disk_bytes(directory),
            created_at_ms,
            checks,
        };
        let opened = File::open(directory).map_err(at("open", directory))?;
        rustix::fs::syncfs(&opened).map_err(|error| at("sync", directory)(error.into()))?;
        if let Some(published) = self.get(key) {
            self.discard(directory)?;
            return Ok(published);
        }
        let layers = self.inner.storage.layers();
        let meta_path = self.meta_path(key);
        let text = serde_json::to_vec(&meta).expect("metadata has only plain values");
        write_durably(&layers, &meta_path, &text).map_err(at("write", &meta_path))?;
        let path = self.path(key);
        match fs::rename(directory, &path) {
            Ok(()) => sync_directory(&layers)?,
            Err(_) if path.is_dir() => self.discard(directory)?,
            Err(error) => return Err(at("publish", &path)(error)),
        }
        Ok(meta)
    }

    /// Every published layer, in the order of keys.
    pub fn list(&self) -> Result<Vec<LayerInfo>> {
        let mut layers: Vec<LayerInfo> = names(&self.inner.storage.layers())?
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter_map(|key: LayerKey| Some(LayerInfo { meta: self.peek(&key)?, key }))
            .collect();
        layers.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(layers)
    }

    pub fn total_bytes(&self) -> Result<u64> {
        Ok(self.list()?.iter().map(|layer| layer.meta.size_bytes).sum())
    }

    /// Forgets a layer. The caller knows that no image and no sandbox uses it.
    pub fn remove(&self, key: &LayerKey) -> Result<()> {
        self.discard(&self.path(key))?;
        self.discard(&self.meta_path(key))
    }

    /// Removes an image's manifest and log. Its layers stay until nothing else uses them either.
    pub fn remove_image(&self, image: ImageId) -> Result<()> {
        let directory = self.image_directory(image);
        // A few files, and not on the storage.
        greenroom_sandbox::remove_tree(&directory).map_err(at("remove", &directory))
    }

    /// Deletes a file or tree of the storage: out of sight when this returns, freed in the background. What does
    /// not exist is deleted already.
    pub fn discard(&self, path: &Path) -> Result<()> {
        self.inner.storage.discard(path).map_err(at("discard", path))
    }

    fn images(&self) -> PathBuf {
        self.inner.data.join("images")
    }

    fn meta_path(&self, key: &LayerKey) -> PathBuf {
        self.inner.storage.layers().join(format!("{key}.json"))
    }

    fn sweep(&self) -> Result<()> {
        for name in names(&self.inner.storage.builds())? {
            self.discard(&self.inner.storage.builds().join(name))?;
        }
        let layers = self.inner.storage.layers();
        for name in names(&layers)? {
            let key = name.strip_suffix(".json").unwrap_or(&name).parse::<LayerKey>();
            if !key.is_ok_and(|key| self.peek(&key).is_some()) {
                self.discard(&layers.join(name))?;
            }
        }
        let images = self.images();
        for image in names(&images)? {
            let image = images.join(image);
            for name in names(&image)?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
                let path = image.join(name);
                fs::remove_file(&path).map_err(at("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn at<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError { operation, path: path.to_owned(), source }
}

/// Names of a directory's entries; a file has none.
fn names(directory: &Path) -> Result<Vec<String>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let read = || -> io::Result<Vec<String>> {
        directory.read_dir()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().map_err(at("list", directory))
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at("sync", path))
}

/// Best effort: what cannot be looked at (a path that a sandbox made too long) counts as nothing.
fn disk_bytes(directory: &Path) -> u64 {
    let mut total = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests;
