//! The time that a thread has run, instead of the time that has passed: other programs on the machine do
//! not count.

use corewal_benches::cpu::ran_ns;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// Nanoseconds on a processor.
#[derive(Debug, Default)]
pub(crate) struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    /// Nanoseconds.
    type Value = u64;

    fn start(&self) -> u64 {
        ran_ns()
    }

    fn end(&self, start: u64) -> u64 {
        ran_ns() - start
    }

    fn add(&self, first: &u64, second: &u64) -> u64 {
        first + second
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
