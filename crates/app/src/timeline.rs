//! The start timeline of a turn: when each stage was reached, counted from the prompt's arrival.

use greenroom_domain::event::{SandboxStart, StartStage, TimelineMark};
use greenroom_domain::{RequestId, SessionId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Prompts that may be between arrival and the start of their turn.
const ARRIVALS_LIMIT: usize = 10_000;

/// When a prompt arrived, and by which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) request: Option<RequestId>,
}

impl Arrival {
    /// Of the request that this task works for.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), request: greenroom_telemetry::request::current() }
    }
}

/// The prompt that is being committed, per session.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    by_session: Mutex<HashMap<SessionId, Arrival>>,
}

impl Arrivals {
    pub(crate) fn note(&self, session: SessionId, arrival: Arrival) {
        let mut arrivals = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() < ARRIVALS_LIMIT {
            arrivals.entry(session).or_insert(arrival);
        }
    }

    /// Takes back an arrival whose prompt was refused.
    pub(crate) fn forget(&self, session: SessionId, arrival: Arrival) {
        let mut arrivals = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.get(&session) == Some(&arrival) {
            arrivals.remove(&session);
        }
    }

    pub(crate) fn take(&self, session: SessionId) -> Option<Arrival> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).remove(&session)
    }
}

/// Marks of one turn. Each stage is noted once; complete when the first token and the sandbox are both there.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    request: Option<RequestId>,
    marks: Mutex<Vec<TimelineMark>>,
    sandbox: Mutex<Option<SandboxStart>>,
    is_taken: AtomicBool,
    model_called: Notify,
}

impl Timeline {
    pub(crate) fn new(arrival: Arrival) -> Self {
        Self {
            start: arrival.at,
            request: arrival.request,
            marks: Mutex::default(),
            sandbox: Mutex::default(),
            is_taken: AtomicBool::new(false),
            model_called: Notify::new(),
        }
    }

    /// Waits until the model's request is on its way.
    pub(crate) async fn model_called(&self) {
        self.model_called.notified().await;
    }

    /// Notes a stage reached now, or earlier: what was ready before the prompt counts as 0.
    pub(crate) fn mark(&self, stage: StartStage, at: Instant) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.iter().all(|mark| mark.stage != stage) {
            let at_us = at.saturating_duration_since(self.start).as_micros();
            if stage == StartStage::ModelCalled {
                self.model_called.notify_one();
            }
            marks.push(TimelineMark { stage, at_us: u64::try_from(at_us).unwrap_or(u64::MAX) });
        }
    }

    /// Notes what the sandbox was made from. One that was synced before the prompt came was simply there.
    pub(crate) fn sandbox_is(&self, made_from: SandboxStart, synced: Instant) {
        let found = if synced <= self.start { SandboxStart::Running } else { made_from };
        *self.sandbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    pub(crate) fn request(&self) -> Option<RequestId> {
        self.request
    }

    pub(crate) fn sandbox(&self) -> Option<SandboxStart> {
        *self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_complete(&self) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |stage| marks.iter().any(|mark| mark.stage == stage);
        has(StartStage::FirstToken) && has(StartStage::Synced)
    }

    /// In the order of time; `None` from the second call on, so that a turn says it once.
    pub(crate) fn take_marks(&self) -> Option<Vec<TimelineMark>> {
        let is_first = !self.is_taken.swap(true, Ordering::Relaxed);
        is_first.then(|| self.marks())
    }

    fn marks(&self) -> Vec<TimelineMark> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        marks.sort_by_key(|mark| mark.at_us);
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stage_counts_once_and_what_was_ready_before_counts_as_zero() {
        let start = Instant::now();
        let timeline = Timeline::new(Arrival { at: start, request: None });
        timeline.mark(StartStage::FirstToken, start + Duration::from_millis(2));
        timeline.mark(StartStage::FirstToken, start + Duration::from_millis(9));
        assert!(!timeline.is_complete());
        timeline.mark(StartStage::Synced, start.checked_sub(Duration::from_secs(1)).unwrap_or(start));
        assert!(timeline.is_complete());
        let marks: Vec<_> = timeline.marks().iter().map(|mark| (mark.stage, mark.at_us)).collect();
        assert_eq!(marks, [(StartStage::Synced, 0), (StartStage::FirstToken, 2000)]);
    }
}
