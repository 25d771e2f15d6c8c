//! The open log: seats for its writers, epochs, and the clean close.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use corewal_disk::{Keeps, RingFacts};
use corewal_format::{BatchNumber, Epoch, Incarnation, LogId, Manifest, Seq, ShardId, Stamp};

use crate::access::SegmentAccess;
use crate::durable::{Committed, Durable};
use crate::epoch::SeatState;
use crate::error::{EpochError, Failure, IoFault, RecoverError, TailError, WaitError};
use crate::events;
use crate::keep::hooks;
use crate::layout::Layout;
use crate::method::{self, SyncReason};
use crate::observers::Observers;
use crate::options::Preparing;
use crate::prepare::{self, Progress};
use crate::producer::{Pinned, Pinning, Producer, Started};
use crate::recovery::{LogReader, Recovery, Report, ShardReader, Spans, Tail, end_run};
use crate::shard::{Seat, SitError};
use crate::shared::{ShardShared, Shared};
use crate::stats::{ShardHistograms, ShardStats};
use crate::{Options, SyncMethod};

/// A log that is open for writing.
///
/// Each shard has one [`Seat`]; the thread that sits down on it is the shard's only writer.
///
/// ```
/// use corewal::{Kind, Log, Options, Turn};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let mut log = Log::recover(Options::new(&dir))?.open()?;
/// let mut writer = log.take_seats().remove(0).sit()?;
/// let stamp = writer.append_bytes(Kind::PUT, b"first")?;
/// writer.wait(stamp)?; // durable from here on
/// writer.close()?;
/// log.close()?;
///
/// let mut reader = Log::read(Options::new(&dir))?;
/// let entry = reader.next_entry()?.expect("what was acknowledged is there");
/// assert_eq!((entry.stamp(), entry.bytes()), (stamp, &b"first"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    seats: Vec<Seat>,
    /// The writers that the log has started.
    writers: Vec<Started>,
    observers: Observers,
    /// The preparer, the one that measures the device, and the one that calls hooks.
    threads: Vec<JoinHandle<()>>,
    report: Report,
    #[cfg(feature = "metrics")]
    pub(crate) published: crate::metrics::Published,
}

/// What the log runs on, and why.
///
/// ```
/// # use corewal::{Keeps, Log, NullDisk, Options};
/// # use std::sync::Arc;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A dry run: everything works as usual, and nothing is written.
/// let log = Log::recover(Options::new("nowhere").disk(Arc::new(NullDisk::new())))?.open()?;
/// assert_eq!(log.capabilities().keeps, Keeps::Nothing);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Each shard's ring; none before its writer sat down.
    pub rings: Vec<(ShardId, Option<RingFacts>)>,
    /// The CPU of each writer thread that the log has started.
    pub pinned: Vec<(ShardId, Pinned)>,
    /// Whether the disk keeps anything: with [`Keeps::Nothing`] no acknowledgement means durable.
    pub keeps: Keeps,
    /// How each shard's segments are written; none while no segment could be prepared.
    pub access: Vec<(ShardId, Option<SegmentAccess>)>,
    /// The file system writes every block to a new place, so segments are not filled ahead.
    pub copy_on_write: bool,
    /// How the batches become durable of segments that begin from now on; never [`SyncMethod::Auto`].
    pub sync_method: SyncMethod,
    /// Why.
    pub sync_reason: SyncReason,
    /// How those become durable of the segment that each shard is writing; none before its first batch. Where it differs
    /// from `sync_method`, the shard switches when it begins its next segment.
    pub sync_methods: Vec<(ShardId, Option<SyncMethod>)>,
    /// Memory of one shard's blocks, in bytes.
    pub shard_memory: usize,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It survives a power cut.
    Durable,
    /// It is of this incarnation, and not durable yet.
    Pending,
    /// It was lost before it was acknowledged, or given up; it never comes back.
    Voided,
    /// A checkpoint or a release has let go of everything up to it. Whether it was lost before, which is seldom,
    /// is not known any more.
    Released,
    /// The shard is not known, or has no writer in this incarnation.
    Unknown,
}

/// How a close went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The exact end of each shard that was closed: its last seq.
    pub closed: Vec<(ShardId, Seq)>,
    /// Shards whose writer was dropped, or failed, without a close: their ends are found by the next recovery.
    pub left_open: Vec<ShardId>,
}

/// Why a close could not be recorded. Nothing is lost: the next recovery finds the ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Shards are still being written to. The log goes on; writers that it has started itself are closed.
    #[error("the writer of shard {shard} is still there; close it first")]
    Live {
        /// The first such shard.
        shard: ShardId,
        /// The log, to be closed later.
        log: Box<Log>,
    },
    /// The manifest could not be written.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl Log {
    /// Locks the log in the options' directory, judges it, and gives its entries. A directory without a log is
    /// an empty one.
    ///
    /// Changes nothing in the log, except that what a killed process left in caches is made durable before it
    /// is judged.
    ///
    /// Its threads and memory do not grow with the log, and little with the shards: 16 threads judge them, or two for
    /// each CPU if that is more; at most 16 files of a process are read ahead, with 96 MiB; and all other streams read
    /// 64 MiB at once together, or 64 KiB each of more than 1,024 shards. A larger batch takes its size on top. With
    /// [`Preparing::Manual`] all is done by the calling thread.
    ///
    /// # Errors
    /// [`RecoverError`]: locked, damaged, or the system failed. An ordinary power cut is never refused.
    pub fn recover(options: Options) -> Result<Recovery, RecoverError> {
        Recovery::start(options)
    }

    /// Reads a log without its lock and without changing anything, also beside its writer. Of the options, the
    /// directory and the disk count.
    ///
    /// # Errors
    /// [`RecoverError::NoLog`] if there is none; others of [`RecoverError`].
    pub fn read(options: Options) -> Result<LogReader, RecoverError> {
        LogReader::start(&options)
    }

    /// Follows one shard of a log from outside, also of another process, from `from` on; `None` for an unknown
    /// shard. Of the options, the directory and the disk count.
    ///
    /// A batch is delivered when a later batch of its shard, or a manifest, says that it was durable. An idle
    /// shard vouches for its last batch after [`vouch_after`](Options::vouch_after), so a tail catches up with it.
    ///
    /// # Errors
    /// [`TailError::Released`] if the place is gone; [`TailError::Recover`].
    pub fn follow(options: Options, shard: ShardId, from: Seq) -> Result<Option<Tail>, TailError> {
        Tail::of_disk(&options, shard, from)
    }

    /// Follows one shard of this log behind its frontier, from `from` on; `None` for a shard that is not active.
    /// The tail does not keep the log open.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, Seq, ShardId};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// let mut tail = log.tail(ShardId(0), Seq(1))?.expect("shard 0 is there");
    /// let stamp = writer.append_bytes(Kind::PUT, b"not yet durable")?;
    /// assert!(tail.try_next()?.is_none());
    /// writer.wait(stamp)?;
    /// assert_eq!(tail.try_next()?.expect("it is durable").stamp(), stamp);
    /// # writer.close()?;
    /// # log.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TailError::Released`] if the place is gone; [`TailError::Recover`].
    pub fn tail(&self, shard: ShardId, from: Seq) -> Result<Option<Tail>, TailError> {
        Tail::of_log(&self.shared, &self.layout(), shard, from)
    }

    /// Reads one shard of this log from any seq on, up to its frontier as of now; `None` for an unknown shard.
    /// Entries are found by the stamps that appends returned.
    #[must_use]
    pub fn reader(&self, shard: ShardId) -> Option<ShardReader> {
        let manifest = self.shared.manifests().written().clone();
        let frontier = self.frontier(shard).unwrap_or_default();
        let spans = Spans::live(&self.layout(), &manifest, shard, frontier)?;
        Some(ShardReader::new(spans, self.committed_epoch()))
    }

    fn layout(&self) -> Layout {
        let options = &self.shared.options;
        Layout { disk: options.disk.clone(), dir: options.dir.clone() }
    }

    pub(crate) fn start(shared: Arc<Shared>, report: Report) -> Self {
        let seats =
            (0..shared.shards.len()).map(|index| Seat::new(Arc::clone(&shared), index)).collect();
        let start = |name: &str, run: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(move || run(&shared)).expect("the system starts a thread")
        };
        let mut threads = Vec::new();
        if shared.options.preparing == Preparing::Thread {
            threads.push(start("corewal-prepare", |shared| {
                prepare::run(&shared.recipe, &shared.bell, || {
                    shared.shards.iter().map(|shard| &shard.segments)
                });
            }));
            if shared.methods.is_pending() {
                threads.push(start("corewal-probe", method::run));
            }
            if shared.options.hooks.want_thread() {
                threads.push(start("corewal-hooks", hooks::run));
            }
        }
        let (writers, observers) = (Vec::new(), Observers::default());
        events::opened(&shared.options.dir, shared.incarnation, shared.shards.len(), &report);
        if let (method, reason @ SyncReason::Remembered(_)) = shared.methods.report() {
            events::measured(&shared.options.dir, method, &reason);
        }
        Self {
            shared,
            seats,
            writers,
            observers,
            threads,
            report,
            #[cfg(feature = "metrics")]
            published: Default::default(),
        }
    }

    /// What the recovery found that this log was opened from.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The identity of the log.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.log
    }

    /// How many times the log has been opened for writing, this time included.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// The seats that were not taken yet, by shard: at first all, then none.
    #[must_use]
    pub fn take_seats(&mut self) -> Vec<Seat> {
        std::mem::take(&mut self.seats)
    }

    /// Starts a thread for each seat that was not taken, in order; it drives the shard, and any thread appends to it
    /// through clones of the [`Producer`] that is returned for it. [`capabilities`](Self::capabilities) say where each
    /// thread was pinned.
    ///
    /// The threads end with [`close`](Self::close), which makes everything durable that was appended, or when the
    /// log is dropped.
    ///
    /// # Errors
    /// The first shard that could not be started. Its seat is lost, so is that of every later one; those before
    /// go on until the log is closed or dropped.
    pub fn start_writers(&mut self, pinning: Pinning) -> Result<Vec<Producer>, SitError> {
        let cpus = match pinning {
            Pinning::AllowedCpus => core_affinity::get_core_ids().unwrap_or_default(),
            Pinning::Unpinned => Vec::new(),
        };
        let mut producers = Vec::new();
        for seat in std::mem::take(&mut self.seats) {
            let cpu = cpus.get(usize::from(seat.shard().0) % cpus.len().max(1)).copied();
            let started = Started::start(seat, cpu, pinning)?;
            producers.push(started.producer());
            self.writers.push(started);
        }
        Ok(producers)
    }

    /// The acknowledgement of an entry, as a future for any runtime; also to be asked, or waited for.
    ///
    /// It ends with an error when the shard fails or is closed, for an entry that a truncation cut off, and for a
    /// stamp of an earlier incarnation, which [`standing`](Self::standing) knows. No byte is copied for it, and nothing allocated.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, Pinning, WaitError};
    /// # async fn example(log: &Log, producer: &corewal::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// let stamp = producer.append_bytes(Kind::PUT, b"an event")?;
    /// log.durable(stamp).await?; // it survives a power cut from here on
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(&self, stamp: Stamp) -> Durable {
        Durable::new(Arc::clone(&self.shared), stamp)
    }

    /// Waits until everything is durable that was appended, before the call, to the shards whose writers the log
    /// has [started](Self::start_writers).
    ///
    /// # Errors
    /// [`WaitError`] of the first shard that has failed or was closed.
    pub fn drained(&self) -> Result<(), WaitError> {
        for (shard, seq) in self.writers.iter().filter_map(Started::last_taken) {
            self.shared.wait_seq(&self.shared.shards[usize::from(shard.0)], seq)?;
        }
        Ok(())
    }

    /// Calls `hook` when an epoch is committed, with the committed epoch; when several are committed while it
    /// runs, with the last one. So a source can be acknowledged upstream. A hook asks for no sync: by
    /// [`Policy::OnDemand`](crate::Policy::OnDemand) it is called after somebody else has asked.
    ///
    /// Hooks run one after the other on a thread of their own, which the first hook starts: a slow one holds up
    /// other hooks and [`close`](Self::close), no shard. One that panics is not called again:
    /// [`hook_panics`](Self::hook_panics).
    pub fn on_commit(&self, hook: impl FnMut(Epoch) + Send + 'static) {
        self.observers.on_commit(&self.shared, Box::new(hook));
    }

    /// Calls `hook` when a shard's frontier has moved, with the newest one. As [`on_commit`](Self::on_commit)
    /// otherwise.
    pub fn on_frontier(&self, hook: impl FnMut(ShardId, Seq) + Send + 'static) {
        self.observers.on_frontier(&self.shared, Box::new(hook));
    }

    /// What hooks have panicked with.
    #[must_use]
    pub fn hook_panics(&self) -> Vec<String> {
        self.observers.panics()
    }

    /// The committed epoch: every entry of it and of earlier ones is durable on every active shard.
    #[must_use]
    pub fn committed_epoch(&self) -> Epoch {
        self.shared.epochs.committed()
    }

    /// Asks every shard, idle ones too, to close the epoch that is open, and returns its number.
    ///
    /// Writers close it in their next turn; those that sleep are woken.
    ///
    /// # Errors
    /// [`EpochError::Ahead`] when too many closed epochs are not committed.
    pub fn close_epoch(&self) -> Result<Epoch, EpochError> {
        let epoch = self.shared.epochs.request()?;
        self.shared.shards.iter().for_each(ShardShared::wake);
        Ok(epoch)
    }

    /// Waits until `epoch` is committed.
    ///
    /// # Errors
    /// [`EpochError`], when it cannot be any more: a seat that is not taken, a writer that is closed or has
    /// failed, an epoch of an earlier incarnation. Never waits for a shard that does not exist any more.
    pub fn wait_epoch(&self, epoch: Epoch) -> Result<(), EpochError> {
        self.shared.wait_epoch(epoch)
    }

    /// The same as a future, for any runtime.
    pub fn committed(&self, epoch: Epoch) -> Committed {
        Committed::new(Arc::clone(&self.shared), epoch)
    }

    /// Everything of this incarnation up to this seq is durable on `shard`; `None` for an unknown shard.
    #[must_use]
    pub fn frontier(&self, shard: ShardId) -> Option<Seq> {
        self.shared.shards.get(usize::from(shard.0)).map(|it| it.frontier.get())
    }

    /// Everything of this incarnation up to this seq is written on `shard`, which says nothing of a power cut: see
    /// [`ShardWriter::written`](crate::ShardWriter::written). `None` for an unknown shard.
    #[must_use]
    pub fn written(&self, shard: ShardId) -> Option<Seq> {
        self.shared.shards.get(usize::from(shard.0)).map(ShardShared::written)
    }

    /// What became of an entry, by its stamp.
    #[must_use]
    pub fn standing(&self, stamp: Stamp) -> Standing {
        let manifests = self.shared.manifests();
        let Some(record) = manifests.written().shard(stamp.shard) else { return Standing::Unknown };
        let is_current = record.current.is_none_or(|current| stamp.seq >= current.first_seq);
        if stamp.epoch >= self.shared.epochs.first() {
            match self.frontier(stamp.shard) {
                None => return Standing::Unknown,
                Some(frontier) if is_current && stamp.seq <= frontier => return Standing::Durable,
                Some(_) if is_current => return Standing::Pending,
                // A truncation has ended its run.
                Some(_) => {}
            }
        }
        // The runs of the stamp's incarnation: a seq alone says nothing, a lost one may be given out again in
        // a later epoch.
        let began =
            record.runs.iter().rev().map(|run| run.first_epoch).find(|it| *it <= stamp.epoch);
        let is_kept = record.runs.iter().filter(|run| Some(run.first_epoch) == began).any(|run| {
            (run.first_seq..=run.last_kept_seq).contains(&stamp.seq)
                && !run.voids.iter().any(|it| (it.first_seq..=it.last_seq).contains(&stamp.seq))
        });
        if is_kept {
            Standing::Durable
        } else if stamp.seq <= record.released_seq {
            Standing::Released
        } else {
            Standing::Voided
        }
    }

    /// The first failure of each shard that has failed.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        (0..self.shared.shards.len())
            .filter_map(|index| match self.shared.epochs.seat_state(index) {
                SeatState::Failed(failure) => Some(failure),
                _ => None,
            })
            .collect()
    }

    /// What the log runs on.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let (method, sync_reason) = self.shared.methods.report();
        let shards = self.shared.shards.iter();
        Capabilities {
            rings: self.shared.shards.iter().map(|it| (it.shard, it.desk().ring.clone())).collect(),
            pinned: self
                .shared
                .shards
                .iter()
                .filter_map(|it| Some((it.shard, it.desk().pinned?)))
                .collect(),
            keeps: self.shared.options.disk.keeps(),
            access: self.shared.shards.iter().map(|it| (it.shard, it.segments.access())).collect(),
            copy_on_write: self.shared.recipe.zeros.is_none(),
            sync_method: method.into(),
            sync_reason,
            sync_methods: shards.map(|it| (it.shard, it.meter.sync_method())).collect(),
            shard_memory: self.shared.options.shard_memory(),
        }
    }

    /// From its next segment on, each shard makes batches durable by `method`, until the log is closed or this is called
    /// again. [`SyncMethod::Auto`] takes what was measured, and [`SyncMethod::Dsync`] if nothing was. Changes nothing
    /// under another policy than [`Policy::EveryBatch`](crate::Policy::EveryBatch).
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options, SyncMethod};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let options = Options::new(dir.path().join("log")).sync_method(SyncMethod::Dsync);
    /// let mut log = Log::recover(options)?.open()?;
    /// let mut writer = log.take_seats().remove(0).sit()?;
    /// let stamp = writer.append_bytes(Kind::PUT, b"an event")?;
    /// writer.wait(stamp)?;
    /// log.switch_sync_method(SyncMethod::AfterWrite);
    /// let capabilities = log.capabilities();
    /// assert_eq!(capabilities.sync_method, SyncMethod::AfterWrite);
    /// // The segment that is being written goes on as it was begun.
    /// assert_eq!(capabilities.sync_methods[0].1, Some(SyncMethod::Dsync));
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn switch_sync_method(&self, method: SyncMethod) {
        self.shared.methods.ask(method);
    }

    /// Each shard's counters. Read beside its writer, which is not held up.
    #[must_use]
    pub fn stats(&self) -> Vec<(ShardId, ShardStats)> {
        self.shared.shards.iter().map(|it| (it.shard, it.stats())).collect()
    }

    /// Each shard's latencies and sizes of batches. Read beside its writer, which is not held up.
    #[must_use]
    pub fn histograms(&self) -> Vec<(ShardId, ShardHistograms)> {
        let shards = self.shared.shards.iter();
        shards.map(|it| (it.shard, ShardHistograms::read(&it.meter))).collect()
    }

    /// Prepares one segment for each shard that has too few; true if any was prepared. Calls the hooks that are
    /// due. For logs with [`Preparing::Manual`].
    pub fn prepare(&self) -> bool {
        hooks::call(&self.shared);
        let mut any = false;
        for shard in &self.shared.shards {
            any |= self.shared.recipe.step(&shard.segments) == Progress::Prepared;
        }
        any
    }

    /// Closes the log: records every shard's exact end in the manifest. Writers that the log has started are
    /// closed: whoever waits in line gets an error, and what was appended becomes durable. Close your own writers
    /// before.
    ///
    /// # Errors
    /// [`CloseError`].
    pub fn close(mut self) -> Result<CloseReport, CloseError> {
        self.end_writers();
        let untaken = match self.shared.epochs.close_untaken() {
            Ok(untaken) => untaken,
            Err(shard) => return Err(CloseError::Live { shard, log: Box::new(self) }),
        };
        self.stop_threads();
        self.observers.stop();
        let mut manifests = self.shared.manifests();
        let mut report = CloseReport::default();
        let mut next = manifests.written().clone();
        next.committed_epoch = self.shared.epochs.committed();
        for (index, untaken) in untaken.into_iter().enumerate() {
            let end = if untaken { End::Untouched } else { End::Written };
            self.end_shard(index, end, &mut next, &mut report);
        }
        manifests.write(next).map_err(IoFault::from)?;
        drop(manifests);
        events::closed(&self.shared.options.dir, report.left_open.len());
        Ok(report)
    }

    /// Puts what is known of a shard's end into the manifest.
    fn end_shard(&self, index: usize, end: End, next: &mut Manifest, report: &mut CloseReport) {
        let shared = &self.shared.shards[index];
        let (incarnation, first_epoch) = (next.incarnation, next.first_epoch);
        let desk = shared.desk();
        let record = next
            .shards
            .iter_mut()
            .find(|record| record.shard == shared.shard)
            .expect("every active shard has a record");
        record.barrier = self.shared.epochs.barrier(index);
        if let Some(last) = desk.durable {
            record.durable_batch = last.number;
            record.durable_seq = last.last_seq;
        }
        if !desk.closed && end == End::Written {
            report.left_open.push(shared.shard);
            return;
        }
        record.next_segment = record.next_segment.max(shared.segments.next());
        if let (Some(current), Some(last)) = (record.current, desk.durable) {
            record.next_batch = record.next_batch.max(last.number.next());
            record.next_seq = record.next_seq.max(last.last_seq.next());
            // Else all that was written is released.
            if last.number >= current.first_batch {
                record.runs.push(end_run(current, last, incarnation, first_epoch));
            }
        }
        record.current = None;
        record.durable_batch = BatchNumber(0);
        record.durable_seq = Seq(0);
        report.closed.push((shared.shard, shared.frontier.get()));
    }

    fn end_writers(&mut self) {
        self.writers.iter().for_each(Started::end);
        self.writers.drain(..).for_each(Started::join);
    }

    fn stop_threads(&mut self) {
        self.shared.methods.stop();
        self.shared.probe_bell.stop();
        self.shared.bell.stop();
        self.shared.hook_bell.stop();
        self.shared.shards.iter().for_each(|shard| shard.segments.interrupt());
        for thread in self.threads.drain(..) {
            // A panic in there is a bug that its own message tells of; the log can be recovered.
            let _ = thread.join();
        }
    }
}

/// Whether a shard had a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Untouched,
    Written,
}

impl Drop for Log {
    /// Like a crash, without a [`close`](Log::close).
    fn drop(&mut self) {
        self.end_writers();
        self.observers.stop();
        self.stop_threads();
        drop(self.shared.lock().take());
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("id", &self.shared.log)
            .field("dir", &self.shared.options.dir)
            .field("incarnation", &self.shared.incarnation)
            .field("committed_epoch", &self.committed_epoch())
            .finish_non_exhaustive()
    }
}
