//! Writers on threads of the log, and the handles through which any thread or task appends.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use corewal_format::{Epoch, Kind, Seq, ShardId, Stamp};

use crate::commit::Commit;
use crate::durable::Durable;
use crate::error::{AppendError, DurableError, ObserveError, WaitError};
use crate::frontier::Batches;
use crate::record::{EncodeError, Record};
use crate::shard::{
    Coded, Credit, Entrance, Given, Group, Patience, Payload, Raw, Room, Seat, SitError, Timed,
    Typed, WriterThread,
};

/// Where the log's writer threads run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pinning {
    /// Each on a CPU of its own, in turn, of those that the process may use (sched_getaffinity(2)). With more
    /// shards than CPUs, several share one.
    #[default]
    AllowedCpus,
    /// Wherever the system puts them.
    Unpinned,
}

/// The CPU of a writer thread; in [`Capabilities`](crate::Capabilities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pinned {
    /// On this CPU.
    Cpu(usize),
    /// On none, although that was wanted: the system has no such call, or refused.
    Refused,
    /// On none, as was wanted.
    Unpinned,
}

/// A writer thread, as the log sees it.
#[derive(Debug)]
pub(crate) struct Started {
    entrance: Arc<Entrance>,
    thread: JoinHandle<()>,
}

impl Started {
    /// Starts the thread of a seat.
    pub(crate) fn start(
        seat: Seat,
        cpu: Option<core_affinity::CoreId>,
        pinning: Pinning,
    ) -> Result<Self, SitError> {
        let shard = seat.shard();
        let (sender, seated) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("corewal-{shard}"))
            .spawn(move || run(seat, cpu, pinning, &sender))
            .map_err(|cause| SitError { shard, cause })?;
        match seated.recv() {
            Ok(Ok(entrance)) => Ok(Self { entrance, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SitError { shard, cause: io::Error::other("its thread panicked") }),
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.entrance))
    }

    /// The last entry that was taken.
    pub(crate) fn last_taken(&self) -> Option<(ShardId, Seq)> {
        Some((self.entrance.this().shard, self.entrance.last_taken()?))
    }

    /// Nothing more is taken; what was taken becomes durable.
    pub(crate) fn end(&self) {
        self.entrance.close();
    }

    /// Waits for the end of the thread.
    pub(crate) fn join(self) {
        // It contains its panics, and has told of its failure.
        let _ = self.thread.join();
    }
}

/// A writer's thread, from its seat to its end.
fn run(
    seat: Seat,
    cpu: Option<core_affinity::CoreId>,
    pinning: Pinning,
    seated: &Sender<Result<Arc<Entrance>, SitError>>,
) {
    let pinned = match (pinning, cpu) {
        (Pinning::Unpinned, _) => Pinned::Unpinned,
        (Pinning::AllowedCpus, Some(cpu)) if core_affinity::set_for_current(cpu) => {
            Pinned::Cpu(cpu.id)
        }
        (Pinning::AllowedCpus, _) => Pinned::Refused,
    };
    let taken = seat.take();
    let writer = match taken {
        Ok((drive, intake)) => WriterThread::new(drive, intake),
        Err(error) => {
            // Whoever starts the thread waits for this.
            let _ = seated.send(Err(error));
            return;
        }
    };
    let entrance = writer.entrance();
    entrance.this().desk().pinned = Some(pinned);
    let _ = seated.send(Ok(entrance));
    // The writer's own end tells everybody of a failure, also of a panic.
    let _ = catch_unwind(AssertUnwindSafe(|| writer.run()));
}

/// Appends to one shard from any thread; made by [`Log::start_writers`](crate::Log::start_writers).
///
/// A record is encoded straight into the open batch, which is the block that the kernel writes, under the lock of
/// the shard's intake: one copy, on the producer's thread. Entries of one producer keep their order.
///
/// Producers are held back by bytes: when all blocks of the shard are filled or in flight
/// ([`Options::shard_memory`](crate::Options::shard_memory)), an append waits in line, or is refused by the `try_`
/// form. The line is first in, first out, and lets everybody in for the same number of bytes, so a fast producer
/// cannot starve a slow one.
///
/// Clone one for each thread: the credit of an admission belongs to the handle.
///
/// ```
/// use corewal::{Kind, Log, Options, Pinning};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
/// let producers = log.start_writers(Pinning::AllowedCpus)?;
/// let threads: Vec<_> = (0..4)
///     .map(|index| {
///         let producer = producers[0].clone();
///         std::thread::spawn(move || {
///             producer.append_bytes_durable(Kind::PUT, format!("from {index}").as_bytes())
///         })
///     })
///     .collect();
/// for thread in threads {
///     let stamp = thread.join().unwrap()?; // it survives a power cut from here on
///     assert!(producers[0].frontier() >= stamp.seq);
/// }
/// log.close()?;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    entrance: Arc<Entrance>,
    credit: Credit,
}

impl Producer {
    pub(crate) fn new(entrance: Arc<Entrance>) -> Self {
        Self { entrance, credit: Credit::default() }
    }

    /// What a close of the log does to the shard.
    #[cfg(all(test, loom))]
    pub(crate) fn end(&self) {
        self.entrance.close();
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.entrance.this().shard
    }

    /// Everything of this incarnation up to this seq is durable.
    #[must_use]
    pub fn frontier(&self) -> Seq {
        self.entrance.this().frontier.get()
    }

    /// Everything of this incarnation up to this seq is written, which says nothing of a power cut: see
    /// [`ShardWriter::written`](crate::ShardWriter::written).
    #[must_use]
    pub fn written(&self) -> Seq {
        self.entrance.this().written()
    }

    fn give(&self, payload: impl Payload, patience: Patience) -> Result<Given<Stamp>, AppendError> {
        self.entrance.append(patience, &self.credit, payload)
    }

    /// The caller's iterator runs here: the lock is not held for it, and the group may be tried more than once.
    fn give_group<P: Payload>(
        &self,
        payloads: impl Iterator<Item = P>,
        patience: Patience,
    ) -> Result<Group, AppendError> {
        let mut payloads: Vec<P> = payloads.collect();
        Ok(self.entrance.append_group(patience, &self.credit, &mut payloads)?.stamp)
    }

    /// What a codec writes, if that may be so long.
    fn coded<F>(&self, kind: Kind, max_len: usize, encode: F) -> Result<Coded<F>, AppendError> {
        let max = self.entrance.shared.options.max_record;
        if max_len > max {
            return Err(AppendError::TooLarge { len: max_len, max });
        }
        Ok(Coded(kind, max_len, encode))
    }

    /// Appends a record; waits in line while the shard is full.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    ///
    /// # Panics
    /// If the record's serializer does. The record then leaves no trace, and the log goes on.
    pub fn append<T: Record>(&self, record: &T) -> Result<Stamp, AppendError> {
        Ok(self.give(Typed(record), Patience::Wait)?.stamp)
    }

    /// Appends a record with a timestamp, as [`ShardWriter::append_at`](crate::ShardWriter::append_at) does; waits in
    /// line while the shard is full.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn append_at<T: Record>(&self, timestamp: i64, record: &T) -> Result<Stamp, AppendError> {
        Ok(self.give(Timed(timestamp, Typed(record)), Patience::Wait)?.stamp)
    }

    /// Appends raw bytes; waits in line while the shard is full.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    pub fn append_bytes(&self, kind: Kind, bytes: &[u8]) -> Result<Stamp, AppendError> {
        Ok(self.give(Raw(kind, bytes), Patience::Wait)?.stamp)
    }

    /// Appends raw bytes with a timestamp; waits in line while the shard is full.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    pub fn append_bytes_at(
        &self,
        kind: Kind,
        timestamp: i64,
        bytes: &[u8],
    ) -> Result<Stamp, AppendError> {
        Ok(self.give(Timed(timestamp, Raw(kind, bytes)), Patience::Wait)?.stamp)
    }

    /// Appends source offsets and a watermark, to be committed with the open epoch; as
    /// [`append_bytes`](Self::append_bytes).
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    pub fn append_commit(&self, commit: &Commit) -> Result<Stamp, AppendError> {
        self.append_bytes(Commit::KIND, &commit.encode())
    }

    /// Appends what `encode` writes into the slice that it is given, as
    /// [`ShardWriter::append_with`](crate::ShardWriter::append_with) does; waits in line while the shard is full.
    /// `encode` runs under the shard's lock: keep it short.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Full`]; the log is then as it was before.
    ///
    /// # Panics
    /// If `encode` does.
    pub fn append_with(
        &self,
        kind: Kind,
        max_len: usize,
        encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        Ok(self.give(self.coded(kind, max_len, encode)?, Patience::Wait)?.stamp)
    }

    /// Appends records as one atomic group, as [`ShardWriter::append_batch`](crate::ShardWriter::append_batch) does:
    /// no entry of another producer comes between them. Waits in line while the shard is full.
    ///
    /// # Errors
    /// [`AppendError::GroupTooLarge`], [`AppendError::EmptyGroup`]; others of [`AppendError`], never
    /// [`AppendError::Full`]. The log is then as it was before.
    ///
    /// # Panics
    /// As [`append`](Self::append); nothing is left of the group then.
    pub fn append_batch<'r, T: Record + 'r>(
        &self,
        records: impl IntoIterator<Item = &'r T>,
    ) -> Result<Group, AppendError> {
        self.give_group(records.into_iter().map(Typed), Patience::Wait)
    }

    /// Appends raw bytes as one atomic group; see [`append_batch`](Self::append_batch).
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, Pinning};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
    /// let producer = log.start_writers(Pinning::AllowedCpus)?.remove(0);
    /// let items: [(Kind, &[u8]); 2] = [(Kind::PUT, b"debit"), (Kind::PUT, b"credit")];
    /// let group = producer.append_batch_bytes(items)?;
    /// producer.wait(group.last())?; // recovered together from here on, and before that together or not at all
    /// # log.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append_batch`](Self::append_batch).
    pub fn append_batch_bytes<'b>(
        &self,
        items: impl IntoIterator<Item = (Kind, &'b [u8])>,
    ) -> Result<Group, AppendError> {
        self.give_group(items.into_iter().map(|(kind, bytes)| Raw(kind, bytes)), Patience::Wait)
    }

    /// Appends a record, or is refused at once.
    ///
    /// # Errors
    /// [`AppendError::Full`] when the shard is full, or others wait in line: see [`room`](Self::room). Others of
    /// [`AppendError`]; the log is then as it was before.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn try_append<T: Record>(&self, record: &T) -> Result<Stamp, AppendError> {
        Ok(self.give(Typed(record), Patience::Refuse)?.stamp)
    }

    /// Appends raw bytes, or is refused at once.
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append).
    pub fn try_append_bytes(&self, kind: Kind, bytes: &[u8]) -> Result<Stamp, AppendError> {
        Ok(self.give(Raw(kind, bytes), Patience::Refuse)?.stamp)
    }

    /// Appends source offsets and a watermark, or is refused at once.
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append).
    pub fn try_append_commit(&self, commit: &Commit) -> Result<Stamp, AppendError> {
        self.try_append_bytes(Commit::KIND, &commit.encode())
    }

    /// Appends what `encode` writes, as [`append_with`](Self::append_with) does, or is refused at once.
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append).
    ///
    /// # Panics
    /// If `encode` does.
    pub fn try_append_with(
        &self,
        kind: Kind,
        max_len: usize,
        encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<Stamp, AppendError> {
        Ok(self.give(self.coded(kind, max_len, encode)?, Patience::Refuse)?.stamp)
    }

    /// Appends raw bytes with a timestamp, or is refused at once.
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append).
    pub fn try_append_bytes_at(
        &self,
        kind: Kind,
        timestamp: i64,
        bytes: &[u8],
    ) -> Result<Stamp, AppendError> {
        Ok(self.give(Timed(timestamp, Raw(kind, bytes)), Patience::Refuse)?.stamp)
    }

    /// Appends raw bytes as one atomic group, or is refused at once; see [`append_batch`](Self::append_batch).
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append), and as for [`append_batch`](Self::append_batch).
    pub fn try_append_batch_bytes<'b>(
        &self,
        items: impl IntoIterator<Item = (Kind, &'b [u8])>,
    ) -> Result<Group, AppendError> {
        self.give_group(items.into_iter().map(|(kind, bytes)| Raw(kind, bytes)), Patience::Refuse)
    }

    /// Appends a record and blocks until it is durable.
    ///
    /// # Errors
    /// [`DurableError`].
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn append_durable<T: Record>(&self, record: &T) -> Result<Stamp, DurableError> {
        self.acknowledged(self.give(Typed(record), Patience::Wait)?)
    }

    /// Appends raw bytes and blocks until they are durable.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn append_bytes_durable(&self, kind: Kind, bytes: &[u8]) -> Result<Stamp, DurableError> {
        self.acknowledged(self.give(Raw(kind, bytes), Patience::Wait)?)
    }

    fn acknowledged(&self, given: Given<Stamp>) -> Result<Stamp, DurableError> {
        let stamp = given.stamp;
        match self.entrance.shared.wait_durable(stamp, given.batches()) {
            Ok(()) => Ok(stamp),
            Err(cause) => Err(DurableError::Unacknowledged { stamp, cause }),
        }
    }

    /// Blocks until an entry is durable, of whatever shard of this log.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait(&self, stamp: Stamp) -> Result<(), WaitError> {
        self.entrance.shared.wait_durable(stamp, Batches::ANY)
    }

    /// The acknowledgement of an entry as a future.
    pub fn durable(&self, stamp: Stamp) -> Durable {
        Durable::new(Arc::clone(&self.entrance.shared), stamp)
    }

    /// Becomes ready when a `try_` append is worth trying, with a place in the same line that blocked appends
    /// stand in. For tasks.
    pub fn room(&self) -> Admission<'_> {
        Admission { producer: self, room: Room::new(Arc::clone(&self.entrance)) }
    }

    /// Blocks until everything is durable that was appended to this shard before the call, by all producers.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn drained(&self) -> Result<(), WaitError> {
        let shard = self.shard();
        let seq = self.entrance.last_taken().ok_or(WaitError::Closed { shard })?;
        self.entrance.shared.wait_seq(self.entrance.this(), seq)
    }

    /// Moves the shard's next seq past one that was seen from another shard, as
    /// [`ShardWriter::observe`](crate::ShardWriter::observe) does: what any producer appends from here on comes after it.
    ///
    /// # Errors
    /// [`ObserveError`]. Nothing has changed then.
    pub fn observe(&self, stamp: Stamp) -> Result<(), ObserveError> {
        self.entrance.observe(stamp)
    }

    /// Closes the open epoch of this shard, as [`ShardWriter::close_epoch`](crate::ShardWriter::close_epoch) does.
    ///
    /// # Errors
    /// [`AppendError::EpochsAhead`], [`AppendError::Full`]; [`AppendError::Failed`], [`AppendError::Closed`].
    pub fn close_epoch(&self) -> Result<Epoch, AppendError> {
        self.entrance.close_epoch()
    }
}

impl Clone for Producer {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.entrance))
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("shard", &self.shard())
            .field("frontier", &self.frontier())
            .finish_non_exhaustive()
    }
}

/// A place in the line of a full shard; made by [`Producer::room`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Admission<'a> {
    producer: &'a Producer,
    room: Room,
}

impl Future for Admission<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let producer = self.producer;
        match self.room.poll(&producer.credit, context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
