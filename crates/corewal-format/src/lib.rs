//! The bytes of a corewal log, and nothing else: no I/O, no `unsafe`, no allocation but for the manifest.
//!
//! `docs/FORMAT.md` in the repository is the normative description; tests compare its offset tables with
//! the constants here. Everything is little-endian. All-zero bytes are never a valid header of anything,
//! every byte that means something is under a CRC32C, and every byte that means nothing is zero.
//!
//! | module type | what it describes |
//! |---|---|
//! | [`SegmentHeader`] | the first two blocks of a segment file |
//! | [`BatchHeader`] | the unit of atomicity, with its promises |
//! | [`EntryHeader`] | one record inside a batch |
//! | [`Manifest`] | the one atomically replaced file of a log |
//! | [`Stamp`] | an entry's place in the merged order |
//!
//! # Example
//!
//! ```
//! use corewal_format::{Epoch, Seq, ShardId, Stamp};
//!
//! // The declaration of `Stamp` is the merge rule: epoch first, then sequence, then shard.
//! let a = Stamp { epoch: Epoch(1), seq: Seq(9), shard: ShardId(0) };
//! let b = Stamp { epoch: Epoch(2), seq: Seq(1), shard: ShardId(0) };
//! assert!(a < b);
//! ```
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod batch;
mod bytes;
mod crc;
mod entry;
#[cfg(test)]
mod format_doc;
mod id;
mod manifest;
mod name;
mod segment;

pub use batch::{
    BATCH_HEADER_LEN, BatchFault, BatchFlags, BatchHeader, BatchView, BodyFault, Entries, EntryView,
};
pub use crc::{Chain, Crc, Seed, crc32c};
pub use entry::{
    ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryFlags, EntryHeader, Kind, TIMESTAMP_LEN, padded,
    timestamp_bytes,
};
pub use id::{
    BatchNumber, Epoch, Generation, Incarnation, LogId, Place, SchemaId, SegmentNumber, Seq,
    ShardId, Stamp,
};
pub use manifest::{
    Checkpoint, CurrentRun, MAX_CHECKPOINT_LEN, MAX_MANIFEST_LEN, Manifest, ManifestFault, Run,
    ShardRecord, Void, VoidCause,
};
pub use name::{LOCK_NAME, MANIFEST_NEXT_NAME, SegmentName, ShardName, manifest_name};
pub use segment::{
    HEADER_BLOCKS, MAX_BLOCK_LEN, MAX_SEGMENT_LEN, MIN_BLOCK_LEN, RkyvLayout, SEGMENT_HEADER_LEN,
    SegmentFault, SegmentHeader,
};

/// The version of the format that this crate writes, and the highest that it reads.
pub const FORMAT_VERSION: u16 = 1;
