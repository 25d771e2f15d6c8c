//! A core's side of the log: what an epoch has changed, its output, where its sources stand, and the barrier.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corewal::{AppendError, Commit, Epoch, Failure, Kind, Log, SchemaId, ShardWriter};

use crate::cut::Cut;
use crate::error::JobError;
use crate::source::{Offset, Partition};
use crate::time::Time;
use crate::workload::Stored;

/// Names the records of this version.
pub(crate) const SCHEMA: SchemaId = SchemaId(1);
/// Lines of output: raw bytes. State changes are entries of kind [`Kind::PUT`].
pub(crate) const LINES: Kind = Kind::FIRST_USER;
/// Lines are cut into entries of this size, so that an entry fits into a block.
const LINES_LEN: usize = 64 << 10;

/// The entry that makes an epoch resumable: where the core's sources go on behind it.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Position {
    /// Partitions of the source, each with the offset that is read next.
    offsets: Vec<(u32, u64)>,
    /// No event before this time comes from these partitions.
    watermark: Time,
}

impl Position {
    pub(crate) fn new(offsets: impl IntoIterator<Item = (Partition, Offset)>, at: Time) -> Self {
        let offsets = offsets.into_iter().map(|(partition, offset)| (partition.0, offset.0));
        Self { offsets: offsets.collect(), watermark: at }
    }

    /// As the log has it: every tool can read it there.
    fn to_commit(&self) -> Commit {
        let name = |&(partition, offset): &(u32, u64)| (partition.to_string(), offset);
        Commit {
            watermark: i64::try_from(self.watermark.0).unwrap_or(i64::MAX),
            offsets: self.offsets.iter().map(name).collect(),
        }
    }

    /// None if this job did not write it.
    pub(crate) fn of_commit(commit: &Commit) -> Option<Self> {
        let partition = |(name, offset): &(String, u64)| Some((name.parse().ok()?, *offset));
        let watermark = match commit.watermark {
            i64::MAX => Time::END,
            ms => Time(u64::try_from(ms).ok()?),
        };
        let offsets = commit.offsets.iter().map(partition).collect::<Option<_>>()?;
        Some(Self { offsets, watermark })
    }

    pub(crate) fn offsets(&self) -> impl Iterator<Item = (Partition, Offset)> {
        self.offsets.iter().map(|&(partition, offset)| (Partition(partition), Offset(offset)))
    }

    pub(crate) fn watermark(&self) -> Time {
        self.watermark
    }
}

/// Where a core's epochs go.
#[expect(clippy::large_enum_variant, reason = "a core has one, for ever")]
pub(crate) enum Journal {
    /// Into its shard of the log.
    Shard {
        /// The shard's writer.
        writer: ShardWriter,
        /// For the committed epoch.
        log: Arc<Log>,
    },
    /// Nowhere: every epoch counts as committed when it is closed. What the log costs shows beside it.
    Nowhere {
        /// The epoch that is open.
        open: Epoch,
    },
}

/// What became of writing a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// Its barrier is in the log. Durable it is when the epoch is committed.
    All,
    /// The log takes no more for the moment: take a turn, then go on.
    Part,
}

/// How far a cut is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    changes: usize,
    lines: usize,
    position: usize,
}

impl Journal {
    /// Writes what is left of a cut behind `cursor`; its barrier comes last, and only when everything of the
    /// epoch is in the log.
    pub(crate) fn write<C: Stored>(
        &mut self,
        cut: &Cut<C>,
        cursor: &mut Cursor,
    ) -> Result<Wrote, JobError> {
        let closed = match self {
            Self::Nowhere { open } => Ok(std::mem::replace(open, open.next())),
            Self::Shard { writer, .. } => append(writer, cut, cursor),
        };
        match closed {
            Ok(epoch) => {
                assert_eq!(epoch, cut.epoch, "every shard closes the same epochs, one by one");
                Ok(Wrote::All)
            }
            Err(AppendError::Full | AppendError::EpochsAhead { .. }) => Ok(Wrote::Part),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes changes of the open epoch, and drops those that it has written.
    pub(crate) fn write_early<C: Stored>(&mut self, changes: &mut Vec<C>) -> Result<(), JobError> {
        let Self::Shard { writer, .. } = self else {
            changes.clear();
            return Ok(());
        };
        let mut count = 0;
        let stopped = changes.iter().try_for_each(|change| {
            writer.append(change)?;
            count += 1;
            Ok(())
        });
        changes.drain(..count);
        match stopped {
            Ok(()) | Err(AppendError::Full) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The epoch that is open.
    pub(crate) fn epoch(&self) -> Epoch {
        match self {
            Self::Shard { writer, .. } => writer.epoch(),
            Self::Nowhere { open } => *open,
        }
    }

    /// Every epoch up to this one survives, on all cores.
    pub(crate) fn committed(&self) -> Epoch {
        match self {
            Self::Shard { log, .. } => log.committed_epoch(),
            Self::Nowhere { open } => open.before(),
        }
    }

    /// Lets the shard work: completions in, batches out.
    pub(crate) fn turn(&mut self) -> Result<(), Failure> {
        match self {
            Self::Shard { writer, .. } => writer.turn().map(|_| ()),
            Self::Nowhere { .. } => Ok(()),
        }
    }

    /// Sleeps until a write has completed, at most for `limit`.
    pub(crate) fn sleep(&mut self, limit: Duration) -> Result<(), Failure> {
        match self {
            Self::Shard { writer, .. } => writer.sleep(Some(limit)),
            Self::Nowhere { .. } => {
                thread::park_timeout(limit);
                Ok(())
            }
        }
    }

    /// Ends the shard in good order.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Self::Shard { writer, .. } => writer.close().map(|_| ()),
            Self::Nowhere { .. } => Ok(()),
        }
    }
}

fn append<C: Stored>(
    writer: &mut ShardWriter,
    cut: &Cut<C>,
    cursor: &mut Cursor,
) -> Result<Epoch, AppendError> {
    for change in &cut.changes[cursor.changes..] {
        writer.append(change)?;
        cursor.changes += 1;
    }
    for lines in cut.lines[cursor.lines..].chunks(LINES_LEN) {
        writer.append_bytes(LINES, lines)?;
        cursor.lines += lines.len();
    }
    if cursor.position == 0 {
        writer.append_commit(&cut.position.to_commit())?;
        cursor.position = 1;
    }
    writer.close_epoch()
}
