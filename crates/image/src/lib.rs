//! Environment images: what a repository needs (recipe, written or detected), building it in sandboxes layer by layer,
//! the store of finished layers, and the manifest from which sessions start. Owns `<data>/layers`, `<data>/images`,
//! `<data>/builds`, `<data>/trash` and `<data>/exchange`. Never runs git or follows a link in a tree that a sandbox wrote, and holds no
//! secret: everything it puts into a sandbox may be read there.

mod base;
pub mod blob;
pub mod build;
pub mod detect;
pub mod devcontainer;
pub mod environment;
mod exchange;
pub mod fingerprint;
#[cfg(test)]
mod fuzz;
pub mod instructions;
pub mod key;
pub mod manifest;
pub mod recipe;
pub mod store;

pub use base::{NotARegistry, Registries, RegistryHost};
pub use blob::{BlobDigest, BlobStore, FileBlobs};
pub use build::{
    BuildEvent, BuildFailure, BuildPlan, BuildRequest, Builder, HOSTNAME, SandboxSetup, WORKSPACE,
    build_fence, build_session,
};
pub use exchange::{Exchanged, Exported, Here, export};
pub use fingerprint::base_fingerprint;
pub use instructions::{Instructions, Skill};
pub use key::LayerKey;
pub use manifest::{ClaimParts, ImageManifest, ManifestError};
pub use recipe::Recipe;
pub use store::LayerStore;

/// The format of layers that this version writes and can start from. Raised when `sandboxd` changes it.
const LAYER_FORMAT: u32 = 1;

/// Names the format of layers on this machine. Layers made as root and as an ordinary user differ in their overlay
/// attributes, so the mode is part of it.
pub fn runtime_version(capabilities: &greenroom_sandbox::Capabilities) -> String {
    format!("overlay-{LAYER_FORMAT}-{}", capabilities.mode)
}
