//! How many warm sandboxes a repository should have. Pure: time is an argument.

use std::collections::VecDeque;

/// A start counts half as much after this time.
const HALF_LIFE_MS: f64 = 10.0 * 60_000.0;
/// Warm sandboxes per recent start.
const SHARE: f64 = 0.5;
pub(super) const DAY_MS: i64 = 24 * 60 * 60_000;
/// Starts that are remembered of a day.
const STARTS_LIMIT: usize = 10_000;

/// What is known of a repository's sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    weight: f64,
    weighed_at_ms: i64,
    last_used_ms: Option<i64>,
    /// Of the last day, oldest first: when, and whether a warm sandbox was found.
    starts: VecDeque<(i64, bool)>,
}

impl Demand {
    /// A session began, long ago perhaps, or somebody is about to begin one.
    pub(super) fn used(&mut self, at_ms: i64) {
        self.last_used_ms = self.last_used_ms.max(Some(at_ms));
    }

    pub(super) fn started(&mut self, now_ms: i64, is_hit: bool) {
        self.used(now_ms);
        self.weight = self.weight_at(now_ms) + 1.0;
        self.weighed_at_ms = now_ms;
        self.starts.push_back((now_ms, is_hit));
        while self.starts.len() > STARTS_LIMIT
            || self.starts.front().is_some_and(|(at_ms, _)| *at_ms < now_ms - DAY_MS)
        {
            self.starts.pop_front();
        }
    }

    pub(super) fn weight_at(&self, now_ms: i64) -> f64 {
        let passed = (now_ms - self.weighed_at_ms).max(0) as f64;
        self.weight * 0.5f64.powf(passed / HALF_LIFE_MS)
    }

    /// Between floor and cap; 0 for a repository that nobody used for a day.
    pub(super) fn wanted(&self, now_ms: i64, floor: usize, cap: usize) -> usize {
        if self.last_used_ms.is_none_or(|used_ms| used_ms < now_ms - DAY_MS) {
            return 0;
        }
        let by_demand = (self.weight_at(now_ms) * SHARE).ceil() as usize;
        by_demand.clamp(floor.min(cap), cap)
    }

    /// Sessions of the last day that found a warm sandbox, and all of them.
    pub(super) fn hits_and_starts(&self, now_ms: i64) -> (u64, u64) {
        let of_today = self.starts.iter().filter(|(at_ms, _)| *at_ms >= now_ms - DAY_MS);
        of_today.fold((0, 0), |(hits, starts), (_, is_hit)| (hits + u64::from(*is_hit), starts + 1))
    }
}

/// One repository's claim to the places of the pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want<K> {
    pub(super) key: K,
    pub(super) wanted: usize,
    pub(super) weight: f64,
}

/// Shares the places: a first one for each repository, the most used first, then a second one for each, and so on.
pub(super) fn allot<K: Copy + PartialEq>(mut wants: Vec<Want<K>>, places: usize) -> Vec<(K, usize)> {
    wants.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut given: Vec<(K, usize)> = wants.iter().map(|want| (want.key, 0)).collect();
    let mut left = places;
    for round in 1.. {
        let mut has_given = false;
        for (want, (_, count)) in wants.iter().zip(&mut given) {
            if want.wanted >= round && left > 0 {
                *count += 1;
                left -= 1;
                has_given = true;
            }
        }
        if !has_given {
            break;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    #[test]
    fn demand_raises_the_number_and_time_lowers_it_to_the_floor() {
        let mut demand = Demand::default();
        assert_eq!(demand.wanted(0, 1, 4), 0);
        demand.used(0);
        assert_eq!(demand.wanted(0, 1, 4), 1);
        (0..6).for_each(|n| demand.started(n * 1000, false));
        assert_eq!(demand.wanted(6_000, 1, 4), 3);
        (0..20).for_each(|n| demand.started(n * 1000, true));
        assert_eq!(demand.wanted(20_000, 1, 4), 4);
        assert_eq!(demand.wanted(120 * MINUTE_MS, 1, 4), 1);
    }

    #[test]
    fn a_repository_that_nobody_used_for_a_day_needs_nothing() {
        let mut demand = Demand::default();
        demand.started(0, false);
        assert_eq!(demand.wanted(DAY_MS, 1, 4), 1);
        assert_eq!(demand.wanted(DAY_MS + 1, 1, 4), 0);
        assert_eq!(demand.hits_and_starts(DAY_MS + 1), (0, 0));
    }

    #[test]
    fn hits_are_counted_among_starts() {
        let mut demand = Demand::default();
        demand.started(1, true);
        demand.started(2, false);
        assert_eq!(demand.hits_and_starts(3), (1, 2));
    }

    #[test]
    fn places_are_shared_evenly_and_the_most_used_goes_first() {
        let want = |key, wanted, weight| Want { key, wanted, weight };
        let wants = || vec![want('a', 4, 1.0), want('b', 4, 9.0), want('c', 1, 0.5)];
        assert_eq!(allot(wants(), 4), [('b', 2), ('a', 1), ('c', 1)]);
        assert_eq!(allot(wants(), 1), [('b', 1), ('a', 0), ('c', 0)]);
        assert_eq!(allot(wants(), 100), [('b', 4), ('a', 4), ('c', 1)]);
    }
}
