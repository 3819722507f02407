//! What a build tells while it runs. Turning points wait a little for a slow reader, output does not wait at all: the
//! log on disk has every byte, and the offsets show a reader what it missed.

use greenroom_domain::CommitHash;
use greenroom_sandbox::ExitReason;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum BuildEvent {
    /// First event: the parts that follow, in order, reused ones included.
    Planned {
        commit: CommitHash,
        parts: Vec<String>,
    },
    /// A part, or a check within the part `finish`, begins to run.
    StepStarted {
        step: String,
    },
    /// Bytes that are at `offset` in the build's log.
    Output {
        step: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    StepFinished {
        step: String,
        outcome: ExitReason,
        duration_ms: u64,
    },
    /// The part's layer was there already.
    Reused {
        step: String,
    },
}

/// Lost once: a reader that let it pass is not waited for again until it reads.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Progress {
    sender: mpsc::Sender<BuildEvent>,
    is_reader_stuck: bool,
}

impl Progress {
    pub(super) fn new(sender: mpsc::Sender<BuildEvent>) -> Self {
        Self { sender, is_reader_stuck: false }
    }

    pub(super) async fn turning_point(&mut self, event: BuildEvent) {
        let patience = if self.is_reader_stuck { Duration::ZERO } else { PATIENCE };
        let sent = self.sender.send_timeout(event, patience).await;
        self.is_reader_stuck = sent.is_err();
    }

    pub(super) fn output(&self, step: &str, offset: u64, bytes: Vec<u8>) {
        let _ = self.sender.try_send(BuildEvent::Output { step: step.to_owned(), offset, bytes });
    }
}
