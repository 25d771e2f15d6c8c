//! What the processor does for the parts of a log: on a disk that keeps nothing, or in memory, so that no device is
//! measured.
#![expect(clippy::unwrap_used, reason = "a benchmark says by panicking what failed")]

mod append;
mod archive;
mod cpu_time;
mod crc;
mod memory;
mod recover;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = append::appends, append::sizes, append::commits, crc::crc, archive::archives, recover::scan,
        recover::merge
}
criterion_main!(benches);
