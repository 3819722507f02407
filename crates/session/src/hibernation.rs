//! Idle sessions leave memory. One task looks after all of them and sleeps while none is awake; a session costs no timer.

use crate::registry::Core;
use crate::room::Room;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A session that is due but busy is asked again after this part of the idle time.
const PART: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(20);

/// When sessions leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hibernation {
    /// Without a message, a running turn and waiting prompts for so long.
    pub idle: Duration,
    /// Sessions in memory, each with an open file; beyond it those that were used least recently leave early. More stay
    /// only while their turns run.
    pub most_awake: usize,
}

impl Default for Hibernation {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), most_awake: 256 }
    }
}

/// Runs until the registry is gone.
pub(crate) async fn run(core: Weak<Core>, changed: Arc<Notify>) {
    loop {
        let wait = match core.upgrade() {
            Some(core) => sweep(&core).await,
            None => return,
        };
        match wait {
            Some(wait) => {
                let _ = tokio::time::timeout(wait, changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}

/// Answers when to look again; `None`: when a session has woken.
pub(crate) async fn sweep(core: &Core) -> Option<Duration> {
    let Hibernation { idle, most_awake } = core.hibernation;
    let mut awake: Vec<Arc<Room>> = core.awake();
    awake.sort_by_key(|room| (room.used_at(), room.id));
    let mut beyond = awake.len().saturating_sub(most_awake);
    let mut next: Option<Duration> = None;
    for room in awake {
        let left = (room.used_at() + idle).saturating_duration_since(Instant::now());
        if (left.is_zero() || beyond > 0) && room.hibernate(core).await {
            beyond = beyond.saturating_sub(1);
            continue;
        }
        let left = left.max(idle / PART).max(SHORTEST);
        next = Some(next.map_or(left, |next| next.min(left)));
    }
    core.prune();
    // Who woke beside one that was just leaving was not the first to be awake, and told nobody.
    next.or_else(|| core.is_anyone_awake().then_some(SHORTEST))
}
