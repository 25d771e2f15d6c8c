//! Measuring a cell: its shards side by side, and what the machine counted meanwhile.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corewal_disk::{Disk, File, RingFacts, process_cpu_time};
use hdrhistogram::Histogram;

use crate::cell::{Cell, Loop, Method, Way};
use crate::counters::{DeviceCounter, DeviceCounts, PuntCounter};
use crate::files::Files;
use crate::histogram;
use crate::shard::{Shard, ShardRound};

/// What ends a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Commits begin for so long after the warm-up, and until one counts.
    pub time: Duration,
    /// Once it is set, none begins.
    pub stop: Option<&'a AtomicBool>,
}

impl Limits<'_> {
    /// A limit of time alone.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self { time, stop: None }
    }
}

/// Measures cells in a directory. Its files, one for each shard and kind, are prepared when they are needed and
/// removed when it is dropped.
#[derive(Debug)]
pub struct Probe<'a> {
    disk: &'a dyn Disk,
    files: Files<'a>,
    device: Option<DeviceCounter>,
    punts: Result<PuntCounter, String>,
}

/// One measurement of a cell.
#[derive(Clone, Debug)]
pub struct Round {
    /// Commits after the warm-up; those that the latencies are of.
    pub commits: u64,
    /// From the end of the warm-up to the last commit.
    pub took: Duration,
    /// Bytes of the commits.
    pub bytes: u64,
    /// From before the copy into the buffer (in an open loop, from when it should have started) until durable.
    pub latencies_ns: Histogram<u64>,
    /// The same by time, of the first shard.
    pub slices: Vec<Slice>,
    /// How often a file was begun again: its blocks were written more than once.
    pub laps: u64,
    /// What the whole measurement cost, warm-up included, for each of its commits.
    pub cost: Cost,
    /// What the first shard's ring is.
    pub facts: RingFacts,
    /// `RWF_DSYNC` is not known here: a write and an fdatasync were made instead.
    pub dsync_replaced: bool,
}

/// Costs, for each commit.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// System calls that write, sync, submit or wait.
    pub calls: f64,
    /// Processor time of the process and of the kernel's io_uring workers for it, in nanoseconds.
    pub cpu_ns: Option<f64>,
    /// Flushes that the device completed, of all its users; `None` where it is not counted.
    pub flushes: Option<f64>,
    /// Writes that the device completed, likewise.
    pub device_writes: Option<f64>,
    /// Bytes that it wrote, likewise.
    pub device_bytes: Option<f64>,
    /// Requests that io_uring gave to workers, or why that cannot be read.
    pub punts: Option<f64>,
}

/// Latencies in a short time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Commits that ended in it.
    pub commits: u64,
    /// Their latencies together, in nanoseconds.
    pub sum_ns: u64,
    /// The longest of them, in nanoseconds.
    pub max_ns: u64,
}

impl Slice {
    /// How long one is.
    pub const LEN: Duration = Duration::from_millis(20);

    pub(crate) fn count(&mut self, took_ns: u64) {
        self.commits += 1;
        self.sum_ns = self.sum_ns.saturating_add(took_ns);
        self.max_ns = self.max_ns.max(took_ns);
    }
}

impl Round {
    /// Commits a second.
    #[must_use]
    pub fn commits_per_s(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.commits as f64 / seconds } else { 0.0 }
    }

    /// Megabytes (1,000,000 bytes) a second.
    #[must_use]
    pub fn mb_per_s(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.bytes as f64 / 1e6 / seconds } else { 0.0 }
    }
}

impl<'a> Probe<'a> {
    /// A probe of `dir`, with files of `file_len` bytes: whole blocks of 4,096.
    ///
    /// # Panics
    /// If `file_len` is not a multiple of 4,096, or 0.
    #[must_use]
    pub fn new(disk: &'a dyn Disk, dir: &Path, file_len: u64) -> Self {
        assert!(file_len > 0 && file_len.is_multiple_of(4096), "a file of {file_len} bytes");
        Self {
            disk,
            files: Files::new(disk, dir, file_len),
            device: DeviceCounter::of(dir),
            punts: Err("not asked for".into()),
        }
    }

    /// The same, and it counts what goes to io_uring's workers, if that can be read.
    #[must_use]
    pub fn count_punts(self) -> Self {
        Self { punts: PuntCounter::open(), ..self }
    }

    /// The same, with files whose names begin with `prefix`, instead of `corewal-probe-`, the process and a number: for
    /// a caller who alone measures in the directory, and who knows what was left there by a process that was killed.
    #[must_use]
    pub fn named(mut self, prefix: &str) -> Self {
        self.files.rename(prefix);
        self
    }

    /// Why requests to io_uring's workers are not counted, if they are not.
    #[must_use]
    pub fn punts_refusal(&self) -> Option<&str> {
        self.punts.as_ref().err().map(String::as_str)
    }

    /// Whether the device's flushes are counted.
    #[must_use]
    pub fn counts_flushes(&self) -> bool {
        self.device.is_some()
    }

    /// Measures a cell once.
    ///
    /// # Errors
    /// A cell that means nothing; no io_uring or no direct I/O here, where the cell wants it; those of the file system.
    pub fn measure(&mut self, cell: &Cell, limits: &Limits<'_>) -> io::Result<Round> {
        cell.check()
            .map_err(|unfit| io::Error::new(io::ErrorKind::InvalidInput, unfit.to_string()))?;
        let files: Vec<File> =
            (0..cell.shards).map(|it| self.files.open(cell, it)).collect::<io::Result<_>>()?;
        let ran = self.run(cell, limits, files.clone());
        for file in &files {
            self.files.settle(file, cell)?;
        }
        ran
    }

    fn run(&self, cell: &Cell, limits: &Limits<'_>, files: Vec<File>) -> io::Result<Round> {
        let (disk, file_len) = (self.disk, self.files.len());
        thread::scope(|scope| {
            let (ready, readies) = mpsc::channel::<()>();
            let mut shards = Vec::new();
            for file in files {
                let ready = ready.clone();
                let (go, gone) = mpsc::channel::<()>();
                let run = move || -> io::Result<Option<ShardRound>> {
                    let shard = Shard::new(disk, *cell, file, file_len)?;
                    // Whoever waits for this, or lets it go, is gone only if another shard failed.
                    if ready.send(()).is_err() || gone.recv().is_err() {
                        return Ok(None);
                    }
                    shard.run(limits).map(Some)
                };
                shards.push((go, scope.spawn(run)));
            }
            drop(ready);
            let all_ready = (0..shards.len()).all(|_| readies.recv().is_ok());
            let before = self.counts();
            let (goes, threads): (Vec<_>, Vec<_>) = shards.into_iter().unzip();
            if all_ready {
                // A shard that is gone already says why when it is joined.
                for go in &goes {
                    let _ = go.send(());
                }
            }
            drop(goes);
            let mut rounds = Vec::new();
            for thread in threads {
                match thread.join() {
                    Ok(round) => rounds.extend(round?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(Self::sum(cell, rounds, before, self.counts()))
        })
    }

    fn counts(&self) -> Counts {
        Counts {
            cpu: process_cpu_time(),
            device: self.device.as_ref().and_then(DeviceCounter::read),
            punts: self.punts.as_ref().ok().and_then(|it| it.read().ok()),
        }
    }

    fn sum(cell: &Cell, shards: Vec<ShardRound>, before: Counts, after: Counts) -> Round {
        let all: u64 = shards.iter().map(|it| it.all_commits).sum();
        let calls: u64 = shards.iter().map(|it| it.calls).sum();
        let each = |count: u64| count as f64 / all.max(1) as f64;
        let device = after.device.zip(before.device).map(|(after, before)| after - before);
        let cpu = after.cpu.zip(before.cpu).map(|(after, before)| after.saturating_sub(before));
        let punts =
            after.punts.zip(before.punts).map(|(after, before)| after.saturating_sub(before));
        // An open loop spins until the next commit is due.
        let is_closed = cell.pacing == Loop::Closed;
        let cost = Cost {
            calls: each(calls),
            cpu_ns: cpu.filter(|_| is_closed).map(|it| it.as_nanos() as f64 / all.max(1) as f64),
            flushes: device.map(|it| each(it.flushes)),
            device_writes: device.map(|it| each(it.writes)),
            device_bytes: device.map(|it| each(it.bytes)),
            punts: punts.map(each),
        };
        let mut latencies_ns = histogram();
        let (mut commits, mut laps, mut took) = (0, 0, Duration::ZERO);
        for shard in &shards {
            latencies_ns += &shard.latencies_ns;
            commits += shard.commits;
            laps += shard.laps;
            took = took.max(shard.took);
        }
        let asked_dsync = cell.way == Way::Pwritev2 && cell.method == Method::Dsync;
        let mut shards = shards.into_iter();
        let first = shards.next().expect("a cell has a shard, and it ran");
        Round {
            commits,
            took,
            bytes: commits * cell.batch_len as u64,
            latencies_ns,
            slices: first.slices,
            laps,
            dsync_replaced: asked_dsync && cost.calls > 1.5,
            cost,
            facts: first.facts,
        }
    }
}

/// What the machine has counted so far.
#[derive(Clone, Copy, Debug)]
struct Counts {
    cpu: Option<Duration>,
    device: Option<DeviceCounts>,
    punts: Option<u64>,
}
