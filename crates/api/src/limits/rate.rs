//! A rate for each of many keys: the generic cell rate algorithm, one instant a key, in a table of a fixed size.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// A quarter of a minute's worth may come at once.
const AT_ONCE: u32 = 4;

#[derive(Debug)]
pub(super) struct Rates<K> {
    /// Between two requests, on average; `None`: as many as come.
    interval: Option<Duration>,
    /// How far ahead of the average a key may be.
    tolerance: Duration,
    /// When each key's next request is due, on average. One that is past says nothing.
    due: HashMap<K, Instant>,
    most: usize,
}

impl<K: Hash + Eq + Copy> Rates<K> {
    pub(super) fn new(per_minute: u32, most: usize) -> Self {
        let interval = (per_minute > 0).then(|| MINUTE / per_minute);
        let burst = (per_minute / AT_ONCE).max(1) - 1;
        let tolerance = interval.unwrap_or_default() * burst;
        Self { interval, tolerance, due: HashMap::new(), most }
    }

    /// Counts one; or says how long to wait for the next.
    pub(super) fn admit(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(interval) = self.interval else { return Ok(()) };
        let due = self.due.get(&key).copied().unwrap_or(now).max(now);
        let ahead = due - now;
        if ahead > self.tolerance {
            return Err(ahead - self.tolerance);
        }
        if self.due.len() >= self.most && !self.due.contains_key(&key) {
            self.make_room(now);
        }
        self.due.insert(key, due + interval);
        Ok(())
    }

    /// Forgets who says nothing, and of the rest the half that is ahead the least.
    fn make_room(&mut self, now: Instant) {
        self.due.retain(|_, due| *due > now);
        if self.due.len() < self.most {
            return;
        }
        let mut all: Vec<Instant> = self.due.values().copied().collect();
        let half = all.len() / 2;
        let (_, middle, _) = all.select_nth_unstable(half);
        let middle = *middle;
        self.due.retain(|_, due| *due > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_comes_at_once_and_then_the_average() {
        let now = Instant::now();
        let mut rates = Rates::new(60, 10);
        let admitted = (0..100).filter(|_| rates.admit(1, now).is_ok()).count();
        assert_eq!(admitted, 15);
        assert_eq!(rates.admit(1, now), Err(Duration::from_secs(1)));
        assert_eq!(rates.admit(2, now), Ok(()), "others are not concerned");
        assert_eq!(rates.admit(1, now + Duration::from_secs(1)), Ok(()));
        assert!(rates.admit(1, now + Duration::from_secs(1)).is_err());
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| rates.admit(1, later).is_ok()).count(), 15, "nothing is saved up");
    }

    #[test]
    fn zero_is_no_limit_and_costs_nothing() {
        let now = Instant::now();
        let mut rates = Rates::new(0, 10);
        assert!((0..1000).all(|_| rates.admit(1, now).is_ok()));
        assert!(rates.due.is_empty());
    }

    #[test]
    fn however_many_come_the_table_stays_small_and_the_greedy_are_remembered() {
        let now = Instant::now();
        let mut rates = Rates::new(60, 100);
        while rates.admit(0, now).is_ok() {}
        for key in 1..10_000 {
            assert!(rates.admit(key, now).is_ok());
            assert!(rates.due.len() <= 100);
        }
        assert!(rates.admit(0, now).is_err());
    }
}
