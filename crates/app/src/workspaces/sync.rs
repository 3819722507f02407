//! Brings a sandbox's files to the head of their branch, on the session's own branch.

use super::run;
use super::words::{phase, problem_of_sandbox, unknown_session};
use crate::{Inner, Result};
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{CommitHash, ErrorCode, Event, Problem, SessionState};
use greenroom_image::{ImageManifest, WORKSPACE};
use greenroom_sandbox::{ExecSpec, ExitReason, Sandbox};
use greenroom_session::SessionHandle;
use std::sync::Arc;

const SYNC_DEADLINE_MS: u64 = 100_000;

impl Inner {
    /// Brings a first sandbox to the head of its base branch, on the session's own branch. A session that has begun
    /// keeps its files as they are.
    pub(super) async fn sync(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
        manifest: &ImageManifest,
        sandbox: &Arc<dyn Sandbox>,
    ) -> Result<()> {
        if state.workspace.base_commit.is_some() {
            return handle.record(vec![phase(SandboxPhase::Ready, None)]).await;
        }
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let head = self.forge.branch_head(origin.repository, &origin.base_branch).await?;
        let commit = match head {
            Some(head) if head != manifest.commit => {
                handle.record(vec![phase(SandboxPhase::Syncing, None)]).await?;
                fetch(sandbox, &head, origin.branch.as_str(), origin.base_branch.as_str()).await?;
                head
            }
            _ => {
                start_branch(sandbox, &manifest.commit, origin.branch.as_str()).await?;
                manifest.commit.clone()
            }
        };
        let ready = Event::SandboxChanged {
            state: SandboxPhase::Ready,
            image: Some(manifest.id),
            commit: Some(commit),
            problem: None,
        };
        handle.record(vec![ready]).await
    }

}

/// Points HEAD at a new branch of the session at the image's commit: two small files, no git process.
async fn start_branch(sandbox: &Arc<dyn Sandbox>, commit: &CommitHash, branch: &str) -> Result<()> {
    let git = format!("{WORKSPACE}/.git");
    let reference = format!("{git}/refs/heads/{branch}");
    sandbox.write_file(&reference, format!("{commit}\n").as_bytes()).await.map_err(problem_of_sandbox)?;
    let head = format!("ref: refs/heads/{branch}\n");
    sandbox.write_file(&format!("{git}/HEAD"), head.as_bytes()).await.map_err(problem_of_sandbox)
}

async fn fetch(sandbox: &Arc<dyn Sandbox>, head: &CommitHash, branch: &str, base: &str) -> Result<()> {
    let script = r#"git fetch -q --no-tags origin "+refs/heads/$BASE:refs/remotes/origin/$BASE" && git checkout -q -f -B "$BRANCH" "$HEAD_COMMIT""#;
    let spec = ExecSpec {
        call: "greenroom-sync".to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: WORKSPACE.to_owned(),
        env: [("BASE", base), ("BRANCH", branch), ("HEAD_COMMIT", head.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        stdin: vec![],
        timeout_ms: SYNC_DEADLINE_MS,
        output_limit_bytes: 64 * 1024,
    };
    let (exit, output) = run(sandbox, spec).await?;
    match exit {
        Some(ExitReason::Code { code: 0 }) => Ok(()),
        _ => Err(Problem::new(
            ErrorCode::SandboxFailed,
            "The newest commits could not be fetched into the sandbox.",
        )
        .hint("Send the prompt again.")
        .detail(output)),
    }
}

