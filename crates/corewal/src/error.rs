//! One enum for each question that a caller can ask, with places as data.
//!
//! A message is whole: it names the cause, too. So `source` gives none, and a printed chain says nothing twice; the
//! cause itself is a field.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corewal_format::{
    BatchFault, BatchNumber, BodyFault, Epoch, Generation, Incarnation, Kind, LogId,
    MAX_MANIFEST_LEN, ManifestFault, Place, SegmentFault, SegmentNumber, Seq, ShardId, Stamp,
};

use crate::OptionsError;
use crate::record::EncodeError;

/// A call to the operating system failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}", path.display())]
#[non_exhaustive]
pub struct IoFault {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub cause: Arc<io::Error>,
}

impl IoFault {
    pub(crate) fn new(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self { action, path: path.to_path_buf(), cause: Arc::new(cause) }
    }
}

/// Attaches action and path to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, action: &'static str, path: &Path) -> Result<T, IoFault>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: &'static str, path: &Path) -> Result<T, IoFault> {
        self.map_err(|cause| IoFault::new(action, path, cause))
    }
}

/// Why a log cannot be recovered or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The options cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another process, or another handle of this one, has the log open.
    #[error("{} is locked by {holder} (tried for {} ms)", dir.display(), waited.as_millis())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
        /// How long the lock was tried for.
        waited: Duration,
    },
    /// There is no log to read.
    #[error("{} holds no log", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The manifest does not allow to go on.
    #[error("{}: {cause}", path.display())]
    Manifest {
        /// The manifest's file, or the directory if one is missing.
        path: PathBuf,
        /// What is wrong.
        cause: ManifestError,
    },
    /// The log is damaged: something that must be there is not.
    #[error(transparent)]
    Damaged(Box<Damage>),
    /// A replay above a fence cannot be complete: entries above it were released.
    #[error("entries up to epoch {released} were released; a state of epoch {fence} is too old")]
    FenceTooOld {
        /// The fence's epoch.
        fence: Epoch,
        /// The epoch of the checkpoint that released them.
        released: Epoch,
    },
    /// A reader beside a live log came too late: the log has let go of what it was to read next.
    #[error("seq {seq} of shard {shard} was released while the log was read; read it anew")]
    Released {
        /// Which shard.
        shard: ShardId,
        /// The seq from which on nothing was read.
        seq: Seq,
    },
    /// The log has changed each time when a reader beside it tried again.
    #[error("{} changes faster than it can be read", dir.display())]
    Changing {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The operating system failed; says nothing about the log.
    #[error(transparent)]
    Io(#[from] IoFault),
}

/// Why a tail cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// A checkpoint let go of what the tail wanted to read next.
    #[error("shard {shard} was released up to seq {released}, and seq {from} was to be read")]
    Released {
        /// The shard.
        shard: ShardId,
        /// What was to be read next.
        from: Seq,
        /// Everything up to this seq is gone.
        released: Seq,
    },
    /// The log is not open in this process any more. Everything that was durable before was delivered, or can be
    /// read by opening another reader.
    #[error("the log was closed")]
    Closed,
    /// The log cannot be read.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// What is wrong with a log's manifests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A manifest that is there does not verify. The other one is not taken in its place: it is older, and
    /// what was voided since would come back.
    #[error("{0}")]
    Broken(ManifestFault),
    /// A manifest stands in the other one's slot.
    #[error("generation {0} does not belong into this slot")]
    WrongSlot(Generation),
    /// The two manifests are not consecutive generations of one log.
    #[error("generations {0} and {1} do not belong together")]
    Unrelated(Generation, Generation),
    /// Its file is not there, and the other one does not verify.
    #[error("the manifest is missing")]
    Missing,
    /// A manifest is missing; it may have been the newest.
    #[error("a manifest is missing (only generation {0} is there)")]
    OneMissing(Generation),
    /// Segments without any manifest.
    #[error("segments are there, but no manifest")]
    AllMissing,
}

impl RecoverError {
    /// The version of the format that a manifest or a segment says it has, if it is one that this program does not
    /// know: then the log was written by a later program, and nothing is damaged.
    #[must_use]
    pub fn unknown_version(&self) -> Option<u16> {
        match self {
            Self::Manifest {
                cause: ManifestError::Broken(ManifestFault::Version(version)),
                ..
            } => Some(*version),
            Self::Damaged(damage) => match damage.reason {
                Reason::SegmentHeader(SegmentFault::Version(version)) => Some(version),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Damage that recovery refuses to pass over.
///
/// ```
/// # use corewal::{Log, Options, RecoverError};
/// # let dir = tempfile::tempdir()?;
/// # let options = Options::new(dir.path().join("log"));
/// match Log::recover(options) {
///     Ok(recovery) => println!("committed up to epoch {}", recovery.report().committed_epoch),
///     // As `segment 0-0000000001 at 12288: batch 2: .., though batch 3 (..) says that batch 2 was durable`.
///     Err(RecoverError::Damaged(damage)) => {
///         eprintln!("damage in {} at {}: {damage}", damage.at.shard, damage.at.at);
///     }
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub struct Damage {
    /// Where.
    pub at: Place,
    /// What is there, or not.
    pub reason: Reason,
    /// What proves that something had been acknowledged there; none where the reason is proof by itself.
    pub witness: Option<Witness>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.reason)?;
        match &self.witness {
            Some(witness) => write!(f, ", though {witness}"),
            None => Ok(()),
        }
    }
}

/// What is found at a damaged place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Both copies of the segment's header are unreadable, and the segment was used.
    #[error("{0} (in both copies)")]
    SegmentHeader(SegmentFault),
    /// The segment's file is missing.
    #[error("the segment's file is missing")]
    SegmentMissing,
    /// The file is not as long as its header says. It was, before the header became durable.
    #[error("the file has {found} bytes, the segment has {stated}")]
    SegmentLen {
        /// Bytes of the file.
        found: u64,
        /// Bytes that the header states.
        stated: u64,
    },
    /// The header names another log.
    #[error("the segment belongs to another log ({0})")]
    OtherLog(LogId),
    /// The header names another shard or another number.
    #[error("the file is segment {0}-{1} under a wrong name")]
    OtherSegment(ShardId, SegmentNumber),
    /// The segment is of an incarnation that the manifest does not know: the newest manifest was lost.
    #[error("the segment is of incarnation {found}, the manifest of {known}: a manifest was lost")]
    LaterIncarnation {
        /// What the segment says.
        found: Incarnation,
        /// What the manifest says.
        known: Incarnation,
    },
    /// The segment of a run is of another incarnation than the run.
    #[error("the segment is of incarnation {found}, its run of {known}")]
    OtherIncarnation {
        /// What the segment says.
        found: Incarnation,
        /// What the manifest says.
        known: Incarnation,
    },
    /// No batch header of this place.
    #[error("batch {expected} expected, found {fault}")]
    Batch {
        /// The batch that belongs here.
        expected: BatchNumber,
        /// What is there.
        fault: BatchFault,
    },
    /// Another batch than the next one.
    #[error("batch {expected} expected, found batch {found}")]
    OtherBatch {
        /// The batch that belongs here.
        expected: BatchNumber,
        /// The one that is there.
        found: BatchNumber,
    },
    /// A batch whose entries do not verify.
    #[error("batch {batch}: {fault}")]
    Body {
        /// The batch.
        batch: BatchNumber,
        /// What does not verify.
        fault: BodyFault,
    },
    /// A batch that verifies but contradicts what is before it.
    #[error("batch {batch}: {what} goes back")]
    Order {
        /// The batch.
        batch: BatchNumber,
        /// Seq or epoch.
        what: &'static str,
    },
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// A statement on disk that proves an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What it says.
    pub claim: Claim,
    /// Where it stands.
    pub source: Source,
}

/// What a witness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// Every batch of the shard up to this one was durable.
    Durable(BatchNumber),
    /// This epoch was committed, so every active shard's barrier of it was durable.
    Committed(Epoch),
    /// The run ends with this batch.
    RunEnd(BatchNumber),
}

/// Where a witness stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// In the header of a batch.
    Batch {
        /// The batch.
        number: BatchNumber,
        /// Where it is.
        at: Place,
    },
    /// In the manifest.
    Manifest(Generation),
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Batch { number, at } => write!(f, "batch {number} ({at})")?,
            Source::Manifest(generation) => write!(f, "generation {generation} of the manifest")?,
        }
        match self.claim {
            Claim::Durable(batch) => write!(f, " says that batch {batch} was durable"),
            Claim::Committed(epoch) => write!(f, " says that epoch {epoch} was committed"),
            Claim::RunEnd(batch) => write!(f, " says that the run ends with batch {batch}"),
        }
    }
}

/// Why an append was not accepted. The log is as it was before.
///
/// ```
/// # use corewal::{AppendError, Kind, ShardWriter};
/// fn append(writer: &mut ShardWriter, bytes: &[u8]) -> Result<(), AppendError> {
///     loop {
///         match writer.append_bytes(Kind::PUT, bytes) {
///             // Blocks come back, and segments are taken, in a turn.
///             Err(AppendError::Full) => _ = writer.turn()?,
///             // Goes on when a checkpoint has let segments go, or somebody else has made room.
///             Err(AppendError::NoSpace(fault)) => return Err(AppendError::NoSpace(fault)),
///             // The shard is latched: reopen the log and recover.
///             Err(AppendError::Failed(failure)) => return Err(failure.into()),
///             appended => return appended.map(|_stamp| ()),
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// All blocks are in flight, or the next segment is not prepared yet. A writer takes a
    /// [`turn`](crate::ShardWriter::turn), a producer awaits its [`room`](crate::Producer::room); then try again.
    #[error("no room for now: a writer takes a turn, a producer awaits room; then try again")]
    Full,
    /// The record, encoded, is too large.
    #[error("a record of {len} bytes is above the limit of {max} bytes")]
    TooLarge {
        /// Its encoded length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The atomic group does not fit into one batch. The entry that was too much was not added.
    #[error("a group of {len} bytes is above the limit of {max} bytes for a batch")]
    GroupTooLarge {
        /// Bytes of the batch that it would take, with headers.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A group without entries has no stamp.
    #[error("a group without entries cannot be appended")]
    EmptyGroup,
    /// The disk is full. Room for closing epochs is kept; appends go on when space is freed.
    #[error("no space: {0}; free some, then appends go on")]
    NoSpace(IoFault),
    /// The next segment cannot be prepared for another reason than a full disk. It is tried again.
    #[error("no segment to write to: {0}")]
    NoSegment(IoFault),
    /// The record could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Only the engine writes entries of this kind, or the format does not know it.
    #[error("entries of kind {} cannot be appended", .0.0)]
    Kind(Kind),
    /// The epoch cannot be closed: so many are not committed yet. Waiting for one ([`Log::wait_epoch`]) says why it
    /// cannot be committed, if it cannot.
    ///
    /// [`Log::wait_epoch`]: crate::Log::wait_epoch
    #[error(
        "{open} epochs are closed and not committed, and no more may be; shard {slowest} holds them back: \
         let its writer take turns, and wait for an epoch"
    )]
    EpochsAhead {
        /// How many.
        open: u32,
        /// The shard that has closed the fewest, durably.
        slowest: ShardId,
    },
    /// The shard's writer was closed, or is being closed.
    #[error("the writer of shard {shard} is closed")]
    Closed {
        /// The shard.
        shard: ShardId,
    },
    /// The shard has failed before, and acknowledges nothing more.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The first failure of a shard. It is final: reopen the log and recover.
#[derive(Clone, Debug, thiserror::Error)]
#[error("shard {shard} has failed: {cause}; reopen the log")]
#[non_exhaustive]
pub struct Failure {
    /// Which shard.
    pub shard: ShardId,
    /// What failed first.
    pub cause: FailureCause,
}

/// What made a shard fail.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailureCause {
    /// A write failed.
    #[error("write of batch {batch} at {at}: {cause}")]
    Write {
        /// The batch.
        batch: BatchNumber,
        /// Where it was written to.
        at: Place,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A write ended short. Nothing is known about the rest.
    #[error("write of batch {batch} at {at}: {written} of {len} bytes were written")]
    Short {
        /// The batch.
        batch: BatchNumber,
        /// Where it was written to.
        at: Place,
        /// Bytes that were written.
        written: usize,
        /// Bytes that were asked for.
        len: usize,
    },
    /// A sync failed. What is durable of the batches since the last one is unknown; no second try.
    #[error("sync of batches up to {batch}: {cause}")]
    Sync {
        /// The last batch that it should have covered.
        batch: BatchNumber,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// The ring itself failed.
    #[error("ring: {0}")]
    Ring(Arc<io::Error>),
    /// A manifest could not be written. Whether it is there is for the next recovery to find.
    #[error("manifest: {0}")]
    Manifest(IoFault),
    /// The writer is gone without a close.
    #[error("its writer was dropped")]
    Dropped,
    /// The thread that drove the shard, or one that appended to it, panicked inside the engine: a bug.
    #[error("a thread panicked inside the engine")]
    Panicked,
}

/// Why an entry cannot be waited for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The stamp is of another shard or another incarnation, or was never given out.
    #[error("stamp {stamp} was not given out by this writer")]
    NotGiven {
        /// The stamp.
        stamp: Stamp,
    },
    /// The shard's writer was closed, and nothing of this stamp was appended before.
    #[error("the writer of shard {shard} is closed")]
    Closed {
        /// The shard.
        shard: ShardId,
    },
    /// A truncation cut the entry off.
    #[error("{stamp} was cut off by a truncation")]
    Voided {
        /// The stamp.
        stamp: Stamp,
    },
    /// The shard has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why an append that waits was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// It was not accepted; the log is as it was before.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It was accepted, and it is not known to be durable: it may or may not be on disk.
    #[error("the entry {stamp} was not acknowledged: {cause}")]
    Unacknowledged {
        /// The entry.
        stamp: Stamp,
        /// What happened.
        cause: WaitError,
    },
}

/// Why a stamp cannot be observed. Nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The stamp is of a later epoch than the shard's own, so everything that the shard appends would come
    /// before it: close epochs first.
    #[error(
        "the stamp is of epoch {observed}, the shard is still in {open}; close its epochs first"
    )]
    EpochBehind {
        /// The stamp's epoch.
        observed: Epoch,
        /// The shard's open epoch.
        open: Epoch,
    },
    /// No shard ever counts so far: the stamp is of no log.
    #[error("seq of stamp {stamp} is above {highest}, the highest that can be observed")]
    SeqTooHigh {
        /// The stamp.
        stamp: Stamp,
        /// The highest seq that can be observed.
        highest: Seq,
    },
    /// The shard has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The shard's writer was closed.
    #[error("the writer of shard {shard} was closed")]
    Closed {
        /// The shard.
        shard: ShardId,
    },
}

/// Why the end of a shard cannot be cut off.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// An entry above the seq is in a committed epoch.
    #[error("epoch {epoch} is committed; nothing of it can be cut off")]
    Committed {
        /// The first such epoch.
        epoch: Epoch,
    },
    /// A barrier above the seq closes an epoch of this incarnation, that other shards may close, too.
    #[error("the shard has closed epoch {epoch}; its barrier cannot be cut off")]
    Barrier {
        /// The first such epoch.
        epoch: Epoch,
    },
    /// The seq is inside of an atomic group, that is kept whole or not at all.
    #[error("seqs {last} and {next} belong to one atomic group")]
    InsideGroup {
        /// The last seq of the group that would be kept.
        last: Seq,
        /// The next one of it.
        next: Seq,
    },
    /// Entries above the seq were released by a checkpoint.
    #[error("entries up to seq {up_to} were released")]
    Released {
        /// The last released seq.
        up_to: Seq,
    },
    /// There is no prepared segment to go on in, or too little room for closing epochs: what an append would
    /// be refused for. After [`AppendError::Full`], take a turn and try again.
    #[error("nowhere to go on: {0}")]
    NoRoom(AppendError),
    /// The shard cannot be read around the seq.
    #[error(transparent)]
    Read(RecoverError),
    /// The manifest has no room for another run.
    #[error(
        "the manifest would have {0} bytes, and {MAX_MANIFEST_LEN} are allowed; release old segments"
    )]
    ManifestTooLarge(usize),
    /// There was no room to write the manifest. Nothing has changed, and it may be tried again.
    #[error("the manifest was not written: {0}")]
    Unwritten(IoFault),
    /// The shard has failed, in this truncation or before.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a log that was recovered cannot be opened for writing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What was left of the stream does not verify.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The manifest has no room for another generation.
    #[error(
        "the manifest would have {0} bytes, and {MAX_MANIFEST_LEN} are allowed; release old segments"
    )]
    ManifestTooLarge(usize),
    /// A number is so high that it was never counted up to: something else wrote the log.
    #[error("no room for another incarnation: {what} is {number}")]
    Exhausted {
        /// Which number.
        what: &'static str,
        /// The number, as it would go on.
        number: u64,
    },
}

impl From<IoFault> for TailError {
    fn from(fault: IoFault) -> Self {
        Self::Recover(RecoverError::Io(fault))
    }
}

impl From<IoFault> for OpenError {
    fn from(fault: IoFault) -> Self {
        Self::Recover(RecoverError::Io(fault))
    }
}

/// Why an epoch cannot be waited for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// The epoch belongs to an earlier incarnation and was not committed there; it never will be by itself.
    #[error("epoch {epoch} is of an earlier incarnation and was not committed")]
    Earlier {
        /// The epoch.
        epoch: Epoch,
    },
    /// Nobody has taken the shard's seat, so it closes no epoch.
    #[error("shard {shard} has no writer: its seat was not taken")]
    Untaken {
        /// The shard.
        shard: ShardId,
    },
    /// The shard's writer was closed before it closed the epoch.
    #[error("the writer of shard {shard} is closed")]
    Closed {
        /// The shard.
        shard: ShardId,
    },
    /// The shard has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// More epochs may not be closed before one is committed. Waiting for one says why it cannot be, if it cannot.
    #[error(
        "{open} epochs are closed and not committed, and no more may be; shard {slowest} holds them back: \
         let its writer take turns, and wait for an epoch"
    )]
    Ahead {
        /// How many.
        open: u32,
        /// The shard that has closed the fewest, durably.
        slowest: ShardId,
    },
}
