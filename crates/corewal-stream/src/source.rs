//! Replayable sources: partitions with offsets, dealt out to the cores.
//!
//! The number of partitions belongs to the job and not to the cores: so another number of cores reads the same
//! events, from the same offsets.

use std::collections::BTreeMap;

use crate::time::Time;
use crate::workload::Workload;

/// How many partitions every source has.
pub const PARTITIONS: u32 = 16;

/// Events that are read from one partition before the next one has its turn.
const STRIDE: usize = 16;

/// One ordered part of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// Position in a partition: of the event that is read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Where every partition goes on; what is not in it begins at 0.
pub(crate) type Offsets = BTreeMap<Partition, Offset>;

/// Where an event stands among all events of a source that is dealt out one by one.
#[must_use]
pub(crate) fn index_of(partition: Partition, offset: Offset) -> u64 {
    offset.0 * u64::from(PARTITIONS) + u64::from(partition.0)
}

/// The partitions that one core reads.
pub(crate) struct Sources<W: Workload> {
    partitions: Vec<Reading<W>>,
    /// At which the job goes on: no partition has events before it.
    floor: Time,
}

struct Reading<W: Workload> {
    partition: Partition,
    next: Offset,
    /// None when it has ended.
    reader: Option<W::Reader>,
    newest: Time,
}

impl<W: Workload> Sources<W> {
    /// The partitions of core `core` of `cores`, each from its offset on.
    pub(crate) fn deal(
        workload: &W,
        core: usize,
        cores: usize,
        offsets: &Offsets,
        floor: Time,
    ) -> Self {
        let mine = (0..PARTITIONS).filter(|partition| *partition as usize % cores == core);
        let partitions = mine.map(Partition).map(|partition| {
            let next = offsets.get(&partition).copied().unwrap_or_default();
            let reader = Some(workload.read(partition, next));
            Reading { partition, next, reader, newest: Time::START }
        });
        Self { partitions: partitions.collect(), floor }
    }

    /// Reads up to `limit` events from the partitions that are furthest behind, and returns how many.
    pub(crate) fn read(&mut self, limit: usize, mut take: impl FnMut(W::Event)) -> usize {
        let mut count = 0;
        while count < limit {
            let open = self.partitions.iter_mut().filter(|it| it.reader.is_some());
            let Some(reading) = open.min_by_key(|it| (it.newest, it.partition)) else { break };
            for _ in 0..STRIDE.min(limit - count) {
                let Some((time, event)) = reading.reader.as_mut().and_then(Iterator::next) else {
                    reading.reader = None;
                    break;
                };
                reading.next = Offset(reading.next.0 + 1);
                reading.newest = reading.newest.max(time);
                count += 1;
                take(event);
            }
        }
        count
    }

    /// No event before this time will be read.
    pub(crate) fn watermark(&self) -> Time {
        let open = self.partitions.iter().filter(|it| it.reader.is_some());
        let least = open.map(|it| it.newest.minus_ms(W::DISORDER_MS)).min();
        least.unwrap_or(Time::END).max(self.floor)
    }

    /// Where each partition goes on.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (Partition, Offset)> {
        self.partitions.iter().map(|it| (it.partition, it.next))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.partitions.iter().all(|it| it.reader.is_none())
    }
}
