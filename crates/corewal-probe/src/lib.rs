//! Bare durable-write loops: the floors that a write-ahead log is measured against.
//!
//! A floor is what the same disk does without any log: the same prepared file, the same direct writes, the
//! same size, and fresh bytes copied into the buffer before each. Nothing here knows a format.
//!
//! | floor | what |
//! |---|---|
//! | [`Way::Pwritev2`] | `pwritev2(2)` with `RWF_DSYNC` on the calling thread |
//! | [`Way::Uring`] | the ring floor: a write with `RWF_DSYNC` through io_uring, submitted and waited for |
//! | [`machine_floor`] | the best of all ways |
//!
//! ```no_run
//! use corewal_probe::machine_floor;
//!
//! let floor = machine_floor("/var/tmp".as_ref(), 1000)?;
//! println!("{:?}: p50 {} ns", floor.way, floor.latencies_ns.value_at_quantile(0.5));
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal_disk::{
    Access, Block, Completion, Disk, Durability, Engine, FileSlot, Open, Operation, RealDisk, Ring,
    RingConfig, Token,
};

pub use hdrhistogram::Histogram;

/// Size of a commit, in bytes: one block.
pub const COMMIT_LEN: usize = 4096;
/// Size of the prepared file, in bytes; a loop that reaches its end begins again.
pub const FILE_LEN: u64 = 16 << 20;

/// Zeros are written in pieces of this size, in bytes.
const FILL_LEN: usize = 256 << 10;
/// Commits that do not count, at the start of a measurement.
const WARM_UP: u64 = 20;
/// Three digits, from a nanosecond to a minute.
const DIGITS: u8 = 3;
const LONGEST_NS: u64 = 60_000_000_000;

/// A way to make one block durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `pwritev2(2)` with `RWF_DSYNC`, or what the platform has.
    Pwritev2,
    /// io_uring with `RWF_DSYNC`.
    Uring,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Pwritev2, Self::Uring];

    fn engine(self) -> Engine {
        match self {
            Self::Pwritev2 => Engine::Blocking,
            Self::Uring => Engine::Uring,
        }
    }
}

/// What a way gives, one commit at a time.
#[derive(Clone, Debug)]
pub struct Floor {
    /// Which way.
    pub way: Way,
    /// From before the copy into the buffer until the commit is durable, in nanoseconds.
    pub latencies_ns: Histogram<u64>,
}

impl Floor {
    /// The median, in nanoseconds.
    #[must_use]
    pub fn p50_ns(&self) -> u64 {
        self.latencies_ns.value_at_quantile(0.5)
    }
}

/// A histogram for latencies in nanoseconds, from 1 ns to a minute with three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    let mut histogram = match Histogram::new_with_max(LONGEST_NS, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants in order: {error}"),
    };
    histogram.auto(true);
    histogram
}

/// Commits one block at a time to a file of its own, which it removes when it is dropped.
///
/// The file is prepared: every block was written once, so that a commit changes no metadata.
#[derive(Debug)]
pub struct CommitLoop {
    way: Way,
    ring: Box<dyn Ring>,
    file: FileSlot,
    access: Access,
    /// None while the ring has it.
    block: Option<Block>,
    completions: Vec<Completion>,
    at: u64,
    token: u64,
    disk: RealDisk,
    path: PathBuf,
}

impl CommitLoop {
    /// Prepares a file in `dir` and a ring on this thread, which alone may use it.
    ///
    /// # Errors
    /// Those of the file system; for [`Way::Uring`] also why there is no ring.
    pub fn new(dir: &Path, way: Way) -> io::Result<Self> {
        let disk = RealDisk::new();
        let path = dir.join(format!("corewal-probe-{}-{way:?}", std::process::id()));
        disk.remove(&path)?;
        let opened = disk.open(&path, Open::CREATE.direct())?;
        let made = prepare(&*opened).and_then(|()| {
            let config = RingConfig {
                engine: way.engine(),
                depth: 1,
                block_count: 1,
                block_len: COMMIT_LEN,
                lock: None,
            };
            let mut ring = disk.ring(config)?;
            let file = ring.register(&opened)?;
            Ok((ring, file))
        });
        let (mut ring, file) = match made {
            Ok(made) => made,
            Err(error) => {
                disk.remove(&path)?;
                return Err(error);
            }
        };
        let block = ring.take_block();
        let (access, completions) = (opened.access(), Vec::with_capacity(1));
        Ok(Self { way, ring, file, access, block, completions, at: 0, token: 0, disk, path })
    }

    /// Whether the writes go past the page cache. A floor that does not is none.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Copies `bytes` into the buffer, makes them durable, and returns how long that took.
    ///
    /// # Errors
    /// Those of the write. The loop is of no use afterwards.
    ///
    /// # Panics
    /// If `bytes` are longer than [`COMMIT_LEN`], or after an error.
    pub fn commit(&mut self, bytes: &[u8]) -> io::Result<Duration> {
        let start = Instant::now();
        let mut block = self.block.take().expect("the commit before succeeded");
        block[..bytes.len()].copy_from_slice(bytes);
        self.token += 1;
        let operation = Operation::Write {
            token: Token(self.token),
            file: self.file,
            block,
            len: COMMIT_LEN,
            at: self.at,
            durability: Durability::Dsync,
        };
        self.ring.push(operation).expect("nothing else is in flight");
        self.ring.submit()?;
        while self.completions.is_empty() {
            self.ring.wait(None)?;
            self.ring.reap(&mut self.completions)?;
        }
        let completion = self.completions.pop().expect("one completion");
        if completion.result? != COMMIT_LEN {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.block = completion.block;
        let took = start.elapsed();
        self.at = (self.at + COMMIT_LEN as u64) % FILE_LEN;
        Ok(took)
    }

    /// The latencies of `commits` commits, after a few that do not count.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn measure(&mut self, commits: u64) -> io::Result<Floor> {
        let mut latencies_ns = histogram();
        let mut bytes = [0; COMMIT_LEN];
        for count in 0..WARM_UP + commits {
            // Fresh ones, as a log's are.
            bytes.fill(count.to_le_bytes()[0] | 1);
            let took = self.commit(&bytes)?;
            if count >= WARM_UP {
                latencies_ns += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            }
        }
        Ok(Floor { way: self.way, latencies_ns })
    }
}

impl Drop for CommitLoop {
    fn drop(&mut self) {
        // What stays behind is a file with a name that says what it is.
        let _ = self.disk.remove(&self.path);
    }
}

/// Writes every block once.
fn prepare(file: &dyn corewal_disk::DiskFile) -> io::Result<()> {
    file.allocate(FILE_LEN)?;
    let zeros = Block::zeroed(FILL_LEN);
    for at in (0..FILE_LEN).step_by(FILL_LEN) {
        file.write_at(&zeros, at)?;
    }
    file.sync_all()
}

/// One durable block at a time through io_uring, in a file in `dir`.
///
/// # Errors
/// Those of [`CommitLoop`]; also why there is no ring.
pub fn ring_floor(dir: &Path, commits: u64) -> io::Result<Floor> {
    CommitLoop::new(dir, Way::Uring)?.measure(commits)
}

/// One durable block at a time, by whichever way has the lowest median. A way that cannot be had here does
/// not count.
///
/// # Errors
/// Those of [`CommitLoop`].
pub fn machine_floor(dir: &Path, commits: u64) -> io::Result<Floor> {
    let plain = CommitLoop::new(dir, Way::Pwritev2)?.measure(commits)?;
    match ring_floor(dir, commits) {
        Ok(ring) if ring.p50_ns() < plain.p50_ns() => Ok(ring),
        Ok(_) | Err(_) => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp_dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_commit_is_in_the_file_and_the_file_is_removed() {
        let temp = temp_dir();
        let mut commits = CommitLoop::new(temp.path(), Way::Pwritev2).unwrap();
        for count in 1..=3 {
            commits.commit(&[count; COMMIT_LEN]).unwrap();
        }
        let written = std::fs::read(&commits.path).unwrap();
        assert_eq!(written.len() as u64, FILE_LEN);
        let firsts: Vec<u8> = written.iter().step_by(COMMIT_LEN).take(4).copied().collect();
        assert_eq!(firsts, [1, 2, 3, 0]);
        drop(commits);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_machine_floor_is_the_best_way() {
        let temp = temp_dir();
        let floor = machine_floor(temp.path(), 50).unwrap();
        assert_eq!(floor.latencies_ns.len(), 50, "the warm-up does not count");
        assert!(floor.p50_ns() > 0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
