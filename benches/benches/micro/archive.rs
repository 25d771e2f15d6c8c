//! rkyv alone: into memory that is reused, and back with validation.

use std::hint::black_box;

use corewal_benches::payload::{ArchivedFixed, ArchivedFlight, Fixed, Flight};
use criterion::{Criterion, Throughput};
use rkyv::rancor::Panic;
use rkyv::util::AlignedVec;

use crate::cpu_time::CpuTime;

pub(crate) fn archives(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("rkyv");
    group.throughput(Throughput::Elements(1));
    let (fixed, flight) = (Fixed::example(), Flight::example());
    let mut buffer = Some(AlignedVec::<16>::with_capacity(1024));
    group.bench_function("serialize-fixed-struct-128", |bencher| {
        bencher.iter(|| {
            let mut into = buffer.take().unwrap();
            into.clear();
            buffer =
                Some(rkyv::api::high::to_bytes_in::<_, Panic>(black_box(&fixed), into).unwrap());
        });
    });
    group.bench_function("serialize-struct-with-strings", |bencher| {
        bencher.iter(|| {
            let mut into = buffer.take().unwrap();
            into.clear();
            buffer =
                Some(rkyv::api::high::to_bytes_in::<_, Panic>(black_box(&flight), into).unwrap());
        });
    });
    let fixed = rkyv::to_bytes::<Panic>(&fixed).unwrap();
    group.bench_function("access-fixed-struct-128", |bencher| {
        bencher.iter(|| {
            let archived =
                rkyv::access::<ArchivedFixed, rkyv::rancor::Error>(black_box(&fixed)).unwrap();
            archived.fields[0]
        });
    });
    let flight = rkyv::to_bytes::<Panic>(&flight).unwrap();
    group.bench_function("access-struct-with-strings", |bencher| {
        bencher.iter(|| {
            let archived =
                rkyv::access::<ArchivedFlight, rkyv::rancor::Error>(black_box(&flight)).unwrap();
            archived.delay
        });
    });
    group.finish();
}
