//! What the threads of an open log share: little, and nothing on the way of an append.

use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use corewal_disk::{Lock, RingFacts};
use corewal_format::{BatchNumber, Incarnation, LogId, Seq, ShardId, Stamp};

use crate::Options;
use crate::epoch::EpochBoard;
use crate::error::WaitError;
use crate::frontier::Frontier;
use crate::keep::{Kept, Piece};
use crate::manifests::ManifestWriter;
use crate::meter::Meter;
use crate::method::Methods;
use crate::prepare::{Bell, Recipe, SegmentQueue};
use crate::producer::Pinned;
use crate::recovery::LastBatch;
use crate::stats::ShardStats;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::wakeup::Wakeup;

/// The state of an open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) log: LogId,
    pub(crate) incarnation: Incarnation,
    pub(crate) recipe: Recipe,
    pub(crate) bell: Bell,
    /// How segments are written that begin from now on.
    pub(crate) methods: Methods,
    /// Wakes and stops the thread that measures the device.
    pub(crate) probe_bell: Bell,
    pub(crate) epochs: EpochBoard,
    /// Whoever changes what the manifest says holds it from reading the last one until the next is durable.
    pub(crate) manifests: Mutex<ManifestWriter>,
    /// Held for a moment at a time, also under `manifests`; never over a call of the system.
    pub(crate) kept: Mutex<Kept>,
    /// Something may be to be told to the user's hooks.
    pub(crate) hook_bell: Bell,
    /// The active shards, by id from 0.
    pub(crate) shards: Box<[ShardShared]>,
    /// The lock on the directory, until the log is closed or dropped: handles that outlive it do not keep it. Rings
    /// hold it too, until their last write has landed.
    pub(crate) lock: Mutex<Option<Lock>>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Lock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment of a shard is full, and durable to its last batch.
    pub(crate) fn seal(&self, shard: ShardId, piece: Piece) {
        self.kept().seal(shard, piece);
        self.hook_bell.ring();
    }

    pub(crate) fn manifests(&self) -> MutexGuard<'_, ManifestWriter> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one shard shares with the rest.
#[derive(Debug)]
pub(crate) struct ShardShared {
    pub(crate) shard: ShardId,
    pub(crate) frontier: Frontier,
    pub(crate) wakeup: Arc<Wakeup>,
    pub(crate) segments: SegmentQueue,
    pub(crate) start: Start,
    pub(crate) desk: Mutex<Desk>,
    pub(crate) meter: Meter,
    /// How many truncations this incarnation has made: readers of the shard look at the manifest anew.
    pub(crate) cuts: AtomicU64,
    /// What they have cut off, for those who wait for a stamp.
    voids: Mutex<Vec<RangeInclusive<Seq>>>,
}

/// Where a shard's writer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) first_batch: BatchNumber,
    pub(crate) first_seq: Seq,
}

/// What a writer leaves for others to see.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) ring: Option<RingFacts>,
    /// The last durable batch.
    pub(crate) durable: Option<LastBatch>,
    /// The writer was closed: `durable` is the exact end of its run.
    pub(crate) closed: bool,
    /// The CPU of a writer's thread that the log has started.
    pub(crate) pinned: Option<Pinned>,
}

impl ShardShared {
    /// Without any batch of this incarnation.
    pub(crate) fn new(
        shard: ShardId,
        start: Start,
        segments: SegmentQueue,
        wakeup: Arc<Wakeup>,
    ) -> Self {
        Self {
            shard,
            frontier: Frontier::new(shard, start.first_batch.before(), start.first_seq.before()),
            wakeup,
            segments,
            start,
            desk: Mutex::new(Desk::default()),
            meter: Meter::default(),
            cuts: AtomicU64::new(0),
            voids: Mutex::new(Vec::new()),
        }
    }

    /// A truncation has cut these seqs off.
    pub(crate) fn cut(&self, seqs: RangeInclusive<Seq>) {
        self.voids.lock().unwrap_or_else(PoisonError::into_inner).push(seqs);
        self.cuts.fetch_add(1, Ordering::Release);
    }

    /// The frontier does not go back, so who is told by it asks this too.
    pub(crate) fn check_void(&self, stamp: Stamp) -> Result<(), WaitError> {
        if self.cuts.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let voids = self.voids.lock().unwrap_or_else(PoisonError::into_inner);
        match voids.iter().any(|void| void.contains(&stamp.seq)) {
            true => Err(WaitError::Voided { stamp }),
            false => Ok(()),
        }
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to it is written; not below a frontier that was read before.
    pub(crate) fn written(&self) -> Seq {
        Seq(self.meter.written_seq.read()).max(self.frontier.get())
    }

    pub(crate) fn stats(&self) -> ShardStats {
        ShardStats::read(&self.meter, &self.segments)
    }

    pub(crate) fn wake(&self) {
        self.wakeup.raise();
    }
}
