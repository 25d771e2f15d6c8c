//! Bare durable-write loops: what a disk gives without any log.
//!
//! Nothing here knows a format. Every loop copies fresh bytes into the buffer that is written, counts a commit when it
//! is durable, and removes its files.
//!
//! | question | answer |
//! |---|---|
//! | what does one way to write give here? | a [`Cell`] of the matrix, by a [`Probe`] |
//! | what is the least that one commit can cost? | [`machine_floor`], [`ring_floor`], or a [`CommitLoop`] to interleave |
//! | how many commits can a given number of outstanding records make? | [`outstanding_floor`] |
//! | and with blocking threads that must be woken? | a `WakeLoop` with `Waking::Broadcast` (feature `wake`); other ways to wake them are trials |
//! | which way to commit is fastest here? | [`choose()`], or a [`Contest`] to measure piece by piece |
//!
//! A measurement is a number from one moment of one machine. Compare cells only when their rounds were interleaved, by
//! the [`Median`] over rounds with its interval.
//!
//! ```no_run
//! use std::time::Duration;
//! use corewal_disk::RealDisk;
//! use corewal_probe::{Cell, Method, Probe, Way, Limits};
//!
//! let disk = RealDisk::new();
//! let mut probe = Probe::new(&disk, "/var/tmp".as_ref(), 64 << 20);
//! let cell = Cell { depth: 16, ..Cell::new(Way::Uring, Method::Dsync) };
//! let round = probe.measure(&cell, &Limits::of(Duration::from_millis(200)))?;
//! println!("{:.0} commits/s", round.commits_per_s());
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod cell;
mod choose;
mod contest;
mod counters;
mod files;
mod floor;
mod median;
mod probe;
mod shard;
#[cfg(feature = "wake")]
mod wake;
#[cfg(feature = "wake")]
mod waking;

pub use cell::{AccessKind, Cell, FileState, Loop, Method, Unfit, Way};
pub use choose::{Candidate, Choice, Evidence, choose};
pub use contest::{Contest, Standing};
pub use counters::{DeviceCounter, DeviceCounts, PuntCounter};
pub use floor::{
    COMMIT_LEN, CommitLoop, FILE_LEN, Floor, OutstandingFloor, machine_floor, outstanding_floor,
    ring_floor,
};
pub use hdrhistogram::Histogram;
pub use median::Median;
pub use probe::{Cost, Limits, Probe, Round, Slice};
#[cfg(feature = "wake")]
pub use wake::{WakeFloor, WakeLoop};
#[cfg(feature = "wake")]
pub use waking::Waking;

/// Three digits, from a nanosecond to a minute.
const DIGITS: u8 = 3;
const LONGEST_NS: u64 = 60_000_000_000;

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
