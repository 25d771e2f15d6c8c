//! Models of what crosses threads, run by loom in every order that the memory model allows: `scripts/loom`.
//!
//! Every model calls the code of the log. A wake-up that is lost shows as a deadlock, since loom has no time;
//! data that is not visible shows as the old value of a relaxed atomic. Loom takes a sequentially consistent
//! *access* for an acquiring or releasing one, but knows sequentially consistent *fences*; so the epoch board
//! is built with a fence.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use corewal_disk::{Disk, Engine};
use corewal_format::{
    BatchNumber, Epoch, Incarnation, LogId, RkyvLayout, SchemaId, SegmentNumber, Seq, ShardId,
};
use corewal_fuzz_targets::MemoryDisk;
use loom::model::Builder;
use loom::thread;

use crate::epoch::{EpochBoard, SeatState};
use crate::error::{AppendError, EpochError, Failure, FailureCause, WaitError};
use crate::frontier::{Batches, End, Frontier, Published};
use crate::layout::Layout;
use crate::prepare::{self, Bell, Fill, Progress, Recipe, SegmentQueue};
use crate::shard::WriterThread;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{self, Thread};
use crate::wakeup::{Exposure, Wakeup};
use crate::{AccessWish, Kind, Log, Options, Preparing, Producer, Turn};

/// Runs `model` in every order with at most `preemptions` switches that nothing forced.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

const EPOCH: Epoch = Epoch(1);

/// A board of `count` shards, all with a writer, and for each whether its entries are durable.
fn board(count: u16) -> (Arc<EpochBoard>, Arc<Vec<AtomicU64>>) {
    let shards: Vec<ShardId> = (0..count).map(ShardId).collect();
    let board = EpochBoard::new(Epoch(0), EPOCH, 2, &shards);
    (0..shards.len()).for_each(|index| board.seat(index, SeatState::Live));
    let durable = shards.iter().map(|_| AtomicU64::new(0)).collect();
    (Arc::new(board), Arc::new(durable))
}

fn close(board: &EpochBoard, durable: &[AtomicU64], index: usize) {
    durable[index].store(1, Ordering::Relaxed);
    board.close(index, EPOCH);
}

fn assert_durable(durable: &[AtomicU64]) {
    assert!(durable.iter().all(|it| it.load(Ordering::Relaxed) == 1), "reported too early");
}

fn dropped(index: u16) -> SeatState {
    SeatState::Failed(Failure { shard: ShardId(index), cause: FailureCause::Dropped })
}

/// Whoever sees the frontier sees what was done before it moved, and it never goes back.
#[test]
fn a_published_frontier_is_not_ahead_of_what_it_covers() {
    explore(4, || {
        let frontier = Arc::new(Published::new(corewal_format::BatchNumber(0), Seq(0)));
        let covered = Arc::new(AtomicU64::new(0));
        let writer = {
            let (frontier, covered) = (Arc::clone(&frontier), Arc::clone(&covered));
            thread::spawn(move || {
                for seq in 1..=2 {
                    covered.store(seq, Ordering::Relaxed);
                    frontier.advance(corewal_format::BatchNumber(seq), Seq(seq));
                }
                frontier.advance(corewal_format::BatchNumber(1), Seq(1));
            })
        };
        let first = frontier.get();
        assert!(covered.load(Ordering::Relaxed) >= first.0, "the frontier is ahead");
        assert!(frontier.get() >= first, "the frontier went back");
        writer.join().unwrap();
        assert_eq!(frontier.get(), Seq(2), "the frontier went back");
    });
}

/// Of two shards that close an epoch at once, one commits it and wakes who waits; what is reported is durable
/// and published.
#[test]
fn two_shards_that_close_at_once_commit_and_wake() {
    explore(3, || {
        let (board, durable) = board(2);
        let closers = [0, 1].map(|index| {
            let (board, durable) = (Arc::clone(&board), Arc::clone(&durable));
            thread::spawn(move || close(&board, &durable, index))
        });
        assert!(board.wait(EPOCH).is_ok());
        assert_durable(&durable);
        assert_eq!(board.committed(), EPOCH, "reported, not published");
        closers.into_iter().for_each(|it| it.join().unwrap());
    });
}

/// The same with three; nobody waits, so a commit that everyone misses shows in the end.
#[test]
fn three_shards_that_close_at_once_commit() {
    explore(2, || {
        let (board, durable) = board(3);
        let closers = [0, 1].map(|index| {
            let (board, durable) = (Arc::clone(&board), Arc::clone(&durable));
            thread::spawn(move || {
                close(&board, &durable, index);
                if board.committed() == EPOCH {
                    assert_durable(&durable);
                }
            })
        });
        close(&board, &durable, 2);
        closers.into_iter().for_each(|it| it.join().unwrap());
        assert_eq!(board.committed(), EPOCH, "everyone missed the commit");
        assert_durable(&durable);
    });
}

/// Three shards and one that waits.
#[test]
fn three_shards_wake_who_waits() {
    explore(2, || {
        let (board, durable) = board(3);
        close(&board, &durable, 2);
        let closers = [0, 1].map(|index| {
            let (board, durable) = (Arc::clone(&board), Arc::clone(&durable));
            thread::spawn(move || close(&board, &durable, index))
        });
        assert!(board.wait(EPOCH).is_ok());
        assert_durable(&durable);
        closers.into_iter().for_each(|it| it.join().unwrap());
    });
}

/// A writer that is dropped ends a wait for what it did not close, and only that.
#[test]
fn a_dropped_writer_ends_the_wait() {
    explore(3, || {
        let (board, durable) = board(2);
        close(&board, &durable, 0);
        let writer = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.seat(1, dropped(1)))
        };
        assert!(matches!(board.wait(EPOCH), Err(EpochError::Failed(_))));
        writer.join().unwrap();
    });
    explore(3, || {
        let (board, durable) = board(2);
        let writers = [0, 1].map(|index| {
            let (board, durable) = (Arc::clone(&board), Arc::clone(&durable));
            thread::spawn(move || {
                close(&board, &durable, index);
                board.seat(index, dropped(0));
            })
        });
        assert!(board.wait(EPOCH).is_ok(), "every shard had closed it");
        assert_durable(&durable);
        writers.into_iter().for_each(|it| it.join().unwrap());
    });
}

/// Two requests at once ask for two epochs, and none beyond the bound.
#[test]
fn requests_at_once_ask_for_different_epochs() {
    explore(3, || {
        let (board, _) = board(1);
        let other = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.request().unwrap())
        };
        let mine = board.request().unwrap();
        let mut asked = [mine, other.join().unwrap()];
        asked.sort();
        assert_eq!(asked, [Epoch(1), Epoch(2)]);
        assert!(board.request().is_err(), "the bound is 2");
    });
}

/// A writer that goes to sleep while an epoch is asked for is woken, or has seen it.
#[test]
fn a_sleeping_writer_is_woken_for_an_epoch() {
    explore(3, || {
        let (board, durable) = board(1);
        let wakeup = Arc::new(Wakeup::default());
        wakeup.alarm().unwrap();
        let writer = {
            let (board, durable, wakeup) =
                (Arc::clone(&board), Arc::clone(&durable), Arc::clone(&wakeup));
            thread::spawn(move || {
                loop {
                    wakeup.begin_turn(Exposure::Private);
                    if board.requested() >= EPOCH {
                        break;
                    }
                    sleep(&wakeup);
                }
                close(&board, &durable, 0);
            })
        };
        assert_eq!(board.request().unwrap(), EPOCH);
        wakeup.raise();
        assert!(board.wait(EPOCH).is_ok());
        assert_durable(&durable);
        writer.join().unwrap();
    });
}

fn sleep(wakeup: &Wakeup) {
    if wakeup.begin_sleep() {
        wakeup.wait(None).unwrap();
        wakeup.end_sleep();
    }
}

/// Two that raise and one that sleeps again and again: none is missed, and what is owed is cleared in the end, so
/// that a later sleep is one.
#[test]
fn no_raise_is_missed_and_none_is_left_over() {
    explore(3, || {
        let wakeup = Arc::new(Wakeup::default());
        wakeup.alarm().unwrap();
        let asked = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let askers = [0, 1].map(|index| {
            let (wakeup, asked) = (Arc::clone(&wakeup), Arc::clone(&asked));
            thread::spawn(move || {
                asked[index].store(1, Ordering::Relaxed);
                wakeup.raise();
            })
        });
        loop {
            wakeup.begin_turn(Exposure::Private);
            if asked.iter().all(|it| it.load(Ordering::Relaxed) == 1) {
                break;
            }
            sleep(&wakeup);
        }
        askers.into_iter().for_each(|it| it.join().unwrap());
        // A raise that came late is cleared by the sleep that it ends.
        wakeup.raise();
        wakeup.begin_turn(Exposure::Private);
        assert!(wakeup.begin_sleep());
        wakeup.raise();
        wakeup.wait(None).unwrap();
        wakeup.end_sleep();
        assert_eq!(wakeup.alarm().unwrap().clear(), 0, "the alarm stays raised");
    });
}

/// Unparks a thread of the model.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Whoever waits for the frontier, a thread or a task, is woken when it has moved, and sees what it covers.
#[test]
fn who_waits_for_the_frontier_is_woken() {
    explore(3, || {
        let frontier = Arc::new(Frontier::new(ShardId(0), BatchNumber(0), Seq(0)));
        let covered = Arc::new(AtomicU64::new(0));
        let waiter = {
            let (frontier, covered) = (Arc::clone(&frontier), Arc::clone(&covered));
            thread::spawn(move || {
                assert!(frontier.wait(Seq(2), Batches::one(BatchNumber(2))).is_ok());
                assert_eq!(covered.load(Ordering::Relaxed), 2, "told too early");
            })
        };
        let task = {
            let (frontier, covered) = (Arc::clone(&frontier), Arc::clone(&covered));
            thread::spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(sync::current())));
                let (mut place, mut context) = (None, Context::from_waker(&waker));
                while frontier.poll(Seq(1), &mut place, &mut context).is_pending() {
                    sync::park();
                }
                assert!(covered.load(Ordering::Relaxed) >= 1, "told too early");
            })
        };
        for seq in 1..=2 {
            covered.store(seq, Ordering::Relaxed);
            frontier.advance(BatchNumber(seq), Seq(seq));
            frontier.tell(Batches::one(BatchNumber(seq)));
        }
        waiter.join().unwrap();
        task.join().unwrap();
    });
}

/// The end of a shard ends every wait, also one that begins at that moment; what was durable before stays so.
#[test]
fn the_end_of_a_shard_ends_every_wait() {
    explore(3, || {
        let frontier = Arc::new(Frontier::new(ShardId(0), BatchNumber(0), Seq(0)));
        let waiters = [1, 2].map(|seq| {
            let frontier = Arc::clone(&frontier);
            thread::spawn(move || frontier.wait(Seq(seq), Batches::ANY))
        });
        frontier.advance(BatchNumber(1), Seq(1));
        frontier.end(End::Closed);
        let [durable, lost] = waiters.map(|it| it.join().unwrap());
        assert!(durable.is_ok(), "it was durable before the end");
        assert!(matches!(lost, Err(WaitError::Closed { .. })));
    });
}

/// A task that waits for a commit is woken by it.
#[test]
fn a_commit_wakes_a_task() {
    explore(3, || {
        let (board, durable) = board(2);
        let closers = [0, 1].map(|index| {
            let (board, durable) = (Arc::clone(&board), Arc::clone(&durable));
            thread::spawn(move || close(&board, &durable, index))
        });
        let waker = Waker::from(Arc::new(Unpark(sync::current())));
        while board.poll(EPOCH, &waker).is_pending() {
            sync::park();
        }
        assert_durable(&durable);
        closers.into_iter().for_each(|it| it.join().unwrap());
    });
}

/// The writer itself, with its turns and its sleep.
#[test]
fn a_log_commits_an_epoch_that_another_thread_closes() {
    explore(2, || {
        let mut log = small_log();
        let seat = log.take_seats().remove(0);
        let log = Arc::new(log);
        let writer = {
            let log = Arc::clone(&log);
            let run = move || {
                let mut writer = seat.sit().unwrap();
                let stamp = writer.append_bytes(Kind::PUT, b"an entry").unwrap();
                while log.committed_epoch() < EPOCH {
                    match writer.turn().unwrap() {
                        Turn::Again => {}
                        Turn::Sleep | Turn::Idle(_) if log.committed_epoch() >= EPOCH => {}
                        Turn::Sleep | Turn::Idle(_) => writer.sleep(None).unwrap(),
                    }
                }
                assert!(writer.frontier() >= stamp.seq, "committed, and not durable");
                writer.close().unwrap();
            };
            thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap()
        };
        assert_eq!(log.close_epoch().unwrap(), EPOCH);
        writer.join().unwrap();
        assert!(log.wait_epoch(EPOCH).is_ok());
    });
}

/// A log in memory whose blocks hold one batch of 512 bytes each: three of them.
fn small_log() -> Log {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let options = Options::new("/log")
        .disk(disk)
        .engine(Engine::Blocking)
        .preparing(Preparing::Manual)
        .block_len(512)
        .segment_len(4096)
        .first_segment_len(4096)
        .write_len(512)
        .max_batch(512)
        .max_record(100)
        .depth(1)
        .prepared_ahead(1)
        .pipeline_bound(1);
    Log::recover(options).unwrap().open().unwrap()
}

/// A shard of the model whose writer runs on the calling thread, and what another thread does with its producer.
fn with_producer(act: impl FnOnce(Producer) + Send + 'static) {
    let mut log = small_log();
    let (drive, intake) = log.take_seats().remove(0).take().unwrap();
    let writer = WriterThread::new(drive, intake);
    let producer = Producer::new(writer.entrance());
    let acting = thread::Builder::new().stack_size(1 << 20).spawn(move || act(producer)).unwrap();
    writer.run().unwrap();
    acting.join().unwrap();
}

/// A producer appends and waits while the writer may be going to sleep; then the shard is closed.
#[test]
fn a_producer_wakes_the_writer_and_is_woken() {
    explore(2, || {
        with_producer(|producer| {
            let stamp = producer.append_bytes_durable(Kind::PUT, b"an entry").unwrap();
            assert!(producer.frontier() >= stamp.seq);
            producer.end();
            let late = producer.append_bytes(Kind::PUT, b"late");
            assert!(matches!(late, Err(AppendError::Closed { .. })));
        });
    });
}

/// A producer that fills every block and more stands in line, and is let in when blocks come back; or the end
/// comes first, and it is told.
#[test]
fn a_producer_in_line_is_let_in_or_told_of_the_end() {
    explore(1, || {
        with_producer(|producer| {
            let other = producer.clone();
            let run = move || {
                // Three blocks hold nine of them.
                for _ in 0..11 {
                    match other.append_bytes(Kind::PUT, &[1; 100]) {
                        Ok(_) => {}
                        Err(AppendError::Closed { .. }) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            let filling = thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap();
            producer.end();
            filling.join().unwrap();
        });
    });
}

/// A disk in memory with the folder of shard 0, and a recipe for it.
fn recipe() -> Recipe {
    let disk = MemoryDisk::default();
    disk.create_dir("/log".as_ref()).expect("memory does not fail");
    disk.create_dir("/log/shard-0000".as_ref()).expect("memory does not fail");
    Recipe {
        layout: Layout { disk: Arc::new(disk), dir: "/log".into() },
        log: LogId([1; 16]),
        incarnation: Incarnation(1),
        block_len: 512,
        segment_len: 4096,
        first_segment_len: 4096,
        rkyv: RkyvLayout { endianness: 1, alignment: 1, pointer_width: 32 },
        schema: SchemaId(0),
        ahead: 1,
        access: AccessWish::Direct,
        zeros: Some(prepare::zeros(4096)),
    }
}

fn queue() -> Arc<SegmentQueue> {
    let wakeup = Arc::new(Wakeup::default());
    Arc::new(SegmentQueue::new(ShardId(0), SegmentNumber(1), Vec::new(), 0, wakeup))
}

/// Whoever takes a segment and rings gets another one: the preparer does not sleep through a bell. It ends when
/// it is told to, and says so.
#[test]
fn the_preparer_hears_every_bell() {
    explore(2, || {
        let (queue, bell) = (queue(), Arc::new(Bell::default()));
        let preparer = {
            let (queue, bell) = (Arc::clone(&queue), Arc::clone(&bell));
            let run = move || prepare::run(&recipe(), &bell, || std::iter::once(&*queue));
            thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap()
        };
        for number in 1..=2 {
            let prepared = loop {
                match queue.take() {
                    Some(prepared) => break prepared,
                    None => thread::yield_now(),
                }
            };
            bell.ring();
            assert_eq!(prepared.number, SegmentNumber(number));
        }
        bell.stop();
        preparer.join().unwrap();
        assert!(queue.fault().is_some(), "nobody prepares any more, and nobody says so");
    });
}

/// A writer in a hurry gets the segment that is being filled, unfilled; afterwards nobody is in a hurry, and
/// the next one is filled.
#[test]
fn a_hurry_ends_with_the_segment_that_it_was_for() {
    explore(3, || {
        let queue = queue();
        let preparer = {
            let queue = Arc::clone(&queue);
            let run = move || assert_eq!(recipe().step(&queue), Progress::Prepared);
            thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap()
        };
        queue.hurry();
        let early = queue.take();
        preparer.join().unwrap();
        let first = early.or_else(|| queue.take()).expect("one was prepared");
        assert_eq!(first.number, SegmentNumber(1));
        assert_eq!(queue.ready_len(), 0, "bytes that are not there");
        assert_eq!(recipe().step(&queue), Progress::Prepared);
        assert_eq!(queue.take().unwrap().fill, Fill::Written, "a hurry that is over still counts");
    });
}

/// A writer that has found no segment and asks for one takes another turn, also when one is prepared between the
/// two.
#[test]
fn a_hurry_that_comes_too_late_ends_the_sleep() {
    explore(3, || {
        let wakeup = Arc::new(Wakeup::default());
        wakeup.alarm().unwrap();
        let asleep = Arc::clone(&wakeup);
        let queue = SegmentQueue::new(ShardId(0), SegmentNumber(1), Vec::new(), 0, wakeup);
        let queue = Arc::new(queue);
        let preparer = {
            let queue = Arc::clone(&queue);
            let run = move || assert_eq!(recipe().step(&queue), Progress::Prepared);
            thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap()
        };
        loop {
            asleep.begin_turn(Exposure::Private);
            if queue.take().is_some() {
                break;
            }
            queue.hurry();
            sleep(&asleep);
        }
        preparer.join().unwrap();
    });
}
