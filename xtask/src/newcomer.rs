//! `newcomer`: the README's commands as a new machine would run them, from what is committed: a fresh clone, an empty
//! home, empty caches. Only the machine's own package registry settings are carried over.

use crate::process::{output, run, stage};
use crate::root;
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Beginnings of the variables that belong to the machine, not to this checkout.
const KEPT: &[&str] = &[
    "PATH",
    "PIP_",
    "NPM_CONFIG_",
    "CARGO_HTTP",
    "CARGO_NET",
    "CARGO_REGISTR",
    "CARGO_SOURCE",
    "RUSTUP_",
    "SSL_",
    "NODE_EXTRA",
    "REQUESTS_CA",
    "CURL_CA",
];
const SETTINGS_FILES: &[&str] = &[".npmrc", ".pip/pip.conf", ".config/pip/pip.conf"];

pub(crate) fn perform(what: &str) -> Result<()> {
    let verbs: &[&[&str]] = match what {
        "demo" => &[&["demo", "--once"]],
        "test" => &[&["test"]],
        "both" => &[&["demo", "--once"], &["test"]],
        _ => bail!("expected demo, test or both, not {what:?}"),
    };
    let machine = Machine::new()?;
    for verb in verbs {
        let name = format!("newcomer: cargo xtask {}", verb.join(" "));
        stage(&name, || run(machine.command("cargo").arg("xtask").args(*verb)))?;
    }
    Ok(())
}

/// A folder that stands for a new machine; removed at the end.
struct Machine {
    folder: PathBuf,
    own_home: PathBuf,
}

impl Machine {
    fn new() -> Result<Self> {
        let folder = PathBuf::from(output(Command::new("mktemp").arg("-d"))?.trim());
        let own_home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let machine = Self { folder, own_home };
        run(Command::new("git").args(["clone", "--quiet"]).arg(root()).arg(machine.project()))?;
        fs::create_dir_all(machine.home())?;
        for file in SETTINGS_FILES {
            carry(&machine.own_home.join(file), &machine.home().join(file))?;
        }
        let cargo_home =
            std::env::var_os("CARGO_HOME").map_or_else(|| machine.own_home.join(".cargo"), PathBuf::from);
        carry(&cargo_home.join("config.toml"), &machine.home().join(".cargo/config.toml"))?;
        Ok(machine)
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    fn project(&self) -> PathBuf {
        self.folder.join("project")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let is_kept = |name: &str| KEPT.iter().any(|kept| name.to_uppercase().starts_with(kept));
        let kept = std::env::vars().filter(|(name, _)| is_kept(name));
        command
            .env_clear()
            .env("RUSTUP_HOME", self.own_home.join(".rustup"))
            .envs(kept)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("HOME", self.home())
            .env("CARGO_HOME", self.home().join(".cargo"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .current_dir(self.project())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left over lies in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn carry(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
    }
    Ok(())
}
