//! The way in: what appending needs, and nothing of the ring.
//!
//! An intake belongs to one writer; where many threads append to a shard, they share it behind a lock while the
//! writer's thread drives the ring.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use corewal_disk::Block;
use corewal_format::{
    BATCH_HEADER_LEN, BatchNumber, ENTRY_HEADER_LEN, EntryFlags, Epoch, Kind, Seq, ShardId, Stamp,
    padded,
};
use rkyv::ser::allocator::Arena;

use crate::error::{AppendError, Failure, ObserveError};
use crate::record::{EncodeError, Room};
use crate::shard::batch::{BatchPlace, OpenBatch};
use crate::shard::payload::Payload;
use crate::shard::space::{Purpose, Space};
use crate::shard::transaction::Transaction;
use crate::shared::{ShardShared, Shared};

/// The highest seq that can be observed: from here on, counting a thousand million a second takes longer than
/// anybody will.
const HIGHEST_OBSERVED: Seq = Seq(1 << 61);

/// The open batch, those that wait behind it for the ring, and where the next one goes.
pub(crate) struct Intake {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) shard: ShardId,
    pub(super) pool: Vec<Block>,
    pub(super) space: Space,
    pub(super) open: Option<OpenBatch>,
    /// Batches that take no more entries, in order, with their numbers.
    pub(super) ready: VecDeque<(BatchNumber, OpenBatch)>,
    pub(super) next_batch: BatchNumber,
    pub(super) next_seq: Seq,
    /// The last seq that was given out; those between it and the next one never are.
    pub(super) last_given: Seq,
    /// The last batch that has entries: what a vouch must cover.
    pub(super) last_entry_batch: BatchNumber,
    pub(super) epoch: Epoch,
    /// The shard's latch: the first failure stays.
    failure: Option<Failure>,
    pub(super) scratch: Arena,
    /// Where a group goes that outgrows the open batch; none while one is appended.
    pub(super) outgrown: Option<Transaction>,
    /// Entries that were taken, barriers included.
    pub(super) entries: u64,
    /// Bytes of their payloads.
    pub(super) payload_bytes: u64,
    /// Atomic groups that were taken.
    pub(super) groups: u64,
    /// Bytes that were copied once more, between a group's own buffer and a block.
    pub(super) recopied_bytes: u64,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, index: usize, pool: Vec<Block>, space: Space) -> Self {
        let start = shared.shards[index].start;
        Self {
            index,
            shard: shared.shards[index].shard,
            pool,
            space,
            open: None,
            ready: VecDeque::with_capacity(shared.options.block_count()),
            next_batch: start.first_batch,
            next_seq: start.first_seq,
            last_given: start.first_seq.before(),
            last_entry_batch: start.first_batch.before(),
            epoch: shared.epochs.first(),
            failure: None,
            scratch: Arena::new(),
            outgrown: None,
            entries: 0,
            payload_bytes: 0,
            groups: 0,
            recopied_bytes: 0,
            shared,
        }
    }

    #[inline]
    pub(super) fn this(&self) -> &ShardShared {
        &self.shared.shards[self.index]
    }

    /// Nothing is appended any more.
    pub(super) fn latch(&mut self, failure: &Failure) {
        self.failure.get_or_insert_with(|| failure.clone());
    }

    #[inline]
    pub(super) fn check_latch(&self) -> Result<(), Failure> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// Entries that wait for the ring.
    pub(super) fn waiting_count(&self) -> u64 {
        let ready = self.ready.iter().map(|(_, batch)| batch);
        ready.chain(&self.open).map(|batch| u64::from(batch.entry_count())).sum()
    }

    /// Whether there is nothing that a turn could hand to the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.open.as_ref().is_none_or(OpenBatch::is_empty) && self.ready.is_empty()
    }

    /// Whether a batch could be opened, if there is a place for it.
    pub(super) fn has_blocks(&self) -> bool {
        self.open.is_some() || !self.pool.is_empty()
    }

    /// The batch that holds the last entry.
    pub(super) fn newest_batch(&self) -> BatchNumber {
        match &self.open {
            Some(open) if !open.is_empty() => self.next_batch,
            _ => self.next_batch.before(),
        }
    }

    /// Closes the open epoch with a barrier and returns the epoch that was closed.
    pub(super) fn close_epoch(&mut self) -> Result<Epoch, AppendError> {
        self.check_latch()?;
        let epoch = self.epoch;
        let bound = self.shared.epochs.check_bound(epoch);
        bound.map_err(|(open, slowest)| AppendError::EpochsAhead { open, slowest })?;
        if self.open.as_ref().is_some_and(|open| !open.fits(0)) {
            self.close_batch();
        }
        self.open_batch(ENTRY_HEADER_LEN, Purpose::Barrier)?;
        self.push(Kind::BARRIER, EntryFlags::NONE, 0);
        self.close_batch();
        self.epoch = epoch.next();
        self.shared.epochs.open(self.index, self.epoch);
        Ok(epoch)
    }

    /// Moves the next seq past that of `stamp`.
    pub(super) fn observe(&mut self, stamp: Stamp) -> Result<(), ObserveError> {
        self.check_latch()?;
        if stamp.epoch > self.epoch {
            return Err(ObserveError::EpochBehind { observed: stamp.epoch, open: self.epoch });
        }
        if stamp.seq > HIGHEST_OBSERVED {
            return Err(ObserveError::SeqTooHigh { stamp, highest: HIGHEST_OBSERVED });
        }
        if stamp.seq < self.next_seq {
            return Ok(());
        }
        self.next_seq = stamp.seq.next();
        // A batch begins with its first entry, and counts the others from there.
        self.drop_empty();
        if self.open.as_ref().is_some_and(|open| !open.spans(self.next_seq)) {
            self.close_batch();
        }
        Ok(())
    }

    /// Gives an open batch without entries up: it was never written.
    pub(super) fn drop_empty(&mut self) {
        if let Some(empty) = self.open.take_if(|open| open.is_empty()) {
            self.give_back(empty.into_block());
        }
    }

    pub(super) fn record_fits(&self, max_len: usize) -> Result<(), AppendError> {
        if max_len > self.shared.options.max_record { Err(self.too_large(max_len)) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn append_in_place(
        &mut self,
        mut payload: impl Payload,
    ) -> Result<Stamp, AppendError> {
        self.check_latch()?;
        let (kind, flags) = (payload.kind(), payload.flags());
        if !kind.is_appendable() {
            return Err(AppendError::Kind(kind));
        }
        loop {
            let was_open = self.open.is_some();
            self.open_batch(ENTRY_HEADER_LEN + padded(1), Purpose::Entry)?;
            let Some(open) = &mut self.open else { return Err(AppendError::Full) };
            match payload.encode(Room::new(open.room()), &mut self.scratch) {
                Ok(len) if len > self.shared.options.max_record => {
                    return Err(self.too_large(len));
                }
                Ok(len) if open.fits(len) => return self.accept(kind, flags, len),
                Err(error) if !error.is_no_room() => return Err(error.into()),
                Ok(_) | Err(_) if was_open && !open.is_empty() => self.close_batch(),
                Ok(_) | Err(_) => return self.append_alone(&mut payload),
            }
        }
    }

    pub(super) fn too_large(&self, len: usize) -> AppendError {
        AppendError::TooLarge { len, max: self.shared.options.max_record }
    }

    /// Takes the payload that stands in the open batch's room, if the reserve stays free.
    #[inline]
    fn accept(&mut self, kind: Kind, flags: EntryFlags, len: usize) -> Result<Stamp, AppendError> {
        if !self.open.as_ref().is_some_and(|open| open.is_granted(len)) {
            self.ask(len)?;
        }
        self.payload_bytes += len as u64;
        Ok(self.push(kind, flags, len))
    }

    /// Asks whether the open batch may grow by this payload, for this and for the next ones.
    #[cold]
    fn ask(&mut self, len: usize) -> Result<(), AppendError> {
        let shard = &self.shared.shards[self.index];
        let granted = self.space.grant(shard);
        let open = self.open.as_mut().expect("the payload stands in it");
        if open.disk_len_with(len) > granted {
            return Err(Space::refusal(&self.shared, shard));
        }
        open.grant(granted);
        Ok(())
    }

    #[inline]
    fn push(&mut self, kind: Kind, flags: EntryFlags, len: usize) -> Stamp {
        let seq = self.next_seq;
        let open = self.open.as_mut().expect("the payload stands in it");
        open.push(seq, kind, flags, len);
        self.gave(seq);
        self.entries += 1;
        Stamp { epoch: self.epoch, seq, shard: self.shard }
    }

    /// Everything up to this seq is given out.
    #[inline]
    pub(super) fn gave(&mut self, seq: Seq) {
        self.next_seq = seq.next();
        self.last_given = seq;
    }

    /// Opens a batch if none is open, with room for entries of `body_len` bytes with headers and padding.
    #[inline]
    pub(super) fn open_batch(
        &mut self,
        body_len: usize,
        purpose: Purpose,
    ) -> Result<(), AppendError> {
        if self.open.is_some() { Ok(()) } else { self.open_next(body_len, purpose) }
    }

    fn open_next(&mut self, body_len: usize, purpose: Purpose) -> Result<(), AppendError> {
        let len = self.batch_len(body_len);
        if self.pool.is_empty() {
            return Err(AppendError::Full);
        }
        if purpose == Purpose::Entry {
            self.rotate_if_due();
        }
        let Some(active) = self.space.place(len, self.next_batch.before()) else {
            return Err(Space::refusal(&self.shared, self.this()));
        };
        if !self.space.leaves_reserve(purpose, len, self.this()) {
            return Err(Space::refusal(&self.shared, self.this()));
        }
        let block = self.pool.pop().expect("the pool is not empty");
        let place = self.batch_place(active.number, active.file, active.at);
        let room = self.space.room();
        self.open = Some(OpenBatch::new(block, place, room, self.epoch, self.next_seq));
        Ok(())
    }

    /// Bytes on disk of a batch with a body of so many bytes.
    pub(super) fn batch_len(&self, body_len: usize) -> u64 {
        let len = (BATCH_HEADER_LEN + body_len) as u64;
        len.next_multiple_of(u64::from(self.shared.options.block_len))
    }

    fn batch_place(
        &self,
        segment: corewal_format::SegmentNumber,
        file: corewal_disk::FileSlot,
        at: u64,
    ) -> BatchPlace {
        BatchPlace {
            log: self.shared.log,
            shard: self.this().shard,
            incarnation: self.shared.incarnation,
            segment,
            file,
            at,
            block_len: self.shared.options.block_len,
        }
    }

    /// The open batch takes no more entries; it gets its number.
    pub(super) fn close_batch(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.space.take(open.disk_len(), open.entry_count(), open.end());
        let number = self.next_batch;
        self.next_batch = number.next();
        if !open.is_empty() {
            self.last_entry_batch = number;
        }
        self.ready.push_back((number, open));
    }

    /// Begins another segment with the next batch; false if none is there.
    pub(super) fn rotate(&mut self) -> bool {
        self.drop_empty();
        if self.open.is_none() && !self.space.has_entries() {
            return true;
        }
        if !self.space.has_another(self.this()) {
            return false;
        }
        self.close_batch();
        self.space.rotate(self.next_batch.before());
        true
    }

    /// No batch is open, and one of entries is about to be.
    #[inline]
    fn rotate_if_due(&mut self) {
        if self.space.is_due(&self.shared.options) {
            // Else it goes on where it is.
            self.rotate();
        }
    }

    /// Opens an empty batch in the reserve, for its promises alone.
    pub(super) fn open_vouch(&mut self) -> bool {
        self.open_batch(ENTRY_HEADER_LEN, Purpose::Vouch).is_ok()
    }

    /// A record that does not fit into what an empty batch offers here: at the end of a segment, or larger
    /// than a pool block. In a buffer of its own it is one batch, written by several writes.
    #[cold]
    fn append_alone(&mut self, payload: &mut impl Payload) -> Result<Stamp, AppendError> {
        let len = payload.encode(Room::counting(), &mut self.scratch)?;
        if len > self.shared.options.max_record {
            return Err(self.too_large(len));
        }
        let batch_len = self.batch_len(ENTRY_HEADER_LEN + padded(len));
        let place = self.place_alone(batch_len)?;
        let memory = usize::try_from(batch_len).expect("bounded by max_batch");
        let block = if memory <= self.shared.options.write_len {
            self.pool.pop().ok_or(AppendError::Full)?
        } else {
            Block::zeroed(memory)
        };
        let mut open = OpenBatch::new(block, place, batch_len, self.epoch, self.next_seq);
        let (room, scratch) = (Room::new(open.room()), &mut self.scratch);
        let written = match catch_unwind(AssertUnwindSafe(|| payload.encode(room, scratch))) {
            Ok(Ok(written)) if written <= len => written,
            other => {
                self.give_back(open.into_block());
                return Err(match other {
                    Err(panic) => resume_unwind(panic),
                    Ok(Err(error)) if !error.is_no_room() => error.into(),
                    Ok(_) => EncodeError::custom("it grew while it was encoded").into(),
                });
            }
        };
        self.open = Some(open);
        self.payload_bytes += written as u64;
        let stamp = self.push(payload.kind(), payload.flags(), written);
        self.close_batch();
        Ok(stamp)
    }

    /// The place of a batch of its own, of `batch_len` bytes, behind all that was appended. No batch with entries
    /// is open.
    pub(super) fn place_alone(&mut self, batch_len: u64) -> Result<BatchPlace, AppendError> {
        // An empty batch that was in the way was never written.
        if let Some(empty) = self.open.take() {
            assert!(empty.is_empty(), "its entries would be lost");
            self.pool.push(empty.into_block());
        }
        let large =
            self.ready.iter().any(|(_, batch)| batch.is_large(self.shared.options.write_len));
        if large || self.ready.len() >= self.shared.options.block_count() {
            return Err(AppendError::Full);
        }
        self.rotate_if_due();
        let Some(active) = self.space.place(batch_len, self.next_batch.before()) else {
            return Err(Space::refusal(&self.shared, self.this()));
        };
        if !self.space.leaves_reserve(Purpose::Entry, batch_len, self.this()) {
            return Err(Space::refusal(&self.shared, self.this()));
        }
        Ok(self.batch_place(active.number, active.file, active.at))
    }

    /// A block comes back: into the pool, unless it was made for one large batch.
    pub(super) fn give_back(&mut self, block: Block) {
        if block.len() == self.shared.options.write_len {
            self.pool.push(block);
        }
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("shard", &self.this().shard)
            .field("epoch", &self.epoch)
            .field("next_seq", &self.next_seq)
            .field("next_batch", &self.next_batch)
            .field("open", &self.open)
            .field("ready", &self.ready)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is shared behind a lock by the threads that append to one shard.
    #[test]
    fn an_intake_can_be_sent() {
        fn is_send<T: Send>() {}
        is_send::<Intake>();
    }
}
