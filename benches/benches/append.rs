//! What the processor does for an append, and for a commit of one: on a disk that keeps nothing and a ring
//! whose operations are complete at once, so that nothing else is measured.
#![expect(clippy::unwrap_used, reason = "a benchmark says by panicking what failed")]

#[path = "append/cpu.rs"]
mod cpu;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use corewal::{AppendError, Kind, Log, NullDisk, Options, Record, ShardWriter, Stamp};
use cpu::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// 128 bytes.
#[derive(rkyv::Archive, rkyv::Serialize, Clone, Copy)]
struct Fixed {
    fields: [u64; 16],
}

impl Record for Fixed {}

/// 128 bytes when it is archived.
#[derive(rkyv::Archive, rkyv::Serialize, Clone)]
struct Flight {
    date: String,
    origin: String,
    destination: String,
    carrier: String,
    delay: i32,
    distance: u32,
}

impl Record for Flight {}

fn flight() -> Flight {
    Flight {
        date: "2001/01/01 00:47 local time".into(),
        origin: "Detroit Metropolitan".into(),
        destination: "Harry Reid International".into(),
        carrier: "WN".into(),
        delay: 66,
        distance: 1750,
    }
}

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

fn appends(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let bytes = [0xA5; 128];
    let fixed = Fixed { fields: [0xA5; 16] };
    let flight = flight();
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

fn commits(criterion: &mut Criterion<CpuTime>) {
    with_writer(|writer| {
        criterion.bench_function("commit-of-one/bytes-128", |bencher| {
            bencher.iter(|| {
                let stamp = writer.append_bytes(Kind::PUT, black_box(&[0xA5; 128])).unwrap();
                writer.wait(stamp).unwrap();
            });
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = appends, commits
}
criterion_main!(benches);
