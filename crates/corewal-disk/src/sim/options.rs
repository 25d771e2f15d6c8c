//! What kind of disk is simulated.

use std::time::Duration;

use super::SECTOR_LEN;

/// What kind of disk, file system and kernel is simulated. None of this is a fault: each is what
/// some system does.
#[derive(Clone, Debug)]
pub struct SimOptions {
    pub(super) seed: u64,
    pub(super) direct: DirectIo,
    pub(super) capacity: Option<u64>,
    pub(super) latency: (u64, u64),
    pub(super) name_order: NameOrder,
    pub(super) late_writes: LateWrites,
    pub(super) cache: CacheDropping,
    pub(super) placement: Placement,
    pub(super) trace_count: usize,
    pub(super) by_hand: bool,
}

/// Where the file system writes what is written again. It only says so; nothing else differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// In place.
    #[default]
    InPlace,
    /// To a new place (btrfs, ZFS): [`Disk::is_copy_on_write`](crate::Disk::is_copy_on_write).
    CopyOnWrite,
}

/// Whether files can be opened for direct I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Yes, with this alignment in bytes.
    Supported {
        /// A power of two from 512 to 4096.
        align: usize,
    },
    /// No: every file is buffered.
    Refused,
}

/// Which names a power cut can leave of those that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NameOrder {
    /// Any of the changes, in any combination, as far as POSIX promises anything.
    #[default]
    Any,
    /// The first so many changes, as a journal leaves them (ext4, XFS). A synced directory makes
    /// durable all changes before its own, in other directories too.
    Journaled,
}

/// What the lock of a killed process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LateWrites {
    /// The lock stays held until the writes of the rings that registered it have landed, as
    /// io_uring does it.
    #[default]
    HoldLock,
    /// The lock is free at once, whatever may still land.
    FreeLock,
}

/// Whether [`DiskFile::drop_cache`](crate::DiskFile::drop_cache) works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CacheDropping {
    /// Yes.
    #[default]
    Supported,
    /// No, as on some platforms: it says so, and does nothing.
    Unsupported,
}

impl SimOptions {
    /// A disk of unlimited size with direct I/O in sectors of 512 bytes, on which an operation of a
    /// ring takes from 20 to 220 us.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            direct: DirectIo::Supported { align: SECTOR_LEN },
            capacity: None,
            latency: (20_000, 220_000),
            name_order: NameOrder::default(),
            late_writes: LateWrites::default(),
            cache: CacheDropping::default(),
            placement: Placement::default(),
            trace_count: 256,
            by_hand: false,
        }
    }

    /// Whether files can be opened for direct I/O.
    ///
    /// # Panics
    /// If the alignment is not a power of two from 512 to 4096.
    #[must_use]
    pub fn direct(self, direct: DirectIo) -> Self {
        if let DirectIo::Supported { align } = direct {
            let allowed = align.is_power_of_two() && (SECTOR_LEN..=4096).contains(&align);
            assert!(allowed, "an alignment of {align}");
        }
        Self { direct, ..self }
    }

    /// How many bytes the disk holds. A file takes its size, in whole pages of 4 KiB.
    #[must_use]
    pub fn capacity(self, bytes: u64) -> Self {
        Self { capacity: Some(bytes), ..self }
    }

    /// How long an operation of a ring takes, at least and at most. The wider, the more are
    /// reordered.
    ///
    /// # Panics
    /// If `most` is below `least`, or centuries.
    #[must_use]
    pub fn latency(self, least: Duration, most: Duration) -> Self {
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).expect("less than centuries");
        assert!(least <= most, "a latency from {least:?} to {most:?}");
        Self { latency: (nanos(least), nanos(most)), ..self }
    }

    /// What is submitted to a ring stays in flight until it is [landed](super::SimDisk::land); or for a
    /// thousand days, should somebody wait for it.
    #[must_use]
    pub fn by_hand(self) -> Self {
        Self { by_hand: true, ..self }
    }

    /// Which names a power cut can leave.
    #[must_use]
    pub fn name_order(self, name_order: NameOrder) -> Self {
        Self { name_order, ..self }
    }

    /// What the lock of a killed process waits for.
    #[must_use]
    pub fn late_writes(self, late_writes: LateWrites) -> Self {
        Self { late_writes, ..self }
    }

    /// Whether the page cache can be dropped.
    #[must_use]
    pub fn cache(self, cache: CacheDropping) -> Self {
        Self { cache, ..self }
    }

    /// Where the file system writes what is written again.
    #[must_use]
    pub fn placement(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// How many of the last operations are remembered; 0 is fastest.
    #[must_use]
    pub fn trace_count(self, count: usize) -> Self {
        Self { trace_count: count, ..self }
    }
}
