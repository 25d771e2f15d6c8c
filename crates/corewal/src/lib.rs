//! A write-ahead log engine for thread-per-core programs.
//!
//! Every core owns a writer with its own ring and its own segment files; entries are serialized straight into
//! the block that the kernel writes; epochs tie the shards together; recovery merges them back into one
//! stream, ordered by epoch and sequence.
//!
//! ```
//! use corewal::{Kind, Log, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! // Recover first, then write: the types allow no other order.
//! let mut recovery = Log::recover(Options::new(&dir).shards(2))?;
//! while let Some(entry) = recovery.next_entry()? {
//!     println!("{} {:?}", entry.stamp(), entry.bytes());
//! }
//! let mut log = recovery.open()?;
//!
//! // One seat for each shard; it is taken on the thread that will write.
//! let writers: Vec<_> = log
//!     .take_seats()
//!     .into_iter()
//!     .map(|seat| {
//!         std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!             let mut writer = seat.sit()?;
//!             let stamp = writer.append_bytes(Kind::PUT, b"an event")?;
//!             writer.wait(stamp)?; // the entry survives a power cut from here on
//!             writer.close_epoch()?;
//!             writer.close()?;
//!             Ok(())
//!         })
//!     })
//!     .collect();
//! for writer in writers {
//!     writer.join().unwrap().unwrap();
//! }
//! assert_eq!(log.committed_epoch().0, 1);
//! log.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - When a shard's [`frontier`](ShardWriter::frontier) has reached a seq, every entry up to it survives a
//!   power cut. The frontier is the only acknowledgement.
//! - Recovery yields every acknowledged entry, nothing that was never appended, each once, in order.
//! - Damage to what was acknowledged is reported with a witness, as soon as a later batch of the shard or a
//!   manifest speaks of it; it is never taken for a torn tail.
//! - After the first failed write or sync a shard acknowledges nothing more.
//!
//! # What can be seen
//!
//! [`Log::stats`] and [`Log::histograms`] can be read by any thread at any time; a writer pays for them once a
//! batch, with two readings of the clock and a few words of memory, and nothing for an entry.
//! [`Log::capabilities`] says what the log runs on, [`Recovery::report`] what was found.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `metrics` | `Log::publish_metrics`: the statistics for the `metrics` facade; the names stand there |
//! | `toml` | `Options::from_toml`, `Options::with_toml`, `Options::to_toml` |
//! | `tracing` | rare events, under the target `corewal` |
//!
//! The events of `tracing`, by message; none of them is on the way of an entry:
//!
//! | message | level | when | fields |
//! |---|---|---|---|
//! | `recovered` | info | a recovery has judged the log | `dir`, `incarnation`, `committed_epoch`, `torn_bytes`, `took_us` |
//! | `damage` | error | a recovery refused it, or met it in the stream | `dir`, `at`, `damage` |
//! | `opened` | info | the next incarnation has begun | `dir`, `incarnation`, `shards`, `entries` |
//! | `ring` | info | a writer sat down | `shard`, `engine`, `flags` |
//! | `fallback` | warn | a writer sat down, without io_uring | `shard`, `engine`, `reason` |
//! | `buffered` | warn | a writer sat down, and direct I/O was wished for and cannot be had | `shard`, `access` |
//! | `segment is full` | debug | a segment is full and durable to its end | `shard`, `segment`, `last_seq`, `last_epoch` |
//! | `sync method` | info | the device was measured, or could not be, or was measured by an earlier opening | `dir`, `method`, `reason` |
//! | `sync method switched` | info | a segment begins with another method | `shard`, `segment`, `from`, `to` |
//! | `sync method not remembered` | warn | the answer of a measurement could not be written | `dir`, `fault` |
//! | `preparing failed` | warn | no segment can be prepared, for the first time in a row | `shard`, `fault` |
//! | `checkpoint` | info | a checkpoint is durable | `epoch`, `segments`, `spared` |
//! | `failure` | error | a shard has failed; once | `shard`, `cause` |
//! | `closed` | info | a close is recorded | `dir`, `left_open` |
//!
//! # Crash tests
//!
//! [`disk::sim`] is a simulated disk: with [`Options::disk`] a program that uses a log can be cut off from power or
//! killed at any operation, many times a second. The example `crash_test` does so.
//!
//! `docs/DURABILITY.md` in the repository has the assumptions, the crash cases and the limits;
//! `docs/FORMAT.md` the bytes.
#![forbid(unsafe_code)]

/// The README's example, run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod access;
mod commit;
mod durable;
mod epoch;
mod error;
mod events;
mod frontier;
pub mod inspect;
mod keep;
mod layout;
mod log;
mod manifests;
mod meter;
mod method;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(all(test, loom))]
mod models;
mod observers;
mod options;
mod pool;
mod prepare;
mod producer;
mod record;
mod recovery;
mod shard;
mod shared;
mod stats;
mod survey;
mod sync;
mod wakeup;

pub use access::SegmentAccess;
pub use commit::{Commit, NoCommit};
pub use corewal_disk as disk;
pub use corewal_disk::{Disk, Engine, Keeps, NullDisk, RealDisk, RingFacts};
pub use corewal_format::{
    BatchNumber, Checkpoint, Epoch, Generation, Incarnation, Kind, LogId, Place, SchemaId,
    SegmentNumber, Seq, ShardId, Stamp,
};
pub use durable::{Committed, Durable};
pub use error::{
    AppendError, Claim, Damage, DurableError, EpochError, Failure, FailureCause, IoFault,
    ManifestError, ObserveError, OpenError, Reason, RecoverError, Source, TailError, TruncateError,
    WaitError, Witness,
};
pub use keep::{
    CheckpointError, Pin, PinError, PinFrom, Released, Retention, SealedSegment, ShardRetention,
    StateMark,
};
pub use log::{Capabilities, CloseError, CloseReport, Log, Standing};
pub use method::{SyncReason, SyncSpeed};
#[cfg(feature = "toml")]
pub use options::TomlError;
pub use options::{AccessWish, Options, OptionsError, Policy, Preparing, SyncMethod};
pub use producer::{Admission, Pinned, Pinning, Producer};
pub use record::{AccessError, EncodeError, Encoder, Record, Room};
pub use recovery::salvage;
pub use recovery::{
    Entry, Fence, LeftOut, LogReader, Recovery, ReplayError, Report, RunEnd, ShardReader,
    ShardReplay, ShardReport, StateMachine, Tail,
};
pub use shard::{Group, Seat, ShardWriter, SitError, Transaction, Truncation, Turn};
pub use stats::{ShardHistograms, ShardStats};
pub use wakeup::ShardWaker;
