//! The public face of a shard's writer: sitting down, appending, waiting, closing.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Block, Completion, Ring, RingConfig, RingFacts, Token};
use corewal_format::{
    BATCH_HEADER_LEN, BatchNumber, ENTRY_HEADER_LEN, EntryFlags, Epoch, Kind, Seq, ShardId, Stamp,
    padded,
};
use rkyv::ser::allocator::Arena;

use crate::epoch::SeatState;
use crate::error::{AppendError, Failure, FailureCause, WaitError};
use crate::record::{self, EncodeError, Record, Room};
use crate::shard::OpenBatch;
use crate::shard::batch::{BatchPlace, Promises};
use crate::shard::flight::Flight;
use crate::shard::space::{Purpose, Space};
use crate::shared::{ShardShared, Shared};
use crate::stats::ShardStats;
use crate::sync;

/// The right to write one shard. Can be sent to the thread that will do it.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    index: usize,
}

/// Why a writer could not start.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} has no ring: {cause}")]
pub struct SitError {
    /// Which shard.
    pub shard: ShardId,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl Seat {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, index }
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shared.shards[self.index].shard
    }

    /// Makes the calling thread the shard's writer: its ring is created here.
    ///
    /// # Errors
    /// No ring of the wanted engine can be had ([`Engine::Auto`](crate::Engine::Auto) always has one), or the
    /// log was closed: its manifest says that nothing was written here.
    pub fn sit(self) -> Result<ShardWriter, SitError> {
        let shard = self.shard();
        let options = &self.shared.options;
        let config = RingConfig {
            engine: options.engine,
            depth: u32::try_from(options.depth + 1).unwrap_or(u32::MAX),
            block_count: options.block_count(),
            block_len: options.write_len,
            lock: Some(self.shared.lock.clone()),
        };
        let sit = |cause| SitError { shard, cause };
        let mut ring = options.disk.ring(config).map_err(sit)?;
        let pool: Vec<Block> = std::iter::from_fn(|| ring.take_block()).collect();
        debug_assert_eq!(pool.len(), options.block_count(), "the ring gives all of its pool");
        let this = &self.shared.shards[self.index];
        let mut space = Space::new(&self.shared);
        space.stock_up(ring.as_mut(), &self.shared, this).map_err(sit)?;
        {
            let mut desk = this.desk();
            desk.thread = Some(sync::current());
            desk.ring = Some(ring.facts());
        }
        if !self.shared.epochs.sit(self.index) {
            return Err(sit(io::Error::other("its log was closed")));
        }
        let start = this.start;
        let epoch = self.shared.epochs.first();
        let promised = Promises {
            durable_batch: start.first_batch.before(),
            durable_seq: start.first_seq.before(),
            committed_epoch: self.shared.epochs.committed(),
        };
        Ok(ShardWriter {
            index: self.index,
            completions: Vec::with_capacity(options.depth + 2),
            jobs: VecDeque::with_capacity(options.depth + 2),
            ready: VecDeque::with_capacity(options.block_count()),
            shared: self.shared,
            ring,
            pool,
            space,
            flight: Flight::default(),
            open: None,
            next_batch: start.first_batch,
            next_seq: start.first_seq,
            next_token: Token(1),
            last_entry_batch: start.first_batch.before(),
            epoch,
            promised,
            failure: None,
            idle_since: None,
            last_sync: Duration::ZERO,
            sync_wanted: false,
            sync_until: BatchNumber(0),
            is_closed: false,
            scratch: Arena::new(),
            stats: ShardStats::default(),
            not_send: PhantomData,
        })
    }
}

/// The writer of one shard, on its thread.
///
/// `append` puts an entry into the open batch; [`turn`](Self::turn) does everything else. Nothing is durable
/// before [`frontier`](Self::frontier) has reached its seq. Dropping the writer without
/// [`close`](Self::close) is like a crash: what was not acknowledged may be lost.
///
/// It cannot be sent to another thread:
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<corewal::ShardWriter>();
/// ```
pub struct ShardWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) ring: Box<dyn Ring>,
    pub(super) pool: Vec<Block>,
    pub(super) space: Space,
    pub(super) flight: Flight,
    pub(super) open: Option<OpenBatch>,
    /// Batches that take no more entries, in order, with their numbers.
    pub(super) ready: VecDeque<(BatchNumber, OpenBatch)>,
    pub(super) next_batch: BatchNumber,
    pub(super) next_seq: Seq,
    /// The only source of tokens for the ring.
    pub(super) next_token: Token,
    /// What the tokens in flight stand for.
    pub(super) jobs: VecDeque<(Token, Job)>,
    pub(super) completions: Vec<Completion>,
    /// The last batch that has entries: what a vouch must cover.
    pub(super) last_entry_batch: BatchNumber,
    pub(super) epoch: Epoch,
    /// What the last sealed batch promised.
    pub(super) promised: Promises,
    /// The latch: the first failure stays.
    pub(super) failure: Option<Failure>,
    pub(super) idle_since: Option<Duration>,
    pub(super) last_sync: Duration,
    pub(super) sync_wanted: bool,
    /// Syncs go on, file by file, until this batch is durable.
    pub(super) sync_until: BatchNumber,
    is_closed: bool,
    scratch: Arena,
    pub(super) stats: ShardStats,
    /// The ring belongs to this thread.
    not_send: PhantomData<*const ()>,
}

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Write(BatchNumber),
    Sync,
}

impl ShardWriter {
    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.this().shard
    }

    pub(super) fn this(&self) -> &ShardShared {
        &self.shared.shards[self.index]
    }

    /// The epoch of the next entry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Everything of this incarnation up to this seq is durable.
    #[must_use]
    pub fn frontier(&self) -> Seq {
        self.this().frontier.get()
    }

    /// Batches behind the frontier that were handed to the ring.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.batch_count()
    }

    /// Counters since the writer sat down.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        let durable = self.durable().0;
        ShardStats {
            rotations: self.space.rotations,
            unfilled: self.space.unfilled,
            recycled: self.this().segments.recycled(),
            unvouched: durable
                .0
                .min(self.last_entry_batch.0)
                .saturating_sub(self.promised.durable_batch.0),
            ring_calls: self.ring.facts().calls,
            ..self.stats
        }
    }

    /// What the ring is, and why.
    #[must_use]
    pub fn ring_facts(&self) -> RingFacts {
        self.ring.facts()
    }

    /// Appends a record, serialized in place.
    ///
    /// Makes no system call, takes no lock, allocates nothing and reads no clock, unless the record is larger
    /// than a pool block.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append<T: Record>(&mut self, record: &T) -> Result<Stamp, AppendError> {
        self.append_in_place(T::KIND, |room, scratch| record::encode(record, room, scratch))
    }

    /// Appends raw bytes: one copy, into the block that the kernel writes.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<Stamp, AppendError> {
        self.append_in_place(kind, |room, _| room.put(bytes))
    }

    /// Appends what `encode` writes into the slice that it is given, and whose length it returns.
    ///
    /// The slice has `max_len` bytes with unspecified contents. `encode` may be called again when the entry
    /// turns out not to fit where it was first tried.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`] if `max_len` is above the limit; [`AppendError::Encode`] if `encode` fails or
    /// returns more than `max_len`; others of [`AppendError`]. The log is then as it was before.
    pub fn append_with(
        &mut self,
        kind: Kind,
        max_len: usize,
        mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        if max_len > self.shared.options.max_record {
            return Err(self.too_large(max_len));
        }
        self.append_in_place(kind, |room, _| room.fill(max_len, &mut encode))
    }

    /// Closes the open epoch with a barrier and returns the epoch that was closed.
    ///
    /// It is committed when every active shard's barrier of it is durable:
    /// [`Log::wait_epoch`](crate::Log::wait_epoch).
    ///
    /// # Errors
    /// [`AppendError::EpochsAhead`] when too many closed epochs are not committed; [`AppendError::Full`];
    /// [`AppendError::Failed`].
    pub fn close_epoch(&mut self) -> Result<Epoch, AppendError> {
        self.check_latch()?;
        let epoch = self.epoch;
        self.shared.epochs.ahead(epoch).map_err(|open| AppendError::EpochsAhead { open })?;
        if self.open.as_ref().is_some_and(|open| !open.fits(0)) {
            self.close_batch();
        }
        self.open_batch(0, Purpose::Barrier)?;
        self.push(Kind::BARRIER, 0);
        self.close_batch();
        self.epoch = epoch.next();
        self.shared.epochs.open(self.index, self.epoch);
        Ok(epoch)
    }

    /// Turns and sleeps until the entry is durable.
    ///
    /// # Errors
    /// [`WaitError::Failed`]: the entry may or may not be on disk then. [`WaitError::NotGiven`] for a stamp
    /// that this writer did not give out; [`Log::standing`](crate::Log::standing) knows those of earlier
    /// incarnations.
    pub fn wait(&mut self, stamp: Stamp) -> Result<(), WaitError> {
        let is_ours = stamp.shard == self.shard()
            && stamp.epoch >= self.shared.epochs.first()
            && stamp.epoch <= self.epoch
            && stamp.seq >= self.this().start.first_seq
            && stamp.seq < self.next_seq;
        if !is_ours {
            return Err(WaitError::NotGiven { stamp });
        }
        Ok(self.drive_to(stamp.seq)?)
    }

    fn drive_to(&mut self, seq: Seq) -> Result<(), Failure> {
        while self.frontier() < seq {
            self.sync_wanted = true;
            if let crate::Turn::Sleep | crate::Turn::Idle(_) = self.turn()? {
                if self.frontier() >= seq {
                    break;
                }
                self.sleep(None)?;
            }
        }
        Ok(())
    }

    /// Makes everything that was appended durable, whatever the policy.
    ///
    /// # Errors
    /// The failure of the shard.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.drive_to(self.next_seq.before())
    }

    /// Drains, and records the exact end of the shard for [`Log::close`](crate::Log::close).
    ///
    /// # Errors
    /// The failure of the shard: what was not acknowledged may be lost.
    pub fn close(mut self) -> Result<Seq, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        while !self.is_drained() {
            self.sync_wanted = true;
            if self.turn()? == crate::Turn::Sleep {
                self.sleep(None)?;
            }
        }
        let mut completions = std::mem::take(&mut self.completions);
        if let Err(error) = self.ring.drain(&mut completions) {
            return Err(self.fail(FailureCause::Ring(Arc::new(error))));
        }
        self.is_closed = true;
        self.leave_desk();
        self.shared.epochs.seat(self.index, SeatState::Closed);
        Ok(self.frontier())
    }

    pub(super) fn is_drained(&self) -> bool {
        self.open.as_ref().is_none_or(OpenBatch::is_empty)
            && self.ready.is_empty()
            && self.flight.is_empty()
    }

    fn leave_desk(&mut self) {
        let stats = self.stats();
        let ring = self.ring.facts();
        let mut desk = self.this().desk();
        desk.thread = None;
        desk.ring = Some(ring);
        desk.stats = stats;
        desk.durable = self.flight.durable();
        desk.closed = self.is_closed;
    }

    #[inline]
    pub(super) fn check_latch(&self) -> Result<(), Failure> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// The frontier, as a batch and its seq.
    pub(super) fn durable(&self) -> (BatchNumber, Seq) {
        match self.flight.durable() {
            Some(last) => (last.number, last.last_seq),
            None => {
                let start = self.this().start;
                (start.first_batch.before(), start.first_seq.before())
            }
        }
    }

    #[inline]
    fn append_in_place(
        &mut self,
        kind: Kind,
        mut encode: impl FnMut(Room<'_>, &mut Arena) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        self.check_latch()?;
        if !kind.is_appendable() {
            return Err(AppendError::Kind(kind));
        }
        loop {
            let was_open = self.open.is_some();
            self.open_batch(1, Purpose::Entry)?;
            let Some(open) = &mut self.open else { return Err(AppendError::Full) };
            match encode(Room::new(open.room()), &mut self.scratch) {
                Ok(len) if len > self.shared.options.max_record => {
                    return Err(self.too_large(len));
                }
                Ok(len) if open.fits(len) => return self.accept(kind, len),
                Err(error) if !error.is_no_room() => return Err(error.into()),
                Ok(_) | Err(_) if was_open && !open.is_empty() => self.close_batch(),
                Ok(_) | Err(_) => return self.append_alone(kind, &mut encode),
            }
        }
    }

    fn too_large(&self, len: usize) -> AppendError {
        AppendError::TooLarge { len, max: self.shared.options.max_record }
    }

    /// Takes the payload that stands in the open batch's room, if the reserve stays free.
    #[inline]
    fn accept(&mut self, kind: Kind, len: usize) -> Result<Stamp, AppendError> {
        let open = self.open.as_ref().expect("the payload stands in it");
        let batch_len = open.disk_len_with(len);
        if !self.space.leaves_reserve(Purpose::Entry, batch_len, self.this()) {
            return Err(Space::refusal(&self.shared, self.this()));
        }
        self.stats.payload_bytes += len as u64;
        Ok(self.push(kind, len))
    }

    #[inline]
    fn push(&mut self, kind: Kind, len: usize) -> Stamp {
        let seq = self.next_seq;
        let open = self.open.as_mut().expect("the payload stands in it");
        open.push(seq, kind, EntryFlags::NONE, len);
        self.next_seq = seq.next();
        self.stats.entries += 1;
        Stamp { epoch: self.epoch, seq, shard: self.this().shard }
    }

    /// Opens a batch if none is open, with room for a payload of `payload_len` bytes.
    #[inline]
    fn open_batch(&mut self, payload_len: usize, purpose: Purpose) -> Result<(), AppendError> {
        if self.open.is_some() { Ok(()) } else { self.open_next(payload_len, purpose) }
    }

    fn open_next(&mut self, payload_len: usize, purpose: Purpose) -> Result<(), AppendError> {
        let needed = (BATCH_HEADER_LEN + ENTRY_HEADER_LEN + padded(payload_len)) as u64;
        let len = needed.next_multiple_of(u64::from(self.shared.options.block_len));
        if self.pool.is_empty() {
            return Err(AppendError::Full);
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
        self.space.take(open.disk_len());
        let number = self.next_batch;
        self.next_batch = number.next();
        if !open.is_empty() {
            self.last_entry_batch = number;
        }
        self.ready.push_back((number, open));
    }

    /// Opens an empty batch in the reserve, for its promises alone.
    pub(super) fn open_vouch(&mut self) -> bool {
        self.open_batch(0, Purpose::Vouch).is_ok()
    }

    /// A record that does not fit into what an empty batch offers here: at the end of a segment, or larger
    /// than a pool block. In a buffer of its own it is one batch, written by several writes.
    #[cold]
    fn append_alone(
        &mut self,
        kind: Kind,
        encode: &mut impl FnMut(Room<'_>, &mut Arena) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        let len = encode(Room::counting(), &mut self.scratch)?;
        if len > self.shared.options.max_record {
            return Err(self.too_large(len));
        }
        // The empty batch that was in the way was never written.
        if let Some(empty) = self.open.take() {
            self.pool.push(empty.into_block());
        }
        let large =
            self.ready.iter().any(|(_, batch)| batch.is_large(self.shared.options.write_len));
        if large || self.ready.len() >= self.shared.options.block_count() {
            return Err(AppendError::Full);
        }
        let block_len = u64::from(self.shared.options.block_len);
        let batch_len = ((BATCH_HEADER_LEN + ENTRY_HEADER_LEN + padded(len)) as u64)
            .next_multiple_of(block_len);
        let Some(active) = self.space.place(batch_len, self.next_batch.before()) else {
            return Err(Space::refusal(&self.shared, self.this()));
        };
        if !self.space.leaves_reserve(Purpose::Entry, batch_len, self.this()) {
            return Err(Space::refusal(&self.shared, self.this()));
        }
        let memory = usize::try_from(batch_len).expect("bounded by max_batch");
        let block = if memory <= self.shared.options.write_len {
            self.pool.pop().ok_or(AppendError::Full)?
        } else {
            Block::zeroed(memory)
        };
        let place = self.batch_place(active.number, active.file, active.at);
        let mut open = OpenBatch::new(block, place, batch_len, self.epoch, self.next_seq);
        let written = match encode(Room::new(open.room()), &mut self.scratch) {
            Ok(written) if written <= len => written,
            other => {
                self.give_back(open.into_block());
                return Err(match other {
                    Err(error) if !error.is_no_room() => error.into(),
                    _ => EncodeError::custom("it grew while it was encoded").into(),
                });
            }
        };
        self.open = Some(open);
        self.stats.payload_bytes += written as u64;
        let stamp = self.push(kind, written);
        self.close_batch();
        Ok(stamp)
    }

    /// A block comes back: into the pool, unless it was made for one large batch.
    pub(super) fn give_back(&mut self, block: Block) {
        if block.len() == self.shared.options.write_len {
            self.pool.push(block);
        }
    }
}

impl Drop for ShardWriter {
    /// Like a crash: what is in flight may land, nothing more is acknowledged.
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        if self.failure.is_none() {
            self.fail(FailureCause::Dropped);
        }
        self.leave_desk();
    }
}

impl fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardWriter")
            .field("shard", &self.shard())
            .field("epoch", &self.epoch)
            .field("next_seq", &self.next_seq)
            .field("frontier", &self.frontier())
            .field("in_flight", &self.in_flight())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
