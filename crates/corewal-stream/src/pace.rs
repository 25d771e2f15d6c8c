//! When barriers are asked for, and when the job is over. The only state that all cores share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use corewal::Epoch;

/// Asks every core's source for barriers: one each time that all of them together have read so many events.
///
/// A number of events and not a time, so that a job needs no clock. A source that can be idle for long would
/// ask by time as well.
#[derive(Debug)]
pub(crate) struct Pace {
    first: Epoch,
    epoch_events: u64,
    read: AtomicU64,
    /// Barriers up to this one are asked for.
    asked: AtomicU64,
    /// The barrier that ends the job; 0 as long as it is not known.
    last: AtomicU64,
    reading: AtomicUsize,
    is_halted: AtomicBool,
}

impl Pace {
    pub(crate) fn new(first: Epoch, epoch_events: u64, cores: usize) -> Self {
        Self {
            first,
            epoch_events,
            read: AtomicU64::new(0),
            asked: AtomicU64::new(first.before().0),
            last: AtomicU64::new(0),
            reading: AtomicUsize::new(cores),
            is_halted: AtomicBool::new(false),
        }
    }

    /// A core has read so many events more.
    pub(crate) fn record(&self, events: u64) {
        let read = self.read.fetch_add(events, Ordering::AcqRel) + events;
        let asked = self.first.before().0 + read / self.epoch_events;
        self.asked.fetch_max(asked, Ordering::AcqRel);
    }

    /// A core has read all that it will ever read. The last one asks for the barrier that ends the job.
    pub(crate) fn end(&self) {
        if self.reading.fetch_sub(1, Ordering::AcqRel) == 1 {
            let last = self.asked.load(Ordering::Acquire) + 1;
            self.last.store(last, Ordering::Release);
            self.asked.store(last, Ordering::Release);
        }
    }

    /// Barriers up to this one are asked for.
    pub(crate) fn asked(&self) -> Epoch {
        Epoch(self.asked.load(Ordering::Acquire))
    }

    pub(crate) fn is_last(&self, epoch: Epoch) -> bool {
        self.last.load(Ordering::Acquire) == epoch.0
    }

    /// A core has failed: the others end too.
    pub(crate) fn halt(&self) {
        self.is_halted.store(true, Ordering::Release);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Acquire)
    }
}
