//! Who watches a session: each viewer has a bounded queue of its own, which costs nothing while it is empty (a shared
//! ring would hold its whole size for every session that anybody looks at).

use crate::live::Told;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Frames that a viewer may be behind before it is told to resume.
const BEHIND: usize = 2048;

#[derive(Debug, Default)]
pub(crate) struct Viewers {
    viewers: Mutex<Vec<Viewer>>,
}

#[derive(Debug)]
struct Viewer {
    frames: mpsc::Sender<Told>,
    is_behind: Arc<AtomicBool>,
}

/// One viewer's end.
#[derive(Debug)]
pub(crate) struct Seen {
    frames: mpsc::Receiver<Told>,
    is_behind: Arc<AtomicBool>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The viewer was too slow; what it was sent before that it still had.
    Behind,
    Ended,
}

impl Viewers {
    pub(crate) fn send(&self, frame: &Told) {
        self.lock().retain(|viewer| match viewer.frames.try_send(frame.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                viewer.is_behind.store(true, Ordering::Release);
                false
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    pub(crate) fn add(&self) -> Seen {
        let (sender, frames) = mpsc::channel(BEHIND);
        let is_behind = Arc::new(AtomicBool::new(false));
        let mut viewers = self.lock();
        // Those who left while nothing was sent.
        viewers.retain(|viewer| !viewer.frames.is_closed());
        viewers.push(Viewer { frames: sender, is_behind: Arc::clone(&is_behind) });
        Seen { frames, is_behind }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().iter().all(|viewer| viewer.frames.is_closed())
    }

    /// Ends every viewer's stream.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Viewer>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Told, Over> {
        match self.frames.recv().await {
            Some(frame) => Ok(frame),
            None if self.is_behind.load(Ordering::Acquire) => Err(Over::Behind),
            None => Err(Over::Ended),
        }
    }
}
