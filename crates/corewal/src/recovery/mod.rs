//! Recovery: gather the facts, judge them, stream what holds, then open the next incarnation.
//!
//! | module | what it does |
//! |---|---|
//! | `window`, `ahead` | reads a file from the device, also before it is needed |
//! | `walk` | steps from batch to batch |
//! | `anchor` | where a current run is judged from |
//! | `facts` | what stands in it from there on |
//! | `judge` | whether its end is an end, or damage |
//! | `snapshot` | all of it together, for a log |
//! | `stream`, `merge` | the entries in order |
//! | `replay` | ways to replay them |
//! | `reader` | a log read beside its writer |
//! | `runs` | ended runs, and where they end |
//! | `open_run` | a current run, once its end is judged |
//! | `seek`, `shard_reader` | one shard from any seq on |
//! | `tail` | one shard as it becomes durable |
//! | `open` | the next incarnation |
//! | `salvage` | what a damaged log still holds |

mod ahead;
mod anchor;
mod facts;
mod judge;
mod merge;
mod open;
mod open_run;
mod reader;
mod replay;
mod report;
mod runs;
pub mod salvage;
mod seek;
mod shard_reader;
mod snapshot;
mod stream;
mod tail;
mod walk;
mod window;

use std::path::Path;
use std::time::Instant;

use corewal_disk::Lock;
use corewal_format::{Checkpoint, EntryFlags, Epoch, Kind, LogId, Manifest, SchemaId, Seq, Stamp};

use crate::error::{Doing, IoFault, OpenError, RecoverError};
use crate::keep::StateMark;
use crate::layout::Layout;
use crate::record::{self, AccessError, Record};
use crate::{Log, Options, events, manifests};

pub use reader::LogReader;
pub use replay::{Fence, ReplayError, ShardReplay, StateMachine};
pub use report::{LeftOut, Report, RunEnd, ShardReport};
pub use shard_reader::ShardReader;
pub use tail::Tail;

pub(crate) use facts::{Intact, LastBatch, RunFacts, Seen, is_zero};
pub(crate) use judge::{Claims, committed, judge};
pub(crate) use reader::take as judged;
pub(crate) use runs::{end_run, last_of, lower};
pub(crate) use shard_reader::Spans;
pub(crate) use snapshot::{Extent, Scan};
pub(crate) use stream::{ShardStream, Span};
pub(crate) use walk::{Cursor, OpenSegment, Opened, Step, Walker, check_segment, open_segment};
pub(crate) use window::{WINDOW_LEN, Window};

use merge::Merge;
use open::{Ends, Found};
use snapshot::Snapshot;
use stream::Selection;

/// A log that is locked and judged, and not yet written to.
///
/// The entries come out of [`next_entry`](Self::next_entry) in the order of their stamps; then
/// [`open`](Self::open) starts the next incarnation. There is no other way to a [`Log`]:
///
/// ```compile_fail
/// let log = corewal::Log::open(corewal::Options::new("/tmp/x"));
/// ```
#[derive(Debug)]
pub struct Recovery {
    options: Options,
    layout: Layout,
    lock: Lock,
    snapshot: Option<Snapshot>,
    merge: Merge,
    selection: Selection,
    report: Report,
    started: Instant,
}

impl Recovery {
    /// Locks the log and judges it; see [`Log::recover`].
    pub(crate) fn start(options: Options) -> Result<Self, RecoverError> {
        options.validate()?;
        let started = Instant::now();
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        create_dir(&layout)?;
        let lock = take_lock(&layout, &options)?;
        manifests::sync(&layout)?;
        let snapshot =
            Snapshot::take(&layout, snapshot::Sync::First, Scan::of(&options), Extent::End)
                .inspect_err(|error| tell_damage(&options, error))?;
        let selection = Selection::ALL;
        let mut report = snapshot.as_ref().map_or_else(Report::default, Snapshot::report);
        report.took = started.elapsed();
        events::recovered(&options.dir, &report);
        let merge = Merge::new(Vec::new());
        let recovery = Self { options, layout, lock, snapshot, merge, selection, report, started };
        Ok(recovery.starting_over(selection))
    }

    /// Leaves out what is above the committed epoch, for a program that replays its source from what it
    /// committed last. [`open`](Self::open) voids it, durably and before anything new is written: it never comes
    /// back, and none of its stamps is given out again.
    ///
    /// Without this everything is kept, and what is above the committed epoch belongs to the first epoch that
    /// is committed afterwards. That is left out here too, as long as no later epoch was committed.
    ///
    /// The stream starts over, whatever was read of it before.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// let mut log = Log::recover(Options::new(&dir))?.open()?;
    /// let mut writer = log.take_seats().remove(0).sit()?;
    /// writer.append_bytes(Kind::PUT, b"of epoch 1")?;
    /// let epoch = writer.close_epoch()?;
    /// let loose = writer.append_bytes(Kind::PUT, b"of an epoch that nobody closes")?;
    /// writer.wait(loose)?;
    /// writer.close()?;
    /// log.close()?;
    ///
    /// let mut recovery = Log::recover(Options::new(&dir))?.committed_only();
    /// while let Some(entry) = recovery.next_entry()? {
    ///     assert!(entry.stamp().epoch <= epoch);
    /// }
    /// let log = recovery.open()?;
    /// assert_eq!(log.report().shards[0].left_out.entries, 1);
    /// assert_eq!(log.standing(loose), corewal::Standing::Voided);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn committed_only(self) -> Self {
        let selection = Selection { until: Some(self.report.committed_epoch), ..self.selection };
        self.starting_over(selection)
    }

    /// Delivers only what is above `fence`: an epoch, whose state is held elsewhere as a whole, or a stamp. What
    /// is not delivered is verified all the same. The stream starts over.
    ///
    /// # Errors
    /// [`RecoverError::FenceTooOld`] if entries above the fence were released: a state that goes up to the fence
    /// cannot be completed from this log.
    pub fn above(self, fence: impl Into<Fence>) -> Result<Self, RecoverError> {
        let fence = fence.into();
        if let Some(snapshot) = &self.snapshot
            && let Some(checkpoint) = &snapshot.manifest.checkpoint
            && checkpoint.epoch > fence.0.epoch
            && snapshot.manifest.shards.iter().any(|record| record.released_seq > Seq(0))
        {
            return Err(RecoverError::FenceTooOld {
                fence: fence.0.epoch,
                released: checkpoint.epoch,
            });
        }
        let selection = Selection { above: Some(fence.0), ..self.selection };
        Ok(self.starting_over(selection))
    }

    fn starting_over(mut self, selection: Selection) -> Self {
        let streams = self.snapshot.as_ref().map(|it| it.streams(&self.layout, selection));
        self.merge = Merge::new(streams.unwrap_or_default());
        self.selection = selection;
        self
    }

    /// The next entry of the merged stream, borrowed from the recovery's memory.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] if a batch does not verify that lies below a recorded end, or below the last that
    /// is promised to be durable. Every further call returns the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, RecoverError> {
        let advanced = self.merge.advance().map(|stream| stream.is_none());
        if advanced.inspect_err(|error| tell_damage(&self.options, error))? {
            self.report.complete(&self.merge);
        }
        let committed = self.report.committed_epoch;
        Ok(self.merge.current().map(|stream| Entry::of(stream, committed)))
    }

    /// One stream for each shard, retired ones too, to be replayed by threads of your own at the same time.
    ///
    /// What the merged stream has delivered is not delivered again, nor the other way round. Whatever is left
    /// of any of them is verified by [`open`](Self::open).
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// let mut recovery = Log::recover(Options::new(&dir).shards(2))?;
    /// let counts: Vec<Result<u64, corewal::RecoverError>> = std::thread::scope(|scope| {
    ///     let count = |mut shard: corewal::ShardReplay<'_>| {
    ///         let mut count = 0;
    ///         while let Some(_entry) = shard.next_entry()? {
    ///             count += 1;
    ///         }
    ///         Ok(count)
    ///     };
    ///     let threads: Vec<_> =
    ///         recovery.shards().into_iter().map(|shard| scope.spawn(move || count(shard))).collect();
    ///     threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    /// });
    /// assert!(counts.into_iter().all(|count| count.is_ok()));
    /// let log = recovery.open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn shards(&mut self) -> Vec<ShardReplay<'_>> {
        let committed = self.report.committed_epoch;
        let streams = self.merge.part().iter_mut();
        streams.map(|stream| ShardReplay { stream, committed }).collect()
    }

    /// Replays what is left of the merged stream into `machine`, and returns how many entries it took.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn replay_into<M: StateMachine>(
        &mut self,
        machine: &mut M,
    ) -> Result<u64, ReplayError<M::Error>> {
        let mut count = 0;
        while let Some(entry) = self.next_entry()? {
            let stamp = entry.stamp();
            machine.apply(entry).map_err(|cause| ReplayError::Machine { stamp, cause })?;
            count += 1;
        }
        Ok(count)
    }

    /// What was found. What is counted while the stream is read is complete when it has been read to its end.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The last checkpoint, known before any entry is read. What is up to its epoch is held where its bytes
    /// say; such entries may still come, where they share a segment with later ones.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.snapshot.as_ref()?.manifest.checkpoint.as_ref()
    }

    /// Starts the next incarnation: verifies what is left of the stream, writes one manifest, and prepares the
    /// first segments. Nothing in the shards' folders changes before the manifest is durable.
    ///
    /// # Errors
    /// [`OpenError::Recover`] if the stream does not verify, whether or not that was seen before: a log that is
    /// damaged anywhere is never opened. Also on an I/O error. The log is then unchanged, or can be recovered
    /// again.
    pub fn open(mut self) -> Result<Log, OpenError> {
        while self.next_entry()?.is_some() {}
        self.report.took = self.started.elapsed();
        let ends = match self.selection.until {
            None => Ends::AsFound,
            Some(_) => {
                let streams = self.merge.streams().iter();
                Ends::With(streams.filter_map(|it| Some((it.shard(), it.last()?))).collect())
            }
        };
        let found = Found { ends, pieces: self.merge.take_pieces() };
        open::open(self.options, self.layout, self.lock, self.snapshot, found, self.report)
    }
}

fn tell_damage(options: &Options, error: &RecoverError) {
    if let RecoverError::Damaged(damage) = error {
        events::damaged(&options.dir, damage);
    }
}

/// Creates the log's directory, durably, if it is not there.
fn create_dir(layout: &Layout) -> Result<(), IoFault> {
    layout.disk.create_dir(&layout.dir).doing("create", &layout.dir)?;
    let Some(parent) = layout.dir.parent() else { return Ok(()) };
    // A name alone stands in the working directory.
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    layout.disk.sync_dir(parent).doing("sync", parent)
}

/// Takes the lock, with patience: after a kill it becomes free when the last write has landed.
fn take_lock(layout: &Layout, options: &Options) -> Result<Lock, RecoverError> {
    let path = layout.lock();
    let holder = format!("process {}", std::process::id());
    let started = layout.disk.now();
    loop {
        let held = match layout.disk.lock(&path, &holder).doing("lock", &path)? {
            Ok(lock) => return Ok(lock),
            Err(held) => held,
        };
        let waited = layout.disk.now().saturating_sub(started);
        if waited >= options.lock_patience {
            let holder = match held.holder.trim() {
                "" => "an unnamed holder".to_owned(),
                named => named.to_owned(),
            };
            return Err(RecoverError::Locked { dir: layout.dir.clone(), holder, waited });
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// One recovered entry, borrowed from the reader's memory.
///
/// ```
/// # use corewal::{Kind, Log, Options, Record, SchemaId};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let options = || Options::new(dir.path().join("log")).schema(SchemaId(7));
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Sale {
///     item: String,
///     cents: u64,
/// }
/// impl Record for Sale {}
///
/// # let mut log = Log::recover(options())?.open()?;
/// # let mut writer = log.take_seats().remove(0).sit()?;
/// # writer.append(&Sale { item: "a pin".into(), cents: 1250 })?;
/// # writer.append_bytes(Kind::DELETE, b"a key")?;
/// # writer.close()?;
/// # log.close()?;
/// let mut recovery = Log::recover(options())?;
/// let mut cents = 0;
/// while let Some(entry) = recovery.next_entry()? {
///     match entry.kind() {
///         // Accessed in place, validated, its schema compared.
///         Kind::PUT => cents += entry.archived::<Sale>(SchemaId(7))?.cents.to_native(),
///         kind => println!("{}: {kind:?} {:?}", entry.stamp(), entry.bytes()),
///     }
/// }
/// assert_eq!(cents, 1250);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    view: corewal_format::EntryView<'a>,
    segment: &'a corewal_format::SegmentHeader,
    is_committed: bool,
}

impl<'a> Entry<'a> {
    fn of(stream: &'a ShardStream, committed: Epoch) -> Self {
        let (view, _) = stream.entry().expect("the stream stands on an entry");
        let segment = stream.segment().expect("the entry stands in a segment");
        Self { view, segment, is_committed: view.stamp.epoch <= committed }
    }

    /// Its place in the merged order.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.view.stamp
    }

    /// What it is; [`Kind::BARRIER`] closes its epoch on its shard.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.view.kind
    }

    /// The payload, at an address that is a multiple of 16; without the timestamp, if it has one.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.view.payload()
    }

    /// The timestamp that it was appended with, in the user's unit: information only. See
    /// [`ShardWriter::append_bytes_at`](crate::ShardWriter::append_bytes_at).
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.view.timestamp()
    }

    /// Whether its epoch was committed when the log was judged.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// Whether the next entry of its shard belongs to the same atomic group.
    #[must_use]
    pub fn group_continues(&self) -> bool {
        self.view.flags.contains(EntryFlags::GROUP_CONTINUES)
    }

    /// The state of its shard that it is, of kind [`Kind::CHECKPOINT`], to let the segments before it go with
    /// [`Log::release_to`]; `None` for another kind. It stays good over restarts, as long as the entry is kept.
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// # let mut log = Log::recover(Options::new(&dir))?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// writer.append_state(b"everything so far")?;
    /// writer.close_epoch()?;
    /// # writer.close()?;
    /// # log.close()?;
    /// // After a restart:
    /// let mut recovery = Log::recover(Options::new(&dir))?;
    /// let mut last = None;
    /// while let Some(entry) = recovery.next_entry()? {
    ///     last = entry.state_mark().or(last); // and what `entry.bytes()` holds replaces the state so far
    /// }
    /// let log = recovery.open()?;
    /// log.release_to(last.expect("a state was appended"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state_mark(&self) -> Option<StateMark> {
        let (log, stamp) = (self.segment.log, self.stamp());
        (self.kind() == Kind::CHECKPOINT).then_some(StateMark { log, stamp })
    }

    /// The schema that the entry's segment was written with.
    #[must_use]
    pub fn schema(&self) -> SchemaId {
        self.segment.schema
    }

    /// The record in place, validated.
    ///
    /// # Errors
    /// [`AccessError`] if the segment was written with another schema than `expected` or another layout of
    /// rkyv, or if the bytes are no valid archive of the type.
    pub fn archived<T: Record>(&self, expected: SchemaId) -> Result<&'a T::Archived, AccessError> {
        let found = self.segment.schema;
        if found != expected {
            return Err(AccessError::Schema { found, expected });
        }
        if self.segment.rkyv != record::rkyv_layout() {
            return Err(AccessError::Layout(self.segment.rkyv));
        }
        record::access::<T>(self.bytes())
    }
}

/// The manifest of a log that was never opened.
fn new_manifest(log: LogId) -> Manifest {
    Manifest {
        log,
        generation: corewal_format::Generation(1),
        incarnation: corewal_format::Incarnation(0),
        committed_epoch: Epoch(0),
        first_epoch: Epoch(1),
        pipeline_bound: 0,
        checkpoint: None,
        shards: Vec::new(),
    }
}
