//! Percentiles of a row of measurements, and the table of rows.

use crate::render::table::Table;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Stats {
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) n: usize,
}

impl Stats {
    /// Nearest-rank percentiles; `None` of nothing.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let rank = |percent: usize| {
            let index = (samples.len() * percent).div_ceil(100).max(1) - 1;
            samples.get(index).map(|sample| (sample.as_secs_f64() * 1e6).round() / 1e3)
        };
        Some(Self { p50_ms: rank(50)?, p95_ms: rank(95)?, p99_ms: rank(99)?, n: samples.len() })
    }
}

/// Named rows in the order they are shown.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(String, Stats)>,
    facts: Map<String, Value>,
    /// Beginnings of rows that `facts` holds already.
    parts: Vec<String>,
}

impl Report {
    pub(crate) fn row(&mut self, name: &str, samples: Vec<Duration>) {
        if let Some(stats) = Stats::of(samples) {
            self.rows.push((name.to_owned(), stats));
        }
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// The rows and facts of another report, as if they were its own.
    pub(crate) fn absorb(&mut self, other: Report) {
        self.rows.extend(other.rows);
        self.facts.extend(other.facts);
        self.parts.extend(other.parts);
    }

    /// The rows and facts of another report under one name.
    pub(crate) fn part(&mut self, name: &str, part: &Report) {
        self.facts.insert(name.to_owned(), part.json());
        self.rows.extend(part.rows.iter().map(|(row, stats)| (format!("{name}.{row}"), *stats)));
        self.parts.push(format!("{name}."));
    }

    pub(crate) fn json(&self) -> Value {
        let mut all = self.facts.clone();
        let is_of_part = |name: &str| self.parts.iter().any(|part| name.starts_with(part));
        for (name, stats) in self.rows.iter().filter(|(name, _)| !is_of_part(name)) {
            all.insert(name.clone(), serde_json::to_value(stats).unwrap_or_default());
        }
        Value::Object(all)
    }

    pub(crate) fn text(&self) -> String {
        let table = Table::new(&["MILLISECONDS", "P50", "P95", "P99", "N"], "Nothing was measured.");
        let table = table.right(&[1, 2, 3, 4]).rows(&self.rows, |(name, stats)| {
            let number = |value: f64| format!("{value:.3}");
            vec![
                name.clone(),
                number(stats.p50_ms),
                number(stats.p95_ms),
                number(stats.p99_ms),
                stats.n.to_string(),
            ]
        });
        let facts = self.facts.iter().filter(|(_, value)| !value.is_object());
        let facts: String = facts.map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{}\n{facts}", table.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let samples = (1..=200).rev().map(Duration::from_millis).collect();
        let stats = Stats::of(samples).unwrap();
        assert_eq!((stats.p50_ms, stats.p95_ms, stats.p99_ms, stats.n), (100.0, 190.0, 198.0, 200));
        assert_eq!(Stats::of(vec![]), None);
        assert_eq!(Stats::of(vec![Duration::from_millis(7)]).unwrap().p99_ms, 7.0);
    }
}
