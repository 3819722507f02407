//! The recipe of an environment: base, steps, checks, services, ports, environment, egress, secrets and limits. Read
//! from `.greenroom/environment.toml` (`Recipe::parse`), or derived by `devcontainer` or `detect`. Pure: text in, values
//! or a `Problem` out. `docs/environment.md` is its reference for people.

pub(crate) mod check;
mod raw;
pub(crate) mod text;

pub(crate) use check::glob;
use greenroom_domain::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a repository keeps its recipe.
pub const RECIPE_PATH: &str = ".greenroom/environment.toml";

/// Bounds of a recipe. Refused, not cut, when passed.
pub mod limit {
    pub const TEXT_BYTES: usize = 64 * 1024;
    pub const STEPS: usize = 64;
    pub const CHECKS: usize = 32;
    pub const NAME_CHARS: usize = 64;
    pub const RUN_BYTES: usize = 8 * 1024;
    pub const INPUTS: usize = 64;
    pub const INPUT_CHARS: usize = 256;
    pub const ENV: usize = 64;
    pub const ENV_VALUE_BYTES: usize = 4 * 1024;
    pub const EGRESS: usize = 64;
    pub const SERVICES: usize = 16;
    pub const PORTS: usize = 32;
    pub const SECRETS: usize = 32;
    pub const BASE_CHARS: usize = 512;
    pub const READY_SECONDS: std::ops::RangeInclusive<i64> = 1..=600;
    pub const TIMEOUT_MINUTES: std::ops::RangeInclusive<i64> = 1..=240;
    pub const MEMORY_MB: std::ops::RangeInclusive<i64> = 64..=1024 * 1024;
    pub const CPUS: std::ops::RangeInclusive<f64> = 0.1..=256.0;
    pub const PROCESSES: std::ops::RangeInclusive<i64> = 16..=1_000_000;
}

pub const DEFAULT_TIMEOUT_MINUTES: u32 = 20;
pub const DEFAULT_READY_SECONDS: u32 = 60;
/// Ports on which every sandbox reaches the broker without a word in the recipe.
const STANDARD_EGRESS_PORTS: [u16; 5] = [80, 443, 22, 3128, 9418];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub base: RecipeBase,
    pub steps: Vec<Step>,
    pub checks: Vec<Check>,
    /// Run while a session runs, in this order; steps and checks have those they name.
    pub services: Vec<Service>,
    /// What clients may open of a session.
    pub ports: Vec<Port>,
    /// Environment of steps, checks, services and sessions. In the value of `PATH`, `${PATH}` stands for the path so far.
    pub env: BTreeMap<String, String>,
    /// Hosts that may be reached besides the installation's: `host`, `*.host`, each with an optional `:port`.
    pub egress_allow: Vec<String>,
    /// Names of declared secrets that a session of this repository may use; never their values.
    pub secrets: Vec<String>,
    pub resources: RecipeResources,
}

/// What lies below the first layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RecipeBase {
    /// The host's root, masked to its programs and libraries.
    #[default]
    Host,
    /// An image of a registry, for example `docker.io/library/node:24`.
    Oci { reference: String },
    /// A docker-save or OCI archive that an admin put into `<data>/bases`; a file name, never a path, because recipes are
    /// untrusted text.
    Archive { file: String },
    /// A Debian suite made by `mmdebstrap`.
    Debian { suite: String },
}

/// A command that must succeed; what it changes becomes a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub run: String,
    /// Files, globs allowed, that the step depends on. Empty: it depends on the whole commit.
    pub inputs: Vec<String>,
    /// Names of services that are up while it runs; they are ended in order before its layer is kept.
    #[serde(default)]
    pub services: Vec<String>,
    pub timeout_minutes: u32,
}

/// A command that is run once after the steps, for its caches and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub run: String,
    /// A failure is reported and does not fail the build.
    pub is_optional: bool,
    #[serde(default)]
    pub services: Vec<String>,
    pub timeout_minutes: u32,
}

/// A program that runs as long as its sandbox does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// In the foreground; its end is the service's end.
    pub run: String,
    /// `None`: it counts as up once it was started.
    pub ready: Option<Ready>,
    /// Over the recipe's.
    pub env: BTreeMap<String, String>,
    /// Started again when it ends.
    pub restart: bool,
}

/// When a service counts as up; it has failed when it is not by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub probe: Probe,
    pub deadline_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Probe {
    /// Shell text that exits with 0.
    Command { run: String },
    /// Something listens on 127.0.0.1:`port`.
    Port { port: u16 },
}

/// A port inside that clients may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub port: u16,
    pub name: String,
    /// Speaks HTTP, so it can be opened as a preview.
    pub is_http: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecipeResources {
    pub memory_mb: Option<u64>,
    pub cpus: Option<f64>,
    pub processes: Option<u64>,
}

impl Recipe {
    /// Reads the text of `.greenroom/environment.toml`. Unknown fields are refused; the problem (`recipe_invalid`) names
    /// line and column.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        text::parse(text)
    }

    /// Ports of `egress_allow` that need listeners of their own, ascending.
    pub fn egress_ports(&self) -> Vec<u16> {
        let ports = self.egress_allow.iter().filter_map(|entry| entry.rsplit_once(':')?.1.parse().ok());
        let special = ports.filter(|port| !STANDARD_EGRESS_PORTS.contains(port));
        special.collect::<std::collections::BTreeSet<u16>>().into_iter().collect()
    }
}

impl RecipeBase {
    /// As it is written in a recipe.
    pub fn text(&self) -> String {
        match self {
            Self::Host => "host".to_owned(),
            Self::Oci { reference } => format!("oci:{reference}"),
            Self::Archive { file } => format!("archive:{file}"),
            Self::Debian { suite } => format!("mmdebstrap:{suite}"),
        }
    }
}

impl Step {
    /// Whether a change of these paths calls for running the step again. A step that names no inputs depends on the
    /// whole commit and is not asked for again between builds: that would be at every sync.
    pub fn is_touched_by(&self, changed: &[String]) -> bool {
        let globs: Vec<_> = self.inputs.iter().filter_map(|pattern| glob(pattern).ok()).collect();
        changed.iter().any(|path| globs.iter().any(|glob| glob.is_match(path)))
    }
}

impl RecipeResources {
    pub fn to_sandbox(&self) -> greenroom_sandbox::Resources {
        greenroom_sandbox::Resources {
            memory_bytes: self.memory_mb.map(|mb| mb.saturating_mul(1024 * 1024)),
            cpu_millis: self.cpus.map(|cpus| (cpus * 1000.0).round() as u64),
            processes: self.processes,
            disk_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests;
