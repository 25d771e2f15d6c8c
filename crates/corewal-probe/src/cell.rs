//! The matrix: what a cell is, and which cells mean anything.

use std::fmt;

use corewal_disk::{Durability, Engine};

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Calls on the thread of the shard: `pwritev2(2)`, `fdatasync(2)`, or what the platform has.
    Pwritev2,
    /// io_uring.
    Uring,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Pwritev2, Self::Uring];

    /// The name on the command line: that of the engine.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pwritev2 => "blocking",
            Self::Uring => "uring",
        }
    }

    pub(crate) fn engine(self) -> Engine {
        match self {
            Self::Pwritev2 => Engine::Blocking,
            Self::Uring => Engine::Uring,
        }
    }
}

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Not at all: the write is handed over, and that is it.
    None,
    /// The write completes, then an fdatasync through the ring covers all writes that have completed.
    AfterWrite,
    /// The write is linked to an fdatasync of its own.
    Linked,
    /// The write is followed by an fdatasync that drains the ring.
    Drained,
    /// The write carries `RWF_DSYNC`.
    Dsync,
    /// The file was opened with `O_DSYNC`.
    ODsync,
    /// The write completes, then an `fdatasync(2)` on the thread covers all writes that have completed.
    Fdatasync,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::AfterWrite,
        Self::Linked,
        Self::Drained,
        Self::Dsync,
        Self::ODsync,
        Self::Fdatasync,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AfterWrite => "after-write",
            Self::Linked => "linked",
            Self::Drained => "drained",
            Self::Dsync => "dsync",
            Self::ODsync => "o-dsync",
            Self::Fdatasync => "fdatasync",
        }
    }

    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::None | Self::AfterWrite | Self::ODsync | Self::Fdatasync => Durability::Written,
            Self::Linked => Durability::LinkedSync,
            Self::Drained => Durability::DrainedSync,
            Self::Dsync => Durability::Dsync,
        }
    }
}

/// How writes reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessKind {
    /// Past the page cache.
    Direct,
    /// Through the page cache.
    Buffered,
}

impl AccessKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Buffered];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

/// What stands in the file where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileState {
    /// Nothing: the file ends there, so every write also changes its size.
    Growing,
    /// Allocated space that was never written: the first write changes metadata.
    Allocated,
    /// Zeros, written and synced before: a write changes no metadata.
    ZeroFilled,
}

impl FileState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Growing, Self::Allocated, Self::ZeroFilled];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Allocated => "allocated",
            Self::ZeroFilled => "zero-filled",
        }
    }
}

/// When the next commit starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loop {
    /// As soon as a place is free: throughput at a depth. Its latencies leave out how long a commit that came at
    /// its own time would have waited (coordinated omission).
    Closed,
    /// So many a second over all shards, evenly spaced, whether the disk keeps up or not. The latency counts from
    /// the moment at which the commit should have started.
    Open {
        /// Commits a second; above 0.
        per_s: u32,
    },
}

/// One point of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// How the kernel is asked.
    pub way: Way,
    /// How a write becomes durable.
    pub method: Method,
    /// How writes reach the device.
    pub access: AccessKind,
    /// What stands in the file.
    pub state: FileState,
    /// Commits in flight at once on each shard; 1 to 64.
    pub depth: u32,
    /// Size of a commit's write, in bytes: whole blocks of 4,096.
    pub batch_len: usize,
    /// Threads, each with its own file and ring.
    pub shards: u16,
    /// When the next commit starts.
    pub pacing: Loop,
}

/// The most commits in flight.
pub(crate) const MAX_DEPTH: u32 = 64;
/// The unit of a batch, in bytes.
pub(crate) const UNIT: usize = 4096;
/// The longest batch, in bytes: half of what a ring writes in one piece.
pub(crate) const MAX_BATCH: usize = 256 << 10;

/// Why a cell means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The method needs a ring.
    NeedsRing,
    /// Calls on one thread run one after the other: there is no depth.
    NoDepth,
    /// A number is out of its range.
    Range,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeedsRing => "the method is one of a ring",
            Self::NoDepth => "calls on one thread run one after the other, at depth 1",
            Self::Range => {
                "depth is 1 to 64, a batch whole blocks of 4 KiB up to 256 KiB, shards 1 to 64"
            }
        })
    }
}

impl Cell {
    /// One block at a time, direct, on a zero-filled file, one shard, closed loop.
    #[must_use]
    pub fn new(way: Way, method: Method) -> Self {
        Self {
            way,
            method,
            access: AccessKind::Direct,
            state: FileState::ZeroFilled,
            depth: 1,
            batch_len: UNIT,
            shards: 1,
            pacing: Loop::Closed,
        }
    }

    /// Whether the cell means anything.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), Unfit> {
        let of_ring = matches!(self.method, Method::AfterWrite | Method::Linked | Method::Drained);
        if self.way == Way::Pwritev2 && of_ring {
            return Err(Unfit::NeedsRing);
        }
        let ranges = (1..=MAX_DEPTH).contains(&self.depth)
            && (UNIT..=MAX_BATCH).contains(&self.batch_len)
            && self.batch_len.is_multiple_of(UNIT)
            && (1..=64).contains(&self.shards)
            && self.pacing != Loop::Open { per_s: 0 };
        if !ranges {
            return Err(Unfit::Range);
        }
        if self.way == Way::Pwritev2 && self.depth > 1 {
            return Err(Unfit::NoDepth);
        }
        Ok(())
    }

    /// Whether a commit of this cell survives a power cut, if the device keeps its word.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.method != Method::None
    }
}

impl fmt::Display for Cell {
    /// `uring dsync, direct, zero-filled, depth 4, 4 KiB, 1 shard`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [way, method] = [self.way.name(), self.method.name()];
        let [access, state] = [self.access.name(), self.state.name()];
        let (depth, kib, shards) = (self.depth, self.batch_len / 1024, self.shards);
        let plural = if shards == 1 { "" } else { "s" };
        write!(
            f,
            "{way} {method}, {access}, {state}, depth {depth}, {kib} KiB, {shards} shard{plural}"
        )?;
        match self.pacing {
            Loop::Closed => Ok(()),
            Loop::Open { per_s } => write!(f, ", {per_s}/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_without_a_meaning_are_refused() {
        let plain = |method| Cell::new(Way::Pwritev2, method);
        let fit: Vec<_> = Method::ALL.into_iter().filter(|it| plain(*it).check().is_ok()).collect();
        assert_eq!(fit, [Method::None, Method::Dsync, Method::ODsync, Method::Fdatasync]);
        assert!(Method::ALL.into_iter().all(|it| Cell::new(Way::Uring, it).check().is_ok()));
        let deep = Cell { depth: 2, ..plain(Method::Dsync) };
        assert_eq!(deep.check(), Err(Unfit::NoDepth));
        let ring = Cell::new(Way::Uring, Method::Dsync);
        for wrong in [
            Cell { depth: 0, ..ring },
            Cell { depth: 65, ..ring },
            Cell { batch_len: 0, ..ring },
            Cell { batch_len: 5000, ..ring },
            Cell { batch_len: 512 << 10, ..ring },
            Cell { shards: 0, ..ring },
            Cell { pacing: Loop::Open { per_s: 0 }, ..ring },
        ] {
            assert_eq!(wrong.check(), Err(Unfit::Range), "{wrong}");
        }
    }
}
