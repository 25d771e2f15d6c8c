//! Your own thread: waking and sleeping.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corewal::{Kind, Options, ShardWriter, Turn};

use super::slow::GatedDisk;
use super::{engines, in_bounded_time, open, temp_dir};

/// Longer than any of these tests: nothing but a wake-up ends a sleep, and no vouch is due.
fn options(dir: &std::path::Path) -> Options {
    Options::new(dir.join("log")).vouch_after(Duration::from_secs(3600))
}

#[test]
fn a_waker_ends_an_idle_sleep_without_limit() {
    for engine in engines() {
        in_bounded_time(move || {
            let temp = temp_dir();
            let mut log = open(options(temp.path()).engine(engine));
            let mut writer = log.take_seats().remove(0).sit().unwrap();
            for round in 0..100 {
                assert!(matches!(writer.turn().unwrap(), Turn::Idle(_)));
                let waker = writer.waker();
                let waking = std::thread::spawn(move || waker.wake());
                if round % 2 == 0 {
                    waking.join().unwrap();
                    writer.sleep(None).unwrap();
                } else {
                    writer.sleep(None).unwrap();
                    waking.join().unwrap();
                }
            }
            writer.close().unwrap();
        });
    }
}

/// With a write in flight that does not complete, only the waker can end the sleep.
#[test]
fn a_waker_ends_a_sleep_with_a_write_in_flight() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let disk = Arc::new(GatedDisk::new());
        let gate = Arc::clone(&disk.gate);
        let mut log = open(options(temp.path()).disk(disk));
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        gate.shut();
        let stamp = writer.append_bytes(Kind::PUT, b"held back").unwrap();
        for _ in 0..100 {
            assert_eq!(writer.turn().unwrap(), Turn::Sleep);
            let waker = writer.waker();
            let waking = std::thread::spawn(move || waker.wake());
            writer.sleep(None).unwrap();
            waking.join().unwrap();
        }
        assert!(writer.frontier() < stamp.seq);
        gate.open();
        writer.wait(stamp).unwrap();
        writer.close().unwrap();
    });
}

/// An idle writer costs nothing: it is woken by a request, not by looking.
#[test]
fn an_idle_writer_sleeps_until_its_limit_and_a_request_wakes_it() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(options(temp.path()));
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let limit = Duration::from_millis(60);
        assert_eq!(writer.turn().unwrap(), Turn::Idle(None));
        let start = Instant::now();
        writer.sleep(Some(limit)).unwrap();
        assert!(start.elapsed() >= limit, "it woke by itself after {:?}", start.elapsed());
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| {
                let epoch = log.close_epoch().unwrap();
                log.wait_epoch(epoch).unwrap();
                epoch
            });
            writer.turn().unwrap();
            while log.committed_epoch().0 == 0 {
                match writer.turn().unwrap() {
                    Turn::Again => {}
                    _ if log.committed_epoch().0 > 0 => {}
                    Turn::Sleep | Turn::Idle(_) => writer.sleep(None).unwrap(),
                }
            }
            assert_eq!(closing.join().unwrap(), log.committed_epoch());
        });
        writer.close().unwrap();
    });
}

/// A shard that has nothing to do vouches for the epoch that another one commits: the commit raises its alarm.
#[test]
fn a_commit_wakes_idle_shards_for_their_vouch() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let options = Options::new(temp.path().join("log")).shards(2).vouch_after(Duration::ZERO);
        let mut log = open(options);
        let seats = log.take_seats();
        let mut writers: Vec<_> = seats.into_iter().map(|seat| seat.sit().unwrap()).collect();
        let mut first = writers.remove(0);
        let mut idle = writers.remove(0);
        let rest = |writer: &mut ShardWriter| {
            loop {
                match writer.turn().unwrap() {
                    Turn::Again => {}
                    Turn::Sleep => writer.sleep(None).unwrap(),
                    Turn::Idle(limit) if limit.is_none() => return,
                    Turn::Idle(limit) => writer.sleep(limit).unwrap(),
                }
            }
        };
        idle.close_epoch().unwrap();
        rest(&mut idle);
        let before = idle.stats().vouches;
        let epoch = first.close_epoch().unwrap();
        first.wait_epoch(epoch).unwrap();
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        idle.sleep(Some(limit)).unwrap();
        assert!(start.elapsed() < limit, "it was not woken");
        rest(&mut idle);
        assert_eq!(idle.stats().vouches, before + 1, "the committed epoch is vouched for");
        first.close().unwrap();
        idle.close().unwrap();
    });
}

#[test]
fn a_close_writes_the_barrier_that_was_just_asked_for() {
    let temp = temp_dir();
    let mut log = open(options(temp.path()));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let stamp = writer.append_bytes(Kind::PUT, b"an entry").unwrap();
    writer.wait(stamp).unwrap();
    let epoch = log.close_epoch().unwrap();
    writer.close().unwrap();
    assert_eq!(log.committed_epoch(), epoch);
    log.wait_epoch(epoch).unwrap();
    log.close().unwrap();
}

#[test]
fn a_writer_that_waits_for_an_epoch_closes_it_itself() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let mut log = open(options(temp.path()).shards(2).pipeline_bound(1));
        let mut writers: Vec<_> =
            log.take_seats().into_iter().map(|seat| seat.sit().unwrap()).collect();
        let (mut second, mut first) = (writers.pop().unwrap(), writers.pop().unwrap());
        let epoch = first.close_epoch().unwrap();
        assert!(first.close_epoch().is_err(), "the bound is reached");
        second.close_epoch().unwrap();
        second.sync().unwrap();
        first.wait_epoch(epoch).unwrap();
        assert_eq!(first.close_epoch().unwrap(), epoch.next());
        drop(second);
        let error = first.wait_epoch(epoch.next()).unwrap_err();
        assert!(error.to_string().contains("shard 1 has failed"), "{error}");
    });
}

#[test]
fn sealing_promises_says_whether_there_was_room() {
    let temp = temp_dir();
    let mut log = open(options(temp.path()).depth(1));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    assert!(writer.seal_promises());
    // A pool of three blocks, and no turn that would bring one back.
    assert!(writer.seal_promises());
    assert!(writer.seal_promises());
    assert!(!writer.seal_promises());
    writer.close().unwrap();
}

#[test]
fn a_log_that_is_still_written_to_is_given_back() {
    let temp = temp_dir();
    let mut log = open(options(temp.path()));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let Err(corewal::CloseError::Live { log, .. }) = log.close() else { panic!("it is live") };
    let stamp = writer.append_bytes(Kind::PUT, b"still alive").unwrap();
    writer.wait(stamp).unwrap();
    writer.close().unwrap();
    assert!(log.close().unwrap().left_open.is_empty());
}

#[cfg(target_os = "linux")]
mod descriptor {
    use std::os::fd::{AsRawFd, RawFd};

    use corewal::{Engine, Preparing};
    use corewal_disk::Disk;
    use corewal_disk::sim::SimDisk;

    use super::*;
    use crate::PATIENCE;

    /// Whether the descriptor is readable within `limit`.
    fn is_readable(fd: RawFd, limit: Duration) -> bool {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(limit.as_millis()).unwrap();
        // SAFETY: one `pollfd`, borrowed for the call.
        let result = unsafe { libc::poll(&raw mut poll, 1, millis) };
        assert!(result >= 0, "{}", std::io::Error::last_os_error());
        result == 1
    }

    /// Completions make it readable, on every engine; a turn drains it, and then it stays quiet.
    #[test]
    fn the_descriptor_tells_of_completions_and_is_drained_by_turns() {
        for engine in engines() {
            let temp = temp_dir();
            let mut log = open(options(temp.path()).engine(engine));
            let mut writer = log.take_seats().remove(0).sit().unwrap();
            let fd = writer.event_fd().unwrap().as_raw_fd();
            for round in 0..200_u32 {
                let stamp = writer.append_bytes(Kind::PUT, &round.to_le_bytes()).unwrap();
                while writer.turn().unwrap() == Turn::Again {}
                while writer.frontier() < stamp.seq {
                    assert!(is_readable(fd, PATIENCE), "{engine:?}: round {round} hangs");
                    writer.turn().unwrap();
                }
            }
            while !matches!(writer.turn().unwrap(), Turn::Idle(_)) {}
            writer.turn().unwrap();
            assert!(!is_readable(fd, Duration::from_millis(20)), "{engine:?}: it is never quiet");
            writer.close().unwrap();
        }
    }

    #[test]
    fn the_descriptor_tells_of_requests_and_wakers() {
        for engine in engines() {
            let temp = temp_dir();
            let mut log = open(options(temp.path()).engine(engine));
            let mut writer = log.take_seats().remove(0).sit().unwrap();
            let fd = writer.event_fd().unwrap().as_raw_fd();
            while !matches!(writer.turn().unwrap(), Turn::Idle(_)) {}
            writer.turn().unwrap();
            assert!(!is_readable(fd, Duration::ZERO));
            writer.waker().wake();
            assert!(is_readable(fd, PATIENCE), "{engine:?}: a waker");
            writer.turn().unwrap();
            assert!(!is_readable(fd, Duration::ZERO));
            let epoch = log.close_epoch().unwrap();
            while log.committed_epoch() < epoch {
                assert!(is_readable(fd, PATIENCE), "{engine:?}: a request");
                writer.turn().unwrap();
            }
            // It also ends the writer's own sleep.
            writer.turn().unwrap();
            writer.waker().wake();
            writer.sleep(Some(PATIENCE)).unwrap();
            writer.close().unwrap();
        }
    }

    /// Nobody sleeps on the descriptor any more, and what is in flight still lands.
    #[test]
    fn a_writer_that_is_dropped_with_a_write_in_flight_is_gone() {
        for engine in engines() {
            in_bounded_time(move || {
                let temp = temp_dir();
                let mut log = open(options(temp.path()).engine(engine));
                let mut writer = log.take_seats().remove(0).sit().unwrap();
                writer.event_fd().unwrap();
                writer.append_bytes(Kind::PUT, b"perhaps").unwrap();
                writer.turn().unwrap();
                drop(writer);
            });
        }
    }

    /// The first call may come after turns, and what was asked for between the two is told.
    #[test]
    fn a_descriptor_that_is_taken_late_tells_of_everything() {
        let simulated: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let disks = engines().into_iter().map(|it| (it, None));
        for (engine, disk) in disks.chain([(Engine::Auto, Some(simulated))]) {
            for is_asked_before in [false, true] {
                let temp = temp_dir();
                let mut log = open(match &disk {
                    None => options(temp.path()).engine(engine),
                    Some(disk) => {
                        options("/".as_ref()).preparing(Preparing::Manual).disk(Arc::clone(disk))
                    }
                });
                let mut writer = log.take_seats().remove(0).sit().unwrap();
                while !matches!(writer.turn().unwrap(), Turn::Idle(_)) {}
                let asked = is_asked_before.then(|| log.close_epoch().unwrap());
                let fd = writer.event_fd().unwrap().as_raw_fd();
                let epoch = asked.unwrap_or_else(|| log.close_epoch().unwrap());
                while log.committed_epoch() < epoch {
                    assert!(is_readable(fd, Duration::from_secs(10)), "{engine:?}: it hangs");
                    writer.turn().unwrap();
                }
                writer.close().unwrap();
            }
        }
    }
}
