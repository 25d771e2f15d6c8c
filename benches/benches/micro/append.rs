//! Appends, by kind and by size, and commits of one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use corewal::{AppendError, Kind, Log, NullDisk, Options, ShardWriter, Stamp};
use corewal_benches::payload::{Fixed, Flight};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::cpu_time::CpuTime;

fn with_writer(run: impl FnOnce(&mut ShardWriter)) {
    let options = Options::new("/null/log")
        .disk(Arc::new(NullDisk::new()))
        .first_segment_len(1 << 30)
        .segment_len(1 << 30)
        .vouch_after(Duration::from_secs(3600));
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    run(&mut writer);
    writer.close().unwrap();
}

/// Appends; a turn comes only when all blocks are full, about every ten thousand records.
fn append(
    writer: &mut ShardWriter,
    append: impl Fn(&mut ShardWriter) -> Result<Stamp, AppendError>,
) {
    loop {
        match append(writer) {
            Ok(stamp) => {
                black_box(stamp);
                return;
            }
            Err(AppendError::Full) => {
                writer.turn().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn appends(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let bytes = [0xA5; 128];
    let (fixed, flight) = (Fixed::example(), Flight::example());
    with_writer(|writer| {
        group.bench_function("bytes-128", |bencher| {
            bencher.iter(|| append(writer, |it| it.append_bytes(Kind::PUT, black_box(&bytes))));
        });
        group.bench_function("fixed-struct-128", |bencher| {
            bencher.iter(|| append(writer, |it| it.append(black_box(&fixed))));
        });
        group.bench_function("struct-with-strings", |bencher| {
            bencher.iter(|| append(writer, |it| it.append(black_box(&flight))));
        });
        let mut block = vec![0_u8; 256 << 10];
        let mut at = 0;
        group.bench_function("memcpy-128", |bencher| {
            bencher.iter(|| {
                block[at..at + 128].copy_from_slice(black_box(&bytes));
                at = (at + 160) % (255 << 10);
                black_box(&mut block);
            });
        });
    });
    group.finish();
}

pub(crate) fn sizes(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("append-bytes");
    for len in [16, 64, 256, 1024, 4096, 16 << 10, 64 << 10] {
        let bytes = vec![0xA5; len];
        group.throughput(Throughput::Bytes(len as u64));
        with_writer(|writer| {
            group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
                bencher.iter(|| append(writer, |it| it.append_bytes(Kind::PUT, black_box(&bytes))));
            });
        });
    }
    group.finish();
}

pub(crate) fn commits(criterion: &mut Criterion<CpuTime>) {
    with_writer(|writer| {
        criterion.bench_function("commit-of-one/bytes-128", |bencher| {
            bencher.iter(|| {
                let stamp = writer.append_bytes(Kind::PUT, black_box(&[0xA5; 128])).unwrap();
                writer.wait(stamp).unwrap();
            });
        });
    });
}
