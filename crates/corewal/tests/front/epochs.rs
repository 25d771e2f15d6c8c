//! Epochs over several shards: held back, let go, a writer that is gone; hooks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal::{
    Epoch, EpochError, Kind, Options, Pinning, Policy, Seat, Seq, ShardId, ShardWriter, Turn,
};

use super::{PATIENCE, in_bounded_time, open, temp_dir};

fn turn_until_idle(writer: &mut ShardWriter) {
    loop {
        match writer.turn().unwrap() {
            Turn::Again => {}
            Turn::Sleep => writer.sleep(None).unwrap(),
            Turn::Idle(_) => return,
        }
    }
}

/// Four shards, one held back: nothing is committed. It is let go: committed. Its writer is dropped: an error that
/// names it.
#[test]
fn a_shard_that_is_held_back_holds_the_epoch_back_and_a_lost_one_is_named() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(Options::new(temp.path().join("log")).shards(4));
        let mut writers: Vec<ShardWriter> =
            log.take_seats().into_iter().map(|seat| seat.sit().unwrap()).collect();
        for writer in &mut writers {
            writer.append_bytes(Kind::PUT, b"an entry").unwrap();
        }
        let epoch = log.close_epoch().unwrap();
        for index in [0, 1, 3] {
            turn_until_idle(&mut writers[index]);
        }
        assert!(log.committed_epoch() < epoch, "shard 2 has not closed it");
        turn_until_idle(&mut writers[2]);
        assert_eq!(log.committed_epoch(), epoch);
        log.wait_epoch(epoch).unwrap();

        let next = log.close_epoch().unwrap();
        drop(writers.remove(2));
        for writer in &mut writers {
            turn_until_idle(writer);
        }
        let Err(EpochError::Failed(failure)) = log.wait_epoch(next) else {
            panic!("shard 2 is gone")
        };
        assert_eq!(failure.shard, ShardId(2));
        assert_eq!(log.committed_epoch(), epoch);
        let task = std::thread::spawn({
            let committed = log.committed(next);
            move || poll_once(committed)
        });
        let Some(Err(EpochError::Failed(failure))) = task.join().unwrap() else {
            panic!("the future says the same")
        };
        assert_eq!(failure.shard, ShardId(2));
    });
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn hooks_hear_of_commits_and_frontiers_and_hold_nothing_up() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(Options::new(temp.path().join("log")).shards(2));
        let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        let (sender, commits) = channel();
        log.on_commit(move |epoch| sender.send(epoch).unwrap());
        let frontiers = Arc::new(Mutex::new(vec![Seq(0); 2]));
        let seen = Arc::clone(&frontiers);
        log.on_frontier(move |shard, seq| {
            let before = std::mem::replace(&mut seen.lock().unwrap()[usize::from(shard.0)], seq);
            assert!(before < seq, "told twice, or backwards");
        });
        let mut last = Epoch(0);
        for _ in 0..20 {
            producers[1].append_bytes_durable(Kind::PUT, b"an entry").unwrap();
            let epoch = log.close_epoch().unwrap();
            while last < epoch {
                let heard = commits.recv_timeout(PATIENCE).unwrap();
                assert!(heard > last && heard <= log.committed_epoch());
                last = heard;
            }
        }
        let ends: Vec<Seq> = log.close().unwrap().closed.iter().map(|(_, seq)| *seq).collect();
        assert_eq!(*frontiers.lock().unwrap(), ends, "the last word is told before the end");
    });
}

#[test]
fn a_hook_that_blocks_blocks_no_shard_and_one_that_panics_is_reported() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(Options::new(temp.path().join("log")));
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        let (release, held) = channel::<()>();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        log.on_commit(|_| panic!("a bug of the program"));
        log.on_commit(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = held.recv();
        });
        for _ in 0..10 {
            producer.append_bytes_durable(Kind::PUT, b"an entry").unwrap();
            let epoch = log.close_epoch().unwrap();
            log.wait_epoch(epoch).unwrap();
            while calls.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
        }
        drop(release);
        while calls.load(Ordering::Relaxed) < 2 {
            std::thread::yield_now();
        }
        assert_eq!(log.hook_panics(), ["a bug of the program"]);
        log.close().unwrap();
    });
}

/// Where syncs do not follow every batch, a wait for an epoch asks every shard for one, on whatever thread its
/// writer is.
#[test]
fn a_wait_for_an_epoch_ends_under_every_policy() {
    for policy in [Policy::OnDemand, Policy::Interval(Duration::from_secs(3600))] {
        in_bounded_time(move || {
            let temp = temp_dir();
            let options = Options::new(temp.path().join("log")).shards(2).policy(policy);
            let mut log = open(options.clone());
            let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
            for round in 0..10 {
                producers[round % 2].append_bytes(Kind::PUT, b"an entry").unwrap();
                let epoch = log.close_epoch().unwrap();
                if round % 3 == 0 {
                    super::tasks::block_on(log.committed(epoch)).unwrap();
                } else {
                    log.wait_epoch(epoch).unwrap();
                }
            }
            log.close().unwrap();

            let mut log = open(options);
            let seats = log.take_seats();
            let seated = std::sync::Barrier::new(seats.len());
            let wait = |seat: Seat| {
                let mut writer = seat.sit().unwrap();
                seated.wait();
                for _ in 0..10 {
                    writer.append_bytes(Kind::PUT, b"an entry").unwrap();
                    let epoch = writer.close_epoch().unwrap();
                    writer.wait_epoch(epoch).unwrap();
                }
                writer.close().unwrap();
            };
            std::thread::scope(|scope| {
                for seat in seats {
                    scope.spawn(|| wait(seat));
                }
            });
        });
    }
}
