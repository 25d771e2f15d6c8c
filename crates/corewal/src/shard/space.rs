//! Where the next batch goes: the open segment, the next one, and the reserve for barriers.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use corewal_disk::{FileSlot, Ring};
use corewal_format::{BatchNumber, Epoch, HEADER_BLOCKS, SegmentNumber, Seq};

use crate::Options;
use crate::error::{AppendError, IoFault};
use crate::keep::Piece;
use crate::prepare::{Fill, Prepared};
use crate::shared::{ShardShared, Shared, Start};

/// The segments of a writer.
#[derive(Debug)]
pub(crate) struct Space {
    block_len: u64,
    /// Bytes that appends leave free, so that epochs can close on a full disk: a block for each barrier of
    /// the pipelining bound, and one for a vouch.
    reserve: u64,
    current: Option<Active>,
    next: Option<Active>,
    /// Segments that are full; released when their last batch is durable.
    full: VecDeque<(FileSlot, Piece)>,
    /// The first batch of the current segment.
    first_batch: BatchNumber,
    /// The last entry that has its place, and the epoch of the last one in the current segment.
    last_seq: Seq,
    last_epoch: Epoch,
    /// Entries in the current segment.
    entries: u64,
    /// When the batch of its first entry was opened, and when the last batch was; told only where segments grow old.
    since: Duration,
    opened_at: Duration,
    pub(crate) rotations: u64,
    pub(crate) unfilled: u64,
}

/// A segment that is registered with the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) number: SegmentNumber,
    pub(crate) file: FileSlot,
    /// Where the next batch goes, in bytes.
    pub(crate) at: u64,
    /// Size of the file, in bytes.
    len: u64,
    fill: Fill,
}

impl Active {
    fn room(&self) -> u64 {
        self.len - self.at
    }
}

/// Who asks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A user's entry: leaves the reserve alone.
    Entry,
    /// A vouch: leaves the barriers' part of the reserve alone. Vouches without end would eat it, and then no
    /// epoch could close and no space come back.
    Vouch,
    /// A barrier.
    Barrier,
}

impl Space {
    pub(crate) fn new(shared: &Shared, start: Start) -> Self {
        let block_len = u64::from(shared.options.block_len);
        Self {
            block_len,
            reserve: (u64::from(shared.options.pipeline_bound) + 1) * block_len,
            current: None,
            next: None,
            full: VecDeque::new(),
            first_batch: start.first_batch,
            last_seq: start.first_seq.before(),
            last_epoch: Epoch(0),
            entries: 0,
            since: Duration::ZERO,
            opened_at: Duration::ZERO,
            rotations: 0,
            unfilled: 0,
        }
    }

    /// Takes prepared segments, so that an append finds them registered.
    pub(crate) fn stock_up(
        &mut self,
        ring: &mut dyn Ring,
        shared: &Shared,
        shard: &ShardShared,
    ) -> io::Result<()> {
        while self.current.is_none() || self.next.is_none() {
            let Some(prepared) = shard.segments.take() else { return Ok(()) };
            shared.bell.ring();
            self.unfilled += u64::from(prepared.fill == Fill::Allocated);
            let active = self.register(ring, &prepared)?;
            if self.current.is_none() {
                self.current = Some(active);
            } else {
                self.next = Some(active);
            }
        }
        Ok(())
    }

    fn register(&self, ring: &mut dyn Ring, prepared: &Prepared) -> io::Result<Active> {
        Ok(Active {
            number: prepared.number,
            file: ring.register(&prepared.file)?,
            at: u64::from(HEADER_BLOCKS) * self.block_len,
            len: prepared.len,
            fill: prepared.fill,
        })
    }

    /// The segment in which a batch of `len` bytes fits, rotating if it must. Nothing is taken yet.
    pub(crate) fn place(&mut self, len: u64, last_sealed: BatchNumber) -> Option<Active> {
        let current = self.current?;
        if current.room() >= len {
            return Some(current);
        }
        if self.next_room() < len {
            return None;
        }
        self.rotate(last_sealed);
        self.current
    }

    /// Goes on in the next segment, if there is one.
    pub(crate) fn rotate(&mut self, last_sealed: BatchNumber) {
        let (Some(current), Some(next)) = (self.current, self.next.take()) else { return };
        let piece = self.piece(current, last_sealed);
        self.full.push_back((current.file, piece));
        self.begin(last_sealed.next());
        self.current = Some(next);
        self.rotations += 1;
    }

    /// Nothing stands in the current segment; this will be its first batch.
    fn begin(&mut self, first_batch: BatchNumber) {
        self.first_batch = first_batch;
        self.last_epoch = Epoch(0);
        (self.entries, self.since) = (0, self.opened_at);
    }

    /// Whether entries were placed in the current segment.
    pub(crate) fn has_entries(&self) -> bool {
        self.entries > 0
    }

    /// Whether there is another segment to go on in, so that the reserve stays free without the rest of the current
    /// one.
    pub(crate) fn has_another(&self, shard: &ShardShared) -> bool {
        self.next.is_some()
            && self.next_room() + shard.segments.ready_len() >= self.reserve
            && shard.segments.fault().is_none()
    }

    /// Whether the current segment is to take no further batch of entries, one of which is about to be opened.
    #[inline]
    pub(crate) fn is_due(&mut self, options: &Options) -> bool {
        if self.entries >= options.rotate_after_entries {
            return true;
        }
        if options.rotate_after == Duration::MAX {
            return false;
        }
        self.opened_at = options.disk.now();
        if !self.has_entries() {
            self.since = self.opened_at;
        }
        self.opened_at.saturating_sub(self.since) >= options.rotate_after
    }

    /// Bytes of the current segment from its next batch on.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        self.current.map_or(0, |current| current.room())
    }

    /// Bytes of the next segment, if there is one.
    pub(crate) fn next_room(&self) -> u64 {
        self.next.map_or(0, |next| next.room())
    }

    /// Takes `len` bytes of the current segment, for a batch of so many entries with this last one.
    pub(crate) fn take(&mut self, len: u64, entries: u32, end: Option<(Seq, Epoch)>) {
        let current = self.current.as_mut().expect("a batch was placed in it");
        assert!(len <= current.room() && len.is_multiple_of(self.block_len));
        current.at += len;
        self.entries += u64::from(entries);
        if let Some((seq, epoch)) = end {
            (self.last_seq, self.last_epoch) = (seq, epoch);
        }
    }

    /// Whether a batch of `batch_len` bytes leaves free what its purpose must.
    #[inline]
    pub(crate) fn leaves_reserve(
        &self,
        purpose: Purpose,
        batch_len: u64,
        shard: &ShardShared,
    ) -> bool {
        let kept = match purpose {
            Purpose::Entry => self.reserve,
            Purpose::Vouch => self.reserve - self.block_len,
            Purpose::Barrier => return true,
        };
        let here = self.room().saturating_sub(batch_len);
        here >= kept
            || here + self.next_room() >= kept
            || here + self.next_room() + shard.segments.ready_len() >= kept
    }

    /// How long a batch of entries at the next place may become, in bytes, so that the reserve stays free. What is
    /// prepared meanwhile only adds to it.
    pub(crate) fn grant(&self, shard: &ShardShared) -> u64 {
        let all = self.room() + self.next_room() + shard.segments.ready_len();
        all.saturating_sub(self.reserve).min(self.room())
    }

    /// The first segment that no batch was placed in, if it and those behind it have room for the reserve.
    pub(crate) fn unused(
        &self,
        shared: &Shared,
        shard: &ShardShared,
    ) -> Result<SegmentNumber, AppendError> {
        match self.current {
            Some(current) if self.next_room() + shard.segments.ready_len() >= self.reserve => {
                Ok(current.number.next())
            }
            _ => Err(Self::refusal(shared, shard)),
        }
    }

    /// Places no further batch in the current segment, in which everything is durable; the next run is to begin
    /// at `start`.
    pub(crate) fn forsake(
        &mut self,
        ring: &mut dyn Ring,
        start: Start,
        mut seal: impl FnMut(Piece),
    ) {
        let last_sealed = start.first_batch.before();
        self.release(ring, last_sealed, &mut seal);
        if let Some(current) = self.current.take() {
            ring.release(current.file);
            seal(self.piece(current, last_sealed));
        }
        self.current = self.next.take();
        self.begin(start.first_batch);
        self.last_seq = start.first_seq.before();
    }

    /// The current segment, which ends with this batch.
    fn piece(&self, current: Active, last_batch: BatchNumber) -> Piece {
        Piece {
            first: current.number,
            last: current.number,
            len: current.len,
            fill: current.fill,
            first_batch: self.first_batch,
            last_batch,
            last_seq: self.last_seq,
            last_epoch: self.last_epoch,
        }
    }

    /// Why there is no room, for the one who asked.
    pub(crate) fn refusal(shared: &Shared, shard: &ShardShared) -> AppendError {
        shard.segments.hurry();
        shared.bell.ring();
        match shard.segments.fault() {
            None => AppendError::Full,
            Some(fault) if is_full(&fault) => AppendError::NoSpace(fault),
            Some(fault) => AppendError::NoSegment(fault),
        }
    }

    /// Lets go of full segments whose last batch is durable.
    pub(crate) fn release(
        &mut self,
        ring: &mut dyn Ring,
        durable: BatchNumber,
        mut seal: impl FnMut(Piece),
    ) {
        while let Some(&(file, piece)) = self.full.front()
            && piece.last_batch <= durable
        {
            ring.release(file);
            self.full.pop_front();
            seal(piece);
        }
    }
}

fn is_full(fault: &IoFault) -> bool {
    matches!(
        fault.cause.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
