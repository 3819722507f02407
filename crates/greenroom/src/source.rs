//! The source and documentation of this very version, as a directory that every sandbox shows read-only. Unpacked once per
//! version; an agent that is asked about Greenroom, or works on it, reads what runs.

use flate2::read::GzDecoder;
use greenroom_sandbox::ReadOnlyBind;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where it shows inside; below /run, so that no workspace keeps a mount point. The agent's instructions name it.
pub(crate) const TARGET: &str = "/run/greenroom/source";

/// Made by the build script.
static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/source.tar.gz"));

/// Makes `<data>/source/<digest>` unless it is there, removes other versions', and says how to show it.
pub(crate) fn unpack(data: &Path) -> io::Result<ReadOnlyBind> {
    let directory = data.join("source");
    let wanted = directory.join(digest(ARCHIVE));
    fs::create_dir_all(&directory)?;
    if !wanted.is_dir() {
        let making = directory.join(format!(".{}", std::process::id()));
        let _ = fs::remove_dir_all(&making);
        tar::Archive::new(GzDecoder::new(ARCHIVE)).unpack(&making)?;
        match fs::rename(&making, &wanted) {
            // Another server of the same data directory was faster.
            Err(_) if wanted.is_dir() => fs::remove_dir_all(&making)?,
            other => other?,
        }
    }
    remove_others(&directory, &wanted);
    Ok(ReadOnlyBind { source: wanted, target: TARGET.to_owned() })
}

/// Nothing uses them: sandboxes end with their server.
fn remove_others(directory: &Path, wanted: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if path != wanted {
            // What cannot be removed now is tried again at the next start.
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_sandbox::contract::{self, Recorder, Subject};
    use greenroom_sandboxd::{LocalProvider, LocalSettings};
    use std::sync::Arc;

    #[test]
    fn the_source_is_whole_without_secrets_and_unpacked_once() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("source/of-another-version")).unwrap();
        let first = unpack(data.path()).unwrap();
        for file in [
            "README.md",
            "ARCHITECTURE.md",
            "docs/security.md",
            "crates/greenroom/src/source.rs",
            "web/package.json",
        ] {
            assert!(first.source.join(file).is_file(), "{file} is missing");
        }
        for directory in ["target", ".git", "web/node_modules", "web/dist"] {
            assert!(!first.source.join(directory).exists(), "{directory} is there");
        }
        fs::write(first.source.join("mark"), "").unwrap();
        assert_eq!(unpack(data.path()).unwrap(), first);
        assert!(first.source.join("mark").exists(), "it is not unpacked again");
        assert_eq!(fs::read_dir(data.path().join("source")).unwrap().count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sandbox_reads_the_source_it_runs_on_and_cannot_write_it() {
        let egress = Arc::new(Recorder::default());
        let provider = LocalProvider::start(LocalSettings::default(), egress.clone()).await.unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let subject = Subject { provider: provider.clone(), scratch: scratch.path().to_owned(), egress };
        let mut spec = subject.spec();
        spec.binds.push(unpack(scratch.path()).unwrap());
        let sandbox = subject.claim_with(spec).await;
        let manifest = contract::run(&*sandbox, &format!("cat {TARGET}/Cargo.toml")).await;
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["workspace"]["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
        assert!(contract::run(&*sandbox, &format!("cat {TARGET}/README.md")).await.contains("Greenroom"));
        let script = format!(
            "! touch {TARGET}/README.md && ! rm -r {TARGET}/crates && ! touch {TARGET}/new; ls {TARGET}/README.md"
        );
        contract::run(&*sandbox, &script).await;
        assert!(sandbox.write_file(&format!("{TARGET}/README.md"), b"x").await.is_err());
        sandbox.destroy().await.unwrap();
        greenroom_sandbox::SandboxProvider::shutdown(&*provider).await.unwrap();
    }
}
