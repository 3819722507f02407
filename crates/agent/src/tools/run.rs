//! What a running tool is given, and what it gives back.

use super::files::Files;
use super::terminal::Terminals;
use crate::halt::{Halt, Halted};
use crate::ports::{Artifacts, Changes, Children, Clock, Hands, Log, Reading};
use greenroom_domain::Problem;
use greenroom_domain::TurnId;
use greenroom_domain::event::{Event, ToolDisplay, ToolOutcome};
use greenroom_sandbox::{self as sandbox, Sandbox};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for one file operation or search.
const OPERATION_LIMIT: Duration = Duration::from_secs(60);
/// A backstop behind the deadline that `Hands` keeps.
const SANDBOX_LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Debug)]
pub(crate) struct ToolContext {
    pub(crate) turn: TurnId,
    pub(crate) call: String,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) changes: Arc<dyn Changes>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    pub(crate) children: Arc<dyn Children>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: Arc<Files>,
    pub(crate) terminals: Arc<Terminals>,
    pub(crate) halt: Halt,
}

/// The end of a call that came to one.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: ToolOutcome,
    /// For the model.
    pub(crate) text: String,
    pub(crate) display: Option<ToolDisplay>,
    /// Committed together with the result.
    pub(crate) events: Vec<Event>,
    /// The sandbox that keeps the finished run until it is acknowledged.
    pub(crate) ran_in: Option<Arc<dyn Sandbox>>,
}

/// Why a call came to no end of its own.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Told to the model as it is.
    #[error("{0}")]
    Words(String),
    #[error("the sandbox was lost: {0}")]
    Lost(String),
    /// There is no sandbox to be had: the turn cannot go on.
    #[error("{0}")]
    Unavailable(Problem),
    #[error("the turn was halted")]
    Halted(Halted),
    /// Another owner commands the sandbox now.
    #[error("a newer owner (epoch {0}) commands the sandbox")]
    Fenced(u64),
}

impl Ran {
    pub(crate) fn succeeded(text: impl Into<String>) -> Self {
        Self {
            outcome: ToolOutcome::Succeeded,
            text: text.into(),
            display: None,
            events: Vec::new(),
            ran_in: None,
        }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { outcome: ToolOutcome::Failed, ..Self::succeeded(text) }
    }

    pub(crate) fn showing(mut self, display: ToolDisplay) -> Self {
        self.display = Some(display);
        self
    }
}

impl Failure {
    pub(crate) fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        match error {
            sandbox::Error::Ended { reason } | sandbox::Error::Protocol { reason } => Self::Lost(reason),
            sandbox::Error::Fenced { seen } => Self::Fenced(seen),
            sandbox::Error::NotFound { path } => Self::Words(format!("{path} does not exist.")),
            other => Self::Words(format!("It failed: {other}.")),
        }
    }
}

impl ToolContext {
    pub(crate) async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, Failure> {
        self.in_time(self.hands.sandbox()).await
    }

    /// For what only looks: does not wait for the sync.
    pub(crate) async fn reader(&self) -> Result<Reading, Failure> {
        self.in_time(self.hands.reader()).await
    }

    async fn in_time<T>(&self, wait: impl Future<Output = Result<T, Problem>>) -> Result<T, Failure> {
        match self.halt.or(self.halt.within(SANDBOX_LIMIT, wait)).await.map_err(Failure::Halted)? {
            Some(found) => found.map_err(Failure::Unavailable),
            None => Err(Failure::Unavailable(Problem::new(
                greenroom_domain::ErrorCode::Deadline,
                format!("The sandbox was not ready within {} minutes.", SANDBOX_LIMIT.as_secs() / 60),
            ))),
        }
    }

    /// One operation on the sandbox, with a deadline.
    pub(crate) async fn operation<T>(
        &self,
        work: impl Future<Output = sandbox::Result<T>>,
    ) -> Result<T, Failure> {
        match self.halt.within(OPERATION_LIMIT, work).await {
            Some(done) => Ok(done?),
            None => Err(Failure::words(format!(
                "It did not finish within {} s, and it is not known whether it still will.",
                OPERATION_LIMIT.as_secs()
            ))),
        }
    }

    pub(crate) async fn unless_halted(
        &self,
        work: impl Future<Output = Result<Ran, Failure>>,
    ) -> Result<Ran, Failure> {
        self.halt.or(work).await.map_err(Failure::Halted)?
    }
}
