//! What a measured delta says: its number and when it was written. All have one length, so that a piece of text that
//! begins at any delta's offset can be read, however many were merged.

use std::time::Instant;

/// Bytes: eight digits, a blank, fourteen digits, a line's end.
pub(super) const RECORD: usize = 24;

/// Microseconds since this process began to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn record(self, number: usize) -> String {
        format!("{number:08} {:014}\n", self.micros())
    }
}

/// Numbers and instants.
pub(super) fn records(text: &str) -> impl Iterator<Item = (usize, u64)> {
    text.as_bytes().chunks_exact(RECORD).filter_map(|record| {
        let text = std::str::from_utf8(record).ok()?;
        Some((text.get(..8)?.parse().ok()?, text.get(9..RECORD - 1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_one_by_one_or_merged() {
        let clock = Clock::start();
        let text: String = (0..3).map(|number| clock.record(number)).collect();
        assert_eq!(text.len(), 3 * RECORD);
        assert_eq!(records(&text).map(|(number, _)| number).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
