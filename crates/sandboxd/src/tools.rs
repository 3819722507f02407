//! Tools that live in the home directory of the person who runs the server: Rust, Python and Node installations of their
//! version managers. Only the tool parts; never a home, never a credential file.

use greenroom_sandbox::ReadOnlyBind;
use std::fs;
use std::path::{Path, PathBuf};

const TOOLS: &str = "/opt/greenroom/tools";
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to add to a claim over the host's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTools {
    pub binds: Vec<ReadOnlyBind>,
    /// `PATH` (whole, system directories included) and what the tools need to find themselves.
    pub env: Vec<(String, String)>,
}

/// Looks into the home directory of the serving user (`HOME`; `CARGO_HOME`, `RUSTUP_HOME`, `PYENV_ROOT`, `NVM_DIR` where
/// set).
pub fn host_tool_binds() -> HostTools {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let Some(home) = variable("HOME") else { return HostTools::default() };
    let place = |name: &str, default: &str| variable(name).unwrap_or_else(|| home.join(default));
    let mut found = Found::default();
    found.rust(&place("CARGO_HOME", ".cargo"), &place("RUSTUP_HOME", ".rustup"));
    found.pyenv(&place("PYENV_ROOT", ".pyenv"));
    found.nvm(&place("NVM_DIR", ".nvm"));
    found.finish()
}

#[derive(Default)]
struct Found {
    binds: Vec<ReadOnlyBind>,
    env: Vec<(String, String)>,
    path: Vec<String>,
}

impl Found {
    fn bind(&mut self, source: PathBuf, target: &str) -> bool {
        if fs::metadata(&source).is_err() {
            return false;
        }
        self.binds.push(ReadOnlyBind { source, target: target.to_owned() });
        true
    }

    /// `cargo` and its siblings are rustup's proxies: they need the toolchains and the name of the default one.
    fn rust(&mut self, cargo_home: &Path, rustup_home: &Path) {
        let has_bin = self.bind(cargo_home.join("bin"), &format!("{TOOLS}/cargo/bin"));
        let rustup = format!("{TOOLS}/rustup");
        if !self.bind(rustup_home.join("toolchains"), &format!("{rustup}/toolchains")) {
            return;
        }
        self.bind(rustup_home.join("settings.toml"), &format!("{rustup}/settings.toml"));
        self.env.push(("RUSTUP_HOME".into(), rustup.clone()));
        self.env.push(("RUSTUP_AUTO_INSTALL".into(), "0".into()));
        if has_bin {
            self.path.push(format!("{TOOLS}/cargo/bin"));
        } else if let Some(toolchain) = default_toolchain(rustup_home) {
            self.path.push(format!("{rustup}/toolchains/{toolchain}/bin"));
        }
    }

    /// At its own path, because the scripts of a Python installation name their interpreter by it.
    fn pyenv(&mut self, root: &Path) {
        let versions = root.join("versions");
        let Some(target) = versions.to_str().map(str::to_owned) else { return };
        let chosen = fs::read_to_string(root.join("version")).unwrap_or_default();
        let known = chosen.split_whitespace().filter(|name| versions.join(name).join("bin").is_dir());
        let directories: Vec<String> = known.map(|name| format!("{target}/{name}/bin")).collect();
        if self.bind(versions, &target) {
            self.path.extend(directories);
        }
    }

    fn nvm(&mut self, root: &Path) {
        let versions = root.join("versions/node");
        let alias = fs::read_to_string(root.join("alias/default")).unwrap_or_default();
        let chosen = node_version(&versions, alias.trim());
        if self.bind(versions, &format!("{TOOLS}/node"))
            && let Some(version) = chosen
        {
            self.path.push(format!("{TOOLS}/node/{version}/bin"));
        }
    }

    fn finish(mut self) -> HostTools {
        self.path.push(SYSTEM_PATH.to_owned());
        self.env.push(("PATH".into(), self.path.join(":")));
        HostTools { binds: self.binds, env: self.env }
    }
}

fn default_toolchain(rustup_home: &Path) -> Option<String> {
    let settings = fs::read_to_string(rustup_home.join("settings.toml")).ok()?;
    let settings: toml::Table = settings.parse().ok()?;
    Some(settings.get("default_toolchain")?.as_str()?.to_owned())
}

/// The default alias, or the newest installed version.
fn node_version(versions: &Path, alias: &str) -> Option<String> {
    let numbers = |name: &str| -> Vec<u64> {
        name.trim_start_matches('v').split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let wanted = numbers(alias);
    let names =
        fs::read_dir(versions).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| numbers(name).starts_with(&wanted)).max_by_key(|name| numbers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tool_directories_of_a_home_are_bound() {
        let home = tempfile::tempdir().unwrap();
        for directory in [".cargo/bin", ".rustup/toolchains/stable/bin", ".pyenv/versions/3.11.7/bin"] {
            fs::create_dir_all(home.path().join(directory)).unwrap();
        }
        fs::write(home.path().join(".cargo/credentials.toml"), "token").unwrap();
        fs::write(home.path().join(".pyenv/version"), "3.11.7\n").unwrap();
        let mut found = Found::default();
        found.rust(&home.path().join(".cargo"), &home.path().join(".rustup"));
        found.pyenv(&home.path().join(".pyenv"));
        let tools = found.finish();
        assert!(
            tools.binds.iter().all(|bind| !bind.source.ends_with(".cargo") && bind.source != home.path())
        );
        assert_eq!(tools.binds.len(), 3);
        let path = &tools.env.iter().find(|(name, _)| name == "PATH").unwrap().1;
        assert!(path.starts_with("/opt/greenroom/tools/cargo/bin:"), "{path}");
        assert!(path.contains("/versions/3.11.7/bin:") && path.ends_with(SYSTEM_PATH), "{path}");
    }

    #[test]
    fn the_newest_node_of_the_alias_is_chosen() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["v18.20.1", "v20.2.0", "v20.11.0"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        assert_eq!(node_version(directory.path(), "20").as_deref(), Some("v20.11.0"));
        assert_eq!(node_version(directory.path(), "18").as_deref(), Some("v18.20.1"));
        assert_eq!(node_version(directory.path(), "lts/*").as_deref(), Some("v20.11.0"));
    }
}
