//! Mistakes that earlier logs made, by the numbers of docs/DURABILITY.md, as far as this engine could make
//! them.
//!
//! | where | which |
//! |---|---|
//! | here | 3, 6, 7, 10, 18, 27, 28, 30, 31, 38, 41 |
//! | `shard/flight.rs`, `histories` | 1, 2, 4, 5 |
//! | `crash_images` | 11, 12, 13, 15, 17, 20, 22, 23, 25, 26 |
//! | `bad_input` | 12, 13, 21, 26 |
//! | `locking` | 24, 25, 33, 34 |
//! | `histories` | 8, 29, 32, 35 |
//! | `engine` | 14, 39, 40, 45 |
//! | `corewal-disk` | 2, 3, 36, 37, 42 |
//!
//! 9 and 16 wait for hooks and checkpoints, 19 for truncation; 43 and 44 are measured.

use std::time::Duration;

use corewal::{
    AppendError, Engine, EpochError, FailureCause, Kind, Policy, Seq, ShardWriter, SyncMethod,
    Turn, WaitError,
};

use crate::support::tap::{Event, Mishap, Order, Tap};
use crate::support::{
    append, commit, open_all, open_one, persist, recover, recovered, segment_path, temp_dir, texts,
    tiny,
};

/// Defect 3, 6, 7, 38: after the first failure nothing is acknowledged, nothing accepted, nothing tried again;
/// everybody is told; nothing hangs.
#[test]
fn after_a_failure_nothing_is_acknowledged_any_more() {
    let cases = [
        (Mishap::WriteFails, SyncMethod::Dsync),
        (Mishap::WriteFails, SyncMethod::AfterWrite),
        (Mishap::WriteFails, SyncMethod::Linked),
        (Mishap::WriteIsShort, SyncMethod::Dsync),
        (Mishap::WriteIsShort, SyncMethod::AfterWrite),
        (Mishap::SyncFails, SyncMethod::AfterWrite),
    ];
    for engine in [Engine::Auto, Engine::Blocking] {
        for (mishap, method) in cases {
            let home = temp_dir();
            let dir = home.path().join("log");
            let tap = Tap::new(&dir);
            let options = tiny(&dir).engine(engine).sync_method(method).disk(tap.clone());
            let (log, mut writer) = open_one(options);
            let what = format!("{engine:?} {mishap:?} {method:?}");
            commit(&log, &mut writer, "before");
            writer.close_epoch().unwrap();
            writer.sync().unwrap();
            let committed = log.committed_epoch();
            tap.events();
            tap.happens(mishap);
            let lost = append(&log, &mut writer, "lost");
            let epoch = writer.close_epoch().unwrap();
            let failure = match writer.wait(lost) {
                Err(WaitError::Failed(failure)) => failure,
                other => panic!("{what}: {other:?}"),
            };
            let fits = match (mishap, &failure.cause) {
                (Mishap::WriteFails, FailureCause::Write { .. })
                | (Mishap::SyncFails, FailureCause::Sync { .. }) => true,
                (Mishap::WriteIsShort, FailureCause::Short { written, len, .. }) => {
                    written + 1 == *len
                }
                _ => false,
            };
            assert!(fits, "{what}: {failure}");
            // The system is well again; the shard is not.
            for _ in 0..3 {
                let text = failure.to_string();
                assert_eq!(writer.turn().unwrap_err().to_string(), text);
                assert_eq!(writer.sync().unwrap_err().to_string(), text);
                assert_eq!(writer.sleep(None).unwrap_err().to_string(), text);
                let error = writer.append_bytes(Kind::PUT, b"x").unwrap_err();
                assert!(matches!(&error, AppendError::Failed(it) if it.to_string() == text));
                assert!(matches!(writer.close_epoch(), Err(AppendError::Failed(_))));
                assert_eq!(log.failures()[0].to_string(), text);
                match log.wait_epoch(epoch) {
                    Err(EpochError::Failed(failure)) => assert_eq!(failure.to_string(), text),
                    other => panic!("{what}: {other:?}"),
                }
            }
            assert_eq!(writer.frontier(), Seq(2), "{what}");
            assert_eq!(log.committed_epoch(), committed, "{what}");
            let syncs = tap.events().iter().filter(|it| matches!(it, Event::Sync(_))).count();
            let expected = usize::from(mishap == Mishap::SyncFails);
            assert_eq!(syncs, expected, "{what}: no sync after it, and none twice");
            assert!(writer.close().is_err());
            let report = log.close().unwrap();
            assert_eq!(report.left_open.len(), 1);
            // What was acknowledged is there; what was not may be.
            let found = recovered(tiny(&dir));
            assert_eq!(found[..2], ["before", "|"], "{what}");
            let (log, mut writer) = open_one(tiny(&dir));
            commit(&log, &mut writer, "after");
            drop((writer, log));
            assert_eq!(recovered(tiny(&dir)).last().unwrap(), "after");
        }
    }
}

/// Defect 7: also for entries whose batch was already in flight.
#[test]
fn what_completes_behind_a_failed_write_is_not_acknowledged() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    tap.set_order(Order::Held);
    tap.happens(Mishap::WriteFails);
    for text in ["fails", "flies behind it"] {
        append(&log, &mut writer, text);
        writer.turn().unwrap();
    }
    assert_eq!(writer.in_flight(), 2);
    tap.set_order(Order::LastOnly);
    writer.turn().unwrap();
    writer.turn().unwrap_err();
    assert_eq!(writer.frontier(), Seq(0));
}

/// Defect 38: a writer that failed while all its blocks were in flight can be dropped and closed.
#[test]
fn a_failed_writer_with_a_full_queue_does_not_hang() {
    for engine in [Engine::Auto, Engine::Blocking] {
        for close in [false, true] {
            let home = temp_dir();
            let dir = home.path().join("log");
            let tap = Tap::new(&dir);
            let (log, mut writer) = open_one(tiny(&dir).engine(engine).disk(tap.clone()));
            tap.set_order(Order::Held);
            tap.happens(Mishap::WriteFails);
            while writer.append_bytes(Kind::PUT, &[7; 300]).is_ok() {
                writer.turn().unwrap();
            }
            tap.set_order(Order::Natural);
            assert!((0..1_000_000).any(|_| writer.turn().is_err()), "the failure is seen");
            if close {
                writer.close().unwrap_err();
            } else {
                drop(writer);
            }
            assert_eq!(log.close().unwrap().left_open.len(), 1);
        }
    }
}

/// Defect 18, 10: an end that was torn once keeps the newest acknowledged entries, however often it is torn.
#[test]
fn every_crash_keeps_every_acknowledged_entry() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut kept: Vec<String> = Vec::new();
    for incarnation in 1..10_u64 {
        let (log, mut writer) = open_one(tiny(&dir));
        assert_eq!(log.frontier(corewal::ShardId(0)), Some(Seq(kept.len() as u64)));
        for n in 0..incarnation {
            let text = format!("{incarnation} {n}");
            commit(&log, &mut writer, &text);
            kept.push(text);
        }
        append(&log, &mut writer, "never submitted");
        drop((writer, log));
        // A torn write behind the end: a sector of something.
        let report = recover(tiny(&dir)).unwrap().1;
        let corewal::RunEnd::Clean { at } = report.shards[0].end else { panic!() };
        crate::support::edit(&segment_path(&dir, 0, at.segment.0), |bytes| {
            let at = usize::try_from(at.at).unwrap();
            if let Some(sector) = bytes.get_mut(at..at + 512) {
                sector.fill(0xa5);
            }
        });
        assert_eq!(recovered(tiny(&dir)), kept);
    }
}

/// Defect 27: what is appended after a reopening sorts behind everything that was there, on every shard.
#[test]
fn stamps_go_on_above_all_that_were_there() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut last = None;
    for (incarnation, shards) in [2, 1, 3, 2, 1, 1, 3].into_iter().enumerate() {
        let (log, mut writers) = open_all(tiny(&dir).shards(shards));
        for writer in &mut writers {
            let stamp = append(&log, writer, "x");
            assert!(last.is_none_or(|last| stamp > last), "{stamp} after {last:?}");
            writer.sync().unwrap();
        }
        writers.iter_mut().for_each(|writer| {
            persist(&log, writer, ShardWriter::close_epoch).unwrap();
            writer.sync().unwrap();
        });
        if incarnation % 2 == 0 {
            for writer in writers {
                writer.close().unwrap();
            }
            log.close().unwrap();
        } else {
            drop((writers, log));
        }
        last = recover(tiny(&dir)).unwrap().0.last().map(|item| item.stamp);
    }
}

/// Defect 28: no clock takes part in any order.
#[test]
fn a_clock_that_jumps_changes_no_order() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = tiny(&dir).shards(2).disk(tap.clone());
    let (log, mut writers) = open_all(options);
    let mut expected = Vec::new();
    for n in 0..10 {
        tap.state().now = Duration::from_secs(if n % 2 == 0 { 1_000_000 - n } else { n });
        for (shard, writer) in writers.iter_mut().enumerate() {
            commit(&log, writer, &format!("{n} {shard}"));
            expected.push(format!("{n} {shard}"));
        }
    }
    drop((writers, log));
    let (items, _) = recover(tiny(&dir).shards(2)).unwrap();
    assert_eq!(texts(&items), expected);
}

/// Defect 30: a barrier has the epoch that it closes, and everything before it.
#[test]
fn a_barrier_names_the_epoch_that_it_closes() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let mut closed = Vec::new();
    for round in 0..5 {
        for n in 0..round {
            let stamp = append(&log, &mut writer, &format!("{round} {n}"));
            assert_eq!(stamp.epoch, writer.epoch());
        }
        let before = writer.epoch();
        closed.push(persist(&log, &mut writer, ShardWriter::close_epoch).unwrap());
        assert_eq!((closed[round], writer.epoch()), (before, before.next()));
        writer.sync().unwrap();
    }
    drop((writer, log));
    let items = recover(tiny(&dir)).unwrap().0;
    let barriers: Vec<_> =
        items.iter().filter(|it| it.kind == Kind::BARRIER).map(|it| it.stamp.epoch).collect();
    assert_eq!(barriers, closed);
    for pair in items.windows(2) {
        let goes_on = pair[1].stamp.epoch > pair[0].stamp.epoch;
        assert_eq!(goes_on, pair[0].kind == Kind::BARRIER, "an epoch ends with its barrier");
    }
}

/// Defect 31: every batch has its place before it is submitted, behind the one before.
#[test]
fn batches_in_flight_have_explicit_places() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).first_segment_len(8192).disk(tap.clone()));
    tap.set_order(Order::Held);
    tap.events();
    for n in 0..4 {
        append(&log, &mut writer, &format!("{n}"));
        append(&log, &mut writer, &format!("{n} again"));
        writer.turn().unwrap();
    }
    let places: Vec<u64> = tap
        .events()
        .iter()
        .filter_map(|it| if let Event::Batch(_, at, _) = it { Some(*at) } else { None })
        .collect();
    assert!(places.len() >= 2 && places[0] == 1024, "{places:?}");
    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 512), "{places:?}");
}

/// Defect 41: a lone commit goes at once, in the next turn, whatever the clock says.
#[test]
fn a_lone_commit_goes_at_once() {
    for method in [SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let tap = Tap::new(&dir);
        let (log, mut writer) = open_one(tiny(&dir).sync_method(method).disk(tap.clone()));
        tap.events();
        append(&log, &mut writer, "alone");
        writer.turn().unwrap();
        assert!(matches!(tap.events()[..], [Event::Batch(_, 1024, _)]), "one turn submits it");
        let mut turns = 1;
        while writer.frontier() < Seq(1) {
            writer.turn().unwrap();
            turns += 1;
        }
        // One more to reap it; with a sync apart, one for that too.
        assert!(turns <= 3, "{turns} turns");
        assert_eq!(writer.turn().unwrap(), Turn::Idle(Some(Duration::from_secs(3600))));
    }
}

/// Defect 1: a sync is started only when a write has completed, and covers no later one.
#[test]
fn a_sync_covers_only_what_had_completed() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = tiny(&dir).sync_method(SyncMethod::AfterWrite).disk(tap.clone());
    let (log, mut writer) = open_one(options);
    tap.set_order(Order::Held);
    tap.events();
    for n in 0..3 {
        append(&log, &mut writer, &format!("{n}"));
        writer.turn().unwrap();
    }
    assert!(!tap.events().iter().any(|it| matches!(it, Event::Sync(_))), "nothing has completed");
    tap.set_order(Order::LastOnly);
    writer.turn().unwrap();
    let events = tap.events();
    assert!(!events.iter().any(|it| matches!(it, Event::Sync(_))), "not the first: {events:?}");
    assert_eq!(writer.frontier(), Seq(0));
    tap.set_order(Order::Natural);
    writer.turn().unwrap();
    assert!(tap.events().iter().any(|it| matches!(it, Event::Sync(_))));
    assert_eq!(writer.frontier(), Seq(0), "the sync has not completed");
    writer.turn().unwrap();
    assert_eq!(writer.frontier(), Seq(3));
}

/// Defect 5: under another policy one call of sync reaches every segment that was written to.
#[test]
fn a_sync_reaches_every_segment_that_was_written_to() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).policy(Policy::OnDemand).disk(tap.clone()));
    tap.events();
    for n in 0..30 {
        append(&log, &mut writer, &format!("{n} {}", "x".repeat(600)));
    }
    writer.sync().unwrap();
    let events = tap.events();
    let last_of = |wanted: &Event| events.iter().rposition(|it| it == wanted);
    let mut segments = 0;
    for (index, event) in events.iter().enumerate() {
        let Event::Batch(path, ..) = event else { continue };
        segments += usize::from(matches!(event, Event::Batch(_, 1024, _)));
        assert!(last_of(&Event::Sync(path.clone())).is_some_and(|sync| sync > index), "{path:?}");
    }
    assert!(segments > 2);
}
