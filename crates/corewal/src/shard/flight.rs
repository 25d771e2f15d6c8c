//! What is in flight, and the frontier. Pure: knows no ring and no file, only numbers.
//!
//! Completions arrive in any order; the frontier moves over the contiguous completed prefix only. A sync
//! covers what was written, contiguously and to one file, when it was started, and nothing else.

use std::collections::VecDeque;

use corewal_disk::FileSlot;
use corewal_format::{BatchNumber, Epoch};

use crate::method::Method;
use crate::recovery::LastBatch;

/// A batch that was handed to the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) batch: LastBatch,
    pub(crate) file: FileSlot,
    pub(crate) len: usize,
    pub(crate) entry_count: u32,
    /// The epoch that it closes.
    pub(crate) barrier: Option<Epoch>,
    /// What its write is; that of its segment.
    pub(crate) method: Method,
    /// The last batch that it promises to be durable.
    pub(crate) promised: BatchNumber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    Written,
    Durable,
}

/// Written batches of one file that wait for a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    file: FileSlot,
    last: LastBatch,
    promised: BatchNumber,
    barrier: Option<Epoch>,
    batch_count: usize,
    entry_count: u64,
}

/// The batches of a shard between the frontier and the last one that was sealed.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// From the first batch that is not written, or whose predecessor is not.
    writing: VecDeque<(InFlight, State)>,
    /// The written prefix, file by file.
    written: VecDeque<Stretch>,
    /// What the sync in flight covers.
    syncing: Option<Stretch>,
    durable: Option<LastBatch>,
    promised: BatchNumber,
    barrier: Option<Epoch>,
}

impl Flight {
    /// The frontier: the last batch such that it and everything before it is durable.
    pub(crate) fn durable(&self) -> Option<LastBatch> {
        self.durable
    }

    /// The last batch that a durable one promises to be durable; 0 for none.
    pub(crate) fn promised(&self) -> BatchNumber {
        self.promised
    }

    /// The last batch such that it and everything before it is written: completed, and durable or not.
    pub(crate) fn written(&self) -> Option<LastBatch> {
        let is_complete = |&&(_, state): &&(InFlight, State)| state != State::Writing;
        let completed = self.writing.iter().take_while(is_complete).last();
        let unsynced = self.written.back().or(self.syncing.as_ref());
        completed.map(|(it, _)| it.batch).or(unsynced.map(|it| it.last)).or(self.durable)
    }

    /// The last epoch that a durable barrier closed.
    pub(crate) fn barrier(&self) -> Option<Epoch> {
        self.barrier
    }

    /// Batches that are not written yet, or behind one that is not.
    pub(crate) fn writing_count(&self) -> usize {
        self.writing.len()
    }

    /// Entries of those batches.
    pub(crate) fn writing_entry_count(&self) -> u64 {
        self.writing.iter().map(|(it, _)| u64::from(it.entry_count)).sum()
    }

    /// Batches behind the frontier.
    pub(crate) fn batch_count(&self) -> usize {
        self.writing.len() + self.stretches().map(|it| it.batch_count).sum::<usize>()
    }

    /// Entries behind the frontier.
    pub(crate) fn entry_count(&self) -> u64 {
        self.writing_entry_count() + self.stretches().map(|it| it.entry_count).sum::<u64>()
    }

    fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.syncing.iter().chain(&self.written)
    }

    /// Whether everything that was sealed is durable.
    pub(crate) fn is_empty(&self) -> bool {
        self.writing.is_empty() && self.written.is_empty() && self.syncing.is_none()
    }

    /// A batch goes to the ring.
    pub(crate) fn start(&mut self, batch: InFlight) {
        if let Some((before, _)) = self.writing.back() {
            assert_eq!(before.batch.number.next(), batch.batch.number, "batches go in order");
        }
        self.writing.push_back((batch, State::Writing));
    }

    /// The batch in flight with this number.
    pub(crate) fn get(&self, number: BatchNumber) -> Option<&InFlight> {
        self.position(number).map(|index| &self.writing[index].0)
    }

    fn position(&self, number: BatchNumber) -> Option<usize> {
        let first = self.writing.front()?.0.batch.number;
        let index = usize::try_from(number.0.checked_sub(first.0)?).ok()?;
        (index < self.writing.len()).then_some(index)
    }

    /// The write of a batch has completed in full: by its method it is durable, or a sync must follow.
    pub(crate) fn complete(&mut self, number: BatchNumber) {
        let index = self.position(number).expect("completions are of batches in flight");
        let (batch, state) = &mut self.writing[index];
        assert_eq!(*state, State::Writing, "batch {number} completed twice");
        *state = match batch.method {
            Method::Dsync | Method::Linked => State::Durable,
            Method::AfterWrite => State::Written,
        };
        self.follow();
    }

    /// Takes the completed prefix out of what is being written.
    fn follow(&mut self) {
        while let Some(&(batch, state)) = self.writing.front() {
            match state {
                State::Writing => return,
                State::Written => self.extend_written(batch),
                // Batches before it, of a segment with another method, wait for their sync.
                State::Durable if !self.written.is_empty() || self.syncing.is_some() => return,
                State::Durable => {
                    self.durable = Some(batch.batch);
                    self.promised = batch.promised;
                    self.barrier = batch.barrier.or(self.barrier);
                }
            }
            self.writing.pop_front();
        }
    }

    fn extend_written(&mut self, batch: InFlight) {
        match self.written.back_mut() {
            Some(stretch) if stretch.file == batch.file => {
                stretch.last = batch.batch;
                stretch.promised = batch.promised;
                stretch.barrier = batch.barrier.or(stretch.barrier);
                stretch.batch_count += 1;
                stretch.entry_count += u64::from(batch.entry_count);
            }
            _ => self.written.push_back(Stretch {
                file: batch.file,
                last: batch.batch,
                promised: batch.promised,
                barrier: batch.barrier,
                batch_count: 1,
                entry_count: u64::from(batch.entry_count),
            }),
        }
    }

    /// Whether written batches wait for a sync that could start now.
    pub(crate) fn wants_sync(&self) -> bool {
        self.syncing.is_none() && !self.written.is_empty()
    }

    /// Whether one of them closes an epoch.
    pub(crate) fn wants_sync_of_barrier(&self) -> bool {
        self.wants_sync() && self.written.iter().any(|stretch| stretch.barrier.is_some())
    }

    /// The last of the batches that wait for a sync.
    pub(crate) fn last_written(&self) -> Option<BatchNumber> {
        self.written.back().map(|stretch| stretch.last.number)
    }

    /// Starts a sync of the first file that has written batches; it will cover what is written now.
    pub(crate) fn start_sync(&mut self) -> Option<FileSlot> {
        if self.syncing.is_none() {
            self.syncing = self.written.pop_front();
            return self.syncing.map(|stretch| stretch.file);
        }
        None
    }

    /// The last batch that the sync in flight covers.
    pub(crate) fn syncing(&self) -> Option<BatchNumber> {
        self.syncing.map(|stretch| stretch.last.number)
    }

    /// The sync in flight has completed.
    pub(crate) fn complete_sync(&mut self) {
        let stretch = self.syncing.take().expect("a sync was in flight");
        self.durable = Some(stretch.last);
        self.promised = stretch.promised;
        self.barrier = stretch.barrier.or(self.barrier);
        self.follow();
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::{SegmentNumber, Seq};

    use super::*;

    fn batch(number: u64, file: u32) -> InFlight {
        InFlight {
            batch: LastBatch {
                number: BatchNumber(number),
                segment: SegmentNumber(u64::from(file) + 1),
                at: number * 4096,
                last_seq: Seq(number * 10),
                epoch: Epoch(1),
            },
            file: FileSlot(file),
            len: 4096,
            entry_count: 10,
            barrier: None,
            method: Method::Dsync,
            promised: BatchNumber(number - 1),
        }
    }

    fn unsynced(number: u64, file: u32) -> InFlight {
        InFlight { method: Method::AfterWrite, ..batch(number, file) }
    }

    fn durable(flight: &Flight) -> u64 {
        flight.durable().map_or(0, |last| last.number.0)
    }

    fn permutations(items: &[u64]) -> Vec<Vec<u64>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (index, &first) in items.iter().enumerate() {
            let mut rest = items.to_vec();
            rest.remove(index);
            for mut tail in permutations(&rest) {
                tail.insert(0, first);
                all.push(tail);
            }
        }
        all
    }

    /// Defect 1, 4: whatever the order of completions, only the contiguous prefix counts.
    #[test]
    fn the_frontier_is_the_contiguous_completed_prefix_in_every_order() {
        for order in permutations(&[1, 2, 3, 4, 5]) {
            let mut flight = Flight::default();
            (1..=5).for_each(|number| flight.start(batch(number, 0)));
            let mut done = Vec::new();
            for number in order {
                flight.complete(BatchNumber(number));
                done.push(number);
                let prefix = (1..=5).take_while(|it| done.contains(it)).count();
                assert_eq!(durable(&flight), prefix as u64);
                assert_eq!(flight.batch_count(), 5 - prefix, "in flight counts from the frontier");
            }
            assert!(flight.is_empty());
        }
    }

    /// Defect 1: a sync covers what had completed when it was started, not what completed since.
    #[test]
    fn a_sync_covers_only_what_was_written_before_it() {
        let mut flight = Flight::default();
        (1..=3).for_each(|number| flight.start(unsynced(number, 0)));
        flight.complete(BatchNumber(1));
        flight.complete(BatchNumber(3));
        assert_eq!(flight.start_sync(), Some(FileSlot(0)));
        flight.complete(BatchNumber(2));
        assert!(!flight.wants_sync(), "one sync at a time");
        flight.complete_sync();
        assert_eq!(durable(&flight), 1);
        assert_eq!(flight.start_sync(), Some(FileSlot(0)));
        flight.complete_sync();
        assert_eq!(durable(&flight), 3);
    }

    /// Defect 5: late writes of an earlier segment are synced in their own file first.
    #[test]
    fn every_file_is_synced_in_turn() {
        let mut flight = Flight::default();
        flight.start(unsynced(1, 0));
        flight.start(unsynced(2, 0));
        flight.start(unsynced(3, 1));
        flight.complete(BatchNumber(3));
        flight.complete(BatchNumber(1));
        assert_eq!(flight.start_sync(), Some(FileSlot(0)));
        flight.complete_sync();
        assert_eq!(durable(&flight), 1, "batch 3 waits for batch 2");
        flight.complete(BatchNumber(2));
        assert_eq!(flight.start_sync(), Some(FileSlot(0)));
        flight.complete_sync();
        assert_eq!(durable(&flight), 2, "the sync of one file says nothing of the other");
        assert_eq!(flight.start_sync(), Some(FileSlot(1)));
        flight.complete_sync();
        assert_eq!(durable(&flight), 3);
    }

    /// Defect 2: a completion counts once.
    #[test]
    #[should_panic(expected = "completed twice")]
    fn a_repeated_completion_is_a_bug_that_fails_loudly() {
        let mut flight = Flight::default();
        flight.start(batch(1, 0));
        flight.start(batch(2, 0));
        flight.complete(BatchNumber(2));
        flight.complete(BatchNumber(2));
    }

    #[test]
    fn a_barrier_counts_when_its_batch_is_durable() {
        let mut flight = Flight::default();
        flight.start(InFlight { barrier: Some(Epoch(4)), ..unsynced(1, 0) });
        flight.start(unsynced(2, 0));
        flight.complete(BatchNumber(2));
        assert_eq!(flight.barrier(), None);
        flight.complete(BatchNumber(1));
        assert_eq!(flight.barrier(), None, "written is not durable");
        flight.start_sync();
        flight.complete_sync();
        assert_eq!(flight.barrier(), Some(Epoch(4)));
    }

    /// Whatever the methods of two segments and the order of completions and syncs, nothing is durable before its own
    /// write, the sync that its method needs, and everything before it.
    #[test]
    fn the_frontier_waits_for_the_method_of_each_segment() {
        let methods = [Method::Dsync, Method::AfterWrite, Method::Linked];
        let pairs = methods.iter().flat_map(|old| methods.map(|new| (*old, new)));
        for (old, new) in pairs {
            for order in permutations(&[1, 2, 3, 4]) {
                // After how many completions the syncs run that are wanted by then.
                for sync_at in 0..=4 {
                    let mut flight = Flight::default();
                    for number in 1..=4 {
                        let (file, method) = if number <= 2 { (0, old) } else { (1, new) };
                        flight.start(InFlight { method, ..batch(number, file) });
                    }
                    let mut sound = Vec::new();
                    for (count, number) in order.iter().enumerate() {
                        flight.complete(BatchNumber(*number));
                        let method = if *number <= 2 { old } else { new };
                        if method != Method::AfterWrite {
                            sound.push(*number);
                        }
                        if count + 1 == sync_at {
                            sync_all(&mut flight, &order[..=count], &mut sound);
                        }
                        let prefix = (1..=4).take_while(|it| sound.contains(it)).count();
                        assert!(durable(&flight) <= prefix as u64, "{old:?} {new:?} {order:?}");
                        let done = &order[..=count];
                        let prefix = (1..=4).take_while(|it| done.contains(it)).count();
                        let written = flight.written().map_or(0, |last| last.number.0);
                        assert_eq!(written, prefix as u64, "{old:?} {new:?} {order:?} {sync_at}");
                    }
                    sync_all(&mut flight, &order, &mut sound);
                    assert_eq!(durable(&flight), 4, "{old:?} {new:?} {order:?} {sync_at}");
                    assert!(flight.is_empty());
                }
            }
        }
    }

    /// A sync of a file makes durable what was written to it before.
    fn sync_all(flight: &mut Flight, written: &[u64], sound: &mut Vec<u64>) {
        while let Some(file) = flight.start_sync() {
            sound.extend(written.iter().filter(|&&it| u32::from(it > 2) == file.0));
            flight.complete_sync();
        }
    }
}
