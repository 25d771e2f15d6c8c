//! The public face of a shard's writer: sitting down, appending, waiting, closing.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Block, RingConfig, RingFacts};
use corewal_format::{Epoch, Kind, Seq, ShardId, Stamp};

use crate::epoch::SeatState;
use crate::error::{AppendError, Failure, FailureCause, WaitError};
use crate::keep::StateMark;
use crate::record::{self, EncodeError, Record};
use crate::shard::intake::Intake;
use crate::shard::space::Space;
use crate::shard::turn::{Drive, Then, Turn};
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
        let mut space = Space::new(&self.shared, this.start);
        space.stock_up(ring.as_mut(), &self.shared, this).map_err(sit)?;
        {
            let mut desk = this.desk();
            desk.thread = Some(sync::current());
            desk.ring = Some(ring.facts());
        }
        if !self.shared.epochs.sit(self.index) {
            return Err(sit(io::Error::other("its log was closed")));
        }
        let drive = Drive::new(Arc::clone(&self.shared), self.index, ring);
        let intake = Intake::new(self.shared, self.index, pool, space);
        Ok(ShardWriter { drive, intake, is_closed: false, not_send: PhantomData })
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
    drive: Drive,
    intake: Intake,
    is_closed: bool,
    /// The ring belongs to this thread.
    not_send: PhantomData<*const ()>,
}

impl ShardWriter {
    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.this().shard
    }

    fn this(&self) -> &ShardShared {
        self.intake.this()
    }

    /// The epoch of the next entry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.intake.epoch
    }

    /// Everything of this incarnation up to this seq is durable.
    #[must_use]
    pub fn frontier(&self) -> Seq {
        self.this().frontier.get()
    }

    /// Batches behind the frontier that were handed to the ring.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.drive.flight.batch_count()
    }

    /// Counters since the writer sat down.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        self.drive.stats(&self.intake)
    }

    /// What the ring is, and why.
    #[must_use]
    pub fn ring_facts(&self) -> RingFacts {
        self.drive.ring.facts()
    }

    /// Appends a record, serialized in place.
    ///
    /// Makes no system call, takes no lock, allocates nothing and reads no clock, unless the record is larger
    /// than a pool block.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append<T: Record>(&mut self, record: &T) -> Result<Stamp, AppendError> {
        self.intake.append_in_place(T::KIND, |room, scratch| record::encode(record, room, scratch))
    }

    /// Appends raw bytes: one copy, into the block that the kernel writes.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<Stamp, AppendError> {
        self.intake.append_in_place(kind, |room, _| room.put(bytes))
    }

    /// Appends a state of this shard that stands for everything before it, as an entry of kind
    /// [`Kind::CHECKPOINT`]. When its epoch is committed, [`Log::release_to`](crate::Log::release_to) lets the
    /// segments before it go.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_state(&mut self, state: &[u8]) -> Result<StateMark, AppendError> {
        let stamp = self.append_bytes(Kind::CHECKPOINT, state)?;
        Ok(StateMark { log: self.intake.shared.log, stamp })
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
        self.intake.record_fits(max_len)?;
        self.intake.append_in_place(kind, |room, _| room.fill(max_len, &mut encode))
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
        self.intake.close_epoch()
    }

    /// Reaps completions, moves the frontier, seals batches and submits them. Never blocks; makes at most one
    /// system call for submitting, and none when there is nothing to submit and no completion waits for one.
    ///
    /// # Errors
    /// The failure of the shard. It is final.
    pub fn turn(&mut self) -> Result<Turn, Failure> {
        self.turn_then(Then::Return)
    }

    fn turn_then(&mut self, then: Then) -> Result<Turn, Failure> {
        let turned = self.drive.turn(&mut self.intake, then);
        turned.inspect_err(|failure| self.intake.latch(failure))
    }

    /// Sleeps until a completion arrives, or, when nothing is in flight, until somebody wakes the shard;
    /// at most for `limit`. May return early.
    ///
    /// # Errors
    /// The failure of the shard.
    pub fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Failure> {
        self.drive.check_latch()?;
        if self.drive.ring.in_flight() > 0 {
            return self.drive.await_completion(limit).inspect_err(|it| self.intake.latch(it));
        }
        {
            let (stats, ring) = (self.stats(), self.ring_facts());
            let mut desk = self.this().desk();
            desk.stats = stats;
            desk.ring = Some(ring);
        }
        match limit {
            Some(limit) => sync::park_timeout(limit),
            None => sync::park_timeout(Duration::from_millis(10)),
        }
        Ok(())
    }

    /// Writes what is known to be durable and committed into the next batch, which may be empty: from then
    /// on, loss of an earlier one is certain to be noticed. Goes to the kernel in the next turn.
    pub fn seal_promises(&mut self) {
        self.drive.seal_promises(&mut self.intake);
    }

    /// Turns and sleeps until the entry is durable.
    ///
    /// # Errors
    /// [`WaitError::Failed`]: the entry may or may not be on disk then. [`WaitError::NotGiven`] for a stamp
    /// that this writer did not give out; [`Log::standing`](crate::Log::standing) knows those of earlier
    /// incarnations.
    pub fn wait(&mut self, stamp: Stamp) -> Result<(), WaitError> {
        let is_ours = stamp.shard == self.shard()
            && stamp.epoch >= self.intake.shared.epochs.first()
            && stamp.epoch <= self.intake.epoch
            && stamp.seq >= self.this().start.first_seq
            && stamp.seq < self.intake.next_seq;
        if !is_ours {
            return Err(WaitError::NotGiven { stamp });
        }
        Ok(self.drive_to(stamp.seq)?)
    }

    fn drive_to(&mut self, seq: Seq) -> Result<(), Failure> {
        while self.frontier() < seq {
            self.drive.sync_wanted = true;
            if let Turn::Idle(_) = self.turn_then(Then::Await)?
                && self.frontier() < seq
            {
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
        self.drive_to(self.intake.next_seq.before())
    }

    /// Drains, and records the exact end of the shard for [`Log::close`](crate::Log::close).
    ///
    /// # Errors
    /// The failure of the shard: what was not acknowledged may be lost.
    pub fn close(mut self) -> Result<Seq, Failure> {
        self.drive.check_latch()?;
        while !self.drive.is_drained(&self.intake) {
            self.drive.sync_wanted = true;
            self.turn_then(Then::Await)?;
        }
        self.drive.drain()?;
        self.is_closed = true;
        self.leave_desk();
        let (shared, index) = (&self.intake.shared, self.intake.index);
        shared.epochs.seat(index, SeatState::Closed);
        Ok(self.frontier())
    }

    fn leave_desk(&mut self) {
        let stats = self.stats();
        let ring = self.ring_facts();
        let mut desk = self.this().desk();
        desk.thread = None;
        desk.ring = Some(ring);
        desk.stats = stats;
        desk.durable = self.drive.flight.durable();
        desk.closed = self.is_closed;
    }
}

impl Drop for ShardWriter {
    /// Like a crash: what is in flight may land, nothing more is acknowledged.
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        if self.drive.failure.is_none() {
            self.drive.fail(FailureCause::Dropped);
        }
        self.leave_desk();
    }
}

impl fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardWriter")
            .field("shard", &self.shard())
            .field("epoch", &self.epoch())
            .field("next_seq", &self.intake.next_seq)
            .field("frontier", &self.frontier())
            .field("in_flight", &self.in_flight())
            .field("failure", &self.drive.failure)
            .finish_non_exhaustive()
    }
}
