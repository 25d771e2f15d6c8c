//! Identities and positions, each a type of its own.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            ///
            /// # Panics
            /// At the end of the number space, which no log reaches.
            #[must_use]
            #[inline]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(next) => Self(next),
                    None => panic!(concat!(stringify!($name), " exhausted")),
                }
            }

            /// The number before this one; 0 stays 0.
            #[must_use]
            #[inline]
            pub const fn before(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One ordered log inside a log, with exactly one writer.
    ShardId(u16)
}
number! {
    /// Number of a segment file in its shard; never reused. Numbers start at 1.
    SegmentNumber(u64)
}
number! {
    /// Number of a batch in its shard; contiguous inside a run. Numbers start at 1, so that 0 says "none".
    BatchNumber(u64)
}
number! {
    /// Position of an entry in its shard: strictly increasing on disk, may jump ahead. Starts at 1, so that
    /// 0 says "none".
    Seq(u64)
}
number! {
    /// Number shared by all shards; never decreases inside a shard, never reused. Starts at 1, so that 0
    /// says "none".
    Epoch(u64)
}
number! {
    /// How many times the log has been opened for writing. The first is 1, so that 0 says "none yet".
    Incarnation(u64)
}
number! {
    /// Which version of the manifest.
    Generation(u64)
}
number! {
    /// A user's name for the types of a segment's records.
    SchemaId(u64)
}

/// The random identity of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// An entry's place in the merged order of a log. The derived order is the merge rule; a stamp is never
/// given out twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// First, the epoch.
    pub epoch: Epoch,
    /// Inside an epoch, the sequence.
    pub seq: Seq,
    /// Between equal sequences, the shard.
    pub shard: ShardId,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", self.epoch, self.seq, self.shard)
    }
}

/// A byte position in a segment of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which shard.
    pub shard: ShardId,
    /// Which of its segments.
    pub segment: SegmentNumber,
    /// Where in the file, in bytes.
    pub at: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}-{:06} at {}", self.shard, self.segment.0, self.at)
    }
}
