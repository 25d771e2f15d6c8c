//! What a simulation found wrong.

use std::fmt;

use corewal::{Epoch, Seq, ShardId, Stamp};

use crate::Violation;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The ledger says so.
    Broken(Violation),
    /// An ordinary power cut, or a kill, was refused; or the log failed although nothing went wrong.
    Refused(String),
    /// The log works no more although nothing is wrong with its disk.
    Stuck(String),
    /// Something was acknowledged, accepted or committed after a shard had failed.
    AfterFailure(ShardId, String),
    /// A batch promises less than had been acknowledged when it was sealed, or more than was durable then.
    Promise {
        /// Its shard.
        shard: ShardId,
        /// Its number in its run, from 0.
        index: usize,
        /// What it says.
        says: (Seq, Epoch),
        /// At least this was acknowledged and committed before it was sealed.
        least: (Seq, Epoch),
        /// At most this was when it was sealed.
        most: (Seq, Epoch),
    },
    /// An idle shard did not vouch for what it had acknowledged, or for the committed epoch.
    Unvouched(ShardId, Seq),
    /// A tail gives what it may not, or less than it must; this was the frontier.
    Tail(ShardId, String, Seq),
    /// Damage that a promise or a record tells of was not refused.
    Silent {
        /// What was damaged.
        damage: String,
        /// What tells of it.
        witness: String,
    },
    /// Damage that nothing speaks of took more with it than it had to, or was refused.
    TooMuch {
        /// What was damaged.
        damage: String,
        /// What came of it.
        outcome: String,
    },
    /// Something was released that must not be, or was refused without a reason.
    Release(String),
    /// The answer about an entry is wrong.
    Standing(Stamp, String),
    /// The engine panicked.
    Panicked(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(violation) => violation.fmt(f),
            Self::Refused(error) => write!(f, "refused without damage: {error}"),
            Self::Stuck(error) => write!(f, "stuck without a reason: {error}"),
            Self::AfterFailure(shard, what) => write!(f, "shard {shard} after its failure: {what}"),
            Self::Promise { shard, index, says, least, most } => write!(
                f,
                "batch {index} of the run of shard {shard} promises seq {} and epoch {}; \
                 known when it was sealed: from {} and {} to {} and {}",
                says.0, says.1, least.0, least.1, most.0, most.1
            ),
            Self::Unvouched(shard, seq) => {
                write!(f, "shard {shard} was idle and has not vouched for seq {seq}")
            }
            Self::Tail(shard, what, frontier) => {
                write!(f, "a tail of shard {shard} {what}; the frontier is {frontier}")
            }
            Self::Silent { damage, witness } => {
                write!(f, "{damage}: not refused, although {witness}")
            }
            Self::TooMuch { damage, outcome } => write!(f, "{damage}: {outcome}"),
            Self::Release(what) => f.write_str(what),
            Self::Standing(stamp, what) => write!(f, "standing of {stamp}: {what}"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

impl std::error::Error for Finding {}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}
