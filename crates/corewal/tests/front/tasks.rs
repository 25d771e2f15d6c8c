//! Acknowledgements as futures.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use corewal::{AppendError, Kind, Log, Options, Pinning, Producer, WaitError};

use super::slow::GatedDisk;
use super::{engines, in_bounded_time, open, temp_dir};

/// Unparks a thread, and counts.
struct Unpark(Thread, AtomicU64);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.unpark();
    }
}

/// The smallest runtime: one task on the calling thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicU64::new(0))));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
        thread::park();
    }
}

/// All of them on the calling thread.
fn join_all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicU64::new(0))));
    let mut context = Context::from_waker(&waker);
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut futures = futures;
    loop {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(outcome) = future.as_mut().poll(&mut context)
            {
                *done = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) {
            return done.into_iter().flatten().collect();
        }
        thread::park();
    }
}

async fn append_and_wait(producer: &Producer, payload: &[u8]) -> Result<(), WaitError> {
    let stamp = loop {
        match producer.try_append_bytes(Kind::PUT, payload) {
            Ok(stamp) => break stamp,
            Err(AppendError::Full) => producer.room().await,
            Err(error) => panic!("{error}"),
        }
    };
    producer.durable(stamp).await?;
    assert!(producer.frontier() >= stamp.seq);
    Ok(())
}

fn tight(dir: &std::path::Path) -> Options {
    Options::new(dir.join("log"))
        .write_len(8 << 10)
        .max_batch(64 << 10)
        .max_record(32 << 10)
        .depth(1)
}

#[test]
fn sixty_four_tasks_on_one_thread_are_all_acknowledged() {
    for engine in engines() {
        in_bounded_time(move || {
            let temp = temp_dir();
            let mut log = open(tight(temp.path()).engine(engine));
            let producer = &log.start_writers(Pinning::AllowedCpus).unwrap()[0];
            let task = |size: usize| async move {
                for _ in 0..30 {
                    append_and_wait(producer, &vec![7; size]).await.unwrap();
                }
            };
            // Together more than the blocks hold.
            join_all((0..64).map(|index| Box::pin(task(index * 64)) as Pin<Box<_>>).collect());
            log.close().unwrap();
        });
    }
}

#[test]
fn one_task_on_each_of_64_threads() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(tight(temp.path()).shards(2));
        let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        thread::scope(|scope| {
            for index in 0..64 {
                let producer = producers[index % 2].clone();
                scope.spawn(move || {
                    for _ in 0..20 {
                        block_on(append_and_wait(&producer, &[1; 300])).unwrap();
                    }
                });
            }
        });
        log.close().unwrap();
    });
}

/// With a writer on this very thread, which moves the frontier and wakes.
#[test]
fn a_future_is_woken_once_by_the_turn_that_moves_the_frontier() {
    let temp = temp_dir();
    let mut log = open(Options::new(temp.path().join("log")));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let count = Arc::new(Unpark(thread::current(), AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let stamp = writer.append_bytes(Kind::PUT, b"one").unwrap();
    let mut durable = pin!(log.durable(stamp));
    let mut dropped = Box::pin(log.durable(stamp));
    assert!(durable.as_mut().poll(&mut context).is_pending());
    assert!(dropped.as_mut().poll(&mut context).is_pending());
    assert!(durable.as_mut().poll(&mut context).is_pending());
    assert!(!durable.is_durable());
    drop(dropped);
    writer.wait(stamp).unwrap();
    assert_eq!(count.1.load(Ordering::Relaxed), 1, "a dropped one is not woken");
    assert!(durable.as_mut().poll(&mut context).is_ready());
    assert!(log.durable(stamp).is_durable());
    writer.close().unwrap();
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics, for a test");
    }
}

/// Nobody would wake them again.
#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(Options::new(temp.path().join("log")));
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let stamp = writer.append_bytes(Kind::PUT, b"one").unwrap();
        let count = Arc::new(Unpark(thread::current(), AtomicU64::new(0)));
        let wakers = [Waker::from(Arc::new(Panicking)), Waker::from(Arc::clone(&count))];
        let mut futures = [log.durable(stamp), log.durable(stamp)];
        for (future, waker) in futures.iter_mut().zip(&wakers) {
            assert!(Pin::new(future).poll(&mut Context::from_waker(waker)).is_pending());
        }
        let waited = panic::catch_unwind(AssertUnwindSafe(|| writer.wait(stamp)));
        waited.expect_err("the panic goes on to who has turned");
        assert_eq!(count.1.load(Ordering::Relaxed), 1, "the other one is woken");
        for future in futures {
            block_on(future).unwrap();
        }

        // The same for those who wait for an epoch.
        let epoch = writer.close_epoch().unwrap();
        let mut futures = [log.committed(epoch), log.committed(epoch)];
        for (future, waker) in futures.iter_mut().zip(&wakers) {
            assert!(Pin::new(future).poll(&mut Context::from_waker(waker)).is_pending());
        }
        let waited = panic::catch_unwind(AssertUnwindSafe(|| writer.wait_epoch(epoch)));
        waited.expect_err("the panic goes on to who has turned");
        assert_eq!(count.1.load(Ordering::Relaxed), 2, "the other one is woken");
        for future in futures {
            block_on(future).unwrap();
        }
        let next = writer.append_bytes(Kind::PUT, b"two").unwrap();
        writer.wait(next).unwrap();
        writer.close().unwrap();
        log.close().unwrap();
    });
}

/// The frontier does not go back, so it alone would call an entry durable that a truncation has cut off.
#[test]
fn a_future_of_an_entry_that_was_cut_off_says_so() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(Options::new(temp.path().join("log")));
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let kept = writer.append_bytes(Kind::PUT, b"kept").unwrap();
        let cut = writer.append_bytes(Kind::PUT, b"cut").unwrap();
        let mut early = log.durable(cut);
        let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicU64::new(0))));
        assert!(Pin::new(&mut early).poll(&mut Context::from_waker(&waker)).is_pending());
        while log.prepare() {}
        writer.truncate_after(kept.seq).unwrap();
        let new = writer.append_bytes(Kind::PUT, b"instead").unwrap();
        writer.wait(new).unwrap();
        let is_voided = |told| matches!(told, Err(WaitError::Voided { stamp }) if stamp == cut);
        assert!(is_voided(block_on(early)));
        assert!(is_voided(block_on(log.durable(cut))));
        assert!(is_voided(log.durable(cut).wait()));
        assert!(is_voided(writer.wait(cut)));
        assert!(!log.durable(cut).is_durable());
        for stamp in [kept, new] {
            assert!(log.durable(stamp).is_durable());
            log.durable(stamp).wait().unwrap();
            writer.wait(stamp).unwrap();
        }
        writer.close().unwrap();
        assert!(is_voided(log.durable(cut).wait()), "also when the shard is closed");
    });
}

/// Later entries are not woken by earlier ones.
#[test]
fn only_what_became_durable_is_woken() {
    let temp = temp_dir();
    let mut log = open(Options::new(temp.path().join("log")));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let first = writer.append_bytes(Kind::PUT, b"first").unwrap();
    let beyond = corewal::Stamp { seq: corewal::Seq(first.seq.0 + 10), ..first };
    let counts = [0, 1].map(|_| Arc::new(Unpark(thread::current(), AtomicU64::new(0))));
    let mut futures = [log.durable(beyond), log.durable(first)];
    for (future, count) in futures.iter_mut().zip(&counts) {
        let waker = Waker::from(Arc::clone(count));
        assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    writer.wait(first).unwrap();
    assert_eq!(counts.each_ref().map(|it| it.1.load(Ordering::Relaxed)), [0, 1]);
    writer.close().unwrap();
    assert_eq!(counts[0].1.load(Ordering::Relaxed), 1, "the end is told");
    let outcome = block_on(&mut futures[0]);
    assert!(matches!(outcome, Err(WaitError::Closed { .. })), "{outcome:?}");
}

#[test]
fn a_future_ends_with_an_error_when_its_shard_fails() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let mut log = open(tight(temp.path()).disk(disk));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        gate.shut();
        let stamp = producer.append_bytes(Kind::PUT, b"in flight").unwrap();
        let durable = log.durable(stamp);
        let waiting = thread::spawn(move || block_on(durable));
        let full = {
            let producer = producer.clone();
            thread::spawn(move || {
                block_on(async {
                    loop {
                        match producer.try_append_bytes(Kind::PUT, &[1; 1000]) {
                            Ok(_) => {}
                            Err(AppendError::Full) => producer.room().await,
                            Err(error) => return error,
                        }
                    }
                })
            })
        };
        gate.break_down();
        assert!(matches!(waiting.join().unwrap(), Err(WaitError::Failed(_))));
        assert!(matches!(full.join().unwrap(), AppendError::Failed(_)));
    });
}

/// A place in line that is given up after it was let in is passed on.
#[test]
fn a_dropped_admission_is_passed_on() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let mut log = open(tight(temp.path()).disk(disk));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        gate.shut();
        while producer.try_append_bytes(Kind::PUT, &[1; 1000]).is_ok() {}
        let count = Arc::new(Unpark(thread::current(), AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut given_up: Vec<_> = (0..100).map(|_| Box::pin(producer.room())).collect();
        for room in &mut given_up {
            let _ = room.as_mut().poll(&mut Context::from_waker(&waker));
        }
        let last = {
            let producer = producer.clone();
            thread::spawn(move || producer.append_bytes_durable(Kind::PUT, b"last").unwrap())
        };
        gate.open();
        while count.1.load(Ordering::Relaxed) == 0 && !given_up.is_empty() && !last.is_finished() {
            thread::yield_now();
        }
        drop(given_up);
        last.join().unwrap();
        log.close().unwrap();
    });
}

/// Whoever was taken out of the line is woken by nobody else.
#[test]
fn a_waker_that_panics_leaves_nobody_in_line() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let mut log = open(tight(temp.path()).disk(disk));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        gate.shut();
        while producer.try_append_bytes(Kind::PUT, &[1; 1000]).is_ok() {}
        let count = Arc::new(Unpark(thread::current(), AtomicU64::new(0)));
        let wakers = [Waker::from(Arc::new(Panicking)), Waker::from(Arc::clone(&count))];
        let mut rooms = [Box::pin(producer.room()), Box::pin(producer.room())];
        for (room, waker) in rooms.iter_mut().zip(&wakers) {
            assert!(room.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        gate.open();
        while count.1.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        drop(rooms);
        // The panic has ended the log's thread.
        assert_eq!(log.close().unwrap().left_open, [producer.shard()]);
    });
}

#[test]
fn a_commit_wakes_a_task() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log: Log = open(tight(temp.path()).shards(2));
        let _producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        for _ in 0..50 {
            let epoch = log.close_epoch().unwrap();
            block_on(log.committed(epoch)).unwrap();
            assert!(log.committed_epoch() >= epoch);
        }
        log.close().unwrap();
    });
}
