//! Images leave and enter a machine: a directory `<data>/exchange/NAME` with each layer as a blob (`pack`) beside
//! `image.json`, which names them. What comes from another machine is only layers, the commit they were built at and what
//! the checks said; the recipe is read from the repository here. `open` refuses what this machine cannot run, `build`
//! unpacks it and publishes it under keys of its own, because keys from outside would vouch for contents.

mod pack;
mod unpack;

pub(crate) use pack::{Owners, pack};
pub(crate) use unpack::unpack;

use crate::blob::{BlobDigest, BlobStore, FileBlobs};
use crate::manifest::{CheckReport, ImageBase, ImageManifest, LayerRef, ManifestError, write_durably};
use crate::recipe::limit;
use crate::store::LayerStore;
use greenroom_domain::{BranchName, CommitHash, ErrorCode, ExchangeName, ImageId, Problem, RepositoryName};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
const FILE_NAME: &str = "image.json";
const BLOBS: &str = "blobs";
const FILE_BYTES: u64 = 1024 * 1024;
const MOST_LAYERS: usize = 256;

const MOST_ENTRIES: u64 = 2_000_000;
/// Of files, holes counted.
const MOST_BYTES: u64 = 64 << 30;
const LONG_NAME: &[u8] = b"././@LongLink";
const MTIME: &str = "mtime";
const ATTRIBUTE: &str = "LIBARCHIVE.xattr.";
const CAPABILITY: &[u8] = b"security.capability";

/// What a sandbox can set: attributes of its own, overlay's marks among them, and capabilities that hold inside its own
/// user namespace (revision 3, with the first of its ids).
fn attribute_is_kept(name: &[u8], value: &[u8]) -> bool {
    let is_inside =
        || value.len() == 24 && value[3] == 3 && value[20..] == greenroom_sandbox::ID_BASE.to_le_bytes();
    name.starts_with(b"user.") || (name == CAPABILITY && is_inside())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ExchangedImage {
    version: u32,
    /// On the machine that it comes from.
    image: ImageId,
    repository: RepositoryName,
    branch: BranchName,
    commit: CommitHash,
    runtime_version: String,
    /// Of the host's root; empty on another base.
    base_fingerprint: String,
    base: Option<ExchangedLayer>,
    /// Lowest first.
    layers: Vec<ExchangedLayer>,
    checks: Vec<CheckReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExchangedLayer {
    /// The step's name, or the base's.
    pub(crate) name: String,
    pub(crate) blob: BlobDigest,
}

/// What `export` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub directory: PathBuf,
    pub blobs: usize,
    /// Of all its blobs.
    pub bytes: u64,
}

/// The machine that an image is to run on.
#[derive(Clone, Debug)]
pub struct Here {
    pub repository: RepositoryName,
    pub branch: BranchName,
    pub runtime_version: String,
    pub base_fingerprint: String,
}

/// An image of another machine that this one can run. Its blobs are not looked at before they are unpacked.
#[derive(Clone, Debug)]
pub struct Exchanged {
    image: ExchangedImage,
    pub(crate) blobs: FileBlobs,
}

/// Writes an image into `<data>/exchange/NAME`: blobs that are there already stay, `image.json` comes last. The caller
/// keeps the image from being removed meanwhile. Blocking, for as long as the layers are large.
pub fn export(
    layers: &LayerStore,
    image: &ImageManifest,
    repository: &RepositoryName,
    to: &ExchangeName,
) -> Result<Exported, Problem> {
    let directory = layers.exchange(to);
    let failed = |error: io::Error| not_written(&directory, &error);
    if let Some(other) = read(&directory, to).ok().filter(|other| other.image != image.id) {
        let message = format!("The directory {} holds another image, {}.", directory.display(), other.image);
        return Err(
            Problem::new(ErrorCode::NameTaken, message).hint("Give another name, or remove it first.")
        );
    }
    let blobs = FileBlobs::open(&directory.join(BLOBS)).map_err(failed)?;
    let mut exported = Exported { directory: directory.clone(), blobs: 0, bytes: 0 };
    let mut put = |layer: &LayerRef, is_base: bool| -> Result<ExchangedLayer, Problem> {
        if layers.get(&layer.key).is_none() {
            let missing = ManifestError::LayerMissing { image: image.id, step: layer.step.clone() };
            return Err(missing.problem());
        }
        let path = layers.path(&layer.key);
        let stored = blobs.put(&mut |to| pack(&path, Owners::of(is_base), to)).map_err(failed)?;
        exported.blobs += 1;
        exported.bytes += stored.bytes;
        Ok(ExchangedLayer { name: layer.step.clone(), blob: stored.digest })
    };
    let base = match &image.base {
        ImageBase::Host => None,
        ImageBase::Unpacked { key, name } => {
            Some(put(&LayerRef { key: key.clone(), step: name.clone() }, true)?)
        }
    };
    let told = ExchangedImage {
        version: VERSION,
        image: image.id,
        repository: repository.clone(),
        branch: image.branch.clone(),
        commit: image.commit.clone(),
        runtime_version: image.runtime_version.clone(),
        base_fingerprint: if base.is_none() { image.base_fingerprint.clone() } else { String::new() },
        base,
        layers: image.layers.iter().map(|layer| put(layer, false)).collect::<Result<_, _>>()?,
        checks: image.checks.clone(),
    };
    let text = serde_json::to_vec_pretty(&told).expect("plain values");
    write_durably(&directory, &directory.join(FILE_NAME), &text).map_err(failed)?;
    Ok(exported)
}

impl Exchanged {
    /// Looks at `image.json` of `<data>/exchange/NAME`, and that its blobs are there. `image_unfit`: it cannot run here;
    /// `image_damaged`: it is not what an export wrote. Blocking.
    pub fn open(layers: &LayerStore, from: &ExchangeName, here: &Here) -> Result<Self, Problem> {
        let directory = layers.exchange(from);
        let image = read(&directory, from)?;
        image.fits(here)?;
        let blobs = FileBlobs::at(&directory.join(BLOBS));
        for layer in image.layers.iter().chain(&image.base) {
            if !blobs.exists(&layer.blob).map_err(|error| damaged(from, &error.to_string()))? {
                return Err(damaged(from, &format!("its layer {} is not there", layer.blob)));
            }
        }
        Ok(Self { image, blobs })
    }

    pub fn commit(&self) -> &CommitHash {
        &self.image.commit
    }

    pub(crate) fn base(&self) -> Option<&ExchangedLayer> {
        self.image.base.as_ref()
    }

    /// Lowest first.
    pub(crate) fn layers(&self) -> &[ExchangedLayer] {
        &self.image.layers
    }

    pub(crate) fn checks(&self) -> &[CheckReport] {
        &self.image.checks
    }
}

impl ExchangedImage {
    fn fits(&self, here: &Here) -> Result<(), Problem> {
        if self.repository != here.repository {
            let message = format!(
                "The image is one of the repository {}, not of {}.",
                self.repository, here.repository
            );
            return Err(unfit(message)
                .hint("What it holds fetches from its repository by name: register it under that name."));
        }
        if self.branch != here.branch {
            let message = format!(
                "The image was built for the branch {}, and sessions begin from {}.",
                self.branch, here.branch
            );
            return Err(unfit(message).hint(BUILD));
        }
        if self.runtime_version != here.runtime_version {
            let message = format!(
                "The image was built by the sandbox runtime {:?}, and this machine has {:?}.",
                self.runtime_version, here.runtime_version
            );
            return Err(unfit(message).hint(BUILD));
        }
        if self.base.is_none() && self.base_fingerprint != here.base_fingerprint {
            let message = "The image stands on the programs of another machine, and this one has others.";
            return Err(
                unfit(message).hint("Give both machines the same packages, or the recipe a base of its own.")
            );
        }
        Ok(())
    }

    /// Names are shown to people as they are.
    fn complaint(&self) -> Option<&'static str> {
        let is_name = |name: &str| {
            (1..=limit::BASE_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        let layers = self.layers.iter().chain(&self.base).map(|layer| layer.name.as_str());
        let checks = self.checks.iter().map(|check| check.name.as_str());
        match () {
            () if self.layers.is_empty() || self.layers.len() > MOST_LAYERS => {
                Some("it has no layers, or too many")
            }
            () if self.checks.len() > limit::CHECKS => Some("it has too many checks"),
            () if !layers.chain(checks).all(is_name) => Some("a name in it cannot be shown"),
            () => None,
        }
    }
}

const BUILD: &str = "Build it here with `greenroom image build NAME`.";

fn unfit(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::ImageUnfit, message)
}

fn damaged(name: &ExchangeName, reason: &str) -> Problem {
    damage(format!("The exported image {name} cannot be used: {reason}."))
}

pub(crate) fn damaged_layer(layer: &ExchangedLayer, reason: &str) -> Problem {
    damage(format!("The layer {:?} of the exported image cannot be used: {reason}.", layer.name))
}

fn damage(message: String) -> Problem {
    Problem::new(ErrorCode::ImageDamaged, message).hint("Copy it again, or export it again.")
}

fn not_written(directory: &Path, error: &io::Error) -> Problem {
    let place = directory.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Problem::new(ErrorCode::DiskFull, format!("The disk of {place} is full."))
                .hint("Free space and export the image again: what is written already stays.")
        }
        io::ErrorKind::FileTooLarge => {
            Problem::new(ErrorCode::TooLarge, format!("The image is too large: {error}."))
        }
        _ => Problem::new(ErrorCode::Internal, format!("The image cannot be written to {place}: {error}.")),
    }
}

fn read(directory: &Path, name: &ExchangeName) -> Result<ExchangedImage, Problem> {
    let path = directory.join(FILE_NAME);
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(ErrorCode::FileUnknown, format!("There is no exported image at {}.", path.display()))
                .hint("Put the directory that `greenroom image export` made there, as a whole.")
        }
        _ => damaged(name, &error.to_string()),
    })?;
    let mut text = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| damaged(name, &error.to_string()))?;
    if text.len() as u64 > FILE_BYTES {
        return Err(damaged(name, "its description is too large"));
    }
    let unreadable =
        |error: serde_json::Error| damaged(name, &format!("its description cannot be read: {error}"));
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(unreadable)?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let version = version.map_or("none".to_owned(), |version| version.to_string());
        let message = format!(
            "The image was exported by another version of Greenroom (format {version}, and this one reads {VERSION})."
        );
        return Err(unfit(message).hint("Export and import with the same version."));
    }
    let image: ExchangedImage = serde_json::from_value(value).map_err(unreadable)?;
    match image.complaint() {
        Some(complaint) => Err(damaged(name, complaint)),
        None => Ok(image),
    }
}

#[cfg(test)]
mod tests;
