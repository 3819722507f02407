//! What waits for one consumer: of each session the newest, and when it is tried next.

use greenroom_directory::SessionRow;
use greenroom_domain::{Problem, SessionId, TurnId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How a delivery that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt; each further wait is twice the one before.
    pub first: Duration,
    pub longest: Duration,
    /// From the first failure; what still fails then is a dead letter.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self { first: Duration::from_secs(1), longest: minutes(5), deadline: minutes(60) }
    }
}

impl RetryPolicy {
    /// Between half of the wait and all of it, so that what failed together is not tried together. `luck` is any number.
    fn wait(&self, attempts: u32, luck: u128) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.longest);
        let half = doubled / 2;
        let spread = u128::max(1, half.as_micros());
        half + Duration::from_micros(u64::try_from(luck % spread).unwrap_or(0))
    }
}

/// Something to be told of a session: what its log says up to an entry that is durable.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) upto: u64,
    /// For the directory.
    pub(crate) row: Option<Box<SessionRow>>,
    /// The last turn that came from another session.
    pub(crate) inherited: Option<TurnId>,
    /// The session's log says that the consumer could not be told.
    pub(crate) was_dead: bool,
}

#[derive(Debug)]
struct Waiting {
    letter: Letter,
    attempts: u32,
    failing_since: Option<Instant>,
    next: Instant,
    problem: Option<Problem>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued,
    /// An attempt is on its way.
    Sent,
    /// And something newer came meanwhile.
    SentAndQueued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Later,
    /// It was tried for long enough, and is here no more.
    Dead,
}

/// A letter that failed and is tried again.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) attempts: u32,
    pub(super) next_in: Duration,
    pub(super) problem: Option<Problem>,
}

/// Holds at most one letter of each session.
#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: Mutex<HashMap<SessionId, Waiting>>,
    changed: Notify,
    emptied: Notify,
}

impl Lane {
    /// The newest letter replaces the one before; what is being waited for after a failure is waited for.
    pub(super) fn put(&self, session: SessionId, letter: Letter) {
        let mut all = self.lock();
        let waiting = all.entry(session).or_insert_with(|| Waiting {
            letter: letter.clone(),
            attempts: 0,
            failing_since: None,
            next: Instant::now(),
            problem: None,
            place: Place::Queued,
        });
        if letter.upto >= waiting.letter.upto {
            waiting.letter = letter;
        }
        if waiting.place != Place::Queued {
            waiting.place = Place::SentAndQueued;
        }
        drop(all);
        self.changed.notify_one();
    }

    /// Somebody asked: a letter that waits after a failure is tried now.
    pub(super) fn hurry(&self, session: SessionId) {
        if let Some(waiting) = self.lock().get_mut(&session) {
            waiting.next = Instant::now();
            waiting.failing_since = None;
        }
        self.changed.notify_one();
    }

    /// No attempt is on its way any more: what it was sent waits again.
    pub(super) fn sent_is_lost(&self) {
        for waiting in self.lock().values_mut() {
            waiting.place = Place::Queued;
        }
    }

    pub(super) fn take_due(&self, now: Instant, most: usize) -> Vec<(SessionId, Letter)> {
        let mut all = self.lock();
        let due = all.iter_mut().filter(|(_, waiting)| waiting.place == Place::Queued && waiting.next <= now);
        let take = |(session, waiting): (&SessionId, &mut Waiting)| {
            waiting.place = Place::Sent;
            (*session, waiting.letter.clone())
        };
        due.take(most).map(take).collect()
    }

    /// Answers whether the log still calls it a dead letter.
    pub(super) fn done(&self, session: SessionId) -> bool {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(&session) else { return false };
        let was_dead = std::mem::take(&mut waiting.letter.was_dead);
        if waiting.place == Place::SentAndQueued {
            waiting.place = Place::Queued;
            (waiting.attempts, waiting.failing_since, waiting.problem) = (0, None, None);
            waiting.next = Instant::now();
            self.changed.notify_one();
        } else {
            all.remove(&session);
        }
        if all.is_empty() {
            self.emptied.notify_waiters();
        }
        was_dead
    }

    pub(super) fn failed(
        &self,
        session: SessionId,
        problem: Problem,
        policy: RetryPolicy,
        now: Instant,
        luck: u128,
    ) -> Failed {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(&session) else { return Failed::Later };
        let since = *waiting.failing_since.get_or_insert(now);
        if now.duration_since(since) >= policy.deadline {
            all.remove(&session);
            if all.is_empty() {
                self.emptied.notify_waiters();
            }
            return Failed::Dead;
        }
        waiting.attempts += 1;
        waiting.problem = Some(problem);
        // The last attempt is at the deadline.
        waiting.next = (now + policy.wait(waiting.attempts, luck)).min(since + policy.deadline);
        waiting.place = Place::Queued;
        self.changed.notify_one();
        Failed::Later
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock()
            .values()
            .filter(|waiting| waiting.place == Place::Queued)
            .map(|waiting| waiting.next)
            .min()
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until nothing waits.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn has(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }

    pub(super) fn retry(&self, session: SessionId, now: Instant) -> Option<Retry> {
        let all = self.lock();
        let waiting = all.get(&session)?;
        Some(Retry {
            attempts: waiting.attempts,
            next_in: waiting.next.saturating_duration_since(now),
            problem: waiting.problem.clone(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::ErrorCode;

    fn id(n: u128) -> SessionId {
        SessionId::from_parts(1, n)
    }

    fn letter(upto: u64) -> Letter {
        Letter { upto, row: None, inherited: None, was_dead: false }
    }

    fn problem() -> Problem {
        Problem::new(ErrorCode::Internal, "It failed.")
    }

    fn policy() -> RetryPolicy {
        let seconds = Duration::from_secs;
        RetryPolicy { first: seconds(1), longest: seconds(8), deadline: seconds(30) }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_over_their_second_half() {
        let bounds = |attempts| {
            let least = policy().wait(attempts, 0);
            let most = policy().wait(attempts, least.as_micros() - 1);
            (least.as_millis(), most.as_millis() + 1)
        };
        let waits: Vec<_> = [1, 2, 3, 4, 5, 40].map(bounds).to_vec();
        assert_eq!(
            waits,
            [(500, 1000), (1000, 2000), (2000, 4000), (4000, 8000), (4000, 8000), (4000, 8000)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_that_keeps_failing_is_tried_until_the_deadline_and_is_dead_then() {
        let lane = Lane::default();
        lane.put(id(1), letter(1));
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            tokio::time::sleep_until(lane.next_due().unwrap()).await;
            assert_eq!(lane.take_due(Instant::now(), 10).len(), 1);
            attempts += 1;
            if lane.failed(id(1), problem(), policy(), Instant::now(), 12_345) == Failed::Dead {
                break;
            }
        }
        assert_eq!(begun.elapsed().as_secs(), 30, "the last attempt is at the deadline");
        assert!((6..=12).contains(&attempts), "{attempts}");
        assert_eq!(lane.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_during_an_attempt_is_delivered_after_it_and_never_beside_it() {
        let lane = Lane::default();
        lane.put(id(1), letter(1));
        assert_eq!(lane.take_due(Instant::now(), 10).len(), 1);
        lane.put(id(1), letter(2));
        lane.put(id(1), letter(3));
        assert_eq!(lane.take_due(Instant::now(), 10).len(), 0, "one at a time");
        lane.done(id(1));
        let taken = lane.take_due(Instant::now(), 10);
        assert_eq!(taken.iter().map(|(_, letter)| letter.upto).collect::<Vec<_>>(), [3]);
        lane.done(id(1));
        assert_eq!(lane.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn news_do_not_shorten_the_wait_after_a_failure_and_a_person_does() {
        let lane = Lane::default();
        lane.put(id(1), letter(1));
        lane.take_due(Instant::now(), 10);
        lane.failed(id(1), problem(), policy(), Instant::now(), 0);
        lane.put(id(1), letter(2));
        assert_eq!(lane.take_due(Instant::now(), 10).len(), 0);
        lane.hurry(id(1));
        assert_eq!(lane.take_due(Instant::now(), 10)[0].1.upto, 2);
    }
}
