//! A cell: one way of doing one piece of work, measured once by a process of its own. Its answer is one line of JSON
//! on standard output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corewal_probe::Histogram;
use serde::{Deserialize, Serialize};

use crate::Anything;
use crate::work::Work;

/// What a cell is asked for.
#[derive(clap::Args, Clone, Debug)]
pub struct Asked {
    /// Where its files are made. Cells that build a log leave it there; others leave nothing.
    #[arg(long)]
    pub dir: PathBuf,
    /// What is measured.
    #[arg(long)]
    pub way: String,
    /// What it does.
    #[arg(long)]
    pub work: Work,
    /// For how long, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub time_ms: u64,
    /// How much may be written at most, in MiB, to space that was prepared before.
    #[arg(long, default_value_t = 64)]
    pub room_mib: u64,
}

impl Asked {
    /// For how long.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms)
    }

    /// How much may be written, in bytes.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room_mib << 20
    }

    /// The files of a log that is left in place, by its name.
    #[must_use]
    pub fn image(&self, log: &str) -> PathBuf {
        self.dir.join(log)
    }
}

/// What a number means. Its unit stands in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Durable appends a second; of a recovery, entries a second.
    PerS,
    /// Latency of a durable append, in microseconds.
    P50Us,
    /// Latency of a durable append, in microseconds.
    P99Us,
    /// Latency of a durable append, in microseconds.
    P999Us,
    /// Bytes that went to the device, or came from it, in MB (1,000,000 bytes) a second.
    DeviceMbPerS,
    /// Bytes of the user, in MB a second.
    PayloadMbPerS,
    /// Time of the thread in an append, in nanoseconds; processor time if the work says so.
    AppendNs,
    /// Records in a batch.
    PerBatch,
    /// System calls for each batch.
    CallsPerBatch,
    /// Bytes written for each byte of the user.
    Amplification,
    /// The most memory that the process had, in MiB.
    PeakMib,
    /// From opening a new log to its first durable append, in milliseconds.
    FirstMs,
    /// p99.9 of the commits that overlap a rotation, to that of the others.
    OverlapRatio,
    /// p99.9 of the commits that overlap a rotation, in microseconds.
    OverlapP999Us,
    /// Rotations, or segments that were begun.
    Rotations,
    /// Segments that were begun before they were filled.
    Unfilled,
    /// Segments that were made of released ones.
    Recycled,
    /// Checkpoints.
    Checkpoints,
    /// Requests that io_uring gave to workers, for 1,000 appends.
    PuntsPer1000,
}

/// What a cell measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The numbers.
    pub figures: BTreeMap<Figure, f64>,
    /// How appends became durable.
    pub method: String,
    /// Records that were found after the log was reopened, all acknowledged ones among them; none for a floor.
    pub found_again: Option<u64>,
}

impl Outcome {
    /// Without numbers yet.
    #[must_use]
    pub fn new(method: impl Into<String>) -> Self {
        Self { method: method.into(), ..Self::default() }
    }

    /// With a number.
    #[must_use]
    pub fn with(mut self, figure: Figure, value: f64) -> Self {
        self.figures.insert(figure, value);
        self
    }

    /// With the percentiles of latencies in nanoseconds.
    #[must_use]
    pub fn with_latencies(self, latencies_ns: &Histogram<u64>) -> Self {
        let us = |quantile| latencies_ns.value_at_quantile(quantile) as f64 / 1000.0;
        self.with(Figure::P50Us, us(0.5))
            .with(Figure::P99Us, us(0.99))
            .with(Figure::P999Us, us(0.999))
    }

    /// With what was found in the reopened log.
    #[must_use]
    pub fn found(mut self, records: u64) -> Self {
        self.found_again = Some(records);
        self
    }
}

/// The answer of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was measured.
    Measured(Outcome),
    /// It cannot be had here, or has no such way: why.
    Skipped(String),
}

impl Answer {
    /// Prints it.
    ///
    /// # Errors
    /// Those of JSON.
    pub fn print(&self) -> Result<(), Anything> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// Another log, as the program that measures those names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherLog {
    /// Its package.
    pub name: String,
    /// Whether an append that it acknowledges was synced before, as it is set up here.
    pub is_durable: bool,
}

/// A way that does no such work.
#[must_use]
pub fn no_such(asked: &Asked) -> Answer {
    Answer::Skipped(format!("{} does no {}", asked.way, asked.work))
}

/// The most memory that this process had, in MiB (`VmHWM` of proc(5)); none where that is not told.
#[must_use]
pub fn peak_mib() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Drops what the page cache has of the files below `dir`.
///
/// # Errors
/// Those of the file system.
pub fn evict(dir: &Path) -> Result<(), Anything> {
    use corewal_disk::{Disk, Open, RealDisk};

    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            let file = RealDisk::new().open(&path, Open::READ)?;
            file.sync_all()?;
            file.drop_cache()?;
        }
    }
    Ok(())
}
