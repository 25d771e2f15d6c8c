//! Threads of the log, and producers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use corewal::{
    AppendError, DurableError, FailureCause, Kind, Options, Pinned, Pinning, Policy, Producer,
    WaitError,
};

use super::slow::GatedDisk;
use super::{engines, in_bounded_time, open, recovered, temp_dir};

const PRODUCERS: usize = 64;

/// Small blocks, so that producers meet their limit.
fn tight(dir: &std::path::Path) -> Options {
    Options::new(dir.join("log")).write_len(16 << 10).max_batch(64 << 10).max_record(32 << 10)
}

#[test]
fn everything_that_64_blocking_producers_append_is_durable_and_in_their_order() {
    for engine in engines() {
        in_bounded_time(move || {
            let temp = temp_dir();
            let options = tight(temp.path()).engine(engine).shards(2);
            let mut log = open(options.clone());
            let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
            assert_eq!(log.capabilities().pinned.len(), 2);
            let threads: Vec<_> = (0..PRODUCERS)
                .map(|index| {
                    let producer = producers[index % 2].clone();
                    std::thread::spawn(move || {
                        for count in 0..50 {
                            let text = format!("{index} {count}");
                            let stamp =
                                producer.append_bytes_durable(Kind::PUT, text.as_bytes()).unwrap();
                            assert!(producer.frontier() >= stamp.seq);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|it| it.join().unwrap());
            assert!(log.close().unwrap().left_open.is_empty());
            let mut seen = vec![0; PRODUCERS];
            for payload in recovered(options) {
                let text = String::from_utf8(payload).unwrap();
                let (index, count) = text.split_once(' ').unwrap();
                let index: usize = index.parse().unwrap();
                assert_eq!(count.parse::<u64>().unwrap(), seen[index], "of producer {index}");
                seen[index] += 1;
            }
            assert!(seen.iter().all(|&count| count == 50), "{seen:?}");
        });
    }
}

#[test]
fn pinning_is_reported() {
    let temp = temp_dir();
    for (pinning, expected) in [(Pinning::AllowedCpus, true), (Pinning::Unpinned, false)] {
        let mut log = open(tight(temp.path()));
        let _producers = log.start_writers(pinning).unwrap();
        let (_, pinned) = log.capabilities().pinned[0];
        match pinned {
            Pinned::Cpu(_) => assert!(expected),
            Pinned::Unpinned => assert!(!expected),
            other => assert!(expected && !cfg!(target_os = "linux"), "{other:?}"),
        }
        log.close().unwrap();
    }
}

/// Producers that never wait meet the limit all the time; with unequal records and unequal zeal, the slowest
/// still gets its share.
#[test]
fn no_producer_starves_when_the_shard_is_full() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(tight(temp.path()).depth(2));
        let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        let counts: Arc<Vec<AtomicU64>> =
            Arc::new((0..PRODUCERS).map(|_| AtomicU64::new(0)).collect());
        let is_over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|index| {
                let (producer, counts) = (producers[0].clone(), Arc::clone(&counts));
                let is_over = Arc::clone(&is_over);
                std::thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        producer.append_bytes(Kind::PUT, &[1; 512]).unwrap();
                        let count = counts[index].fetch_add(1, Ordering::Relaxed);
                        if count == 2000 {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
        let counts: Vec<u64> = counts.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let mean = counts.iter().sum::<u64>() / counts.len() as u64;
        let slowest = *counts.iter().min().unwrap();
        assert!(slowest * 3 >= mean, "the slowest has {slowest}, the mean is {mean}: {counts:?}");
        log.close().unwrap();
    });
}

/// Producers that are blocked in the line, and others that wait for what they appended.
fn blocked(producer: &Producer, count: usize) -> Vec<std::thread::JoinHandle<Outcome>> {
    (0..count)
        .map(|index| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                let payload = vec![u8::try_from(index).unwrap(); 1024];
                let mut appended = 0;
                loop {
                    match producer.append_bytes(Kind::PUT, &payload) {
                        Ok(_) => appended += 1,
                        Err(error) => return (appended, error),
                    }
                }
            })
        })
        .collect()
}

type Outcome = (u64, AppendError);

/// Until all blocks are full.
fn fill(producer: &Producer) -> u64 {
    let mut count = 0;
    let mut refusals = 0;
    // Once more than the writer may take from the open batch meanwhile.
    while refusals < 100 {
        match producer.try_append_bytes(Kind::PUT, &[0; 1024]) {
            Ok(_) => (count, refusals) = (count + 1, 0),
            Err(AppendError::Full) => {
                refusals += 1;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    count
}

#[test]
fn a_close_while_producers_are_blocked_ends_with_an_error_for_each() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let options = tight(temp.path());
        let mut log = open(options.clone().disk(disk));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        gate.shut();
        let filled = fill(&producer);
        assert!(filled > 0);
        let threads = blocked(&producer, PRODUCERS);
        let opening = std::thread::spawn(move || {
            // They stand in line, or will be refused when they come; either way they get an error.
            std::thread::yield_now();
            gate.open();
        });
        assert!(log.close().unwrap().left_open.is_empty());
        opening.join().unwrap();
        let mut appended = filled;
        for thread in threads {
            let (count, error) = thread.join().unwrap();
            assert!(matches!(error, AppendError::Closed { .. }), "{error}");
            appended += count;
        }
        assert!(matches!(
            producer.append_bytes(Kind::PUT, b"late"),
            Err(AppendError::Closed { .. })
        ));
        assert_eq!(recovered(options).len() as u64, appended, "what was appended is durable");
    });
}

/// A drop of the log is like a crash, but nobody hangs; the disk never answers before it.
#[test]
fn a_panic_of_the_writer_fails_the_shard_and_everybody_who_waits() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let mut log = open(tight(temp.path()).disk(disk));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        gate.shut();
        let stamp = producer.append_bytes(Kind::PUT, b"in flight").unwrap();
        let waiter = {
            let producer = producer.clone();
            std::thread::spawn(move || producer.wait(stamp))
        };
        fill(&producer);
        let threads = blocked(&producer, PRODUCERS);
        gate.break_down();
        for thread in threads {
            let (_, error) = thread.join().unwrap();
            let AppendError::Failed(failure) = error else { panic!("{error}") };
            assert!(matches!(failure.cause, FailureCause::Panicked), "{failure}");
        }
        assert!(matches!(waiter.join().unwrap(), Err(WaitError::Failed(_))));
        assert!(log.wait_epoch(corewal::Epoch(1)).unwrap_err().to_string().contains("shard 0"));
        assert_eq!(log.failures().len(), 1);
        assert!(producer.append_bytes_durable(Kind::PUT, b"late").is_err());
    });
}

#[test]
fn dropping_the_log_ends_every_wait() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(tight(temp.path()));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        let threads = blocked(&producer, 8);
        while producer.frontier().0 < 100 {
            std::thread::yield_now();
        }
        drop(log);
        for thread in threads {
            assert!(matches!(thread.join().unwrap().1, AppendError::Closed { .. }));
        }
        let error = producer.append_bytes_durable(Kind::PUT, b"late").unwrap_err();
        assert!(matches!(error, DurableError::Append(AppendError::Closed { .. })), "{error}");
    });
}

#[test]
fn a_panic_of_a_serializer_leaves_no_trace() {
    let temp = temp_dir();
    let options = tight(temp.path());
    let mut log = open(options.clone());
    let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
    producer.append_bytes(Kind::PUT, b"before").unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        producer.append_with(Kind::PUT, 100, |room| {
            room.fill(0xff);
            panic!("a bug of the program")
        })
    }));
    assert!(panicked.is_err());
    producer.append_bytes_durable(Kind::PUT, b"after").unwrap();
    log.close().unwrap();
    assert_eq!(recovered(options), [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn drained_waits_for_what_all_have_appended() {
    in_bounded_time(|| {
        let temp = temp_dir();
        // Nobody else asks for a sync.
        for policy in [Policy::EveryBatch, Policy::OnDemand] {
            let mut log = open(tight(temp.path()).shards(2).policy(policy));
            let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
            let mut last = BTreeMap::new();
            for count in 0..1000_u32 {
                let producer = &producers[count as usize % 2];
                let stamp = producer.append_bytes(Kind::PUT, &count.to_le_bytes()).unwrap();
                last.insert(stamp.shard, stamp);
            }
            log.drained().unwrap();
            for (shard, stamp) in last {
                assert!(log.frontier(shard).unwrap() >= stamp.seq);
                assert!(log.durable(stamp).is_durable());
                log.durable(stamp).wait().unwrap();
            }
            log.close().unwrap();
        }
    });
}

#[test]
fn a_request_for_an_epoch_reaches_sleeping_threads() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let options = tight(temp.path()).shards(3).vouch_after(Duration::from_secs(3600));
        let mut log = open(options);
        let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        for _ in 0..100 {
            producers[0].append_bytes(Kind::PUT, b"one").unwrap();
            let epoch = log.close_epoch().unwrap();
            log.wait_epoch(epoch).unwrap();
        }
        let epoch = producers.iter().map(|it| it.close_epoch().unwrap()).max().unwrap();
        log.wait_epoch(epoch).unwrap();
        log.close().unwrap();
    });
}

#[test]
fn a_stamp_of_an_earlier_incarnation_is_not_waited_for() {
    let temp = temp_dir();
    let options = tight(temp.path());
    let mut log = open(options.clone());
    let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
    let stamp = producer.append_bytes_durable(Kind::PUT, b"first life").unwrap();
    log.close().unwrap();
    let mut log = open(options);
    let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
    assert!(matches!(producer.wait(stamp), Err(WaitError::NotGiven { .. })));
    assert!(matches!(log.durable(stamp).wait(), Err(WaitError::NotGiven { .. })));
    assert!(!log.durable(stamp).is_durable());
}
