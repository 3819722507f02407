//! Bases other than the host's root: an image of a registry, an archive that an admin put into `<data>/bases`, a Debian
//! suite. Each is unpacked once into a directory of the layer store and found again by what it is. Contents are hostile:
//! `unpack` resolves every path inside the new root, makes no device and follows no link on the host. Owners stay as they
//! are in the archive; the runtime maps them into a sandbox's own range.

mod archive;
mod debian;
mod oci;
mod registries;
mod unpack;

pub(crate) use unpack::each_metered;

pub use registries::{NotARegistry, Registries, RegistryHost};

use crate::key::{KeyHasher, LayerKey};
use crate::recipe::RecipeBase;
use greenroom_domain::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// In the root of an unpacked base: what its image says of the environment.
const FACTS: &str = ".greenroom-base.json";
const FACTS_BYTES: u64 = 256 * 1024;

/// A base that is known and may have to be made.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: LayerKey,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Archive(PathBuf),
    Oci(oci::Found),
    Debian(String),
}

/// What is known of an unpacked base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Of the image's configuration; the installation's and the recipe's win.
    pub(crate) env: Vec<(String, String)>,
    /// Entries that were left out: devices, pipes, sockets.
    pub(crate) left_out: u64,
}

/// Finds out which base this is now: a tag may have moved, a file may have been replaced. `None` for the host's root.
/// `bases` is `<data>/bases`, `now_ms` renews a suite from time to time.
pub(crate) async fn find(
    base: &RecipeBase,
    bases: &Path,
    registries: &Registries,
    now_ms: i64,
) -> Result<Option<Wanted>, Problem> {
    const RENEWED_MS: i64 = 30 * 24 * 60 * 60 * 1000;
    let hasher = KeyHasher::new("base").part("version", "1");
    let wanted = match base {
        RecipeBase::Host => return Ok(None),
        RecipeBase::Archive { file } => {
            let path = bases.join(file);
            let facts = archive::facts(&path).map_err(|error| {
                unavailable(base, &format!("{file} cannot be read in {}: {error}", bases.display()))
                    .hint("An admin puts archives of `docker save` there.")
            })?;
            Wanted { key: hasher.part("archive", facts).finish(), source: Source::Archive(path) }
        }
        RecipeBase::Oci { reference } => {
            let found = oci::find(reference, registries).await.map_err(|reason| {
                unavailable(base, &reason)
                    .hint("The server itself fetches it, through its own proxy settings.")
            })?;
            Wanted { key: hasher.part("oci", &found.digest).finish(), source: Source::Oci(found) }
        }
        RecipeBase::Debian { suite } => {
            let period = (now_ms / RENEWED_MS).to_string();
            let key = hasher.part("suite", suite).part("period", period).finish();
            Wanted { key, source: Source::Debian(suite.clone()) }
        }
    };
    Ok(Some(wanted))
}

impl Wanted {
    /// Makes the root file system in `directory`, which exists and is empty; `scratch` is for what comes on the way.
    pub(crate) async fn make(
        &self,
        base: &RecipeBase,
        directory: &Path,
        scratch: &Path,
    ) -> Result<Facts, Problem> {
        let layers = match &self.source {
            Source::Archive(path) => {
                let (path, scratch) = (path.clone(), scratch.to_owned());
                blocking(move || archive::layers(&path, &scratch)).await
            }
            Source::Oci(found) => found.fetch(scratch).await,
            Source::Debian(suite) => debian::make(suite, scratch).await,
        };
        let Layers { files, env } = layers.map_err(|reason| unavailable(base, &reason))?;
        let directory = directory.to_owned();
        let unpacked = blocking(move || -> Result<Facts, String> {
            let mut root = unpack::Root::open(&directory).map_err(|error| error.to_string())?;
            for file in &files {
                root.apply(file).map_err(|error| error.to_string())?;
                std::fs::remove_file(file).map_err(|error| error.to_string())?;
            }
            let facts = Facts { env, left_out: root.left_out() };
            root.write(FACTS, &serde_json::to_vec(&facts).expect("plain values"))
                .map_err(|error| error.to_string())?;
            Ok(facts)
        });
        unpacked.await.map_err(|reason| unavailable(base, &format!("it cannot be unpacked: {reason}")))
    }
}

/// What an earlier build noted. Blocking.
pub(crate) fn facts(directory: &Path) -> Facts {
    let read = || -> io::Result<Facts> {
        let file = unpack::open_inside(&File::open(directory)?, FACTS)?;
        let mut bytes = Vec::new();
        file.take(FACTS_BYTES).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read().unwrap_or_default()
}

/// Archives of a base's layers on disk, lowest first.
#[derive(Debug)]
struct Layers {
    files: Vec<PathBuf>,
    env: Vec<(String, String)>,
}

/// `NAME=value` of an image's configuration, bounded.
fn env_of(lines: &[String]) -> Vec<(String, String)> {
    let is_fit = |name: &str, value: &str| crate::recipe::check::variable(name, value).is_ok();
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, value)| is_fit(name, value))
        .take(64)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn unavailable(base: &RecipeBase, reason: &str) -> Problem {
    let base = base.text();
    Problem::new(ErrorCode::BaseUnavailable, format!("The base {base:?} cannot be had: {reason}."))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
