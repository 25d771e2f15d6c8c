//! Recovery of logs in memory: judged, every batch verified, every entry delivered.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::cpu_time::CpuTime;
use crate::memory::LogInMemory;

const ENTRIES: u64 = 100_000;

/// One shard; throughput in bytes of the entries.
pub(crate) fn scan(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("scan");
    group.sample_size(10);
    for len in [128, 1024, 16 << 10] {
        let entries = ENTRIES.min((64 << 20) / len as u64);
        let log = LogInMemory::new(1, entries, len, u64::MAX);
        group.throughput(Throughput::Bytes(entries * len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| black_box(log.recover()));
        });
    }
    group.finish();
}

/// The same number of entries by one stream, and merged from several. In short epochs the streams take turns often, in
/// long ones by seq.
pub(crate) fn merge(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(10).throughput(Throughput::Elements(ENTRIES));
    for (shards, per_epoch) in [(1, 1000), (2, 1000), (4, 1000), (4, 100), (16, 1000)] {
        let log = LogInMemory::new(shards, ENTRIES, 128, per_epoch);
        let name = format!("{shards}-shards-{per_epoch}-per-epoch");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(log.recover())));
    }
    group.finish();
}
