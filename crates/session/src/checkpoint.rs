//! A session's state as of one entry, so that opening a long session reads only what came after. A projection: the log
//! is the truth, and a checkpoint that is missing, damaged or of another version costs time and nothing else.

use greenroom_domain::{Entry, Present, STATE_VERSION, SessionState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// All that is folded from a session's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    pub state: SessionState,
    pub present: Present,
}

impl Folded {
    /// Applies one entry; its effects are found again in the state that it leads to.
    pub fn step(&mut self, entry: &Entry) {
        let _ = self.state.step(entry);
        self.present.step(entry);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry that it holds.
    pub seq: u64,
    /// Of the state machine that wrote it.
    pub version: String,
    /// A [`Folded`] as JSON.
    pub state: String,
    /// SHA-256 over all of it.
    pub digest: [u8; 32],
}

impl Checkpoint {
    pub fn of(folded: &Folded) -> Self {
        let text = serde_json::to_string(folded).expect("a state is JSON");
        let seq = folded.state.head_seq;
        let digest = digest_of(seq, STATE_VERSION, &text);
        Self { seq, version: STATE_VERSION.to_owned(), state: text, digest }
    }

    /// `None` when it is not whole, or another version of the state machine wrote it.
    pub fn folded(&self) -> Option<Folded> {
        let is_ours =
            self.version == STATE_VERSION && self.digest == digest_of(self.seq, &self.version, &self.state);
        let folded: Folded = serde_json::from_str(&self.state).ok().filter(|_| is_ours)?;
        (folded.state.head_seq == self.seq).then_some(folded)
    }
}

fn digest_of(seq: u64, version: &str, state: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(seq.to_le_bytes());
    digest.update((version.len() as u64).to_le_bytes());
    digest.update(version);
    digest.update(state);
    digest.finalize().into()
}
