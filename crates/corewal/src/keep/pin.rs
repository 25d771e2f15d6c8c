//! Named readers that keep segments from being released.

use std::fmt;
use std::sync::Arc;

use corewal_format::{Epoch, Seq, ShardId};

use crate::keep::catalog::Piece;
use crate::shared::Shared;

/// From where on a [`Pin`] keeps segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinFrom {
    /// Everything that is there.
    Oldest,
    /// Every segment with entries of this epoch or a later one that is still there.
    Epoch(Epoch),
    /// Everything of one shard from this seq on.
    Seq(ShardId, Seq),
}

impl PinFrom {
    pub(crate) fn holds(&self, shard: ShardId, piece: &Piece) -> bool {
        match *self {
            Self::Oldest => true,
            Self::Epoch(epoch) => piece.last_epoch >= epoch,
            Self::Seq(of, seq) => shard == of && piece.last_seq >= seq,
        }
    }
}

/// Keeps segments from being released, until it is dropped.
///
/// It lives in memory: after a restart a reader takes it again, before anything is released.
///
/// ```
/// # use corewal::{Epoch, Log, Options, PinFrom};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
/// let pin = log.pin("nightly backup", PinFrom::Epoch(Epoch(17)))?;
/// assert_eq!(log.pins(), [("nightly backup".to_owned(), PinFrom::Epoch(Epoch(17)))]);
/// drop(pin);
/// assert!(log.pins().is_empty());
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it lets the segments go"]
pub struct Pin {
    shared: Arc<Shared>,
    number: u64,
    name: String,
}

impl Pin {
    pub(crate) fn new(shared: Arc<Shared>, number: u64, name: String) -> Self {
        Self { shared, number, name }
    }

    /// The name that it was taken under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.kept().unpin(self.number);
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a pin cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// What was to be pinned is gone already.
    #[error("seq {seq} of shard {shard} was released (all up to {released} were)")]
    Released {
        /// Which shard.
        shard: ShardId,
        /// What was asked for.
        seq: Seq,
        /// Everything up to this seq is gone.
        released: Seq,
    },
}
