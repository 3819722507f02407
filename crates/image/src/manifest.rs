//! The manifest of a built image: everything a session needs to start from it. Written once, atomically and durably;
//! its presence is what makes an image good. Reading refuses, with a reason, what this version cannot run as it is.

use crate::SandboxSetup;
use crate::environment::environment;
use crate::instructions::Instructions;
use crate::key::LayerKey;
use crate::recipe::{Port, RecipeResources, Service, Step};
use crate::store::LayerStore;
use greenroom_domain::{BranchName, CommitHash, ErrorCode, ImageId, Problem, RepositoryId};
use greenroom_sandbox::{Base, ExitReason, ReadOnlyBind, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub const MANIFEST_VERSION: u32 = 2;
const FILE_NAME: &str = "manifest.json";
const SIZE_LIMIT: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    pub version: u32,
    pub id: ImageId,
    pub repository: RepositoryId,
    pub commit: CommitHash,
    pub branch: BranchName,
    pub runtime_version: String,
    /// Of the host's root; empty on another base.
    pub base_fingerprint: String,
    pub base: ImageBase,
    /// Lowest first.
    pub layers: Vec<LayerRef>,
    /// The recipe's; the installation's part is added at each claim.
    pub env: BTreeMap<String, String>,
    pub egress_allow: Vec<String>,
    /// Ports of `egress_allow` that need listeners of their own, ascending.
    pub egress_ports: Vec<u16>,
    /// Names of declared secrets that sessions may use.
    pub secrets: Vec<String>,
    pub resources: RecipeResources,
    pub instructions: Instructions,
    /// The recipe's, so that a session can run one again when the sync changed its inputs (`steps_touched_by`).
    pub steps: Vec<Step>,
    pub services: Vec<Service>,
    pub ports: Vec<Port>,
    /// What the build did, in its order.
    pub parts: Vec<PartReport>,
    pub checks: Vec<CheckReport>,
    /// What the next build of the repository can begin from.
    pub reuse: Reuse,
    pub created_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    pub key: LayerKey,
    pub step: String,
}

/// What the lowest layer lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ImageBase {
    Host,
    /// An unpacked root file system, kept in the layer store under this key.
    Unpacked {
        key: LayerKey,
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// Everything the layers depend on besides commit and steps: another one reuses nothing.
    pub environment: LayerKey,
    /// The layers of the clone, lowest first.
    pub clone: Vec<LayerKey>,
    /// What the checks depend on besides the commit.
    pub checks: Option<LayerKey>,
    /// The layers that the checks left, lowest first.
    pub caches: Vec<LayerKey>,
}

/// A part of a build: `clone`, a step, `checks`, `finish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    pub name: String,
    pub key: LayerKey,
    /// The layer was there already and the part did not run.
    pub is_reused: bool,
    pub duration_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    pub name: String,
    pub is_optional: bool,
    pub outcome: ExitReason,
    pub duration_ms: u64,
}

impl CheckReport {
    pub fn has_passed(&self) -> bool {
        self.outcome == ExitReason::Code { code: 0 }
    }
}

/// What an image contributes to a `ClaimSpec`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimParts {
    pub base: Base,
    pub layers: Vec<PathBuf>,
    pub binds: Vec<ReadOnlyBind>,
    pub env: Vec<(String, String)>,
    pub egress_ports: Vec<u16>,
    pub resources: Resources,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("image {image} was not built or was removed")]
    Missing { image: ImageId },
    #[error("image {image} was written by another version of Greenroom (manifest version {found})")]
    UnknownVersion { image: ImageId, found: u64 },
    #[error("image {image} was built by the sandbox runtime {found}, and this one is {expected}")]
    RuntimeChanged { image: ImageId, found: String, expected: String },
    #[error("the manifest of image {image} cannot be read: {reason}")]
    Damaged { image: ImageId, reason: String },
    #[error("a layer of image {image} is missing (step {step})")]
    LayerMissing { image: ImageId, step: String },
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

impl ManifestError {
    pub fn problem(&self) -> Problem {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Problem::new(ErrorCode::DiskFull, "The disk is full.")
                    .hint("Free space and build the image again.")
            }
            Self::Io { .. } => Problem::new(ErrorCode::Internal, sentence(self)),
            _ => Problem::new(ErrorCode::ImageMissing, sentence(self))
                .hint("Build it again with `greenroom image build NAME`."),
        }
    }
}

impl ImageManifest {
    /// Temporary file, fsync, rename, fsync of the directory. Blocking.
    pub fn write(&self, image_directory: &Path) -> Result<(), ManifestError> {
        let path = image_directory.join(FILE_NAME);
        let text = serde_json::to_vec_pretty(self).expect("a manifest has only plain values");
        write_durably(image_directory, &path, &text).map_err(|source| ManifestError::Io {
            operation: "write",
            path,
            source,
        })
    }

    /// `runtime_version` is this machine's (`crate::runtime_version`). Blocking.
    pub fn read(image_directory: &Path, id: ImageId, runtime_version: &str) -> Result<Self, ManifestError> {
        let path = image_directory.join(FILE_NAME);
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ManifestError::Missing { image: id },
            _ => ManifestError::Io { operation: "read", path: path.clone(), source },
        };
        let damaged = |reason: String| ManifestError::Damaged { image: id, reason };
        if path.metadata().map_err(io)?.len() > SIZE_LIMIT {
            return Err(damaged("it is too large".into()));
        }
        let text = std::fs::read(&path).map_err(io)?;
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(MANIFEST_VERSION) {
            return Err(ManifestError::UnknownVersion { image: id, found });
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if manifest.id != id {
            return Err(damaged(format!("it is the manifest of {}", manifest.id)));
        }
        if manifest.runtime_version != runtime_version {
            return Err(ManifestError::RuntimeChanged {
                image: id,
                found: manifest.runtime_version,
                expected: runtime_version.to_owned(),
            });
        }
        Ok(manifest)
    }

    /// False when the host's programs changed since the build: new starts should build first.
    pub fn is_base_current(&self, base_fingerprint: &str) -> bool {
        self.base != ImageBase::Host || self.base_fingerprint == base_fingerprint
    }

    /// Steps whose inputs are among these paths, in order: what a sync that changed them has to run again.
    pub fn steps_touched_by(&self, changed: &[String]) -> Vec<&Step> {
        self.steps.iter().filter(|step| step.is_touched_by(changed)).collect()
    }

    /// What the next build of the repository looks for, so that an unchanged part does not run again. Of a chain that was
    /// squashed these are other layers than `keys`.
    pub fn build_keys(&self) -> impl Iterator<Item = &LayerKey> {
        let parts = self.parts.iter().map(|part| &part.key);
        parts.chain(&self.reuse.clone).chain(&self.reuse.caches)
    }

    /// Everything in the layer store that the image needs.
    pub fn keys(&self) -> impl Iterator<Item = &LayerKey> {
        let base = match &self.base {
            ImageBase::Host => None,
            ImageBase::Unpacked { key, .. } => Some(key),
        };
        self.layers.iter().map(|layer| &layer.key).chain(base)
    }

    /// All or nothing: a missing layer is an error, never a sandbox without it.
    pub fn claim_parts(
        &self,
        layers: &LayerStore,
        setup: &SandboxSetup,
    ) -> Result<ClaimParts, ManifestError> {
        let path = |layer: &LayerRef| {
            layers
                .get(&layer.key)
                .map(|_| layers.path(&layer.key))
                .ok_or_else(|| ManifestError::LayerMissing { image: self.id, step: layer.step.clone() })
        };
        let base = match &self.base {
            ImageBase::Host => Base::HostRoot,
            ImageBase::Unpacked { key, .. } => {
                let base = LayerRef { key: key.clone(), step: "base".into() };
                Base::Directory { path: path(&base)? }
            }
        };
        let setup = if self.base == ImageBase::Host { setup.clone() } else { setup.without_host_tools() };
        Ok(ClaimParts {
            base,
            layers: self.layers.iter().map(path).collect::<Result<_, _>>()?,
            binds: setup.binds.clone(),
            env: environment(&setup.env, &self.env),
            egress_ports: setup.egress_ports_with(&self.egress_ports),
            resources: self.resources.to_sandbox(),
        })
    }
}

fn sentence(error: &ManifestError) -> String {
    let text = error.to_string();
    let rest = text.get(1..).unwrap_or_default();
    format!("{}{rest}.", text[..text.len() - rest.len()].to_uppercase())
}

/// Writes a whole file so that a crash leaves the old one or the new one.
pub(crate) fn write_durably(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(crate::store::TEMPORARY_PREFIX).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
