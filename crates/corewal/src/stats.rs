//! Counters of a shard, as a snapshot.

/// What a shard has done since its writer sat down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Entries that were appended, barriers included.
    pub entries: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Atomic groups that were appended: batches of entries, and transactions.
    pub groups: u64,
    /// Bytes of groups that were copied once more: those of small transactions, from their own buffer into a
    /// block at the commit, and those of groups that outgrew the open batch or their buffer. All others are
    /// written from where they were serialized to.
    pub recopied_bytes: u64,
    /// Batches that were handed to the ring.
    pub batches: u64,
    /// Bytes of those batches, with headers and padding.
    pub batch_bytes: u64,
    /// Syncs apart from writes.
    pub syncs: u64,
    /// Batches that only vouch.
    pub vouches: u64,
    /// Segments that were begun, after the first.
    pub rotations: u64,
    /// Segments that were taken before they were filled, because the writer was ahead of the preparing.
    pub unfilled: u64,
    /// Files that were used again.
    pub recycled: u64,
    /// The most batches that were in flight at once.
    pub max_in_flight: u64,
    /// Batches acknowledged since the last promise: damage to these could read as torn.
    pub unvouched: u64,
    /// `io_uring_enter` calls, or system calls of the synchronous engine.
    pub ring_calls: u64,
}
