//! Measures batches, never entries: the clock is read once for the batches that are sealed together, and once for
//! those that become durable together.

use std::collections::VecDeque;
use std::time::Duration;

use corewal_format::{BatchNumber, Epoch};

use crate::meter::Meter;

/// With lazy syncs any number of batches wait for one. Of more than these no latency is measured.
const MAX_WAITING: usize = 4096;

/// What a writer remembers for its [`Meter`].
#[derive(Debug)]
pub(super) struct Watch {
    /// Batches behind the frontier, and when they were sealed.
    waiting: VecDeque<(BatchNumber, Duration)>,
    /// When the batches of this turn were sealed.
    now: Duration,
    sync_began: Duration,
    epoch: Epoch,
}

impl Watch {
    pub(super) fn new(depth: usize, epoch: Epoch) -> Self {
        Self {
            waiting: VecDeque::with_capacity(depth + 2),
            now: Duration::ZERO,
            sync_began: Duration::ZERO,
            epoch,
        }
    }

    /// Batches are about to be sealed.
    pub(super) fn look(&mut self, meter: &Meter) {
        self.now = meter.now();
    }

    /// A batch was sealed; so many are in flight with it.
    pub(super) fn sealed(
        &mut self,
        meter: &Meter,
        (number, len, entry_count): (BatchNumber, usize, u32),
        in_flight: usize,
    ) {
        meter.batches.add(1);
        meter.batch_bytes.add(len as u64);
        meter.sealed_entries.add(u64::from(entry_count));
        meter.batch_len.record(len as u64);
        meter.batch_entries.record(u64::from(entry_count));
        meter.in_flight.set(in_flight as u64);
        meter.max_in_flight.raise(in_flight as u64);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((number, self.now));
        }
    }

    /// Everything up to this batch is durable; so many batches with so many entries are not.
    pub(super) fn durable(
        &mut self,
        meter: &Meter,
        last: BatchNumber,
        (in_flight, entries_in_flight): (usize, u64),
    ) {
        let now = meter.now();
        while let Some(&(number, sealed)) = self.waiting.front()
            && number <= last
        {
            self.waiting.pop_front();
            meter.commit_latency.record_time(now.saturating_sub(sealed));
        }
        meter.in_flight.set(in_flight as u64);
        meter.durable_entries.set(meter.sealed_entries.read() - entries_in_flight);
    }

    pub(super) fn sync_begins(&mut self, meter: &Meter) {
        meter.syncs.add(1);
        self.sync_began = meter.now();
    }

    pub(super) fn sync_ended(&self, meter: &Meter) {
        meter.sync_latency.record_time(meter.now().saturating_sub(self.sync_began));
    }

    /// Which epoch is open.
    pub(super) fn epoch(&mut self, meter: &Meter, epoch: Epoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            meter.begin_epoch();
        }
    }
}
