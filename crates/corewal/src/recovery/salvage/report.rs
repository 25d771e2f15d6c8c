//! What a salvage found, and what it does about it.

use std::path::PathBuf;

use corewal_format::{
    BatchHeader, BatchNumber, BodyFault, Epoch, Generation, LogId, Place, SegmentNumber, Seq,
    ShardId,
};

use crate::error::{Reason, Witness};
use crate::recovery::salvage::base::{ManifestTrouble, Origin};

/// What a salvage does, or did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The log.
    pub log: LogId,
    /// Which manifest it goes on from.
    pub origin: Origin,
    /// What is wrong with the manifests.
    pub manifests: Vec<ManifestTrouble>,
    /// The generation that it writes.
    pub generation: Generation,
    /// The folder that damaged files are copied to.
    pub folder: PathBuf,
    /// The files that are copied there before anything is changed.
    pub copies: Vec<PathBuf>,
    /// Segments whose own bytes are put right.
    pub restored: Vec<Restored>,
    /// What is lost, by shard, in order.
    pub lost: Vec<Lost>,
    /// What is kept, by shard.
    pub kept: Vec<Kept>,
    /// The committed epoch before, as far as anything on disk tells.
    pub committed_before: Epoch,
    /// The committed epoch afterwards: below everything that is lost, but not below the last checkpoint.
    pub committed_after: Epoch,
}

/// What is left of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Which shard.
    pub shard: ShardId,
    /// Batches that verify and stay.
    pub batches: u64,
    /// Their entries, barriers included.
    pub entries: u64,
    /// The last of their seqs; 0 without any.
    pub last_seq: Seq,
}

/// A range of a shard that is given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lost {
    /// The first place that does not verify.
    pub at: Place,
    /// What is there.
    pub reason: Reason,
    /// What proves that something had been acknowledged; none where the reason is proof by itself.
    pub witness: Option<Witness>,
    /// The first batch that is missing, and the last one if that is known; none if nobody knows either.
    pub batches: Option<(BatchNumber, Option<BatchNumber>)>,
    /// The first seq that may be missing, and the last one if that is known. Seqs may jump: not every one of them
    /// need have been given out.
    pub seqs: (Seq, Option<Seq>),
    /// Bytes in the range that hold anything, as far as there are files.
    pub bytes: u64,
    /// Batches in it whose header is whole.
    pub broken: Vec<BrokenBatch>,
}

impl Lost {
    /// Whose it was.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.at.shard
    }
}

/// A batch that is given up, of which something can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenBatch {
    /// Its header.
    pub header: BatchHeader,
    /// What does not verify.
    pub fault: BodyFault,
    /// Entries whose own checksums hold.
    pub intact: u64,
}

/// A segment whose own bytes are put right, behind its copy. Batches are never touched.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// Whose it is.
    pub shard: ShardId,
    /// Its number.
    pub segment: SegmentNumber,
    /// What was wrong.
    pub fault: Reason,
    /// What is done.
    pub how: Restoring,
}

/// What is put right in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restoring {
    /// Both copies of its header, from what its batches say, and the schema of this segment of the log; the
    /// options' schema if there is no other segment.
    Header {
        /// Where the schema is taken from.
        like: Option<(ShardId, SegmentNumber)>,
    },
    /// Its length: zeros up to what its header says.
    Length,
}
