//! Building an image: a plan (which commit, which recipe, which inputs), then one layer after the other, each made in a
//! sandbox of its own over the layers before it. Git runs only inside, through the broker. The layers are:
//!
//! 0. `base`, on another base than the host's root: git, where the base lacks it;
//! 1. `clone`: the installation's files and the clone of the branch's head in `/workspace`; where an earlier image of the
//!    repository is at hand, its clone and one layer with the commits since;
//! 2. one per step of the recipe, the same at every commit until its inputs change (`keys`, `touched`);
//! 3. `checks`: what the checks left, over what they left before;
//! 4. `finish`: the tree brought back to the commit: changes of tracked files are undone and what steps and checks left
//!    is excluded from git's view, so that a session starts from a clean status.
//!
//! A layer that is already in the store is reused and its part does not run. An image that another machine made is
//! published the same way, with its layers in place of all parts (`import`).
//! Submodules and LFS are not fetched. A build that fails, is cancelled or is dropped publishes nothing for the part
//! that ran, removes its sandbox and directories, and leaves only its log; images built before are not touched.

mod base;
mod checks;
mod clone;
mod failure;
mod import;
mod keys;
mod log;
mod plan;
mod program;
mod progress;
mod run;
mod sandbox;
mod scripts;
mod services;
mod touched;

pub use failure::BuildFailure;
pub use plan::{BuildPlan, RecipeSource};
pub use progress::BuildEvent;

use crate::base::Registries;
use crate::manifest::ImageManifest;
use crate::store::LayerStore;
use greenroom_domain::{BranchName, ErrorCode, ImageId, Problem, RepositoryId, RepositoryName};
use greenroom_forge::Forge;
use greenroom_sandbox::{Fence, ReadOnlyBind, SandboxProvider};
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where the repository lies in every sandbox.
pub const WORKSPACE: &str = "/workspace";
/// Of every sandbox, a build's too: files that name it need not be written again at each start.
pub const HOSTNAME: &str = "greenroom";

/// Milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone)]
pub struct Builder {
    pub forge: Arc<dyn Forge>,
    pub sandboxes: Arc<dyn SandboxProvider>,
    pub layers: LayerStore,
    pub clock: Clock,
    /// Asked for bases of the form `oci:`.
    pub registries: Registries,
    /// Of the host's root (`crate::base_fingerprint`), taken anew before each build.
    pub base_fingerprint: String,
}

/// What the installation adds to each sandbox. Holds no secret: it can be read inside and is kept in layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSetup {
    pub binds: Vec<ReadOnlyBind>,
    pub env: Vec<(String, String)>,
    /// Absolute paths inside, for example the registry settings of npm, pip and cargo, certificates.
    pub files: Vec<(String, Vec<u8>)>,
    /// Beside those that the recipe names.
    pub egress_ports: Vec<u16>,
}

/// Where the runtime shows the machine's own tools.
const HOST_TOOLS: &str = "/opt/greenroom/tools";

impl SandboxSetup {
    /// For another base than the host's root.
    pub(crate) fn without_host_tools(&self) -> Self {
        let mut setup = self.clone();
        setup.binds.retain(|bind| !bind.target.starts_with(HOST_TOOLS));
        setup.env.retain(|(_, value)| !value.contains(HOST_TOOLS));
        setup
    }

    /// With the recipe's, ascending.
    pub(crate) fn egress_ports_with(&self, recipe: &[u16]) -> Vec<u16> {
        let all: std::collections::BTreeSet<u16> = self.egress_ports.iter().chain(recipe).copied().collect();
        all.into_iter().collect()
    }
}

#[derive(Clone, Debug)]
pub struct BuildRequest {
    pub image: ImageId,
    pub repository: RepositoryId,
    pub name: RepositoryName,
    pub branch: BranchName,
    pub setup: SandboxSetup,
    /// What git inside the sandbox is given, answered by the broker.
    pub clone_url: String,
    /// The newest good image of the repository, whose clone and caches are built upon. It and its layers stay until the
    /// build is over.
    pub previous: Option<Arc<ImageManifest>>,
    /// Ends the build soon; `run` answers when everything temporary is gone.
    pub cancel: CancellationToken,
}

/// The name under which the provider and the broker know a build.
pub fn build_session(image: ImageId) -> String {
    format!("image:{image}")
}

/// Each build has an image id of its own, so one epoch and generation serve all its sandboxes.
pub fn build_fence(image: ImageId) -> Fence {
    Fence { session: build_session(image), epoch: 1, generation: 1 }
}

impl Builder {
    /// `plan` and `run`, for callers that need nothing of the plan. The broker must know the recipe's allowed hosts
    /// before a sandbox asks for them, so an installation with a broker calls the two.
    pub async fn build(
        &self,
        request: BuildRequest,
        progress: mpsc::Sender<BuildEvent>,
    ) -> Result<ImageManifest, BuildFailure> {
        let plan = self.plan(request).await?;
        self.run(plan, progress).await
    }

    /// Reads the branch's head, its recipe (written or detected) and instructions. Makes nothing.
    pub async fn plan(&self, request: BuildRequest) -> Result<BuildPlan, BuildFailure> {
        plan::plan(self, request).await
    }

    /// Carries out a plan. When the returned future is dropped the build is cancelled and cleans up by itself.
    pub async fn run(
        &self,
        plan: BuildPlan,
        progress: mpsc::Sender<BuildEvent>,
    ) -> Result<ImageManifest, BuildFailure> {
        let cancel = plan.request.cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let run = run::Run::new(self.clone(), plan, progress, cancel);
        match tokio::spawn(run.finish()).await {
            Ok(result) => result,
            Err(error) => Err(BuildFailure {
                problem: Problem::new(ErrorCode::Internal, format!("The build ended by a fault: {error}.")),
                step: None,
            }),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("forge", &self.forge)
            .field("sandboxes", &self.sandboxes)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}
