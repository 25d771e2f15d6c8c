//! The manifest: the one file of a log that is replaced atomically.

use alloc::vec::Vec;

use crate::bytes::{is_zero, put, take, u16_at, u32_at, u64_at};
#[cfg(test)]
use crate::format_doc::Field;
use crate::{
    BatchNumber, Crc, Epoch, FORMAT_VERSION, Generation, HEADER_BLOCKS, Incarnation, LogId,
    MAX_SEGMENT_LEN, MIN_BLOCK_LEN, SegmentNumber, Seq, ShardId,
};
use corewal_crc::extend;

/// The longest user bytes of a checkpoint.
pub const MAX_CHECKPOINT_LEN: usize = 16 << 20;
/// The longest manifest that is written or read.
pub const MAX_MANIFEST_LEN: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"CWALMANI";

pub(crate) const HEADER_LEN: usize = 96;
const AT_MAGIC: usize = 0;
const AT_CRC: usize = 8;
const AT_VERSION: usize = 12;
const AT_HEADER_ZERO: usize = 14;
const AT_LEN: usize = 16;
const AT_SHARD_COUNT: usize = 20;
const AT_LOG: usize = 24;
const AT_GENERATION: usize = 40;
const AT_INCARNATION: usize = 48;
const AT_COMMITTED_EPOCH: usize = 56;
const AT_FIRST_EPOCH: usize = 64;
const AT_PIPELINE_BOUND: usize = 72;
const AT_CHECKPOINT_LEN: usize = 76;
const AT_CHECKPOINT_EPOCH: usize = 80;
const AT_HEADER_RESERVED: usize = 88;

pub(crate) const SHARD_LEN: usize = 96;
const AT_SHARD: usize = 0;
const AT_SHARD_FLAGS: usize = 2;
const AT_RUN_COUNT: usize = 4;
const AT_NEXT_SEGMENT: usize = 8;
const AT_NEXT_BATCH: usize = 16;
const AT_NEXT_SEQ: usize = 24;
const AT_RELEASED_SEQ: usize = 32;
const AT_CURRENT_SEGMENT: usize = 40;
const AT_CURRENT_BATCH: usize = 48;
const AT_CURRENT_SEQ: usize = 56;
const AT_DURABLE_BATCH: usize = 64;
const AT_DURABLE_SEQ: usize = 72;
const AT_BARRIER: usize = 80;
const AT_SHARD_RESERVED: usize = 88;

pub(crate) const SHARD_ACTIVE: u16 = 1;
pub(crate) const SHARD_HAS_CURRENT: u16 = 2;

pub(crate) const RUN_LEN: usize = 80;
const AT_FIRST_SEGMENT: usize = 0;
const AT_LAST_SEGMENT: usize = 8;
const AT_FIRST_BATCH: usize = 16;
const AT_LAST_BATCH: usize = 24;
const AT_RUN_FIRST_SEQ: usize = 32;
const AT_LAST_KEPT_SEQ: usize = 40;
const AT_RUN_INCARNATION: usize = 48;
const AT_RUN_FIRST_EPOCH: usize = 56;
const AT_LAST_BATCH_AT: usize = 64;
const AT_VOID_COUNT: usize = 72;
const AT_RUN_ZERO: usize = 76;

pub(crate) const VOID_LEN: usize = 72;
const AT_VOID_FROM_SEGMENT: usize = 0;
const AT_VOID_FROM_AT: usize = 8;
const AT_VOID_TO_SEGMENT: usize = 16;
const AT_VOID_TO_AT: usize = 24;
const AT_VOID_FIRST_BATCH: usize = 32;
const AT_VOID_LAST_BATCH: usize = 40;
const AT_VOID_FIRST_SEQ: usize = 48;
const AT_VOID_LAST_SEQ: usize = 56;
const AT_VOID_CAUSE: usize = 64;
const AT_VOID_ZERO: usize = 68;

const _: () = assert!(AT_HEADER_RESERVED + 8 == HEADER_LEN);
const _: () = assert!(AT_SHARD_RESERVED + 8 == SHARD_LEN);
const _: () = assert!(AT_RUN_ZERO + 4 == RUN_LEN);
const _: () = assert!(AT_VOID_ZERO + 4 == VOID_LEN);

/// The fields of a manifest header as the format document lists them.
#[cfg(test)]
pub(crate) const HEADER_FIELDS: &[Field] = &[
    ("magic", AT_MAGIC, 8),
    ("crc", AT_CRC, 4),
    ("version", AT_VERSION, 2),
    ("zero", AT_HEADER_ZERO, 2),
    ("length", AT_LEN, 4),
    ("shard count", AT_SHARD_COUNT, 4),
    ("log id", AT_LOG, 16),
    ("generation", AT_GENERATION, 8),
    ("incarnation", AT_INCARNATION, 8),
    ("committed epoch", AT_COMMITTED_EPOCH, 8),
    ("first epoch", AT_FIRST_EPOCH, 8),
    ("pipeline bound", AT_PIPELINE_BOUND, 4),
    ("checkpoint length", AT_CHECKPOINT_LEN, 4),
    ("checkpoint epoch", AT_CHECKPOINT_EPOCH, 8),
    ("reserved", AT_HEADER_RESERVED, 8),
];

/// The fields of a shard record as the format document lists them.
#[cfg(test)]
pub(crate) const SHARD_FIELDS: &[Field] = &[
    ("shard", AT_SHARD, 2),
    ("flags", AT_SHARD_FLAGS, 2),
    ("run count", AT_RUN_COUNT, 4),
    ("next segment", AT_NEXT_SEGMENT, 8),
    ("next batch", AT_NEXT_BATCH, 8),
    ("next seq", AT_NEXT_SEQ, 8),
    ("released seq", AT_RELEASED_SEQ, 8),
    ("current segment", AT_CURRENT_SEGMENT, 8),
    ("current batch", AT_CURRENT_BATCH, 8),
    ("current seq", AT_CURRENT_SEQ, 8),
    ("durable batch", AT_DURABLE_BATCH, 8),
    ("durable seq", AT_DURABLE_SEQ, 8),
    ("barrier", AT_BARRIER, 8),
    ("reserved", AT_SHARD_RESERVED, 8),
];

/// The fields of a run as the format document lists them.
#[cfg(test)]
pub(crate) const RUN_FIELDS: &[Field] = &[
    ("first segment", AT_FIRST_SEGMENT, 8),
    ("last segment", AT_LAST_SEGMENT, 8),
    ("first batch", AT_FIRST_BATCH, 8),
    ("last batch", AT_LAST_BATCH, 8),
    ("first seq", AT_RUN_FIRST_SEQ, 8),
    ("last kept seq", AT_LAST_KEPT_SEQ, 8),
    ("incarnation", AT_RUN_INCARNATION, 8),
    ("first epoch", AT_RUN_FIRST_EPOCH, 8),
    ("last batch at", AT_LAST_BATCH_AT, 8),
    ("void count", AT_VOID_COUNT, 4),
    ("zero", AT_RUN_ZERO, 4),
];

/// The fields of a void as the format document lists them.
#[cfg(test)]
pub(crate) const VOID_FIELDS: &[Field] = &[
    ("from segment", AT_VOID_FROM_SEGMENT, 8),
    ("from at", AT_VOID_FROM_AT, 8),
    ("to segment", AT_VOID_TO_SEGMENT, 8),
    ("to at", AT_VOID_TO_AT, 8),
    ("first batch", AT_VOID_FIRST_BATCH, 8),
    ("last batch", AT_VOID_LAST_BATCH, 8),
    ("first seq", AT_VOID_FIRST_SEQ, 8),
    ("last seq", AT_VOID_LAST_SEQ, 8),
    ("cause", AT_VOID_CAUSE, 4),
    ("zero", AT_VOID_ZERO, 4),
];

/// What a log knows for certain; generation after generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The log.
    pub log: LogId,
    /// Which version of the manifest this is; lives in slot `generation mod 2`.
    pub generation: Generation,
    /// The incarnation that wrote it; 0 before the first.
    pub incarnation: Incarnation,
    /// The committed epoch at the time of writing.
    pub committed_epoch: Epoch,
    /// The first epoch of this incarnation.
    pub first_epoch: Epoch,
    /// How many epochs this incarnation may close ahead of the committed one.
    pub pipeline_bound: u32,
    /// What the user recorded last.
    pub checkpoint: Option<Checkpoint>,
    /// Every shard, retired ones too, by id.
    pub shards: Vec<ShardRecord>,
}

/// Everything up to `epoch` is held elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Up to which epoch.
    pub epoch: Epoch,
    /// The user's bytes: offsets, a watermark, the name of a snapshot.
    pub bytes: Vec<u8>,
}

/// What the manifest holds of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// Which shard.
    pub shard: ShardId,
    /// Whether it has a writer in this incarnation, and counts for the committed epoch.
    pub active: bool,
    /// Every number at or above this one is free: none was ever used, seen or given out, except by the current
    /// run. After a clean close, and for a retired shard, the next run starts here.
    pub next_segment: SegmentNumber,
    /// Every number at or above this one is free, in the same sense.
    pub next_batch: BatchNumber,
    /// Every seq at or above this one is free, in the same sense.
    pub next_seq: Seq,
    /// Entries up to this one were released by a checkpoint; 0 for none.
    pub released_seq: Seq,
    /// The run that this incarnation writes; none for a retired shard, or after a clean close.
    pub current: Option<CurrentRun>,
    /// Promise: the last batch that was durable when the manifest was written; 0 for none of the current run.
    pub durable_batch: BatchNumber,
    /// The seq that goes with `durable_batch`.
    pub durable_seq: Seq,
    /// Promise: the last epoch that a durable barrier of this incarnation closed; 0 for none.
    pub barrier: Epoch,
    /// The kept runs that have ended, in order.
    pub runs: Vec<Run>,
}

/// Where the run that is being written began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentRun {
    /// Its first segment.
    pub first_segment: SegmentNumber,
    /// The number of its first batch.
    pub first_batch: BatchNumber,
    /// The lowest seq that it may hold.
    pub first_seq: Seq,
}

/// Consecutive segments with an exact end. Nothing looks behind the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first kept segment.
    pub first_segment: SegmentNumber,
    /// The segment of its last whole batch.
    pub last_segment: SegmentNumber,
    /// Number of its first kept batch.
    pub first_batch: BatchNumber,
    /// Number of its last whole batch.
    pub last_batch: BatchNumber,
    /// Offset of that batch in the last segment, in bytes.
    pub last_batch_at: u64,
    /// The lowest seq that it may hold.
    pub first_seq: Seq,
    /// The last seq that is delivered; the last batch may hold higher ones, which are void.
    pub last_kept_seq: Seq,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The first epoch of that incarnation.
    pub first_epoch: Epoch,
    /// Ranges inside it that are no part of the stream any more, in order.
    pub voids: Vec<Void>,
}

/// A range that is no part of the stream any more. Recovery does not read between its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// Segment of the first place that is left out.
    pub from_segment: SegmentNumber,
    /// Its offset, in bytes.
    pub from_at: u64,
    /// Segment of the place where reading goes on.
    pub to_segment: SegmentNumber,
    /// Its offset, in bytes.
    pub to_at: u64,
    /// First batch that is left out.
    pub first_batch: BatchNumber,
    /// Last batch that is left out.
    pub last_batch: BatchNumber,
    /// First seq that is left out.
    pub first_seq: Seq,
    /// Last seq that is left out.
    pub last_seq: Seq,
    /// Why.
    pub cause: VoidCause,
}

/// Why a range is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoidCause {
    /// A suffix truncation by the user.
    Truncated,
    /// Above the committed epoch at a committed-only recovery.
    Uncommitted,
    /// Damaged, and given up by an explicit salvage.
    Salvaged,
}

impl VoidCause {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Truncated => 1,
            Self::Uncommitted => 2,
            Self::Salvaged => 3,
        }
    }
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// Too short for a manifest, or shorter than it says.
    #[error("manifest is cut off")]
    Cut,
    /// Another kind of file.
    #[error("no manifest")]
    Magic,
    /// Damaged.
    #[error("manifest checksum mismatch")]
    Checksum,
    /// A later version of the format.
    #[error("format version {0} is not known to this program (it knows {FORMAT_VERSION})")]
    Version(u16),
    /// The checksum holds, but a field cannot be: `0` names it.
    #[error("impossible {0} in the manifest")]
    Impossible(&'static str),
}

impl Manifest {
    /// Bytes of the encoded manifest.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let runs = self.shards.iter().flat_map(|shard| &shard.runs);
        let voids: usize = runs.clone().map(|run| run.voids.len()).sum();
        HEADER_LEN
            + self.shards.len() * SHARD_LEN
            + runs.count() * RUN_LEN
            + voids * VOID_LEN
            + self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.bytes.len())
    }

    /// The bytes of the manifest.
    ///
    /// # Panics
    /// If it is longer than [`MAX_MANIFEST_LEN`], or the checkpoint's bytes than [`MAX_CHECKPOINT_LEN`]:
    /// callers refuse such input before. If no reader would take it: a log whose manifest cannot be read
    /// is lost.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let len = self.encoded_len();
        assert!(len <= MAX_MANIFEST_LEN, "manifest of {len} bytes");
        assert_eq!(self.check(), Ok(()), "a manifest that no reader takes");
        let mut out = Vec::with_capacity(len);
        out.resize(HEADER_LEN, 0);
        let checkpoint = self.checkpoint.as_ref();
        let user_bytes = checkpoint.map_or(&[][..], |checkpoint| &checkpoint.bytes);
        assert!(user_bytes.len() <= MAX_CHECKPOINT_LEN);
        for shard in &self.shards {
            shard.encode(&mut out);
        }
        out.extend_from_slice(user_bytes);
        put(&mut out, AT_MAGIC, MAGIC);
        put(&mut out, AT_VERSION, FORMAT_VERSION.to_le_bytes());
        put(&mut out, AT_LEN, count(len).to_le_bytes());
        put(&mut out, AT_SHARD_COUNT, count(self.shards.len()).to_le_bytes());
        put(&mut out, AT_LOG, self.log.0);
        put(&mut out, AT_GENERATION, self.generation.0.to_le_bytes());
        put(&mut out, AT_INCARNATION, self.incarnation.0.to_le_bytes());
        put(&mut out, AT_COMMITTED_EPOCH, self.committed_epoch.0.to_le_bytes());
        put(&mut out, AT_FIRST_EPOCH, self.first_epoch.0.to_le_bytes());
        put(&mut out, AT_PIPELINE_BOUND, self.pipeline_bound.to_le_bytes());
        put(&mut out, AT_CHECKPOINT_LEN, count(user_bytes.len()).to_le_bytes());
        let epoch = checkpoint.map_or(0, |checkpoint| checkpoint.epoch.0);
        put(&mut out, AT_CHECKPOINT_EPOCH, epoch.to_le_bytes());
        let crc = Self::crc(&out);
        put(&mut out, AT_CRC, crc.to_le_bytes());
        out
    }

    fn crc(bytes: &[u8]) -> Crc {
        extend(0, &bytes[AT_VERSION..])
    }

    /// Reads a manifest from the start of `bytes`; bytes behind its stated length must be zero (the file
    /// is allocated ahead).
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let header = bytes.get(..HEADER_LEN).ok_or(ManifestFault::Cut)?;
        if take::<8>(header, AT_MAGIC) != MAGIC {
            return Err(ManifestFault::Magic);
        }
        let len = u32_at(header, AT_LEN) as usize;
        if !(HEADER_LEN..=MAX_MANIFEST_LEN).contains(&len) {
            return Err(ManifestFault::Checksum);
        }
        let whole = bytes.get(..len).ok_or(ManifestFault::Cut)?;
        if u32_at(header, AT_CRC) != Self::crc(whole) {
            return Err(ManifestFault::Checksum);
        }
        match u16_at(header, AT_VERSION) {
            FORMAT_VERSION => {}
            other => return Err(ManifestFault::Version(other)),
        }
        if !is_zero(&bytes[len..]) || !is_zero(&header[AT_HEADER_ZERO..AT_LEN]) {
            return Err(ManifestFault::Impossible("padding"));
        }
        if !is_zero(&header[AT_HEADER_RESERVED..]) {
            return Err(ManifestFault::Impossible("reserved field"));
        }
        let mut fields = Fields { rest: &whole[HEADER_LEN..] };
        let shard_count = u32_at(header, AT_SHARD_COUNT) as usize;
        let shards = fields.list(shard_count, SHARD_LEN, "shard count", ShardRecord::decode)?;
        let bytes = fields.rest;
        if bytes.len() != u32_at(header, AT_CHECKPOINT_LEN) as usize
            || bytes.len() > MAX_CHECKPOINT_LEN
        {
            return Err(ManifestFault::Impossible("checkpoint length"));
        }
        let epoch = Epoch(u64_at(header, AT_CHECKPOINT_EPOCH));
        if epoch.0 == 0 && !bytes.is_empty() {
            return Err(ManifestFault::Impossible("checkpoint epoch"));
        }
        let manifest = Self {
            log: LogId(take(header, AT_LOG)),
            generation: Generation(u64_at(header, AT_GENERATION)),
            incarnation: Incarnation(u64_at(header, AT_INCARNATION)),
            committed_epoch: Epoch(u64_at(header, AT_COMMITTED_EPOCH)),
            first_epoch: Epoch(u64_at(header, AT_FIRST_EPOCH)),
            pipeline_bound: u32_at(header, AT_PIPELINE_BOUND),
            checkpoint: (epoch.0 > 0).then(|| Checkpoint { epoch, bytes: bytes.to_vec() }),
            shards,
        };
        manifest.check().map_err(ManifestFault::Impossible)?;
        Ok(manifest)
    }

    /// Whether a reader would take it: what [`encode`](Self::encode) asserts. For those who put a manifest together
    /// from what they found on a disk.
    ///
    /// # Errors
    /// [`ManifestFault::Impossible`].
    pub fn validate(&self) -> Result<(), ManifestFault> {
        self.check().map_err(ManifestFault::Impossible)
    }

    fn check(&self) -> Result<(), &'static str> {
        let checkpoint_epoch = self.checkpoint.as_ref().map_or(Epoch(0), |it| it.epoch);
        let room = |number: u64| number < u64::MAX;
        let possible = [
            ("generation", self.generation.0 > 0 && room(self.generation.0)),
            ("incarnation", room(self.incarnation.0)),
            ("committed epoch", room(self.committed_epoch.0)),
            ("first epoch", room(self.first_epoch.0)),
            ("checkpoint epoch", self.checkpoint.is_none() || checkpoint_epoch.0 > 0),
            ("shard order", self.shards.is_sorted_by(|a, b| a.shard < b.shard)),
            ("checkpoint epoch", checkpoint_epoch <= self.committed_epoch),
            ("first epoch of a run", {
                let mut runs = self.shards.iter().flat_map(|shard| &shard.runs);
                runs.all(|run| run.first_epoch <= self.first_epoch)
            }),
        ];
        possible.iter().try_for_each(|&(what, holds)| if holds { Ok(()) } else { Err(what) })?;
        self.shards.iter().try_for_each(|shard| shard.check(self.incarnation))
    }

    /// The record of `shard`.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&ShardRecord> {
        let index = self.shards.binary_search_by_key(&shard, |record| record.shard).ok()?;
        self.shards.get(index)
    }
}

impl ShardRecord {
    /// A shard that has never been written.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            active: false,
            next_segment: SegmentNumber(1),
            next_batch: BatchNumber(1),
            next_seq: Seq(1),
            released_seq: Seq(0),
            current: None,
            durable_batch: BatchNumber(0),
            durable_seq: Seq(0),
            barrier: Epoch(0),
            runs: Vec::new(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; SHARD_LEN];
        let current = self.current.as_ref();
        let flags = u16::from(self.active) * SHARD_ACTIVE
            + u16::from(current.is_some()) * SHARD_HAS_CURRENT;
        put(&mut bytes, AT_SHARD, self.shard.0.to_le_bytes());
        put(&mut bytes, AT_SHARD_FLAGS, flags.to_le_bytes());
        put(&mut bytes, AT_RUN_COUNT, count(self.runs.len()).to_le_bytes());
        put(&mut bytes, AT_NEXT_SEGMENT, self.next_segment.0.to_le_bytes());
        put(&mut bytes, AT_NEXT_BATCH, self.next_batch.0.to_le_bytes());
        put(&mut bytes, AT_NEXT_SEQ, self.next_seq.0.to_le_bytes());
        put(&mut bytes, AT_RELEASED_SEQ, self.released_seq.0.to_le_bytes());
        if let Some(current) = current {
            put(&mut bytes, AT_CURRENT_SEGMENT, current.first_segment.0.to_le_bytes());
            put(&mut bytes, AT_CURRENT_BATCH, current.first_batch.0.to_le_bytes());
            put(&mut bytes, AT_CURRENT_SEQ, current.first_seq.0.to_le_bytes());
        }
        put(&mut bytes, AT_DURABLE_BATCH, self.durable_batch.0.to_le_bytes());
        put(&mut bytes, AT_DURABLE_SEQ, self.durable_seq.0.to_le_bytes());
        put(&mut bytes, AT_BARRIER, self.barrier.0.to_le_bytes());
        out.extend_from_slice(&bytes);
        for run in &self.runs {
            run.encode(out);
        }
    }

    fn decode(bytes: &[u8], fields: &mut Fields<'_>) -> Result<Self, ManifestFault> {
        let flags = u16_at(bytes, AT_SHARD_FLAGS);
        if flags & !(SHARD_ACTIVE | SHARD_HAS_CURRENT) != 0 {
            return Err(ManifestFault::Impossible("shard flags"));
        }
        if !is_zero(&bytes[AT_SHARD_RESERVED..]) {
            return Err(ManifestFault::Impossible("reserved field"));
        }
        let has_current = flags & SHARD_HAS_CURRENT != 0;
        if !has_current && !is_zero(&bytes[AT_CURRENT_SEGMENT..AT_DURABLE_BATCH]) {
            return Err(ManifestFault::Impossible("current run"));
        }
        let run_count = u32_at(bytes, AT_RUN_COUNT) as usize;
        Ok(Self {
            shard: ShardId(u16_at(bytes, AT_SHARD)),
            active: flags & SHARD_ACTIVE != 0,
            next_segment: SegmentNumber(u64_at(bytes, AT_NEXT_SEGMENT)),
            next_batch: BatchNumber(u64_at(bytes, AT_NEXT_BATCH)),
            next_seq: Seq(u64_at(bytes, AT_NEXT_SEQ)),
            released_seq: Seq(u64_at(bytes, AT_RELEASED_SEQ)),
            current: has_current.then(|| CurrentRun {
                first_segment: SegmentNumber(u64_at(bytes, AT_CURRENT_SEGMENT)),
                first_batch: BatchNumber(u64_at(bytes, AT_CURRENT_BATCH)),
                first_seq: Seq(u64_at(bytes, AT_CURRENT_SEQ)),
            }),
            durable_batch: BatchNumber(u64_at(bytes, AT_DURABLE_BATCH)),
            durable_seq: Seq(u64_at(bytes, AT_DURABLE_SEQ)),
            barrier: Epoch(u64_at(bytes, AT_BARRIER)),
            runs: fields.list(run_count, RUN_LEN, "run count", Run::decode)?,
        })
    }

    fn check(&self, now: Incarnation) -> Result<(), &'static str> {
        let room = |number: u64| number > 0 && number < u64::MAX;
        let current_holds = self.current.is_none_or(|it| {
            room(it.first_segment.0) && room(it.first_batch.0) && room(it.first_seq.0)
        });
        let runs_ascend = self.runs.is_sorted_by(|a, b| {
            a.last_segment < b.first_segment
                && a.last_batch < b.first_batch
                && a.last_kept_seq < b.first_seq
                && a.incarnation <= b.incarnation
                && a.first_epoch <= b.first_epoch
        });
        let current_follows = match (self.runs.last(), self.current) {
            (Some(run), Some(current)) => {
                run.last_segment < current.first_segment
                    && run.last_batch < current.first_batch
                    && run.last_kept_seq < current.first_seq
            }
            _ => true,
        };
        let possible = [
            ("next segment", room(self.next_segment.0)),
            ("next batch", room(self.next_batch.0)),
            ("next seq", room(self.next_seq.0)),
            ("released seq", self.released_seq.0 < u64::MAX),
            ("current run", current_holds && current_follows),
            ("current run of a retired shard", self.active || self.current.is_none()),
            ("current run before the first incarnation", now.0 > 0 || self.current.is_none()),
            ("durable batch", self.durable_batch.0 < u64::MAX && self.durable_seq.0 < u64::MAX),
            ("barrier", self.barrier.0 < u64::MAX),
            ("run order", runs_ascend),
        ];
        possible.iter().try_for_each(|&(what, holds)| if holds { Ok(()) } else { Err(what) })?;
        self.runs.iter().try_for_each(|run| run.check(now))?;
        let free = [
            ("next segment", self.runs.iter().all(|run| run.last_segment < self.next_segment)),
            ("next batch", self.runs.iter().all(|run| run.last_batch < self.next_batch)),
            ("next seq", self.runs.iter().all(|run| run.highest_seq() < self.next_seq)),
        ];
        free.iter().try_for_each(|&(what, holds)| if holds { Ok(()) } else { Err(what) })
    }
}

impl Run {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; RUN_LEN];
        put(&mut bytes, AT_FIRST_SEGMENT, self.first_segment.0.to_le_bytes());
        put(&mut bytes, AT_LAST_SEGMENT, self.last_segment.0.to_le_bytes());
        put(&mut bytes, AT_FIRST_BATCH, self.first_batch.0.to_le_bytes());
        put(&mut bytes, AT_LAST_BATCH, self.last_batch.0.to_le_bytes());
        put(&mut bytes, AT_LAST_BATCH_AT, self.last_batch_at.to_le_bytes());
        put(&mut bytes, AT_RUN_FIRST_SEQ, self.first_seq.0.to_le_bytes());
        put(&mut bytes, AT_LAST_KEPT_SEQ, self.last_kept_seq.0.to_le_bytes());
        put(&mut bytes, AT_RUN_INCARNATION, self.incarnation.0.to_le_bytes());
        put(&mut bytes, AT_RUN_FIRST_EPOCH, self.first_epoch.0.to_le_bytes());
        put(&mut bytes, AT_VOID_COUNT, count(self.voids.len()).to_le_bytes());
        out.extend_from_slice(&bytes);
        for void in &self.voids {
            void.encode(out);
        }
    }

    fn decode(bytes: &[u8], fields: &mut Fields<'_>) -> Result<Self, ManifestFault> {
        if !is_zero(&bytes[AT_RUN_ZERO..]) {
            return Err(ManifestFault::Impossible("reserved field"));
        }
        let void_count = u32_at(bytes, AT_VOID_COUNT) as usize;
        Ok(Self {
            first_segment: SegmentNumber(u64_at(bytes, AT_FIRST_SEGMENT)),
            last_segment: SegmentNumber(u64_at(bytes, AT_LAST_SEGMENT)),
            first_batch: BatchNumber(u64_at(bytes, AT_FIRST_BATCH)),
            last_batch: BatchNumber(u64_at(bytes, AT_LAST_BATCH)),
            last_batch_at: u64_at(bytes, AT_LAST_BATCH_AT),
            first_seq: Seq(u64_at(bytes, AT_RUN_FIRST_SEQ)),
            last_kept_seq: Seq(u64_at(bytes, AT_LAST_KEPT_SEQ)),
            incarnation: Incarnation(u64_at(bytes, AT_RUN_INCARNATION)),
            first_epoch: Epoch(u64_at(bytes, AT_RUN_FIRST_EPOCH)),
            voids: fields.list(void_count, VOID_LEN, "void count", Void::decode)?,
        })
    }

    /// The highest seq that the record of the run names.
    fn highest_seq(&self) -> Seq {
        let void = self.voids.iter().map(|void| void.last_seq).max().unwrap_or_default();
        void.max(self.last_kept_seq)
    }

    fn check(&self, now: Incarnation) -> Result<(), &'static str> {
        let voids_ascend = self.voids.is_sorted_by(|a, b| {
            a.last_batch < b.first_batch && (a.to_segment, a.to_at) <= (b.from_segment, b.from_at)
        });
        let voids_hold = self.voids.iter().all(|void| {
            is_batch_at(void.from_at)
                && is_batch_at(void.to_at)
                && (void.from_segment, void.from_at) < (void.to_segment, void.to_at)
                && void.first_batch <= void.last_batch
                && void.last_seq.0 < u64::MAX
                && void.first_seq <= void.last_seq.next()
                && self.first_segment <= void.from_segment
                && (void.to_segment, void.to_at) <= (self.last_segment, self.last_batch_at)
                && self.first_batch <= void.first_batch
                && void.last_batch < self.last_batch
        });
        let possible = [
            ("first segment", self.first_segment.0 > 0),
            ("last segment", self.first_segment <= self.last_segment),
            ("last segment", self.last_segment.0 < u64::MAX),
            ("first batch", self.first_batch.0 > 0 && self.first_batch <= self.last_batch),
            ("last batch", self.last_batch.0 < u64::MAX),
            ("last batch at", is_batch_at(self.last_batch_at)),
            ("last kept seq", self.last_kept_seq.0 < u64::MAX && self.first_seq.0 > 0),
            ("last kept seq", self.first_seq.before() <= self.last_kept_seq),
            ("incarnation of a run", self.incarnation.0 > 0 && self.incarnation <= now),
            ("void range", voids_ascend && voids_hold),
        ];
        possible.iter().try_for_each(|&(what, holds)| if holds { Ok(()) } else { Err(what) })
    }
}

impl Void {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; VOID_LEN];
        put(&mut bytes, AT_VOID_FROM_SEGMENT, self.from_segment.0.to_le_bytes());
        put(&mut bytes, AT_VOID_FROM_AT, self.from_at.to_le_bytes());
        put(&mut bytes, AT_VOID_TO_SEGMENT, self.to_segment.0.to_le_bytes());
        put(&mut bytes, AT_VOID_TO_AT, self.to_at.to_le_bytes());
        put(&mut bytes, AT_VOID_FIRST_BATCH, self.first_batch.0.to_le_bytes());
        put(&mut bytes, AT_VOID_LAST_BATCH, self.last_batch.0.to_le_bytes());
        put(&mut bytes, AT_VOID_FIRST_SEQ, self.first_seq.0.to_le_bytes());
        put(&mut bytes, AT_VOID_LAST_SEQ, self.last_seq.0.to_le_bytes());
        put(&mut bytes, AT_VOID_CAUSE, self.cause.number().to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8], _: &mut Fields<'_>) -> Result<Self, ManifestFault> {
        let cause = match u32_at(bytes, AT_VOID_CAUSE) {
            1 => VoidCause::Truncated,
            2 => VoidCause::Uncommitted,
            3 => VoidCause::Salvaged,
            _ => return Err(ManifestFault::Impossible("cause of a void range")),
        };
        if !is_zero(&bytes[AT_VOID_ZERO..]) {
            return Err(ManifestFault::Impossible("reserved field"));
        }
        Ok(Self {
            from_segment: SegmentNumber(u64_at(bytes, AT_VOID_FROM_SEGMENT)),
            from_at: u64_at(bytes, AT_VOID_FROM_AT),
            to_segment: SegmentNumber(u64_at(bytes, AT_VOID_TO_SEGMENT)),
            to_at: u64_at(bytes, AT_VOID_TO_AT),
            first_batch: BatchNumber(u64_at(bytes, AT_VOID_FIRST_BATCH)),
            last_batch: BatchNumber(u64_at(bytes, AT_VOID_LAST_BATCH)),
            first_seq: Seq(u64_at(bytes, AT_VOID_FIRST_SEQ)),
            last_seq: Seq(u64_at(bytes, AT_VOID_LAST_SEQ)),
            cause,
        })
    }
}

/// Whether a batch can stand at offset `at` of a segment, whatever the size of its blocks.
fn is_batch_at(at: u64) -> bool {
    let smallest = u64::from(MIN_BLOCK_LEN);
    let first = u64::from(HEADER_BLOCKS) * smallest;
    (first..MAX_SEGMENT_LEN).contains(&at) && at.is_multiple_of(smallest)
}

/// What is left to decode.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Decodes `count` records whose fixed part has `len` bytes. The count is checked against what is left
    /// before anything is allocated.
    fn list<T>(
        &mut self,
        count: usize,
        len: usize,
        what: &'static str,
        decode: fn(&[u8], &mut Self) -> Result<T, ManifestFault>,
    ) -> Result<Vec<T>, ManifestFault> {
        if count > self.rest.len() / len {
            return Err(ManifestFault::Impossible(what));
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            let (fixed, rest) =
                self.rest.split_at_checked(len).ok_or(ManifestFault::Impossible(what))?;
            self.rest = rest;
            list.push(decode(fixed, self)?);
        }
        Ok(list)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("bounded by MAX_MANIFEST_LEN")
}
