//! A reader that follows a shard: behind the frontier, or behind the promises on disk.

use std::sync::Weak;
use std::time::{Duration, Instant};

use corewal_format::{BatchNumber, Epoch, Manifest, Seq, ShardId, ShardRecord, Stamp};

use crate::Options;
use crate::error::{RecoverError, TailError};
use crate::layout::Layout;
use crate::manifests::{self, Found};
use crate::recovery::Entry;
use crate::recovery::shard_reader::{ShardReader, Spans};
use crate::recovery::walk::{Cursor, Step, Walker};
use crate::shared::Shared;
use crate::sync::atomic::Ordering;

/// How long a tail that waits rests between two looks.
const REST: Duration = Duration::from_millis(1);
/// How much a look at the promises reads at once, in bytes.
const SCOUT_AHEAD: usize = 64 << 10;
/// How often a manifest is read again while a writer replaces it.
const ATTEMPTS: usize = 8;

/// The entries of one shard as they become durable.
///
/// [`Log::tail`](crate::Log::tail) follows the frontier of a log that is open in this process;
/// [`Log::follow`](crate::Log::follow) a log that another process writes, by the promises that it leaves on disk.
/// Neither delivers an entry that a power cut could still take back. A tail goes over rotations, closes and
/// reopenings by itself; when what it stands on is released by a checkpoint, it says so.
#[derive(Debug)]
pub struct Tail {
    reader: ShardReader,
    /// Every entry below was delivered, or was never wanted.
    next: Seq,
    gate: Gate,
}

/// What says how far a tail may read.
#[derive(Debug)]
enum Gate {
    /// The published frontier. The tail does not keep the log open.
    Frontier(Weak<Shared>, Cuts),
    /// What the disk says.
    Promises(Box<Scout>),
}

/// What a look at the gate has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// More may be read.
    Further,
    /// Nothing new.
    Same,
    /// The log is gone from this process, and everything was delivered.
    Closed,
}

/// How many truncations of a shard a tail has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cuts(u64);

impl Cuts {
    fn of(shared: &Shared, index: usize) -> Self {
        Self(shared.shards[index].cuts.load(Ordering::Acquire))
    }
}

impl Tail {
    /// Follows the frontier of an open log.
    pub(crate) fn of_log(
        shared: &std::sync::Arc<Shared>,
        layout: &Layout,
        shard: ShardId,
        from: Seq,
    ) -> Result<Option<Self>, TailError> {
        let Some(index) = shared.shards.iter().position(|it| it.shard == shard) else {
            return Ok(None);
        };
        // The count first: a truncation in between is followed for nothing.
        let cuts = Cuts::of(shared, index);
        let manifest = shared.manifests().written().clone();
        let frontier = shared.shards[index].frontier.get();
        let committed = shared.epochs.committed();
        let gate = Gate::Frontier(std::sync::Arc::downgrade(shared), cuts);
        Self::start(layout, &manifest, shard, from, frontier, committed, gate)
    }

    /// Follows a log from outside.
    pub(crate) fn of_disk(
        options: &Options,
        shard: ShardId,
        from: Seq,
    ) -> Result<Option<Self>, TailError> {
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let manifest = read_manifest(&layout)?;
        let Some(record) = manifest.shard(shard) else { return Ok(None) };
        let scout = Box::new(Scout::new(&layout, &manifest, record));
        let (frontier, committed) = (scout.durable, scout.committed);
        Self::start(&layout, &manifest, shard, from, frontier, committed, Gate::Promises(scout))
    }

    fn start(
        layout: &Layout,
        manifest: &Manifest,
        shard: ShardId,
        from: Seq,
        frontier: Seq,
        committed: Epoch,
        gate: Gate,
    ) -> Result<Option<Self>, TailError> {
        let from = from.max(Seq(1));
        check_released(manifest, shard, from)?;
        let Some(spans) = Spans::live(layout, manifest, shard, frontier) else { return Ok(None) };
        let mut reader = ShardReader::new(spans, committed);
        reader.seek(from)?;
        Ok(Some(Self { reader, next: from, gate }))
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.reader.shard()
    }

    /// Everything below this seq was delivered, or was not asked for.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.next
    }

    /// The next entry that is durable; `None` if there is none yet. Does not wait.
    ///
    /// # Errors
    /// [`TailError`].
    pub fn try_next(&mut self) -> Result<Option<Entry<'_>>, TailError> {
        if self.advance()? { Ok(Some(self.reader.current())) } else { Ok(None) }
    }

    /// The next entry that is durable, waiting for it at most for `timeout`; `None` if none came.
    ///
    /// # Errors
    /// [`TailError`].
    pub fn next_entry(&mut self, timeout: Duration) -> Result<Option<Entry<'_>>, TailError> {
        let started = Instant::now();
        while !self.advance()? {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            Self::rest(left.min(REST));
        }
        Ok(Some(self.reader.current()))
    }

    /// Where a tail waits. The frontier is a number that everybody can read, so looking again is enough; what
    /// wakes sleepers when it moves can wake tails here.
    fn rest(time: Duration) {
        std::thread::park_timeout(time);
    }

    /// Moves to the next durable entry.
    fn advance(&mut self) -> Result<bool, TailError> {
        // The gate may open twice before there is an entry: a manifest, then what it speaks of.
        for _ in 0..ATTEMPTS {
            self.follow_cuts()?;
            match self.move_on() {
                Ok(Some(stamp)) => {
                    self.next = stamp.seq.next();
                    return Ok(true);
                }
                Ok(None) => match self.look()? {
                    Look::Further => {}
                    Look::Same => return Ok(false),
                    Look::Closed => return Err(TailError::Closed),
                },
                Err(error) => self.explain(error)?,
            }
        }
        Ok(false)
    }

    /// The next entry that was not given yet. A place that was not durable when it was sought is come to later,
    /// by way of what lies before it.
    fn move_on(&mut self) -> Result<Option<Stamp>, RecoverError> {
        loop {
            match self.reader.move_on()? {
                Some(stamp) if stamp.seq < self.next => {}
                moved => return Ok(moved),
            }
        }
    }

    /// After a truncation the runs are other ones; what was cut off is not given any more.
    fn follow_cuts(&mut self) -> Result<(), TailError> {
        let shard = self.reader.shard();
        let Gate::Frontier(shared, seen) = &mut self.gate else { return Ok(()) };
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        let Some(index) = shared.shards.iter().position(|it| it.shard == shard) else {
            return Ok(());
        };
        let cuts = Cuts::of(&shared, index);
        if *seen == cuts {
            return Ok(());
        }
        *seen = cuts;
        let manifest = shared.manifests().written().clone();
        self.follow(&manifest)
    }

    /// Asks the gate how far it is now.
    fn look(&mut self) -> Result<Look, TailError> {
        let limit = self.reader.limit();
        match &mut self.gate {
            Gate::Frontier(shared, _) => {
                let Some(shared) = shared.upgrade() else { return Ok(Look::Closed) };
                let committed = shared.epochs.committed();
                let shard = self.reader.shard();
                let frontier =
                    shared.shards.iter().find(|it| it.shard == shard).map(|it| it.frontier.get());
                let frontier = frontier.unwrap_or_default();
                self.reader.extend(frontier, committed);
                Ok(if frontier > limit { Look::Further } else { Look::Same })
            }
            Gate::Promises(scout) => {
                scout.look()?;
                // Before anything more is taken from the run: a truncation may have ended it.
                let manifest = read_manifest(&self.reader.source().layout)?;
                if manifest.generation == self.reader.source().generation {
                    if scout.durable <= limit {
                        return Ok(Look::Same);
                    }
                    self.reader.extend(scout.durable, scout.committed);
                    return Ok(Look::Further);
                }
                self.follow(&manifest)?;
                Ok(Look::Further)
            }
        }
    }

    /// Goes on by a newer manifest, from the same position.
    fn follow(&mut self, manifest: &Manifest) -> Result<(), TailError> {
        let shard = self.reader.shard();
        check_released(manifest, shard, self.next)?;
        let layout = self.reader.source().layout.clone();
        let Some(record) = manifest.shard(shard) else { return Ok(()) };
        let (frontier, committed) = match &mut self.gate {
            Gate::Frontier(..) => (self.reader.limit(), Epoch(0)),
            Gate::Promises(scout) => {
                **scout = Scout::new(&layout, manifest, record);
                (scout.durable, scout.committed)
            }
        };
        if let Some(spans) = Spans::live(&layout, manifest, shard, frontier) {
            let committed = committed.max(self.reader.committed());
            self.reader = ShardReader::new(spans, committed);
            self.reader.seek(self.next)?;
        }
        Ok(())
    }

    /// A place that does not verify may have been let go of since the manifest was read. Only what is bad under
    /// the same manifest is damage.
    fn explain(&mut self, error: RecoverError) -> Result<(), TailError> {
        let manifest = match &self.gate {
            Gate::Frontier(shared, _) => {
                shared.upgrade().map(|it| it.manifests().written().clone())
            }
            Gate::Promises(_) => Some(read_manifest(&self.reader.source().layout)?),
        };
        let Some(manifest) = manifest else { return Err(TailError::Closed) };
        check_released(&manifest, self.reader.shard(), self.next)?;
        if manifest.generation == self.reader.source().generation {
            return Err(error.into());
        }
        self.follow(&manifest)
    }
}

fn check_released(manifest: &Manifest, shard: ShardId, from: Seq) -> Result<(), TailError> {
    match manifest.shard(shard) {
        Some(record) if from <= record.released_seq => {
            Err(TailError::Released { shard, from, released: record.released_seq })
        }
        _ => Ok(()),
    }
}

/// The newest manifest, also while a writer replaces one.
fn read_manifest(layout: &Layout) -> Result<Manifest, RecoverError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = layout
            .list()
            .map_err(RecoverError::from)
            .and_then(|listing| manifests::read(layout, &listing));
        match found {
            Ok(Found::Log(manifest)) => return Ok(*manifest),
            Ok(Found::Nothing) => return Err(RecoverError::NoLog { dir: layout.dir.clone() }),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}

/// Walks ahead over the current run for the promises in its batches.
#[derive(Debug)]
struct Scout {
    walker: Option<Walker>,
    /// Everything up to it is promised to be durable.
    durable: Seq,
    durable_batch: BatchNumber,
    committed: Epoch,
}

impl Scout {
    fn new(layout: &Layout, manifest: &Manifest, record: &ShardRecord) -> Self {
        let walker = record.current.map(|current| {
            let cursor = Cursor::start(current, manifest.first_epoch);
            Walker::new(
                layout.clone(),
                manifest.log,
                record.shard,
                manifest.incarnation,
                current.first_segment..=corewal_format::SegmentNumber(u64::MAX),
                cursor,
            )
            .read_at_once(SCOUT_AHEAD)
        });
        Self {
            walker,
            durable: record.durable_seq,
            durable_batch: record.durable_batch,
            committed: manifest.committed_epoch,
        }
    }

    /// Reads what was written since the last look. What does not verify is the end for now: it may be on its way.
    fn look(&mut self) -> Result<(), RecoverError> {
        let Some(walker) = &mut self.walker else { return Ok(()) };
        walker.forget();
        while let Step::Batch(header) = walker.step()? {
            if header.durable_batch > self.durable_batch {
                self.durable_batch = header.durable_batch;
                self.durable = header.durable_seq;
            }
            self.committed = self.committed.max(header.committed_epoch);
        }
        Ok(())
    }
}
