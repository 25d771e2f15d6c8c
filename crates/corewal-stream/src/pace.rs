//! When barriers are asked for, and when the job is over. The only state that all cores share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Asks every core's source for barriers: one each time that all of them together have read so many events.
///
/// A number of events and not a time, so that a job needs no clock. A source that can be idle for long would
/// ask by time as well.
#[derive(Debug)]
pub(crate) struct Pace {
    epoch_events: u64,
    read: AtomicU64,
    /// So many barriers are asked for.
    asked: AtomicU64,
    /// The count with the barrier that ends the job; 0 as long as it is not known.
    last: AtomicU64,
    reading: AtomicUsize,
    is_halted: AtomicBool,
}

impl Pace {
    pub(crate) fn new(epoch_events: u64, cores: usize) -> Self {
        Self {
            epoch_events,
            read: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            last: AtomicU64::new(0),
            reading: AtomicUsize::new(cores),
            is_halted: AtomicBool::new(false),
        }
    }

    /// A core has read so many events more.
    pub(crate) fn record(&self, events: u64) {
        let read = self.read.fetch_add(events, Ordering::AcqRel) + events;
        self.asked.fetch_max(read / self.epoch_events, Ordering::AcqRel);
    }

    /// A core has read all that it will ever read. The last one asks for the barrier that ends the job.
    pub(crate) fn end(&self) {
        if self.reading.fetch_sub(1, Ordering::AcqRel) == 1 {
            let last = self.asked.load(Ordering::Acquire) + 1;
            self.last.store(last, Ordering::Release);
            self.asked.store(last, Ordering::Release);
        }
    }

    /// How many barriers every source is to have sent.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Whether the barrier that makes it `count` ends the job.
    pub(crate) fn is_last(&self, count: u64) -> bool {
        self.last.load(Ordering::Acquire) == count
    }

    /// A core has failed: the others end too.
    pub(crate) fn halt(&self) {
        self.is_halted.store(true, Ordering::Release);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_follow_the_events_of_all_cores_and_one_ends_the_job() {
        let pace = Pace::new(10, 2);
        pace.record(9);
        assert_eq!(pace.asked(), 0);
        pace.record(13);
        assert_eq!(pace.asked(), 2);
        pace.end();
        assert_eq!(pace.asked(), 2);
        assert!(!pace.is_last(2));
        pace.record(8);
        pace.end();
        assert_eq!(pace.asked(), 4);
        assert!(pace.is_last(4) && !pace.is_last(3));
    }
}
