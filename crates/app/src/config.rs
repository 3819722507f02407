//! What the app is built from.

use crate::{PoolLimits, SandboxPolicies, Trust};
use greenroom_broker::registry::RegistrySettings;
use greenroom_directory::Directory;
use greenroom_domain::money::Budget;
use greenroom_domain::{RetentionSettings, SpawnLimits};
use greenroom_forge::Forge;
use greenroom_model::Provider;
use greenroom_sandbox::{ReadOnlyBind, SandboxProvider, Storage};
use greenroom_session::{Clock, Hibernation};
use greenroom_telemetry::Telemetry;
use greenroom_vault::Vault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct AppConfig {
    pub data_dir: PathBuf,
    /// Limits of a turn where a session sets none.
    pub budget: Budget,
    /// Used instead of the configured models: the demo's scripted one, or a test's. `serve` leaves it out.
    pub provider: Option<Arc<dyn Provider>>,
    /// What the installation says about its models.
    pub models: crate::ModelSettings,
    /// The host's tools that sandboxes see, and the environment that makes them found.
    pub tool_binds: Vec<ReadOnlyBind>,
    pub tool_env: Vec<(String, String)>,
    /// Mirrors and certificates of the installation, without credentials.
    pub registry: RegistrySettings,
    /// What sandboxes trust beside; `None`: what their images bring along.
    pub trust: Option<Trust>,
    /// Sandboxes of sessions that may be alive at the same time.
    pub max_sandboxes: usize,
    /// Warm sandboxes beside them, which end when sessions need their places.
    pub pool: PoolLimits,
    /// Sandboxes without an image that the provider was told to keep ready, and the disk that one may use: for people to
    /// see.
    pub blanks: usize,
    pub disk_per_sandbox: Option<u64>,
    /// Bytes that image layers may take of the disk; `None`: half of the file system that they lie on.
    pub layers_limit: Option<u64>,
    /// When idle sessions leave memory.
    pub hibernation: Hibernation,
    /// How what leaves a session is tried again.
    pub retries: crate::RetryPolicy,
    /// Snapshots kept of one session; the oldest that no fork needs are dropped first.
    pub snapshots_kept: usize,
    pub attachments: crate::AttachmentLimits,
    /// Most bytes of a session's file, packed and unpacked alike.
    pub archive_bytes: u64,
    /// How often a repository whose branch moved gets a new image; `None`: only on demand.
    pub image_schedule: Option<Duration>,
    /// Bytes that the data directory's disk and the volume must have free for the server to be ready.
    pub ready_free_bytes: u64,
    pub image_history: crate::ImageHistory,
    /// What the agent may do without asking, and what becomes of what it asks.
    pub asks: crate::AskSettings,
    /// Sessions that agents may begin.
    pub spawn: SpawnLimits,
    /// What goes by itself, and when.
    pub retention: RetentionSettings,
    /// Registries that recipes may name for a base, beside the well-known ones.
    pub image_registries: Vec<greenroom_image::RegistryHost>,
    /// Where people reach this server, for links in answers.
    pub public_url: String,
    /// Version of the runtime that images and snapshots must match.
    pub runtime_version: String,
}

/// The parts below, already started.
#[derive(Debug)]
pub struct Ports {
    pub directory: Directory,
    pub vault: Arc<Vault>,
    pub forge: Arc<dyn Forge>,
    pub sandboxes: Arc<dyn SandboxProvider>,
    /// Where layers, workspaces and snapshots lie.
    pub storage: Storage,
    pub policies: SandboxPolicies,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Telemetry,
}
