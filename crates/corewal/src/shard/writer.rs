//! The public face of a shard's writer: sitting down, appending, waiting, closing.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corewal_disk::{Block, RingConfig, RingFacts};
use corewal_format::{Epoch, Kind, Seq, ShardId, Stamp};

use crate::commit::Commit;
use crate::error::{
    AppendError, EpochError, Failure, FailureCause, ObserveError, TruncateError, WaitError,
};
use crate::events;
use crate::keep::StateMark;
use crate::record::{EncodeError, Record};
use crate::shard::intake::Intake;
use crate::shard::payload::{Coded, Raw, Timed, Typed};
use crate::shard::space::Space;
use crate::shard::truncate::{Truncation, truncate_after};
use crate::shard::turn::{Drive, Ending, Then, Turn};
use crate::shared::{ShardShared, Shared};
use crate::stats::ShardStats;
use crate::wakeup::ShardWaker;

/// The right to write one shard. Can be sent to the thread that will do it.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    index: usize,
}

/// Why a writer could not start.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} has no ring: {cause}")]
#[non_exhaustive]
pub struct SitError {
    /// Which shard.
    pub shard: ShardId,
    /// What the system said.
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
        let (drive, intake) = self.take()?;
        Ok(ShardWriter { drive, intake, is_closed: false, not_send: PhantomData })
    }

    /// The two parts of a writer, on its thread.
    pub(crate) fn take(self) -> Result<(Drive, Intake), SitError> {
        let shard = self.shard();
        let options = &self.shared.options;
        let sit = |cause| SitError { shard, cause };
        let lock = self.shared.lock().clone();
        if lock.is_none() {
            return Err(sit(io::Error::other("its log was closed")));
        }
        let config = RingConfig {
            engine: options.engine,
            depth: u32::try_from(options.depth + 1).unwrap_or(u32::MAX),
            block_count: options.block_count(),
            block_len: options.write_len,
            lock,
        };
        let mut ring = options.disk.ring(config).map_err(sit)?;
        let pool: Vec<Block> = std::iter::from_fn(|| ring.take_block()).collect();
        debug_assert_eq!(pool.len(), options.block_count(), "the ring gives all of its pool");
        let this = &self.shared.shards[self.index];
        let alarm = this.wakeup.alarm().map_err(sit)?;
        // A model has no kernel, and its rings complete at once.
        #[cfg(not(loom))]
        ring.listen(alarm);
        #[cfg(loom)]
        let _ = alarm;
        let mut space = Space::new(&self.shared, this.start);
        space.stock_up(ring.as_mut(), &self.shared, this).map_err(sit)?;
        let facts = ring.facts();
        events::seated(shard, &facts);
        this.desk().ring = Some(facts);
        if let Some(access) = this.segments.access().filter(|it| it.is_refused()) {
            events::buffered(shard, access);
        }
        if !self.shared.epochs.sit(self.index) {
            return Err(sit(io::Error::other("its log was closed")));
        }
        let drive = Drive::new(Arc::clone(&self.shared), self.index, ring);
        let intake = Intake::new(self.shared, self.index, pool, space);
        Ok((drive, intake))
    }
}

/// The writer of one shard, on its thread.
///
/// `append` puts an entry into the open batch; [`turn`](Self::turn) does everything else. Nothing is durable
/// before [`frontier`](Self::frontier) has reached its seq. Dropping the writer without
/// [`close`](Self::close) is like a crash: what was not acknowledged may be lost.
///
/// Nothing blocks but [`sleep`](Self::sleep) and what says that it waits. A record is serialized once, into the
/// block that the kernel writes; no other byte is copied.
///
/// ```
/// # use corewal::{Kind, Log, Options, ShardWriter, Turn};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
/// let mut writer = log.take_seats().remove(0).sit()?;
/// let mut events = ["one", "two", "three"].iter();
/// loop {
///     if let Some(event) = events.next() {
///         writer.append_bytes(Kind::PUT, event.as_bytes())?;
///     }
///     match writer.turn()? {
///         Turn::Again => {}
///         // Everything that was appended is durable.
///         Turn::Idle(_) if events.len() == 0 => break,
///         // More may come: another thread would call `writer.waker().wake()`.
///         Turn::Sleep if events.len() == 0 => writer.sleep(None)?,
///         Turn::Sleep | Turn::Idle(_) => {}
///     }
/// }
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
///
/// It cannot be sent to another thread:
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<corewal::ShardWriter>();
/// ```
pub struct ShardWriter {
    drive: Drive,
    pub(super) intake: Intake,
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

    /// Everything of this incarnation up to this seq is *written*: handed to the operating system, and completed. It
    /// survives the end of the process; of a power cut it says nothing, that is the [frontier](Self::frontier).
    /// Never below the frontier, and never goes back.
    ///
    /// Under [`Policy::EveryBatch`](crate::Policy::EveryBatch) it is the frontier, or ahead of it by the batches whose
    /// sync is under way; under another policy by what was written since the last sync.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, Policy, Seq, Turn};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let options = Options::new(dir.path().join("log")).policy(Policy::OnDemand);
    /// # let mut log = Log::recover(options)?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// let stamp = writer.append_bytes(Kind::PUT, b"an event")?;
    /// while writer.written() < stamp.seq {
    ///     if writer.turn()? == Turn::Sleep {
    ///         writer.sleep(None)?;
    ///     }
    /// }
    /// assert_eq!(writer.frontier(), Seq(0));
    /// writer.sync()?;
    /// assert_eq!(writer.frontier(), stamp.seq);
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn written(&self) -> Seq {
        self.this().written()
    }

    /// Batches behind the frontier that were handed to the ring.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.drive.flight.batch_count()
    }

    /// What the shard has done so far.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        self.drive.post(&self.intake);
        self.this().stats()
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
        self.intake.append_in_place(Typed(record))
    }

    /// Appends a record with a timestamp of the user's, in the user's unit: information only, which takes part in
    /// no order. It takes 16 bytes of the entry; `max_record` counts them.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_at<T: Record>(
        &mut self,
        timestamp: i64,
        record: &T,
    ) -> Result<Stamp, AppendError> {
        self.intake.append_in_place(Timed(timestamp, Typed(record)))
    }

    /// Appends raw bytes: one copy, into the block that the kernel writes.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<Stamp, AppendError> {
        self.intake.append_in_place(Raw(kind, bytes))
    }

    /// Appends raw bytes with a timestamp; see [`append_at`](Self::append_at).
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// # let mut log = Log::recover(Options::new(&dir))?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// let measured_ms = 1_700_000_000_000;
    /// writer.append_bytes_at(Kind::PUT, measured_ms, b"21.5 degrees")?;
    /// # writer.close()?;
    /// # log.close()?;
    /// let mut reader = Log::read(Options::new(&dir))?;
    /// let entry = reader.next_entry()?.expect("it was written");
    /// assert_eq!((entry.timestamp(), entry.bytes()), (Some(measured_ms), &b"21.5 degrees"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_bytes_at(
        &mut self,
        kind: Kind,
        timestamp: i64,
        bytes: &[u8],
    ) -> Result<Stamp, AppendError> {
        self.intake.append_in_place(Timed(timestamp, Raw(kind, bytes)))
    }

    /// Appends source offsets and a watermark, to be committed with the open epoch. Encoded apart, then copied once:
    /// a commit is one entry in an epoch.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append_commit(&mut self, commit: &Commit) -> Result<Stamp, AppendError> {
        self.append_bytes(Commit::KIND, &commit.encode())
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
        encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        self.intake.record_fits(max_len)?;
        self.intake.append_in_place(Coded(kind, max_len, encode))
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

    /// Sleeps until there is something to do, at most for `limit`; then take a turn. It is woken by a
    /// completion, a request for an epoch, a commit that is to be vouched for, a prepared segment that was
    /// missing, the end of the log, and its [`waker`](Self::waker). May return early; returns at once if
    /// somebody has woken it since the last turn began, or if that turn held a batch back.
    ///
    /// Nothing is polled: after [`Turn::Idle`] pass its duration on, or vouches and syncs that are due come only
    /// with the next turn.
    ///
    /// # Errors
    /// The failure of the shard.
    pub fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Failure> {
        self.drive.sleep(limit).inspect_err(|failure| self.intake.latch(failure))
    }

    /// Wakes the writer from other threads.
    #[must_use]
    pub fn waker(&self) -> ShardWaker {
        ShardWaker { shard: self.shard(), wakeup: Arc::clone(&self.this().wakeup) }
    }

    /// A descriptor for an event loop of your own (epoll(7), poll(2)): readable when there is something to do,
    /// for the same reasons for which a [`sleep`](Self::sleep) ends. Then take a turn, which drains it; do not
    /// read from it, and do not close it. There may be spurious wake-ups.
    ///
    /// Sleep on it when a turn has said [`Turn::Sleep`] or [`Turn::Idle`], at most for the latter's duration.
    ///
    /// The first call makes completions signal it (`IORING_REGISTER_EVENTFD`, io_uring_register(2)). From then on
    /// every turn makes a system call to drain it; without it a turn makes none for waking.
    ///
    /// # Errors
    /// Those of the registration.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub fn event_fd(&mut self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        self.drive.expose()?;
        Ok(std::os::fd::AsFd::as_fd(self.this().wakeup.alarm()?.as_ref()))
    }

    /// Writes what is known to be durable and committed into the next batch, which may be empty: from then
    /// on, loss of an earlier one is certain to be noticed. Goes to the kernel in the next turn, and is made durable
    /// whatever the policy.
    ///
    /// Returns whether there was room for one; if not, take turns and try again.
    pub fn seal_promises(&mut self) -> bool {
        self.drive.seal_promises(&mut self.intake)
    }

    /// Begins another segment with the next entry, however much room the current one has left: so that what stands in it
    /// can be released, or is archived, when all of it is durable. The rest of its file stays unused. Nothing is done if
    /// no entry stands in it yet.
    ///
    /// Returns false, and nothing has changed, if no other segment is prepared, or the [reserve] for barriers would not
    /// be free without the rest of this one: take turns and try again, as after [`AppendError::Full`].
    /// [`Options::rotate_after_entries`] and [`Options::rotate_after`] do the same by themselves.
    ///
    /// [reserve]: crate::Options::pipeline_bound
    /// [`Options::rotate_after_entries`]: crate::Options::rotate_after_entries
    /// [`Options::rotate_after`]: crate::Options::rotate_after
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// writer.append_bytes(Kind::PUT, b"of today")?;
    /// while !writer.rotate() {
    ///     writer.turn()?;
    /// }
    /// writer.append_bytes(Kind::PUT, b"of tomorrow")?; // in another file
    /// assert_eq!(writer.stats().rotations, 1);
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate(&mut self) -> bool {
        self.intake.rotate()
    }

    /// Turns and sleeps until `epoch` is committed, so that this shard does not hold it back.
    ///
    /// # Errors
    /// [`EpochError`], as for [`Log::wait_epoch`](crate::Log::wait_epoch); also when this shard fails.
    pub fn wait_epoch(&mut self, epoch: Epoch) -> Result<(), EpochError> {
        let waker = Waker::from(self.waker());
        self.intake.shared.want_epoch(epoch);
        loop {
            let turn = self.turn()?;
            if let Poll::Ready(outcome) = self.intake.shared.epochs.poll(epoch, &waker) {
                return outcome;
            }
            match turn {
                Turn::Again => {}
                Turn::Sleep => self.sleep(None)?,
                Turn::Idle(limit) => self.sleep(limit)?,
            }
        }
    }

    /// Moves the shard's next seq past one that was seen from another shard: what is appended from here on
    /// comes after that entry in the merged order, as an effect comes after its cause. The stamp may be of an
    /// earlier epoch, too.
    ///
    /// ```
    /// # use corewal::{Kind, Log, ObserveError, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// let mut log = Log::recover(Options::new(&dir).shards(2))?.open()?;
    /// let mut seats = log.take_seats().into_iter();
    /// let (mut first, mut second) = (seats.next().unwrap().sit()?, seats.next().unwrap().sit()?);
    /// for _ in 0..3 {
    ///     second.append_bytes(Kind::PUT, b"something else")?;
    /// }
    /// let cause = second.append_bytes(Kind::PUT, b"order placed")?;
    /// first.observe(cause)?;
    /// let effect = first.append_bytes(Kind::PUT, b"order shipped")?;
    /// assert!(cause < effect);
    ///
    /// second.close_epoch()?;
    /// let later = second.append_bytes(Kind::PUT, b"of the next epoch")?;
    /// assert!(matches!(first.observe(later), Err(ObserveError::EpochBehind { .. })));
    /// first.close_epoch()?;
    /// first.observe(later)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ObserveError::EpochBehind`] for a stamp of a later epoch than the shard's own: close epochs, then
    /// observe it. [`ObserveError::SeqTooHigh`]; [`ObserveError::Failed`]. Nothing has changed then.
    pub fn observe(&mut self, stamp: Stamp) -> Result<(), ObserveError> {
        self.intake.observe(stamp)
    }

    /// Cuts off everything above `seq`, durably: what a replicated log does with a suffix that its leader
    /// replaces. Entries that an earlier recovery kept can be cut off, too.
    ///
    /// Makes everything that was appended durable first, then reads the part of the shard around and above
    /// `seq` from the device and writes a manifest. Blocks all the time; do it on a thread that may.
    ///
    /// The cut never comes back, and its seqs are never given out again: later entries have higher ones than
    /// all of it. The frontier does not go back. [`Log::standing`](crate::Log::standing) answers
    /// [`Voided`](crate::Standing::Voided) for what was cut. The space of whole segments that were cut off is used
    /// again after the next opening.
    ///
    /// With nothing above `seq`, nothing is done.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, Seq, Standing};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// let mut log = Log::recover(Options::new(&dir))?.open()?;
    /// let mut writer = log.take_seats().remove(0).sit()?;
    /// let kept = writer.append_bytes(Kind::PUT, b"term 1, index 1")?;
    /// let cut = writer.append_bytes(Kind::PUT, b"term 1, index 2")?;
    /// # while log.prepare() {}
    /// let truncation = writer.truncate_after(kept.seq)?;
    /// assert_eq!(truncation.seqs, Some((cut.seq, cut.seq)));
    /// assert_eq!(log.standing(cut), Standing::Voided);
    /// let instead = writer.append_bytes(Kind::PUT, b"term 2, index 2")?;
    /// assert!(instead > cut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TruncateError`]. The log is then as it was before, but for [`TruncateError::Failed`]: the manifest's
    /// write failed, and the next recovery finds either.
    pub fn truncate_after(&mut self, seq: Seq) -> Result<Truncation, TruncateError> {
        // Takes a prepared segment, if there is one.
        self.turn()?;
        self.come_to_rest()?;
        self.intake.drop_empty();
        truncate_after(&mut self.drive, &mut self.intake, seq)
    }

    /// Turns and sleeps until the entry is durable.
    ///
    /// # Errors
    /// [`WaitError::Failed`]: the entry may or may not be on disk then. [`WaitError::NotGiven`] for a stamp
    /// that this writer did not give out; [`Log::standing`](crate::Log::standing) knows those of earlier
    /// incarnations. [`WaitError::Voided`] for an entry that a truncation cut off.
    pub fn wait(&mut self, stamp: Stamp) -> Result<(), WaitError> {
        let is_ours = stamp.shard == self.shard()
            && stamp.epoch >= self.intake.shared.epochs.first()
            && stamp.epoch <= self.intake.epoch
            && stamp.seq >= self.this().start.first_seq
            && stamp.seq <= self.intake.last_given;
        if !is_ours {
            return Err(WaitError::NotGiven { stamp });
        }
        self.this().check_void(stamp)?;
        Ok(self.drive_to(stamp.seq)?)
    }

    fn drive_to(&mut self, seq: Seq) -> Result<(), Failure> {
        while self.frontier() < seq {
            self.drive.sync_wanted = true;
            if let Turn::Idle(limit) = self.turn_then(Then::Await)?
                && self.frontier() < seq
            {
                self.sleep(limit)?;
            }
        }
        Ok(())
    }

    /// Makes everything that was appended durable, whatever the policy.
    ///
    /// # Errors
    /// The failure of the shard.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.drive_to(self.intake.last_given)
    }

    /// Closes the epochs that were requested, drains, and records the exact end of the shard for
    /// [`Log::close`](crate::Log::close).
    ///
    /// # Errors
    /// The failure of the shard: what was not acknowledged may be lost.
    pub fn close(mut self) -> Result<Seq, Failure> {
        self.come_to_rest()?;
        let end = self.drive.close(&self.intake)?;
        self.is_closed = true;
        Ok(end)
    }

    /// Takes a turn at least, and then turns until everything that was appended is durable and nothing is in
    /// flight.
    fn come_to_rest(&mut self) -> Result<(), Failure> {
        loop {
            self.drive.sync_wanted = true;
            self.turn_then(Then::Await)?;
            if self.drive.is_drained(&self.intake) {
                return Ok(());
            }
        }
    }
}

impl Drop for ShardWriter {
    /// Like a crash: what is in flight may land, nothing more is acknowledged.
    fn drop(&mut self) {
        if !self.is_closed {
            self.drive.abandon(FailureCause::Dropped);
            self.drive.leave_desk(&self.intake, Ending::Abandoned);
        }
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
