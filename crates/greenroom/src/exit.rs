//! How a verb ends: exit codes and what is written of a failure.

use crate::output::Output;
use crate::render::text::{BAD, DIM, clean, paint};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_wire::ErrorView;
use std::io;
use std::process::ExitCode;

/// The codes that scripts may rely on; printed by `greenroom help run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Stopped,
    BudgetReached,
    /// Ctrl-C: watching ended, the work goes on.
    Interrupted,
    /// Nobody reads the output any more.
    BrokenPipe,
    /// Told a second time to stop.
    Terminated,
    /// Of a program that `session exec` ran.
    Program(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Stopped => 3,
            Self::BudgetReached => 4,
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
            Self::Terminated => 143,
            Self::Program(code) => code,
        }
    }

    pub(crate) fn of_turn(outcome: &TurnOutcome) -> Self {
        match outcome {
            TurnOutcome::Completed => Self::Done,
            TurnOutcome::Stopped => Self::Stopped,
            TurnOutcome::Failed { .. } => Self::Failed,
            TurnOutcome::BudgetReached { .. } => Self::BudgetReached,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] greenroom_client::Error),
    /// Found on this side: settings, files, arguments.
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// An argument that cannot be used as it is; ends with the exit code of wrong usage.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Problem(Problem::new(ErrorCode::InvalidRequest, message).hint(hint))
    }

    /// Writes what happened to standard error, and gives the exit code.
    pub(crate) fn report(self, output: Output) -> Exit {
        let (view, exit) = match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::BrokenPipe,
            Self::Output(error) => {
                (local(Problem::new(ErrorCode::Internal, error.to_string())), Exit::Failed)
            }
            Self::Problem(problem) if problem.code == ErrorCode::InvalidRequest => {
                (local(problem), Exit::Usage)
            }
            Self::Problem(problem) => (local(problem), Exit::Failed),
            Self::Client(error) => (error.into_view(), Exit::Failed),
        };
        output.error(&view);
        exit
    }
}

fn local(problem: Problem) -> ErrorView {
    ErrorView::of(problem, String::new())
}

/// Sentence, hint, detail, code and request id, for people.
pub(crate) fn error_text(view: &ErrorView) -> String {
    let mut text = format!("{} {}\n", paint(BAD, "error:"), clean(&view.message));
    if let Some(hint) = &view.hint {
        text.push_str(&format!("  {}\n", clean(hint)));
    }
    if let Some(detail) = &view.detail {
        text.push_str(&format!("    {}\n", clean(detail.trim_end()).replace('\n', "\n    ")));
    }
    let request = if view.request_id.is_empty() { String::new() } else { format!(", {}", view.request_id) };
    text.push_str(&format!("  {}\n", paint(DIM, format!("({}{request})", view.code))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_sentence_hint_code_and_request() {
        let view = ErrorView {
            code: ErrorCode::RepositoryUnknown,
            message: "There is no repository \"x\".".to_owned(),
            hint: Some("`greenroom repository list` shows them.".to_owned()),
            detail: Some("one\ntwo\n".to_owned()),
            retry_after_s: None,
            request_id: "req_1".to_owned(),
        };
        let plain = anstream::adapter::strip_str(&error_text(&view)).to_string();
        assert_eq!(
            plain,
            "error: There is no repository \"x\".\n  `greenroom repository list` shows them.\n    one\n    two\n  \
             (repository_unknown, req_1)\n"
        );
    }
}
