//! What a sandbox's failures are called for a person.

use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{ErrorCode, Event, ImageId, Problem};

pub(crate) fn phase(state: SandboxPhase, image: Option<ImageId>) -> Event {
    Event::SandboxChanged { state, image, commit: None, problem: None }
}

pub(crate) fn unknown_session() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "There is no such session.")
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
