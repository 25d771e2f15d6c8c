//! What goes wrong, and when. Nothing does unless it is asked for.

use std::io;

use super::random::{below, draw};

/// What can go wrong. "At a cut" below means a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// A write ends early. A ring's completion has the count; [`DiskFile::write_at`] fails with
    /// `WriteZero`. The sectors before the end have landed.
    ///
    /// [`DiskFile::write_at`]: crate::DiskFile::write_at
    ShortWrite,
    /// A write fails with EIO; some first part of it, of any length, has landed.
    WriteError,
    /// A sync fails with EIO, once for each open handle. What was written through the page cache
    /// is dropped, and the cache goes on showing it until [`DiskFile::drop_cache`]. Of what was
    /// written directly, the device forgets some, and keeps the rest in its cache. Later syncs
    /// succeed, though what was dropped is gone. Sizes are not lost.
    ///
    /// [`DiskFile::drop_cache`]: crate::DiskFile::drop_cache
    SyncError,
    /// A read fails with EIO. With a [chance](Fault::chance), it is the chance of each sector to be
    /// unreadable, and stays the same for ever.
    ReadError,
    /// A sync of a directory fails with EIO; the names stay pending.
    DirectorySyncError,
    /// A write is acknowledged and never happens; the file grows as if it had.
    LostWrite,
    /// A write lands somewhere else in the same file; nowhere if there is no other place.
    MisdirectedWrite,
    /// A sync, or a durable write, is acknowledged and makes nothing durable.
    FalseSync,
    /// A sync of a directory is acknowledged and makes no name durable.
    FalseDirectorySync,
}

/// One kind of fault, where, and how often: by default once, at the next chance.
///
/// ```
/// use corewal_disk::sim::{Fault, FaultKind, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.inject(Fault::new(FaultKind::WriteError).on("shard-0001/").after(2));
/// disk.inject(Fault::new(FaultKind::ShortWrite).chance(1_000));
/// disk.inject(Fault::new(FaultKind::FalseDirectorySync).always());
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    path: Box<str>,
    after: u64,
    /// How often it still strikes; `None`: without end.
    times: Option<u64>,
    /// In millionths.
    chance: u32,
}

const ALWAYS: u32 = 1_000_000;

impl Fault {
    /// The next operation that can fail in this way does, once.
    #[must_use]
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, path: "".into(), after: 0, times: Some(1), chance: ALWAYS }
    }

    /// Only where the path contains `part`.
    #[must_use]
    pub fn on(self, part: &str) -> Self {
        Self { path: part.into(), ..self }
    }

    /// Only after `count` such operations have gone well.
    #[must_use]
    pub fn after(self, count: u64) -> Self {
        Self { after: count, ..self }
    }

    /// That many times.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { times: Some(count), ..self }
    }

    /// Every time.
    #[must_use]
    pub fn always(self) -> Self {
        Self { times: None, chance: ALWAYS, ..self }
    }

    /// With a chance of so many millionths each time, without end.
    #[must_use]
    pub fn chance(self, millionths: u32) -> Self {
        Self { times: None, chance: millionths, ..self }
    }

    /// Whether it strikes an operation of `kind` at `path`, for which `number` was drawn.
    fn strikes(&mut self, kind: FaultKind, path: &str, number: u64) -> bool {
        if self.kind != kind || self.times == Some(0) || !path.contains(&*self.path) {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        if below(number, u64::from(ALWAYS)) >= u64::from(self.chance) {
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

/// All faults of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Fault>,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.rules.retain(|rule| rule.times != Some(0));
        self.rules.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any rule strikes. Every rule that matches counts the operation.
    pub(super) fn strike(&mut self, kind: FaultKind, path: &str, number: u64) -> bool {
        let each = self.rules.iter_mut().enumerate();
        each.fold(false, |struck, (index, rule)| {
            let number = draw(number, kind as u64, index as u64);
            rule.strikes(kind, path, number) || struck
        })
    }

    /// Whether a read of the sectors from `first` to before `end` of file `node` fails.
    pub(super) fn strike_read(
        &mut self,
        path: &str,
        seed: u64,
        node: u64,
        sectors: std::ops::Range<u64>,
    ) -> bool {
        let mut struck = false;
        for rule in self.rules.iter_mut().filter(|rule| rule.kind == FaultKind::ReadError) {
            struck |= if rule.chance == ALWAYS {
                rule.strikes(FaultKind::ReadError, path, 0)
            } else {
                let bad = |sector| {
                    let number = draw(seed ^ 0x00ba_d5ec, node, sector);
                    below(number, u64::from(ALWAYS)) < u64::from(rule.chance)
                };
                path.contains(&*rule.path) && sectors.clone().any(bad)
            };
        }
        struck
    }
}

/// Errors of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errno {
    Io,
    NoSpace,
    BadFile,
    Invalid,
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        let (code, kind) = match errno {
            Errno::Io => (5, io::ErrorKind::Other),
            Errno::NoSpace => (28, io::ErrorKind::StorageFull),
            Errno::BadFile => (9, io::ErrorKind::PermissionDenied),
            Errno::Invalid => (22, io::ErrorKind::InvalidInput),
        };
        // The numbers are those of every Unix.
        if cfg!(unix) { Self::from_raw_os_error(code) } else { kind.into() }
    }
}
