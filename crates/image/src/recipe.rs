//! The recipe of an environment: base, steps, checks, environment, egress and limits. Read from
//! `.greenroom/environment.toml` (`Recipe::parse`) or derived by `detect`. Pure: text in, values or a `Problem` out.

mod check;
mod text;

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
    pub const TIMEOUT_MINUTES: std::ops::RangeInclusive<i64> = 1..=240;
    pub const MEMORY_MB: std::ops::RangeInclusive<i64> = 64..=1024 * 1024;
    pub const CPUS: std::ops::RangeInclusive<f64> = 0.1..=256.0;
    pub const PROCESSES: std::ops::RangeInclusive<i64> = 16..=1_000_000;
}

pub const DEFAULT_TIMEOUT_MINUTES: u32 = 20;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub base: RecipeBase,
    pub steps: Vec<Step>,
    pub checks: Vec<Check>,
    /// Environment of steps, checks and sessions. In the value of `PATH`, `${PATH}` stands for the path so far.
    pub env: BTreeMap<String, String>,
    /// Hosts that may be reached besides the installation's: `host`, `*.host`, each with an optional `:port`.
    pub egress_allow: Vec<String>,
    pub resources: RecipeResources,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipeBase {
    /// The host's root, masked to its programs and libraries.
    #[default]
    Host,
}

/// A command that must succeed; what it changes becomes a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub run: String,
    /// Files, globs allowed, that the step depends on. Empty: it depends on the whole commit.
    pub inputs: Vec<String>,
    pub timeout_minutes: u32,
}

/// A command that is run once after the steps, for its caches and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub run: String,
    /// A failure is reported and does not fail the build.
    pub is_optional: bool,
    pub timeout_minutes: u32,
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
