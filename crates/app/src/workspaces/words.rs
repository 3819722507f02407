//! What is said to a sandbox, and what its failures are called for a person.

use crate::Result;
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{ErrorCode, Event, ImageId, Problem};
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason, Sandbox};
use std::sync::Arc;

/// Runs a program to its end and answers how it ended and what it printed. `None`: the sandbox ended first.
pub(crate) async fn run(sandbox: &Arc<dyn Sandbox>, spec: ExecSpec) -> Result<(Option<ExitReason>, String)> {
    let call = spec.call.clone();
    let mut events = sandbox.exec(spec).await.map_err(problem_of_sandbox)?;
    let (mut output, mut exit) = (vec![], None);
    while let Some(event) = events.recv().await {
        match event {
            ExecEvent::Output { bytes, .. } => output.extend(bytes),
            ExecEvent::Exit(done) => exit = Some(done.reason),
        }
    }
    // Only frees memory in the sandbox: nothing depends on it.
    let _ = sandbox.acknowledge(&call).await;
    Ok((exit, String::from_utf8_lossy(&output).into_owned()))
}

/// Environment that makes git commit in a person's name.
pub(crate) fn git_identity(name: &str, email: &str) -> Vec<(String, String)> {
    [
        ("GIT_AUTHOR_NAME", name),
        ("GIT_AUTHOR_EMAIL", email),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_COMMITTER_EMAIL", email),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

pub(crate) fn phase(state: SandboxPhase, image: Option<ImageId>) -> Event {
    Event::SandboxChanged { state, image, commit: None, problem: None }
}

// Taken by value so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
/// The same in words for a person.
pub fn problem_of_sandbox(error: greenroom_sandbox::Error) -> Problem {
    use greenroom_sandbox::Error as E;
    let message = format!("The sandbox failed: {error}.");
    match error {
        E::Unsupported { reason, remedy } => {
            let problem = Problem::new(
                ErrorCode::SandboxUnsupported,
                format!("This machine cannot make sandboxes: {reason}."),
            );
            match remedy {
                Some(remedy) => problem.hint(format!("Run as root: {remedy}")),
                None => problem.hint("`greenroom serve` needs Linux with user namespaces and overlayfs."),
            }
        }
        E::Ended { reason } => Problem::new(ErrorCode::SandboxLost, format!("The sandbox ended: {reason}."))
            .hint("Its files are kept; the next command starts it again."),
        E::Unavailable { .. } => Problem::new(ErrorCode::SandboxUnsupported, message),
        E::Fenced { .. } => Problem::new(ErrorCode::Fenced, "Another server has taken over this session."),
        E::NotFound { path } => Problem::new(ErrorCode::FileUnknown, format!("There is no file {path}.")),
        E::DiskFull => Problem::new(ErrorCode::DiskFull, "The sandbox's disk is full.")
            .hint("Remove build output in the sandbox, or free space on the server's disk."),
        E::Deadline { .. } => Problem::new(ErrorCode::Deadline, message),
        E::Invalid { .. } => Problem::new(ErrorCode::InvalidRequest, message),
        E::System { .. } | E::File { .. } | E::Protocol { .. } => {
            Problem::new(ErrorCode::SandboxFailed, message)
        }
    }
}
