//! Floors: the least that a commit can cost here, one at a time or with so many outstanding.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal_disk::{
    Access, Block, Completion, Disk, Durability, File, FileSlot, Open, Operation, RealDisk, Ring,
    RingConfig, Token,
};

use hdrhistogram::Histogram;

use crate::cell::Way;
use crate::files::fill;
use crate::{Cell, Limits, Method, Probe, histogram};

/// Size of a commit, in bytes: one block.
pub const COMMIT_LEN: usize = 4096;
/// Size of the prepared file, in bytes; a loop that reaches its end begins again.
pub const FILE_LEN: u64 = 16 << 20;

/// Commits that do not count, at the start of a measurement.
const WARM_UP: u64 = 20;
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

/// A file of [`FILE_LEN`] bytes whose every block was written once, so that a commit changes no metadata. Removed when
/// it is dropped.
#[derive(Debug)]
pub(crate) struct PreparedFile {
    file: File,
    /// Where the next commit goes.
    at: u64,
    disk: RealDisk,
    path: PathBuf,
}

impl PreparedFile {
    /// # Errors
    /// Those of the file system.
    pub(crate) fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let disk = RealDisk::new();
        let path = dir.join(format!("corewal-probe-{}-{name}", std::process::id()));
        disk.remove(&path)?;
        let file = disk.open(&path, Open::CREATE.direct())?;
        let prepared = Self { file, at: 0, disk, path };
        fill(&*prepared.file, FILE_LEN)?;
        Ok(prepared)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next `len` bytes go: behind the last ones, or at the beginning if that would be too far.
    pub(crate) fn place(&mut self, len: usize) -> u64 {
        let len = len.next_multiple_of(COMMIT_LEN) as u64;
        let at = if self.at + len > FILE_LEN { 0 } else { self.at };
        self.at = at + len;
        at
    }
}

impl Drop for PreparedFile {
    fn drop(&mut self) {
        // What stays behind is a file with a name that says what it is.
        let _ = self.disk.remove(&self.path);
    }
}

/// Commits one block at a time to a file of its own, which it removes when it is dropped.
///
/// The file is prepared: every block was written once, so that a commit changes no metadata.
#[derive(Debug)]
pub struct CommitLoop {
    way: Way,
    ring: Box<dyn Ring>,
    slot: FileSlot,
    /// None while the ring has it.
    block: Option<Block>,
    completions: Vec<Completion>,
    /// Bytes of a commit.
    len: usize,
    token: u64,
    /// Dropped last: removed when the ring is done with it.
    file: PreparedFile,
}

impl CommitLoop {
    /// Prepares a file in `dir` and a ring on this thread, which alone may use it.
    ///
    /// # Errors
    /// Those of the file system; for [`Way::Uring`] also why there is no ring.
    pub fn new(dir: &Path, way: Way) -> io::Result<Self> {
        Self::with_len(dir, way, COMMIT_LEN)
    }

    /// The same for commits of at most `len` bytes: whole blocks, at most [`FILE_LEN`].
    pub(crate) fn with_len(dir: &Path, way: Way, len: usize) -> io::Result<Self> {
        assert!(len.is_multiple_of(COMMIT_LEN) && len as u64 <= FILE_LEN, "commits of {len} bytes");
        let file = PreparedFile::new(dir, &format!("{way:?}"))?;
        let config = RingConfig {
            engine: way.engine(),
            depth: 1,
            block_count: 1,
            block_len: len,
            lock: None,
        };
        let mut ring = RealDisk::new().ring(config)?;
        let slot = ring.register(file.file())?;
        let block = ring.take_block();
        let completions = Vec::with_capacity(1);
        Ok(Self { way, ring, slot, block, completions, len, token: 0, file })
    }

    /// Whether the writes go past the page cache. A floor that does not is none.
    #[must_use]
    pub fn access(&self) -> Access {
        self.file.file().access()
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// From now on it writes to `file`.
    #[cfg(test)]
    pub(crate) fn redirect(&mut self, file: &File) {
        self.slot = self.ring.register(file).unwrap();
    }

    /// Copies `bytes` into the buffer, makes them durable, and returns how long that took.
    ///
    /// # Errors
    /// Those of the write. The loop is of no use afterwards.
    ///
    /// # Panics
    /// If `bytes` are none, or longer than [`COMMIT_LEN`], or after an error.
    pub fn commit(&mut self, bytes: &[u8]) -> io::Result<Duration> {
        assert!(!bytes.is_empty() && bytes.len() <= self.len, "a commit of {} bytes", bytes.len());
        let start = Instant::now();
        let mut block = self.block.take().expect("the commit before succeeded");
        block[..bytes.len()].copy_from_slice(bytes);
        self.token += 1;
        let len = bytes.len().next_multiple_of(COMMIT_LEN);
        let operation = Operation::Write {
            token: Token(self.token),
            file: self.slot,
            block,
            len,
            at: self.file.place(len),
            durability: Durability::Dsync,
        };
        self.ring.push(operation).expect("nothing else is in flight");
        self.ring.submit()?;
        while self.completions.is_empty() {
            self.ring.wait(None)?;
            self.ring.reap(&mut self.completions)?;
        }
        let completion = self.completions.pop().expect("one completion");
        if completion.result? != len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.block = completion.block;
        Ok(start.elapsed())
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

/// The best that bare loops make of a number of outstanding records.
#[derive(Clone, Debug)]
pub struct OutstandingFloor {
    /// How they were cut into batches.
    pub cell: Cell,
    /// Records in each batch.
    pub records: u32,
    /// Records that became durable in a second.
    pub records_per_s: f64,
}

/// So many records outstanding on one thread, by the ways given: what one batch of all of them, two of half of them,
/// and so on up to a depth of 16, make of it with `RWF_DSYNC`, each for `time`. The best of these.
///
/// # Errors
/// Those of [`Probe::measure`], if no shape could be measured.
///
/// # Panics
/// If `ways` is empty, or a number is 0.
pub fn outstanding_floor(
    dir: &Path,
    ways: &[Way],
    outstanding: u32,
    record_len: usize,
    time: Duration,
) -> io::Result<OutstandingFloor> {
    assert!(!ways.is_empty() && outstanding > 0 && record_len > 0, "a floor of nothing");
    let disk = RealDisk::new();
    let mut probe = Probe::new(&disk, dir, 64 << 20);
    let mut best: Option<OutstandingFloor> = None;
    let mut refusal = None;
    for way in ways {
        for depth in [1, 2, 4, 8, 16].into_iter().filter(|it| *it <= outstanding) {
            let records = outstanding.div_ceil(depth);
            let batch_len = (records as usize * record_len).next_multiple_of(COMMIT_LEN);
            let cell = Cell { depth, batch_len, ..Cell::new(*way, Method::Dsync) };
            if cell.check().is_err() {
                continue;
            }
            match probe.measure(&cell, &Limits::of(time)) {
                Ok(round) => {
                    let records_per_s = round.commits_per_s() * f64::from(records);
                    if best.as_ref().is_none_or(|it| it.records_per_s < records_per_s) {
                        best = Some(OutstandingFloor { cell, records, records_per_s });
                    }
                }
                Err(error) => refusal = Some(error),
            }
        }
    }
    let nothing = || io::Error::new(io::ErrorKind::InvalidInput, "no batch holds so many records");
    best.ok_or_else(|| refusal.unwrap_or_else(nothing))
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
        let written = std::fs::read(commits.path()).unwrap();
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

    /// Only Linux has direct writes.
    #[cfg(target_os = "linux")]
    #[test]
    fn outstanding_records_are_cut_into_batches() {
        let temp = temp_dir();
        let time = Duration::from_millis(5);
        let floor = outstanding_floor(temp.path(), &[Way::Pwritev2], 64, 128, time).unwrap();
        assert_eq!((floor.cell.depth, floor.cell.batch_len, floor.records), (1, 8192, 64));
        assert!(floor.records_per_s > 0.0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
