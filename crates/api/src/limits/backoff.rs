//! Longer and longer waits for who fails again and again, in a table of a fixed size.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
/// Failures are forgotten so long after the last.
const FORGET: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Backoff<K> {
    /// Failures that cost nothing.
    free: u32,
    longest: Duration,
    failures: HashMap<K, Failures>,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// The last but one.
    before: Instant,
}

impl<K: Hash + Eq> Backoff<K> {
    pub(super) fn new(free: u32, longest: Duration, most: usize) -> Self {
        Self { free, longest, failures: HashMap::new(), most }
    }

    /// Counts a failure; or says how long to wait before the next attempt.
    pub(super) fn attempt(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let is_recent = |known: &Failures| now.saturating_duration_since(known.last) < FORGET;
        let known = self.failures.get(&key).copied().filter(is_recent);
        let count = known.map_or(0, |known| known.count);
        if let Some(known) = known {
            let open = known.last + self.wait_after(count);
            if open > now {
                return Err(open - now);
            }
        }
        if self.failures.len() >= self.most && !self.failures.contains_key(&key) {
            self.make_room(now);
        }
        let before = known.map_or(now, |known| known.last);
        self.failures.insert(key, Failures { count: count.saturating_add(1), last: now, before });
        Ok(())
    }

    /// The last attempt was none that failed: it makes nobody wait either.
    pub(super) fn undo(&mut self, key: &K) {
        if let Some(known) = self.failures.get_mut(key) {
            known.count = known.count.saturating_sub(1);
            known.last = known.before;
            if known.count == 0 {
                self.failures.remove(key);
            }
        }
    }

    pub(super) fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    fn wait_after(&self, count: u32) -> Duration {
        match count.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(over) => FIRST.saturating_mul(1 << (over - 1).min(20)).min(self.longest),
        }
    }

    /// Forgets what is old, and of the rest the half with the fewest failures, the oldest first.
    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, known| now.saturating_duration_since(known.last) < FORGET);
        if self.failures.len() < self.most {
            return;
        }
        let mut all: Vec<(u32, Instant)> =
            self.failures.values().map(|known| (known.count, known.last)).collect();
        let half = all.len() / 2;
        let (_, middle, _) = all.select_nth_unstable(half);
        let middle = *middle;
        self.failures.retain(|_, known| (known.count, known.last) > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn after_a_few_free_failures_each_wait_is_twice_the_last_up_to_a_bound() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(3, MINUTE, 10);
        assert!((0..4).all(|_| backoff.attempt("ada", now).is_ok()));
        let mut waits = vec![];
        for _ in 0..8 {
            let wait = backoff.attempt("ada", now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(backoff.attempt("ada", now), Ok(()));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.attempt("bob", now), Ok(()));
        backoff.forget(&"ada");
        assert_eq!(backoff.attempt("ada", now), Ok(()));
    }

    #[test]
    fn who_succeeds_takes_back_their_own_attempt_only() {
        let now = Instant::now();
        let mut backoff = Backoff::new(1, MINUTE, 10);
        assert!(backoff.attempt("office", now).is_ok());
        assert!(backoff.attempt("office", now).is_ok());
        backoff.undo(&"office");
        assert!(backoff.attempt("office", now).is_ok());
        assert!(backoff.attempt("office", now).is_err());
        let later = now + FORGET;
        assert!(backoff.attempt("office", later).is_ok(), "an hour without a failure");
    }

    #[test]
    fn what_is_taken_back_makes_nobody_wait() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(1, MINUTE, 10);
        assert!((0..2).all(|_| backoff.attempt("office", begin).is_ok()));
        for polled in 1..10 {
            assert_eq!(backoff.attempt("office", begin + second * polled), Ok(()));
            backoff.undo(&"office");
        }
    }

    #[test]
    fn however_many_come_the_table_stays_small_and_the_persistent_are_remembered() {
        let now = Instant::now();
        let mut backoff = Backoff::new(0, MINUTE, 100);
        let mut at = now;
        for _ in 0..5 {
            at += backoff.attempt(0, at).err().unwrap_or_default();
            let _ = backoff.attempt(0, at);
        }
        for key in 1..10_000 {
            assert!(backoff.attempt(key, at).is_ok());
            assert!(backoff.failures.len() <= 100);
        }
        assert!(backoff.attempt(0, at).is_err());
    }
}
