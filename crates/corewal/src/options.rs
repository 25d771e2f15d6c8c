//! What a log is opened with; validated once, never clamped.

#[cfg(feature = "toml")]
mod toml;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Disk, Engine, RealDisk};
use corewal_format::{
    BATCH_HEADER_LEN, ENTRY_HEADER_LEN, Epoch, HEADER_BLOCKS, MAX_BLOCK_LEN, MAX_SEGMENT_LEN,
    MIN_BLOCK_LEN, SchemaId, padded,
};

use crate::SealedSegment;
use crate::keep::Hooks;
use crate::method::Method;

#[cfg(feature = "toml")]
pub use self::toml::TomlError;

/// How a log is opened. Every field has a default that is good on a local disk.
///
/// ```
/// use corewal::Options;
///
/// let options = Options::new("/tmp/example").shards(4).depth(8);
/// assert!(options.validate().is_ok());
/// assert!(options.depth(0).validate().is_err());
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) engine: Engine,
    pub(crate) shards: u16,
    pub(crate) block_len: u32,
    pub(crate) segment_len: u64,
    pub(crate) first_segment_len: u64,
    pub(crate) write_len: usize,
    pub(crate) depth: usize,
    pub(crate) max_record: usize,
    pub(crate) max_batch: usize,
    pub(crate) prepared_ahead: usize,
    pub(crate) pipeline_bound: u32,
    pub(crate) vouch_after: Duration,
    pub(crate) sync_method: SyncMethod,
    pub(crate) policy: Policy,
    pub(crate) access: AccessWish,
    pub(crate) schema: SchemaId,
    pub(crate) lock_patience: Duration,
    pub(crate) preparing: Preparing,
    pub(crate) spare_segments: usize,
    pub(crate) rotate_after_entries: u64,
    pub(crate) rotate_after: Duration,
    pub(crate) hooks: Hooks,
}

/// How a batch is made durable. A segment is written by one method from its first batch to its last.
///
/// ```
/// use corewal::{Log, Options, SyncMethod, SyncReason};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let options = Options::new(dir.path().join("log")).sync_method(SyncMethod::Linked);
/// let log = Log::recover(options)?.open()?;
/// let capabilities = log.capabilities();
/// assert_eq!(capabilities.sync_method, SyncMethod::Linked);
/// assert_eq!(capabilities.sync_reason, SyncReason::Asked);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SyncMethod {
    /// The fastest here, by measurement: [`Dsync`](Self::Dsync), unless another one was certainly faster on this device.
    ///
    /// Opening does not wait for it. A log begins with [`Dsync`](Self::Dsync), and a thread of its own measures beside
    /// it: at moments at which no batch is in flight and enough segments are prepared; in pieces of 5 ms, with rests of
    /// three times as long as a piece took; about 0.3 s in all, at most 2 s on a slow device; on a file of 2 MiB in the
    /// log's directory, which is removed again. Each shard takes the answer up when it begins its next segment. It is kept
    /// in the directory for the next opening, as long as device, file system, kernel, engine, access and depth are the
    /// same. A log that has no such moment for a minute is not measured until it is opened again.
    ///
    /// Nothing is measured, and [`Dsync`](Self::Dsync) stays, under another policy than [`Policy::EveryBatch`], with
    /// [`Preparing::Manual`], and on a disk that names no [device](crate::Disk::device), as a simulated one.
    #[default]
    Auto,
    /// A write with `RWF_DSYNC` (pwritev2(2)): the write's completion says durable.
    Dsync,
    /// A write, its completion, then an fdatasync that covers all that had completed before it.
    AfterWrite,
    /// A write with an fdatasync linked to it.
    Linked,
}

impl fmt::Display for SyncMethod {
    /// `auto`, `dsync`, `after-write` or `linked`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Method::asked(*self).map_or("auto", Method::name))
    }
}

/// When batches are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Each batch, as soon as it is written.
    #[default]
    EveryBatch,
    /// What was written, at this interval, and when somebody asks, as with [`OnDemand`](Self::OnDemand). Between two
    /// syncs the frontier stands still.
    Interval(Duration),
    /// When somebody asks: by waiting for an entry ([`ShardWriter::wait`](crate::ShardWriter::wait),
    /// [`Producer::wait`](crate::Producer::wait), [`Log::durable`](crate::Log::durable)) or for an epoch
    /// ([`Log::wait_epoch`](crate::Log::wait_epoch), [`Log::committed`](crate::Log::committed)), or by
    /// [`ShardWriter::sync`](crate::ShardWriter::sync); at a close; and for a vouch, which only a sync makes good.
    OnDemand,
}

/// Whether segments are written past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AccessWish {
    /// Direct I/O where the file system has it, else buffered; which one is in the capabilities.
    #[default]
    Direct,
    /// Through the page cache.
    Buffered,
}

/// Who runs the preparing of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Preparing {
    /// A background thread of the log.
    #[default]
    Thread,
    /// Nobody but calls of [`Log::prepare`](crate::Log::prepare): for deterministic tests. The log then starts
    /// no thread at all; recovery looks at one shard after the other.
    Manual,
}

/// An option, or two of them together, cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("option {option} is {value}: {rule}")]
#[non_exhaustive]
pub struct OptionsError {
    /// Which option.
    pub option: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl Options {
    /// Defaults for a log in `dir`: one shard, segments of 64 MiB (the first of 1 MiB), blocks of 4096 bytes,
    /// writes of 256 KiB, at most 8 of them in flight, records up to 16 MiB, batches up to 32 MiB, two
    /// segments prepared ahead, every batch durable, a vouch after 10 ms of idleness.
    #[must_use]
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_path_buf(),
            disk: Arc::new(RealDisk::new()),
            engine: Engine::Auto,
            shards: 1,
            block_len: 4096,
            segment_len: 64 << 20,
            first_segment_len: 1 << 20,
            write_len: 256 << 10,
            depth: 8,
            max_record: 16 << 20,
            max_batch: 32 << 20,
            prepared_ahead: 2,
            pipeline_bound: 8,
            vouch_after: Duration::from_millis(10),
            sync_method: SyncMethod::default(),
            policy: Policy::default(),
            access: AccessWish::default(),
            schema: SchemaId(0),
            lock_patience: Duration::from_secs(2),
            preparing: Preparing::default(),
            spare_segments: 8,
            rotate_after_entries: u64::MAX,
            rotate_after: Duration::MAX,
            hooks: Hooks::default(),
        }
    }

    /// The directory of the log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The largest record in bytes, as [`max_record`](Self::max_record) has set it.
    #[must_use]
    pub fn largest_record(&self) -> usize {
        self.max_record
    }

    /// Where files live; the operating system's by default. A [`SimDisk`](crate::disk::sim::SimDisk) keeps them in
    /// memory, and can cut the power at any operation: the example `crash_test` tests a program so.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Which ring the writers use; io_uring where it can be had by default.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// How many shards are active; at least 1.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Size of a block in bytes: a power of two from 512 to 65536.
    #[must_use]
    pub fn block_len(mut self, bytes: u32) -> Self {
        self.block_len = bytes;
        self
    }

    /// Size of a segment in bytes: a multiple of the block, at most 4 GiB.
    #[must_use]
    pub fn segment_len(mut self, bytes: u64) -> Self {
        self.segment_len = bytes;
        self
    }

    /// Size in bytes of the first segment of a run, which is prepared while the log opens.
    #[must_use]
    pub fn first_segment_len(mut self, bytes: u64) -> Self {
        self.first_segment_len = bytes;
        self
    }

    /// Size in bytes at which an open batch is full.
    #[must_use]
    pub fn write_len(mut self, bytes: usize) -> Self {
        self.write_len = bytes;
        self
    }

    /// How many batches of a shard may be in flight at once, counted from the frontier. A ceiling: those that are full
    /// go up to it, others while fewer than half of it are in flight (and fewer than four, if that is more).
    #[must_use]
    pub fn depth(mut self, batches: usize) -> Self {
        self.depth = batches;
        self
    }

    /// The largest record in bytes.
    #[must_use]
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// The largest batch in bytes; what a record larger than `write_len` is written as.
    #[must_use]
    pub fn max_batch(mut self, bytes: usize) -> Self {
        self.max_batch = bytes;
        self
    }

    /// How many segments are kept prepared ahead of each writer; at least 1.
    #[must_use]
    pub fn prepared_ahead(mut self, segments: usize) -> Self {
        self.prepared_ahead = segments;
        self
    }

    /// How many epochs a shard may close ahead of the committed one; at least 1. A block for each is kept free,
    /// so a segment must hold them.
    #[must_use]
    pub fn pipeline_bound(mut self, epochs: u32) -> Self {
        self.pipeline_bound = epochs;
        self
    }

    /// How long a shard is idle before it vouches for its last acknowledgements.
    #[must_use]
    pub fn vouch_after(mut self, idle: Duration) -> Self {
        self.vouch_after = idle;
        self
    }

    /// How batches become durable; by default by what is measured to be fastest.
    #[must_use]
    pub fn sync_method(mut self, method: SyncMethod) -> Self {
        self.sync_method = method;
        self
    }

    /// When batches become durable. Other policies than [`Policy::EveryBatch`] use
    /// [`SyncMethod::AfterWrite`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether segments are written past the page cache.
    #[must_use]
    pub fn access(mut self, access: AccessWish) -> Self {
        self.access = access;
        self
    }

    /// A name for the types of the records that this incarnation appends; typed reads compare it.
    #[must_use]
    pub fn schema(mut self, schema: SchemaId) -> Self {
        self.schema = schema;
        self
    }

    /// How long to try for a lock that another process holds; a killed process frees it only when its last
    /// write has landed.
    #[must_use]
    pub fn lock_patience(mut self, patience: Duration) -> Self {
        self.lock_patience = patience;
        self
    }

    /// Who prepares segments.
    #[must_use]
    pub fn preparing(mut self, preparing: Preparing) -> Self {
        self.preparing = preparing;
        self
    }

    /// How many files of released segments each shard keeps for use under new numbers; the others are removed.
    #[must_use]
    pub fn spare_segments(mut self, files: usize) -> Self {
        self.spare_segments = files;
        self
    }

    /// A segment that has so many entries takes no further batch of entries, however much room it has left: segments
    /// that can be released or archived sooner, for space on the disk. No limit by default.
    ///
    /// While no other segment is prepared, as on a full disk, the writer goes on in the one that it has. The space is
    /// not given back: each segment is a file of [`segment_len`](Self::segment_len).
    /// [`ShardWriter::rotate`](crate::ShardWriter::rotate) is for a rule of your own.
    #[must_use]
    pub fn rotate_after_entries(mut self, entries: u64) -> Self {
        self.rotate_after_entries = entries;
        self
    }

    /// The same for a segment whose first entry is so old, by the disk's clock; the clock is read once for a batch then.
    /// Nothing happens on an idle shard: the next entry begins the next segment. No limit by default.
    #[must_use]
    pub fn rotate_after(mut self, age: Duration) -> Self {
        self.rotate_after = age;
        self
    }

    /// Called when a checkpoint is durable, with its epoch, by the thread that made it. A panic in it is
    /// contained.
    #[must_use]
    pub fn on_checkpoint(mut self, hook: impl Fn(Epoch) + Send + Sync + 'static) -> Self {
        self.hooks.checkpoint = Some(Arc::new(hook));
        self
    }

    /// Called when the full segments with entries above the last checkpoint have `limit` bytes or more, with
    /// how many they have: time for another one. Called once, and again when a checkpoint has brought it below
    /// the limit. Runs on a thread of the log's own; a panic in it is contained.
    #[must_use]
    pub fn on_growth(mut self, limit: u64, hook: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.hooks.growth = Some((limit, Arc::new(hook)));
        self
    }

    /// Takes each segment that is full and durable, or was ended by a recovery, before it can be released: to
    /// copy it somewhere else. Until the call returns `Ok` the segment stays, and the call is made again after
    /// a while; after a restart it is made again for every segment that is still there. Runs on a thread of the
    /// log's own; a panic counts as an error, which [`Retention`](crate::Retention) shows.
    #[must_use]
    pub fn archive(
        mut self,
        archive: impl Fn(&SealedSegment) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.archive = Some(Arc::new(archive));
        self
    }

    /// Memory of one shard's blocks, in bytes; a batch above the write size comes on top while it is in flight,
    /// and 72 KiB for statistics.
    #[must_use]
    pub fn shard_memory(&self) -> usize {
        self.block_count() * self.write_len
    }

    pub(crate) fn block_count(&self) -> usize {
        self.depth + 2
    }

    /// Whether a batch may stay written, and not durable, until somebody asks.
    pub(crate) fn has_lazy_syncs(&self) -> bool {
        self.policy != Policy::EveryBatch
    }

    /// The longest batch that a segment of the full size can hold.
    fn segment_room(&self) -> u64 {
        self.segment_len.saturating_sub(u64::from(self.block_len) * (u64::from(HEADER_BLOCKS)))
    }

    /// Checks every option alone and against the others.
    ///
    /// # Errors
    /// The first one that cannot be, with its rule.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let block = u64::from(self.block_len);
        let write_len = self.write_len as u64;
        let blocks = |bytes: u64| block > 0 && bytes.is_multiple_of(block);
        let smallest_segment = block * (u64::from(HEADER_BLOCKS) + 1);
        let max_batch = self.max_batch as u64;
        let reserve = (u64::from(self.pipeline_bound) + 1) * block;
        let largest_record_batch =
            BATCH_HEADER_LEN + ENTRY_HEADER_LEN + padded(self.max_record.min(1 << 40));
        let rules: [(&'static str, &dyn fmt::Display, bool, String); 12] = [
            ("shards", &self.shards, self.shards > 0, "at least 1".into()),
            (
                "block_len",
                &self.block_len,
                self.block_len.is_power_of_two()
                    && (MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&self.block_len),
                format!("a power of two from {MIN_BLOCK_LEN} to {MAX_BLOCK_LEN}"),
            ),
            (
                "segment_len",
                &self.segment_len,
                blocks(self.segment_len)
                    && (smallest_segment..=MAX_SEGMENT_LEN).contains(&self.segment_len),
                format!("a multiple of block_len from {smallest_segment} to {MAX_SEGMENT_LEN}"),
            ),
            (
                "first_segment_len",
                &self.first_segment_len,
                blocks(self.first_segment_len)
                    && (smallest_segment..=self.segment_len).contains(&self.first_segment_len),
                format!("a multiple of block_len from {smallest_segment} to segment_len"),
            ),
            (
                "write_len",
                &self.write_len,
                blocks(write_len) && (block..=1 << 30).contains(&write_len),
                "a multiple of block_len up to 1 GiB".into(),
            ),
            ("depth", &self.depth, (1..=1024).contains(&self.depth), "from 1 to 1024".into()),
            (
                "max_batch",
                &self.max_batch,
                (write_len..=1 << 30).contains(&max_batch) && max_batch <= self.segment_room(),
                format!(
                    "from write_len to what a segment holds ({} bytes), and at most 1 GiB",
                    self.segment_room()
                ),
            ),
            (
                "max_record",
                &self.max_record,
                self.max_record > 0 && largest_record_batch <= self.max_batch,
                "at least 1, and with its headers at most max_batch".into(),
            ),
            (
                "prepared_ahead",
                &self.prepared_ahead,
                (1..=64).contains(&self.prepared_ahead),
                "from 1 to 64".into(),
            ),
            (
                "rotate_after_entries",
                &self.rotate_after_entries,
                self.rotate_after_entries > 0,
                "at least 1".into(),
            ),
            (
                "rotate_after",
                &self.rotate_after.as_nanos(),
                !self.rotate_after.is_zero(),
                "more than nothing".into(),
            ),
            (
                "pipeline_bound",
                &self.pipeline_bound,
                (1..=1024).contains(&self.pipeline_bound) && reserve <= self.segment_room(),
                format!(
                    "from 1 to 1024, and with a block for each of these epochs and one more at most what a \
                     segment holds ({} bytes)",
                    self.segment_room()
                ),
            ),
        ];
        match rules.into_iter().find(|(.., holds, _)| !holds) {
            None => Ok(()),
            Some((option, value, _, rule)) => {
                Err(OptionsError { option, value: value.to_string(), rule })
            }
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("engine", &self.engine)
            .field("shards", &self.shards)
            .field("segment_len", &self.segment_len)
            .field("depth", &self.depth)
            .field("sync_method", &self.sync_method)
            .field("policy", &self.policy)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}
