//! What is counted and measured of a shard. One thread writes, any thread reads: no lock, no copy, and nothing
//! that the engine decides by. So these are not atomics that a model has to follow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::SyncMethod;
use crate::method::Method;

/// A number that one thread at a time changes.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.read() + count);
    }

    #[inline]
    pub(crate) fn raise(&self, count: u64) {
        self.set(self.read().max(count));
    }

    #[inline]
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Equal cells up to twice this value, then as many cells for each doubling.
const CELLS_OF_A_DOUBLING: usize = 1 << CELL_BITS;
const CELL_BITS: u32 = 6;

/// What is above is counted as this: 18 minutes in nanoseconds, 1 TiB.
const MAX_VALUE: u64 = (1 << 40) - 1;

/// How often each value occurred, to 1/64 of the value.
///
/// A cell is written by a load and a store; an [`Histogram`] is made of the cells when somebody asks.
#[derive(Debug)]
pub(crate) struct Cells(Box<[Tally]>);

impl Default for Cells {
    fn default() -> Self {
        Self((0..=cell_of(MAX_VALUE)).map(|_| Tally::default()).collect())
    }
}

impl Cells {
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        self.0[cell_of(value.min(MAX_VALUE))].add(1);
    }

    pub(crate) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(MAX_VALUE));
    }

    /// The values that occurred, ascending, with how often.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().enumerate().map(|(cell, it)| (last_of(cell), it.read()));
        counts.filter(|&(_, count)| count > 0)
    }

    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut histogram =
            Histogram::new_with_bounds(1, MAX_VALUE, 2).expect("the bounds are sound");
        for (value, count) in self.counts() {
            histogram.saturating_record_n(value, count);
        }
        histogram
    }
}

/// The cell of a value.
#[inline]
fn cell_of(value: u64) -> usize {
    let shift = (value | CELLS_OF_A_DOUBLING as u64).ilog2() - CELL_BITS;
    let shifted = usize::try_from(value >> shift).expect("a value has few cells");
    shift as usize * CELLS_OF_A_DOUBLING + shifted
}

/// The highest value of a cell.
fn last_of(cell: usize) -> u64 {
    let shift = (cell / CELLS_OF_A_DOUBLING).saturating_sub(1);
    let shifted = (cell - shift * CELLS_OF_A_DOUBLING) as u64;
    ((shifted + 1) << shift) - 1
}

/// What is known of a shard besides its frontier.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Meter {
    pub(crate) entries: Tally,
    pub(crate) payload_bytes: Tally,
    pub(crate) groups: Tally,
    pub(crate) recopied_bytes: Tally,
    pub(crate) rotations: Tally,
    pub(crate) unfilled: Tally,
    pub(crate) sealed_entries: Tally,
    pub(crate) durable_entries: Tally,
    pub(crate) batches: Tally,
    pub(crate) batch_bytes: Tally,
    pub(crate) syncs: Tally,
    pub(crate) vouches: Tally,
    /// Where it is ahead of the frontier: everything up to it is written.
    pub(crate) written_seq: Tally,
    pub(crate) in_flight: Tally,
    pub(crate) max_in_flight: Tally,
    pub(crate) unvouched: Tally,
    pub(crate) ring_calls: Tally,
    /// The code of the method of the last batch's segment; 0 before the first.
    pub(crate) method: Tally,
    pub(crate) method_switches: Tally,
    /// When the open epoch began, in nanoseconds since `start`.
    epoch_since_ns: Tally,
    pub(crate) commit_latency: Cells,
    pub(crate) sync_latency: Cells,
    pub(crate) batch_len: Cells,
    pub(crate) batch_entries: Cells,
    start: Instant,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            entries: Tally::default(),
            payload_bytes: Tally::default(),
            groups: Tally::default(),
            recopied_bytes: Tally::default(),
            rotations: Tally::default(),
            unfilled: Tally::default(),
            sealed_entries: Tally::default(),
            durable_entries: Tally::default(),
            batches: Tally::default(),
            batch_bytes: Tally::default(),
            syncs: Tally::default(),
            vouches: Tally::default(),
            written_seq: Tally::default(),
            in_flight: Tally::default(),
            max_in_flight: Tally::default(),
            unvouched: Tally::default(),
            ring_calls: Tally::default(),
            method: Tally::default(),
            method_switches: Tally::default(),
            epoch_since_ns: Tally::default(),
            commit_latency: Cells::default(),
            sync_latency: Cells::default(),
            batch_len: Cells::default(),
            batch_entries: Cells::default(),
            start: Instant::now(),
        }
    }
}

impl Meter {
    /// The time for everything that is measured. Not the disk's clock: a simulated one counts how often it is read.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Another epoch is open.
    pub(crate) fn begin_epoch(&self) {
        self.epoch_since_ns.set(u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Of the last batch's segment.
    pub(crate) fn sync_method(&self) -> Option<SyncMethod> {
        Method::of_code(self.method.read()).map(SyncMethod::from)
    }

    pub(crate) fn epoch_age(&self) -> Duration {
        self.now().saturating_sub(Duration::from_nanos(self.epoch_since_ns.read()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_a_cell_that_ends_at_most_a_64th_above_it() {
        let around = |power: u64| power.saturating_sub(3)..power + 3;
        let powers = (0..40).map(|bits| 1_u64 << bits).flat_map(around);
        for value in (0..10_000).chain(powers).filter(|&it| it <= MAX_VALUE) {
            let last = last_of(cell_of(value));
            assert!(last >= value && last - value <= value / 64, "{value} is reported as {last}");
            assert_eq!(cell_of(last), cell_of(value), "{value}");
            if value > 0 {
                assert!(cell_of(value) - cell_of(value - 1) <= 1, "no cell is left out at {value}");
            }
        }
    }

    #[test]
    fn what_is_too_large_counts_as_the_largest() {
        let cells = Cells::default();
        cells.record(u64::MAX);
        cells.record(0);
        assert_eq!(cells.counts().collect::<Vec<_>>(), [(0, 1), (MAX_VALUE, 1)]);
        let histogram = cells.histogram();
        assert_eq!((histogram.len(), histogram.min()), (2, 0));
    }
}
