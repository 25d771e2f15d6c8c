//! CRC32C by length.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::cpu_time::CpuTime;

pub(crate) fn crc(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("crc32c");
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(64 << 10).collect();
    for len in [16, 140, 1024, 4096, 64 << 10] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            // An entry's CRC begins behind its own four bytes.
            bencher
                .iter(|| corewal_crc::crc32c(black_box(&bytes[4.min(bytes.len() - len)..][..len])));
        });
    }
    group.finish();
}
