//! What a recovery found.

use std::path::PathBuf;
use std::time::Duration;

use corewal_format::{BatchNumber, Epoch, Generation, Incarnation, LogId, Place, Seq, ShardId};

use crate::recovery::merge::Merge;

/// What a recovery found, and what it did about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The log; none if it is new.
    pub log: Option<LogId>,
    /// The generation of the manifest that was recovered from.
    pub generation: Generation,
    /// The incarnation that was recovered.
    pub incarnation: Incarnation,
    /// Every entry of this epoch and of earlier ones is there, on all shards.
    pub committed_epoch: Epoch,
    /// Every shard, retired ones too.
    pub shards: Vec<ShardReport>,
    /// What lies in the directory and does not belong to a log; left alone.
    pub foreign: Vec<PathBuf>,
    /// Bytes of the batches of the stream; 0 until it has been read to its end.
    pub read_len: u64,
    /// Whether everything was read from the device. Where a file system offers neither direct I/O nor a way
    /// to drop its cache, what was read may be the cache's.
    pub from_device: bool,
    /// How long it took.
    pub took: Duration,
}

/// What was found of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardReport {
    /// Which shard.
    pub shard: ShardId,
    /// How the run that was being written ends.
    pub end: RunEnd,
    /// The last batch that is kept, and its last seq; none if there is none.
    pub last: Option<(BatchNumber, Seq)>,
    /// Entries of the run that was being written; none until the stream has been read to its end.
    pub entries: Option<u64>,
    /// Batches of the run that was being written; none until the stream has been read to its end.
    pub batches: Option<u64>,
    /// The last epoch that the shard closed in that incarnation; 0 for none.
    pub barrier: Epoch,
    /// What a [committed-only](crate::Recovery::committed_only) recovery left out and voided when it opened the
    /// log. Counted while the stream is read: it stands in [`Log::report`](crate::Log::report) only.
    pub left_out: LeftOut,
}

impl Report {
    /// Takes what was counted on the way through the streams, which are at their ends.
    pub(super) fn complete(&mut self, merge: &Merge) {
        self.read_len = merge.read_len();
        for (shard, stream) in self.shards.iter_mut().zip(merge.streams()) {
            let run = stream.open_run();
            (shard.entries, shard.batches) = (Some(run.entries), Some(run.batches));
            shard.left_out = stream.left_out();
        }
    }
}

/// Entries above the committed epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// How many entries, barriers included.
    pub entries: u64,
    /// Bytes of their batches, headers and padding included.
    pub bytes: u64,
    /// The first seq and the last; none if there is no entry.
    pub seqs: Option<(Seq, Seq)>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// The manifest records it: a clean close, or a shard without a writer.
    Recorded,
    /// Nothing was written behind it.
    Clean {
        /// Where.
        at: Place,
    },
    /// Something was written behind it that was never acknowledged.
    Torn {
        /// Where.
        at: Place,
        /// Size of what is ignored, in bytes.
        ignored: u64,
    },
}
