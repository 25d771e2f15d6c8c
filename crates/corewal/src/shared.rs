//! What the threads of an open log share: little, and nothing on the way of an append.

use std::sync::PoisonError;

use corewal_disk::{Lock, RingFacts};
use corewal_format::{BatchNumber, Incarnation, LogId, Seq, ShardId};

use crate::Options;
use crate::epoch::EpochBoard;
use crate::keep::{Kept, Piece};
use crate::manifests::ManifestWriter;
use crate::prepare::{Bell, Recipe, SegmentQueue};
use crate::recovery::LastBatch;
use crate::stats::ShardStats;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, Thread};

/// The state of an open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) log: LogId,
    pub(crate) incarnation: Incarnation,
    pub(crate) recipe: Recipe,
    pub(crate) bell: Bell,
    pub(crate) epochs: EpochBoard,
    /// Whoever changes what the manifest says holds it from reading the last one until the next is durable.
    pub(crate) manifests: Mutex<ManifestWriter>,
    /// Held for a moment at a time, also under `manifests`; never over a call of the system.
    pub(crate) kept: Mutex<Kept>,
    /// Something may be to be told to the user's hooks.
    pub(crate) hook_bell: Bell,
    /// The active shards, by id from 0.
    pub(crate) shards: Box<[ShardShared]>,
    pub(crate) lock: Lock,
}

impl Shared {
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
    pub(crate) frontier: Published,
    pub(crate) segments: SegmentQueue,
    pub(crate) start: Start,
    pub(crate) desk: Mutex<Desk>,
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
    /// To wake the writer when it sleeps outside of its ring.
    pub(crate) thread: Option<Thread>,
    pub(crate) ring: Option<RingFacts>,
    pub(crate) stats: ShardStats,
    /// The last durable batch.
    pub(crate) durable: Option<LastBatch>,
    /// The writer was closed: `durable` is the exact end of its run.
    pub(crate) closed: bool,
}

impl ShardShared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = &self.desk().thread {
            thread.unpark();
        }
    }
}

/// What leaves the hot path, on a cache line of its own: the frontier.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Published {
    seq: AtomicU64,
    batch: AtomicU64,
}

impl Published {
    pub(crate) fn new(batch: BatchNumber, seq: Seq) -> Self {
        Self { seq: AtomicU64::new(seq.0), batch: AtomicU64::new(batch.0) }
    }

    /// Never goes back.
    pub(crate) fn advance(&self, batch: BatchNumber, seq: Seq) {
        let before = self.batch.load(Ordering::Relaxed);
        self.batch.store(batch.0.max(before), Ordering::Release);
        let before = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq.0.max(before), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Seq {
        Seq(self.seq.load(Ordering::Acquire))
    }

    /// The last durable batch, and a seq that it or an earlier one ends with.
    pub(crate) fn last(&self) -> (BatchNumber, Seq) {
        // The seq first: the batch, which is stored before, has then reached it.
        let seq = self.get();
        (BatchNumber(self.batch.load(Ordering::Acquire)), seq)
    }
}
