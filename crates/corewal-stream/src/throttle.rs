//! A source that gives events at a rate, for a job that is to be watched.

use std::time::Instant;

/// At most so many events a second, counted from the start; without a rate as many as can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    rate: Option<(f64, Instant)>,
    spent: u64,
}

impl Throttle {
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        Self { rate: per_second.map(|rate| (rate, Instant::now())), spent: 0 }
    }

    /// How many of `wanted` events may be read at this moment.
    pub(crate) fn allowed(&self, wanted: usize) -> usize {
        let Some((rate, start)) = self.rate else { return wanted };
        let due = start.elapsed().as_secs_f64() * rate - self.spent as f64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what is out of range is the nearest number"
        )]
        wanted.min(due as usize)
    }

    pub(crate) fn spend(&mut self, count: usize) {
        self.spent += count as u64;
    }
}
