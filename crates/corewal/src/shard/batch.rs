//! The open batch: entries are serialized into the block that the kernel will write.

use corewal_disk::{Block, FileSlot};
use corewal_format::{
    BATCH_HEADER_LEN, BatchFlags, BatchHeader, BatchNumber, Chain, ENTRY_HEADER_LEN, EntryFlags,
    EntryHeader, Epoch, Incarnation, Kind, LogId, Seed, SegmentNumber, Seq, ShardId, padded,
};

/// Where a batch will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    pub(crate) log: LogId,
    pub(crate) shard: ShardId,
    pub(crate) incarnation: Incarnation,
    pub(crate) segment: SegmentNumber,
    pub(crate) file: FileSlot,
    /// Offset in the file, in bytes.
    pub(crate) at: u64,
    pub(crate) block_len: u32,
}

impl BatchPlace {
    fn block(&self) -> u32 {
        u32::try_from(self.at / u64::from(self.block_len)).expect("segments have at most 4 GiB")
    }

    fn seed(&self) -> Seed {
        Seed::of(self.log, self.shard, self.segment, self.incarnation, self.block())
    }
}

/// What a batch promises: true, and known to be, when it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promises {
    pub(crate) durable_batch: BatchNumber,
    pub(crate) durable_seq: Seq,
    pub(crate) committed_epoch: Epoch,
}

/// A batch that still takes entries.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    block: Block,
    place: BatchPlace,
    seed: Seed,
    chain: Chain,
    /// Bytes in use: the header and the entries.
    len: usize,
    /// Bytes that may be in use: what is left of the segment may be less than the block.
    capacity: usize,
    /// Bytes that may be in use without asking again whether the reserve stays free.
    granted: usize,
    epoch: Epoch,
    first_seq: Seq,
    last_seq: Seq,
    entry_count: u32,
    flags: BatchFlags,
}

/// How far a batch was filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    chain: Chain,
    len: usize,
    last_seq: Seq,
    entry_count: u32,
}

impl OpenBatch {
    /// An empty batch at `place`, of at most `capacity` bytes.
    pub(crate) fn new(
        block: Block,
        place: BatchPlace,
        capacity: u64,
        epoch: Epoch,
        next_seq: Seq,
    ) -> Self {
        let seed = place.seed();
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX).min(block.len());
        Self {
            block,
            place,
            seed,
            chain: seed.chain(),
            len: BATCH_HEADER_LEN,
            capacity,
            granted: 0,
            epoch,
            first_seq: next_seq,
            last_seq: next_seq.before(),
            entry_count: 0,
            flags: BatchFlags::NONE,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Whether the batch has a buffer of its own instead of a pool block of `pool_len` bytes.
    pub(crate) fn is_large(&self, pool_len: usize) -> bool {
        self.block.len() > pool_len
    }

    /// The last entry, and the epoch of all of them.
    pub(crate) fn end(&self) -> Option<(Seq, Epoch)> {
        (!self.is_empty()).then_some((self.last_seq, self.epoch))
    }

    pub(crate) fn entry_count(&self) -> u32 {
        self.entry_count
    }

    /// Bytes of the batch on disk, with another entry of `payload_len` bytes in it.
    pub(crate) fn disk_len_with(&self, payload_len: usize) -> u64 {
        let len = self.len + ENTRY_HEADER_LEN + padded(payload_len);
        (len as u64).next_multiple_of(u64::from(self.place.block_len))
    }

    /// Whether another entry of `payload_len` bytes leaves the reserve free, as far as was asked.
    #[inline]
    pub(crate) fn is_granted(&self, payload_len: usize) -> bool {
        self.len + ENTRY_HEADER_LEN + padded(payload_len) <= self.granted
    }

    /// The batch may be `disk_len` bytes on disk, and the reserve stays free.
    pub(crate) fn grant(&mut self, disk_len: u64) {
        self.granted = usize::try_from(disk_len).unwrap_or(usize::MAX);
    }

    /// Bytes of the batch on disk.
    pub(crate) fn disk_len(&self) -> u64 {
        (self.len as u64).next_multiple_of(u64::from(self.place.block_len))
    }

    /// Whether entries that take `body_len` bytes, headers and padding included, fit.
    pub(crate) fn has_room(&self, body_len: usize) -> bool {
        self.len + body_len <= self.capacity
    }

    /// Where the batch stands before a group; [`undo`](Self::undo) goes back to it.
    pub(crate) fn mark(&self) -> Mark {
        let Self { chain, len, last_seq, entry_count, .. } = *self;
        Mark { chain, len, last_seq, entry_count }
    }

    /// Takes back every entry since `mark`.
    pub(crate) fn undo(&mut self, mark: Mark) {
        assert!(mark.len <= self.len && mark.entry_count <= self.entry_count);
        let Mark { chain, len, last_seq, entry_count } = mark;
        (self.chain, self.len, self.last_seq, self.entry_count) =
            (chain, len, last_seq, entry_count);
    }

    /// The entries since `mark`, with their headers and padding.
    pub(crate) fn since(&self, mark: Mark) -> &[u8] {
        &self.block[mark.len..self.len]
    }

    /// Where the next payload goes; what is written there counts only after [`push`](Self::push).
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let start = (self.len + ENTRY_HEADER_LEN).min(self.capacity);
        &mut self.block[start..self.capacity]
    }

    /// Whether an entry with a payload of `len` bytes fits.
    #[inline]
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.entry_count < u32::MAX && self.len + ENTRY_HEADER_LEN + padded(len) <= self.capacity
    }

    /// Whether entries from `seq` on can go into the batch, as many as fit.
    pub(crate) fn spans(&self, seq: Seq) -> bool {
        // The other half is for those behind it: each takes more than one byte of a segment of at most 4 GiB.
        seq.0 - self.first_seq.0 <= u64::from(u32::MAX / 2)
    }

    /// Takes the payload of `len` bytes that stands at the start of the room, as entry `seq`.
    #[inline]
    pub(crate) fn push(&mut self, seq: Seq, kind: Kind, flags: EntryFlags, len: usize) {
        assert!(self.fits(len), "the caller asked");
        assert!(seq > self.last_seq || self.entry_count == 0, "seqs ascend");
        assert!(!self.flags.contains(BatchFlags::BARRIER), "a barrier ends its batch");
        let delta = u32::try_from(seq.0 - self.first_seq.0).expect("a batch spans few seqs");
        let payload_len = u32::try_from(len).expect("records are bounded by max_record");
        let end = self.len + ENTRY_HEADER_LEN + len;
        let stride_end = self.len + ENTRY_HEADER_LEN + padded(len);
        let header = EntryHeader { len: payload_len, kind, flags, delta };
        let crc = header.seal(self.seed, &mut self.block[self.len..end]);
        if end < stride_end {
            self.block[end..stride_end].fill(0);
        }
        self.chain.link(crc);
        self.len = stride_end;
        self.last_seq = seq;
        self.entry_count += 1;
        if kind == Kind::BARRIER {
            self.flags = BatchFlags::BARRIER;
        }
    }

    /// Writes the header: the batch is complete.
    pub(crate) fn seal(mut self, number: BatchNumber, promises: Promises) -> SealedBatch {
        let flags = if self.entry_count == 0 { BatchFlags::VOUCH } else { self.flags };
        let header = BatchHeader {
            flags,
            shard: self.place.shard,
            segment: self.place.segment,
            incarnation: self.place.incarnation,
            block: self.place.block(),
            block_len: self.place.block_len,
            number,
            first_seq: self.first_seq,
            last_delta: u32::try_from((self.last_seq.0 + 1 - self.first_seq.0).saturating_sub(1))
                .expect("a batch spans few seqs"),
            epoch: self.epoch,
            durable_batch: promises.durable_batch,
            durable_seq: promises.durable_seq,
            committed_epoch: promises.committed_epoch,
            entry_count: self.entry_count,
            body_len: u32::try_from(self.len - BATCH_HEADER_LEN).expect("bounded by max_batch"),
            body_crc: self.chain.crc(),
        };
        let len = usize::try_from(header.disk_len()).expect("bounded by max_batch");
        self.block[self.len..len].fill(0);
        header.encode(self.place.log, &mut self.block);
        SealedBatch { block: self.block, header, place: self.place, len }
    }

    /// Gives the block back; the batch was never written.
    pub(crate) fn into_block(self) -> Block {
        self.block
    }
}

/// A batch that is ready for the kernel.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    pub(crate) block: Block,
    pub(crate) header: BatchHeader,
    pub(crate) place: BatchPlace,
    pub(crate) len: usize,
}
