//! Archives of `docker save` (manifest.json) and of the OCI image layout (index.json). Entries of the outer archive become
//! numbered files in the scratch directory, so that no name of it is ever a path on the host.

use super::unpack::decompressed;
use super::{Layers, env_of};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MOST_FILES: usize = 4096;
const MOST_JSON_BYTES: u64 = 4 * 1024 * 1024;
const MOST_BYTES: u64 = 64 << 30;

/// What tells one archive from another: cheap, because archives are large.
pub(super) fn facts(path: &Path) -> io::Result<String> {
    let facts = path.symlink_metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    Ok(format!("{} {} {}.{}", facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
pub(super) struct Config {
    config: Option<Inner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    env: Option<Vec<String>>,
}

impl Config {
    pub(super) fn env(&self) -> Vec<(String, String)> {
        let lines = self.config.as_ref().and_then(|config| config.env.as_deref());
        env_of(lines.unwrap_or_default())
    }
}

/// Blocking.
pub(super) fn layers(archive: &Path, scratch: &Path) -> Result<Layers, String> {
    let files =
        Files::read(archive, scratch).map_err(|error| format!("the archive cannot be read: {error}"))?;
    let (config, layers) = files.image()?;
    let env = files.json::<Config>(&config)?.env();
    let path = |name: &String| files.path(name).cloned().ok_or_else(|| format!("it lacks {name:?}"));
    Ok(Layers { files: layers.iter().map(path).collect::<Result<_, _>>()?, env })
}

struct Files(HashMap<String, PathBuf>);

impl Files {
    fn read(archive: &Path, scratch: &Path) -> io::Result<Self> {
        let (mut files, mut total) = (HashMap::new(), 0);
        for entry in tar::Archive::new(decompressed(archive)?).entries()? {
            let entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            total += entry.size();
            if files.len() >= MOST_FILES || total > MOST_BYTES {
                return Err(io::Error::other("it is too large"));
            }
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let path = scratch.join(format!("entry-{}", files.len()));
            let size = entry.size();
            io::copy(&mut entry.take(size), &mut File::create(&path)?)?;
            files.insert(name, path);
        }
        Ok(Self(files))
    }

    fn path(&self, name: &str) -> Option<&PathBuf> {
        self.0.get(name)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        let path = self.path(name).ok_or_else(|| format!("it lacks {name:?}"))?;
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST_JSON_BYTES).read_to_end(&mut bytes));
        read.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{name:?} cannot be read: {error}"))
    }

    /// Names of the configuration and the layers.
    fn image(&self) -> Result<(String, Vec<String>), String> {
        if self.path("manifest.json").is_some() {
            let saved: Vec<Saved> = self.json("manifest.json")?;
            let image = saved.into_iter().next().ok_or("it holds no image")?;
            return Ok((image.config, image.layers));
        }
        if self.path("index.json").is_none() {
            return Err("it is neither an archive of `docker save` nor an OCI layout".into());
        }
        let mut name = "index.json".to_owned();
        // An index may point at one more, of platforms.
        for _ in 0..2 {
            let Ok(index) = self.json::<Index>(&name) else { break };
            let is_ours = |entry: &&Descriptor| {
                entry.platform.as_ref().is_none_or(|platform| platform.architecture == architecture())
            };
            let entry = index.manifests.iter().find(is_ours).ok_or("it holds no image for this machine")?;
            name = blob(&entry.digest)?;
        }
        let manifest: Manifest = self.json(&name)?;
        let layers = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect::<Result<_, _>>()?;
        Ok((blob(&manifest.config.digest)?, layers))
    }
}

fn blob(digest: &str) -> Result<String, String> {
    let (kind, value) = digest.split_once(':').ok_or_else(|| format!("{digest:?} is no digest"))?;
    Ok(format!("blobs/{kind}/{value}"))
}

/// Of this machine, in the words of OCI.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
