//! How a recorded run is set up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal::{AccessWish, Disk, Engine, Options, Policy, Preparing, SyncMethod};

use crate::Rng;

/// Everything that a run depends on, besides time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all choices of the run come from.
    pub seed: u64,
    /// io_uring, or synchronous I/O.
    pub engine: Engine,
    /// How batches become durable.
    pub sync_method: SyncMethod,
    /// When.
    pub policy: Policy,
    /// Past the page cache, or through it.
    pub access: AccessWish,
    /// Active shards in the first life of the log.
    pub shards: u16,
    /// Size of a block in bytes.
    pub block_len: u32,
    /// Size of a segment in bytes.
    pub segment_len: u64,
    /// Size of a full batch in bytes.
    pub write_len: usize,
    /// How often the log is opened.
    pub lives: u32,
    /// What each shard does in each life.
    pub steps: u32,
}

/// Engine, sync method, policy and access, in the order in which runs take them.
const KINDS: [(Engine, SyncMethod, Policy, AccessWish); 14] = {
    use AccessWish::{Buffered, Direct};
    use Engine::{Blocking, Uring};
    use Policy::{EveryBatch, Interval, OnDemand};
    use SyncMethod::{AfterWrite, Dsync, Linked};
    [
        (Uring, Dsync, EveryBatch, Direct),
        (Uring, AfterWrite, EveryBatch, Direct),
        (Uring, Linked, EveryBatch, Direct),
        (Uring, Dsync, EveryBatch, Buffered),
        (Uring, AfterWrite, EveryBatch, Buffered),
        (Uring, Linked, EveryBatch, Buffered),
        (Blocking, Dsync, EveryBatch, Direct),
        (Blocking, AfterWrite, EveryBatch, Direct),
        (Blocking, Linked, EveryBatch, Direct),
        (Blocking, Dsync, EveryBatch, Buffered),
        (Blocking, AfterWrite, EveryBatch, Buffered),
        (Blocking, Linked, EveryBatch, Buffered),
        (Uring, AfterWrite, Interval(Duration::from_millis(1)), Direct),
        (Uring, AfterWrite, OnDemand, Buffered),
    ]
};

impl Plan {
    /// How many kinds of runs there are.
    pub const KIND_COUNT: u64 = KINDS.len() as u64;

    /// The plan of run number `run` of a seed; every kind of run comes in turn.
    #[must_use]
    pub fn of(seed: u64, run: u64) -> Self {
        let mut rng = Rng::of(seed, run);
        let kind = usize::try_from(run % Self::KIND_COUNT).unwrap_or(0);
        let (engine, sync_method, policy, access) = KINDS[kind];
        // Direct writes need blocks as large as the device says, else they go buffered.
        let block_len = if rng.chance(60) { 4096 } else { 512 };
        let block = u64::from(block_len);
        let write_len = [4096, 8192, 16384][rng.index(3)];
        let segment_len = (16 << 10) + block * 4 * rng.below(13);
        Self {
            seed: rng.next(),
            engine,
            sync_method,
            policy,
            access,
            shards: 1 + rng.small(3),
            block_len,
            segment_len: segment_len.max(write_len as u64 + 4 * block),
            write_len,
            lives: 2 + u32::from(rng.small(3)),
            steps: 30 + u32::from(rng.small(60)),
        }
    }

    /// Active shards in a life of the log.
    #[must_use]
    pub fn shards_in(&self, life: u32) -> u16 {
        let other = Rng::of(self.seed, u64::from(life)).chance(20);
        if other { 1 + (self.shards + u16::from(life.is_multiple_of(2))) % 3 } else { self.shards }
    }

    /// The largest record that is appended, in bytes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.max_batch() - self.block_len as usize
    }

    fn max_batch(&self) -> usize {
        let room = self.segment_len - 2 * u64::from(self.block_len);
        usize::try_from(room).expect("small").max(self.write_len)
    }

    /// The options of the log in `dir` on a disk.
    #[must_use]
    pub fn options(&self, dir: &Path, disk: Arc<dyn Disk>) -> Options {
        Options::new(dir)
            .disk(disk)
            .engine(self.engine)
            .sync_method(self.sync_method)
            .policy(self.policy)
            .access(self.access)
            .shards(self.shards)
            .block_len(self.block_len)
            .segment_len(self.segment_len)
            .first_segment_len(self.segment_len.min(16 << 10))
            .write_len(self.write_len)
            .max_batch(self.max_batch())
            .max_record(self.max_record() - 256)
            .depth(8)
            .pipeline_bound(2)
            .vouch_after(Duration::from_millis(1))
            .prepared_ahead(2)
    }

    /// The options with which an image is recovered.
    #[must_use]
    pub fn image_options(&self, dir: &Path, disk: Arc<dyn Disk>) -> Options {
        self.options(dir, disk)
            .engine(Engine::Blocking)
            .sync_method(SyncMethod::Dsync)
            .policy(Policy::EveryBatch)
            .preparing(Preparing::Manual)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} {:?} {:?}, {} shards, block {}, segment {}, write {}, {} lives of {} steps",
            self.engine,
            self.sync_method,
            self.policy,
            self.access,
            self.shards,
            self.block_len,
            self.segment_len,
            self.write_len,
            self.lives,
            self.steps
        )
    }
}
