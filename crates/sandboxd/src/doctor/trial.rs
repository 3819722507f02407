//! The proof that sandboxes can be made here: one is, and a command runs in it.

use super::{examine, no, yes};
use crate::provider::{LocalProvider, LocalSettings, Mode};
use async_trait::async_trait;
use greenroom_sandbox::{
    Base, Capabilities, Capability, ClaimSpec, EgressHandler, EgressStream, Error, ExecEvent, ExecSpec,
    ExitReason, Fence, Origin, Resources, Result, SandboxProvider, Workspace, remove_tree,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of the entry that says whether sandboxes can be made at all.
pub const TRIAL: &str = "sandboxes";
const TRIAL_LIMIT: Duration = Duration::from_secs(30);

/// Everything about this machine, for a server whose data directory is `data`. Makes one sandbox in a directory beside it
/// that is removed again; mounts no volume. The first entry is `TRIAL`.
pub async fn diagnose(mode: Mode, data: &Path) -> Capabilities {
    let is_user_mode = mode.is_user();
    let started = Instant::now();
    let (trial, found) = match LocalProvider::start(settings(mode), Arc::new(NoWayOut)).await {
        Ok(provider) => {
            let tried = tokio::time::timeout(TRIAL_LIMIT, try_one(&provider, data)).await;
            let tried = tried.unwrap_or(Err(Error::Deadline {
                what: "the first sandbox",
                limit_ms: TRIAL_LIMIT.as_millis() as u64,
            }));
            let found = provider.capabilities().entries;
            // Its sandbox is destroyed; what a failed one left ends with the provider.
            let _ = provider.shutdown().await;
            (tried, found)
        }
        Err(error) => (Err(error), Vec::new()),
    };
    let trial = match trial {
        Ok(()) => {
            yes(TRIAL, format!("one was made and ran a command, {} ms in all", started.elapsed().as_millis()))
        }
        Err(error) => failure(error),
    };
    let machine = examine(is_user_mode, Some(data));
    // Without its volume the provider cannot say what bounds the disk; `btrfs` and `loop_devices` do.
    let is_repeated =
        |entry: &Capability| entry.name == "disk_limit" || machine.iter().any(|one| one.name == entry.name);
    let found: Vec<Capability> = found.into_iter().filter(|entry| !is_repeated(entry)).collect();
    let entries = [vec![trial], found, machine].concat();
    Capabilities { mode: if is_user_mode { "user" } else { "root" }.into(), entries }
}

fn settings(mode: Mode) -> LocalSettings {
    LocalSettings { mode, blanks: 0, ..LocalSettings::default() }
}

fn failure(error: Error) -> Capability {
    match error {
        Error::Unsupported { reason, remedy } => {
            no(TRIAL, format!("none can be made: {reason}"), remedy.unwrap_or_default())
        }
        error => no(TRIAL, format!("none can be made: {error}"), ""),
    }
}

async fn try_one(provider: &LocalProvider, data: &Path) -> Result<()> {
    let scratch = Scratch::beside(data)?;
    let sandbox = provider.claim(spec(&scratch.0)).await?;
    let mut events = sandbox.exec(command()).await?;
    let mut end = None;
    while let Some(event) = events.recv().await {
        if let ExecEvent::Exit(exit) = event {
            end = Some(exit.reason);
        }
    }
    sandbox.destroy().await?;
    match end {
        Some(ExitReason::Code { code: 0 }) => Ok(()),
        other => Err(Error::Ended { reason: format!("its command ended with {other:?}") }),
    }
}

fn spec(scratch: &Path) -> ClaimSpec {
    ClaimSpec {
        id: "doctor".into(),
        fence: Fence { session: "doctor".into(), epoch: 1, generation: 1 },
        base: Base::HostRoot,
        layers: Vec::new(),
        workspace: Workspace { directory: scratch.join("workspace"), begin_from: None },
        binds: Vec::new(),
        egress_ports: Vec::new(),
        resources: Resources::default(),
        hostname: "doctor".into(),
        env: Vec::new(),
        is_background: false,
    }
}

fn command() -> ExecSpec {
    ExecSpec {
        call: "doctor".into(),
        argv: ["/bin/sh", "-c", "echo > /workspace/written && cat /workspace/written"]
            .map(String::from)
            .to_vec(),
        cwd: "/workspace".into(),
        env: Vec::new(),
        stdin: Vec::new(),
        timeout_ms: 20_000,
        output_limit_bytes: 4096,
        is_read_only: false,
    }
}

/// On the file system that the data directory is or will be on.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(data: &Path) -> Result<Self> {
        let failed = |path: &Path, source| Error::System {
            operation: "mkdir",
            path: path.display().to_string(),
            source,
        };
        let parent = data.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(data);
        let path = parent.join(format!(".greenroom-doctor-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| failed(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Overlay's own directories are closed to an ordinary user.
        let opened = remove_tree(&self.0);
        if let Err(error) = opened {
            tracing::warn!(path = %self.0.display(), %error, "a scratch directory is left");
        }
    }
}

#[derive(Debug)]
struct NoWayOut;

#[async_trait]
impl EgressHandler for NoWayOut {
    async fn connection(&self, _: Origin, _: Box<dyn EgressStream>) {}

    async fn dns(&self, _: Origin, _: Vec<u8>) -> Option<Vec<u8>> {
        None
    }
}
