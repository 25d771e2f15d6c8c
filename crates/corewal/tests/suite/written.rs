//! The written mark: what the operating system has, beside the frontier, which is what the device keeps.

use corewal::{Policy, Seq, ShardId, SyncMethod};

use crate::support::tap::{Order, Tap};
use crate::support::{append, commit, open_one, temp_dir, tiny};

const SHARD: ShardId = ShardId(0);

#[test]
fn on_demand_what_is_written_is_ahead_of_the_frontier() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()).policy(Policy::OnDemand));
    assert_eq!((writer.written(), writer.frontier()), (Seq(0), Seq(0)));
    for count in 1..=9 {
        let stamp = append(&log, &mut writer, "an event");
        assert!(writer.written() < stamp.seq, "nothing was handed over");
        while writer.written() < stamp.seq {
            writer.turn().unwrap();
        }
        assert_eq!((writer.written(), log.written(SHARD)), (Seq(count), Some(Seq(count))));
        assert_eq!(writer.frontier(), Seq(0));
    }
    writer.sync().unwrap();
    assert_eq!((writer.written(), writer.frontier()), (Seq(9), Seq(9)));
    assert_eq!(log.written(ShardId(1)), None);
}

/// A batch that has completed before an earlier one does not count.
#[test]
fn what_is_written_has_no_hole() {
    for method in [SyncMethod::Dsync, SyncMethod::AfterWrite] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let tap = Tap::new(&dir);
        let options = tiny(&dir).sync_method(method).policy(Policy::OnDemand);
        let (log, mut writer) = open_one(options.disk(tap.clone()));
        tap.set_order(Order::Held);
        append(&log, &mut writer, "one");
        writer.turn().unwrap();
        append(&log, &mut writer, "two");
        append(&log, &mut writer, "three");
        writer.turn().unwrap();
        assert_eq!(writer.in_flight(), 2);
        // Once more, as the batch may be in the ring but not landed.
        tap.set_order(Order::LastOnly);
        writer.turn().unwrap();
        assert_eq!(writer.written(), Seq(0), "the first batch is not written");
        tap.set_order(Order::Natural);
        while writer.written() < Seq(3) {
            writer.turn().unwrap();
        }
    }
}

#[test]
fn each_batch_is_written_before_it_is_durable_and_the_mark_never_goes_back() {
    for method in [SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked] {
        let dir = temp_dir();
        let (log, mut writer) = open_one(tiny(dir.path()).sync_method(method));
        let mut before = Seq(0);
        let mut was_ahead = false;
        for round in 0..40 {
            let stamp = append(&log, &mut writer, &"x".repeat(round * 20));
            while writer.frontier() < stamp.seq {
                let frontier = log.frontier(SHARD).unwrap();
                let written = log.written(SHARD).unwrap();
                assert!(frontier <= written && before <= written && written <= stamp.seq);
                was_ahead |= frontier < written;
                before = written;
                writer.turn().unwrap();
            }
            assert_eq!(writer.written(), stamp.seq);
        }
        assert_eq!(was_ahead, method == SyncMethod::AfterWrite, "{method:?}");
        let kept = commit(&log, &mut writer, "kept");
        let cut = commit(&log, &mut writer, "cut off");
        log.prepare();
        writer.truncate_after(kept.seq).unwrap();
        assert_eq!((writer.written(), writer.frontier()), (cut.seq, cut.seq));
    }
}
