//! Ways to replay: above a fence, shard by shard, into a state machine.

use corewal_format::{Epoch, Seq, ShardId, Stamp};

use crate::error::RecoverError;
use crate::recovery::Entry;
use crate::recovery::stream::ShardStream;

/// The last stamp that a replay leaves out: everything up to it is held elsewhere.
///
/// ```
/// use corewal::{Epoch, Fence, Seq, ShardId, Stamp};
///
/// let snapshot = Fence::from(Epoch(7)); // all of epoch 7 and before
/// let position = Fence::from(Stamp { epoch: Epoch(7), seq: Seq(40), shard: ShardId(1) });
/// assert!(position < snapshot);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub(crate) Stamp);

impl From<Stamp> for Fence {
    fn from(stamp: Stamp) -> Self {
        Self(stamp)
    }
}

impl From<Epoch> for Fence {
    fn from(epoch: Epoch) -> Self {
        Self(Stamp { epoch, seq: Seq(u64::MAX), shard: ShardId(u16::MAX) })
    }
}

/// One shard's entries, to be replayed beside those of the others; see
/// [`Recovery::shards`](crate::Recovery::shards).
#[derive(Debug)]
pub struct ShardReplay<'a> {
    pub(super) stream: &'a mut ShardStream,
    pub(super) committed: Epoch,
}

impl ShardReplay<'_> {
    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.stream.shard()
    }

    /// The shard's next entry, borrowed from the recovery's memory.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] if a batch does not verify that lies below a recorded end, or below the last that
    /// is promised to be durable. Every further call returns the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, RecoverError> {
        Ok(self.stream.advance()?.map(|_| Entry::of(self.stream, self.committed)))
    }
}

/// What a log is replayed into. Every closure over an [`Entry`] is one.
///
/// ```
/// # use corewal::{Entry, Kind, Log, Options, StateMachine};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// # let mut log = Log::recover(Options::new(&dir))?.open()?;
/// # let mut writer = log.take_seats().remove(0).sit()?;
/// # writer.append_bytes(Kind::PUT, b"12345")?;
/// # writer.close()?;
/// # log.close()?;
/// #[derive(Default)]
/// struct Bytes(usize);
///
/// impl StateMachine for Bytes {
///     type Error = std::convert::Infallible;
///
///     fn apply(&mut self, entry: Entry<'_>) -> Result<(), Self::Error> {
///         self.0 += entry.bytes().len();
///         Ok(())
///     }
/// }
///
/// let mut state = Bytes::default();
/// let mut recovery = Log::recover(Options::new(&dir))?;
/// assert_eq!(recovery.replay_into(&mut state)?, 1);
/// assert_eq!(state.0, 5);
/// # Ok(())
/// # }
/// ```
pub trait StateMachine {
    /// Why it does not take an entry.
    type Error;

    /// Takes the next entry.
    ///
    /// # Errors
    /// What ends the replay.
    fn apply(&mut self, entry: Entry<'_>) -> Result<(), Self::Error>;
}

impl<E, F: FnMut(Entry<'_>) -> Result<(), E>> StateMachine for F {
    type Error = E;

    fn apply(&mut self, entry: Entry<'_>) -> Result<(), E> {
        self(entry)
    }
}

/// Why a replay into a state machine ended early.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The log cannot be read further.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The state machine did not take an entry. A further replay goes on behind it.
    #[error("{stamp} was not taken: {cause}")]
    Machine {
        /// The entry.
        stamp: Stamp,
        /// Why.
        cause: E,
    },
}
