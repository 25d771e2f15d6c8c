//! What the engine does, over every sync method, policy and ring: records of every size, rotation, policies,
//! vouches, epochs, typed records, closing and reopening.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use corewal::{
    AccessError, AppendError, CloseError, EncodeError, Engine, Epoch, EpochError, FailureCause,
    Kind, Log, Options, Policy, Record, Seq, ShardId, ShardWriter, Stamp, Standing, SyncMethod,
    Turn, WaitError,
};
use corewal_disk::sim::SimDisk;
use rkyv::rancor::Fallible;
use rkyv::{Archive, Place, Serialize};

use crate::support::tap::{Event, Order, Tap};
use crate::support::{
    append, commit, open, open_all, open_one, persist, recover, recovered, refused, segment_path,
    temp_dir, texts, tiny,
};

/// io_uring where this machine has it, and the synchronous one.
const ENGINES: [Engine; 2] = [Engine::Auto, Engine::Blocking];
const METHODS: [SyncMethod; 3] = [SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked];

fn policies() -> [Policy; 3] {
    [Policy::EveryBatch, Policy::Interval(Duration::ZERO), Policy::OnDemand]
}

/// Stops other threads, also when a test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Bytes that differ from place to place.
fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + salt * 7 + n / 251).to_le_bytes()[0]).collect()
}

/// Defect 39.
#[test]
fn a_record_far_above_the_write_size_is_one_batch() {
    for engine in ENGINES {
        for method in METHODS {
            let home = temp_dir();
            let dir = home.path().join("log");
            let options = Options::new(&dir)
                .engine(engine)
                .sync_method(method)
                .segment_len(8 << 20)
                .write_len(64 << 10)
                .max_batch(4 << 20)
                .max_record(3 << 20)
                .vouch_after(Duration::from_secs(3600));
            let (log, mut writer) = open_one(options.clone());
            let large = pattern(3 << 20, 1);
            let mut kept = Vec::new();
            for size in [10, large.len(), 20, (1 << 20) + 1] {
                let attempt = |it: &mut ShardWriter| it.append_bytes(Kind::PUT, &large[..size]);
                let stamp = persist(&log, &mut writer, attempt).unwrap();
                writer.wait(stamp).unwrap();
                kept.push(large[..size].to_vec());
            }
            assert_eq!(writer.stats().batches, 4, "one batch for each");
            drop((writer, log));
            let items = recover(options).unwrap().0;
            let found: Vec<Vec<u8>> = items.into_iter().map(|item| item.bytes).collect();
            assert!(found == kept, "{engine:?} {method:?}");
        }
    }
}

#[test]
fn records_of_every_size_come_back_and_larger_ones_change_nothing() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let mut kept = Vec::new();
    // Around a block, the write size, and the limit; then small ones again.
    let sizes = [0, 1, 15, 16, 17, 367, 368, 369, 383, 384, 385, 895, 896, 897, 1024, 2000, 4095];
    for (index, size) in sizes.into_iter().chain([4096, 0, 3]).enumerate() {
        let bytes = pattern(size, index);
        let stamp = persist(&log, &mut writer, |it| it.append_bytes(Kind::PUT, &bytes)).unwrap();
        assert_eq!(stamp.seq, Seq(index as u64 + 1), "refused records take no seq");
        kept.push(bytes);
        let too_large = pattern(4097, index);
        let attempt = |it: &mut ShardWriter| it.append_bytes(Kind::PUT, &too_large);
        let error = persist(&log, &mut writer, attempt).unwrap_err();
        assert!(matches!(error, AppendError::TooLarge { len: 4097, max: 4096 }), "{error}");
        if index % 2 == 0 {
            writer.sync().unwrap();
        }
        let error = writer.append_with(Kind::PUT, 4097, |_| panic!("not asked")).unwrap_err();
        assert!(matches!(error, AppendError::TooLarge { len: 4097, max: 4096 }), "{error}");
    }
    writer.sync().unwrap();
    drop((writer, log));
    let found: Vec<Vec<u8>> =
        recover(tiny(&dir)).unwrap().0.into_iter().map(|item| item.bytes).collect();
    assert!(found == kept);
}

#[test]
fn only_kinds_of_users_can_be_appended() {
    let home = temp_dir();
    let (_log, mut writer) = open_one(tiny(&home.path().join("log")));
    for kind in [Kind::BARRIER, Kind(0), Kind(6), Kind(0x7fff)] {
        let error = writer.append_bytes(kind, b"x").unwrap_err();
        assert!(matches!(error, AppendError::Kind(it) if it == kind));
    }
    for (seq, kind) in [Kind::PUT, Kind::DELETE, Kind::COMMIT, Kind::CHECKPOINT, Kind::FIRST_USER]
        .into_iter()
        .enumerate()
    {
        assert_eq!(writer.append_bytes(kind, b"x").unwrap().seq.0, seq as u64 + 1);
    }
}

/// A record that fails in the middle of its serialization.
struct Failing {
    before: [u64; 4],
    fails: bool,
}

impl Archive for Failing {
    type Archived = rkyv::Archived<[u64; 4]>;
    type Resolver = <[u64; 4] as Archive>::Resolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        self.before.resolve(resolver, out);
    }
}

impl<S: Fallible<Error = EncodeError> + rkyv::ser::Writer + ?Sized> Serialize<S> for Failing {
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, EncodeError> {
        serializer.write(b"half of a record that is never finished")?;
        if self.fails {
            return Err(EncodeError::custom("made to fail"));
        }
        self.before.serialize(serializer)
    }
}

impl Record for Failing {}

#[test]
fn a_record_that_fails_to_encode_leaves_no_trace() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let fails = |error: AppendError| match error {
        AppendError::Encode(error) => {
            assert_eq!(error.to_string(), "the record cannot be encoded: made to fail");
        }
        other => panic!("{other}"),
    };
    for round in 0..40 {
        let bad = Failing { before: [1; 4], fails: true };
        fails(persist(&log, &mut writer, |it| it.append(&bad)).unwrap_err());
        let attempt = |it: &mut ShardWriter| {
            it.append_with(Kind::PUT, 64, |bytes| {
                bytes.fill(0xee);
                Err(EncodeError::custom("made to fail"))
            })
        };
        fails(persist(&log, &mut writer, attempt).unwrap_err());
        let attempt = |it: &mut ShardWriter| it.append_with(Kind::PUT, 8, |_| Ok(9));
        let error = persist(&log, &mut writer, attempt).unwrap_err();
        assert!(matches!(error, AppendError::Encode(_)), "{error}");
        let stamp = append(&log, &mut writer, &format!("entry {round}"));
        assert_eq!(stamp.seq, Seq(round + 1));
        if round % 7 == 0 {
            writer.wait(stamp).unwrap();
        }
    }
    let good = Failing { before: [1, 2, 3, 4], fails: false };
    persist(&log, &mut writer, |it| it.append(&good)).unwrap();
    writer.close().unwrap();
    log.close().unwrap();
    let mut recovery = Log::recover(tiny(&dir)).unwrap();
    for round in 0..40 {
        let entry = recovery.next_entry().unwrap().unwrap();
        assert_eq!(entry.bytes(), format!("entry {round}").as_bytes());
    }
    let entry = recovery.next_entry().unwrap().unwrap();
    let archived = entry.archived::<Failing>(corewal::SchemaId(0)).unwrap();
    assert_eq!(archived.each_ref().map(|it| it.to_native()), [1, 2, 3, 4]);
}

/// Defect 40: a panic in a codec of the user leaves the writer as it was.
#[test]
fn a_codec_that_panics_leaves_no_trace() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    commit(&log, &mut writer, "one");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = writer.append_with(Kind::PUT, 16, |bytes| {
            bytes.fill(0xff);
            panic!("on purpose")
        });
    }));
    caught.unwrap_err();
    assert_eq!(commit(&log, &mut writer, "two").seq, Seq(2));
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(tiny(&dir)), ["one", "two"]);
}

#[test]
fn a_codec_may_write_less_than_its_bound_everywhere() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let mut kept = Vec::new();
    // Bounds above the pool's block, and at every distance from the end of a segment.
    for n in 0..60_usize {
        let text = format!("entry {n}");
        let bound = [10, 400, 900, 1500, 4096][n % 5];
        let attempt = |it: &mut ShardWriter| {
            it.append_with(Kind::PUT, bound, |bytes| {
                assert_eq!(bytes.len(), bound);
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            })
        };
        let stamp = persist(&log, &mut writer, attempt).unwrap();
        assert_eq!(stamp.seq, Seq(n as u64 + 1));
        kept.push(text);
    }
    writer.sync().unwrap();
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), kept);
}

#[test]
fn a_writer_whose_blocks_are_all_in_flight_is_full_and_goes_on_after_turns() {
    for engine in ENGINES {
        let home = temp_dir();
        let dir = home.path().join("log");
        let tap = Tap::new(&dir);
        let options = tiny(&dir).engine(engine).depth(2).segment_len(65536).disk(tap.clone());
        let options = options.first_segment_len(65536);
        let (log, mut writer) = open_one(options.clone());
        tap.set_order(Order::Held);
        let mut appended = Vec::new();
        for n in 0..1000 {
            let text = format!("{n:0200}");
            match writer.append_bytes(Kind::PUT, text.as_bytes()) {
                Ok(_) => appended.push(text),
                Err(AppendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
            writer.turn().unwrap();
            assert!(writer.in_flight() <= 2, "depth is a ceiling");
        }
        // Two batches in flight, and two blocks more, of 1024 bytes each.
        assert!((9..20).contains(&appended.len()), "{} appended", appended.len());
        assert_eq!(writer.frontier(), Seq(0));
        let error = writer.append_bytes(Kind::PUT, b"x").unwrap_err();
        assert!(matches!(error, AppendError::Full));
        tap.set_order(Order::Natural);
        let stamp = commit(&log, &mut writer, "last");
        assert_eq!(stamp.seq, Seq(appended.len() as u64 + 1));
        appended.push("last".into());
        assert!(writer.stats().max_in_flight <= 2);
        drop((writer, log));
        assert_eq!(recovered(tiny(&dir)), appended);
    }
}

/// Defect 5, 14, 31, 45: over many small segments, whatever the ring, the method and the policy.
/// Sixty-four appends are outstanding at most, with a turn after each: what a batch releases comes back one by one, and
/// goes to the disk together.
#[test]
fn what_a_batch_has_released_shares_the_next_one() {
    const OUTSTANDING: u64 = 64;
    let options = Options::new("/log").disk(Arc::new(SimDisk::new(7)));
    let mut log = Log::recover(options.first_segment_len(8 << 20)).unwrap().open().unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let first = writer.append_bytes(Kind::PUT, b"first").unwrap();
    writer.wait(first).unwrap();
    let (mut appended, before) = (1, writer.stats());
    while appended < 100 * OUTSTANDING {
        if appended - (writer.frontier().0 - first.seq.0 + 1) < OUTSTANDING {
            writer.append_bytes(Kind::PUT, b"another").unwrap();
            appended += 1;
        }
        let is_full = appended - (writer.frontier().0 - first.seq.0 + 1) == OUTSTANDING;
        if writer.turn().unwrap() == Turn::Sleep && is_full {
            writer.sleep(None).unwrap();
        }
    }
    let batches = writer.stats().batches - before.batches;
    // Without it there are more than 500; the disk is simulated, so the number is always the same.
    assert!(batches <= 400, "{batches} batches for {appended} entries");
    writer.close().unwrap();
    log.close().unwrap();
}

/// Full batches use the whole depth; one that is not full joins at most half of it, and grows meanwhile.
#[test]
fn only_full_batches_fill_the_depth() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = tiny(&dir).segment_len(64 << 10).first_segment_len(64 << 10).depth(10);
    let (log, mut writer) = open_one(options.disk(tap.clone()));
    commit(&log, &mut writer, "the first");
    tap.set_order(Order::Held);
    for appended in 1..=20 {
        append(&log, &mut writer, "in a batch that is not full");
        writer.turn().unwrap();
        assert!(writer.in_flight() <= 5.min(appended), "after {appended}");
    }
    assert_eq!(writer.in_flight(), 5);
    let mut full = 0;
    while let Ok(stamp) = writer.append_bytes(Kind::PUT, &[7; 700]) {
        full = stamp.seq.0;
        writer.turn().unwrap();
    }
    assert_eq!(writer.in_flight(), 10);
    tap.set_order(Order::Natural);
    writer.sync().unwrap();
    assert_eq!(writer.frontier(), Seq(full));
    writer.close().unwrap();
    log.close().unwrap();
}

/// A program that sleeps although it was told to take another turn gets its batch to the disk all the same.
#[test]
fn a_batch_that_is_held_back_lets_nobody_sleep() {
    const FOREVER: Duration = Duration::from_secs(60);
    let dir = temp_dir();
    let mut log = open(Options::new(dir.path().join("log")));
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let mut held = 0;
    for _ in 0..200 {
        let outstanding =
            [(); 3].map(|()| writer.append_bytes(Kind::PUT, b"one of three").unwrap());
        while writer.frontier() < outstanding[2].seq {
            let turn = writer.turn().unwrap();
            held += u32::from(turn == Turn::Again);
            let start = Instant::now();
            writer.sleep(Some(FOREVER)).unwrap();
            assert!(start.elapsed() < FOREVER, "after {turn:?}");
            // One more while the disk works: it is in the open batch when that becomes idle.
            if writer.frontier() < outstanding[2].seq && turn == Turn::Sleep {
                writer.append_bytes(Kind::PUT, b"a fourth").unwrap();
            }
        }
    }
    assert!(held > 0, "nothing was held back");
    writer.close().unwrap();
    log.close().unwrap();
}

#[test]
fn rotation_keeps_everything_with_every_ring_method_and_policy() {
    for engine in ENGINES {
        for method in METHODS {
            for policy in policies() {
                let home = temp_dir();
                let dir = home.path().join("log");
                let options = tiny(&dir).engine(engine).sync_method(method).policy(policy);
                let options = options.depth(3);
                let what = format!("{engine:?} {method:?} {policy:?}");
                let (log, mut writer) = open_one(options.clone());
                let mut kept = Vec::new();
                for n in 0..120_usize {
                    let text = format!("{n}-{}", "x".repeat(n * 13 % 700));
                    let stamp = append(&log, &mut writer, &text);
                    kept.push(text);
                    match n % 11 {
                        0 => writer.wait(stamp).unwrap(),
                        1..4 => {
                            writer.turn().unwrap();
                        }
                        _ => {}
                    }
                }
                writer.sync().unwrap();
                assert_eq!(writer.frontier(), Seq(120), "{what}");
                assert!(writer.stats().rotations > 4, "{what}");
                append(&log, &mut writer, "not acknowledged");
                drop((writer, log));
                let mut found = recovered(options.clone());
                found.truncate(120);
                assert_eq!(found, kept, "{what}");
                let (log, mut writer) = open_one(options.clone());
                append(&log, &mut writer, "closed");
                writer.close().unwrap();
                assert_eq!(log.close().unwrap().left_open, []);
                assert_eq!(recovered(options).last().unwrap(), "closed", "{what}");
            }
        }
    }
}

#[test]
fn a_log_is_recovered_by_the_other_ring() {
    for (first, second) in [(ENGINES[0], ENGINES[1]), (ENGINES[1], ENGINES[0])] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let (log, mut writer) = open_one(tiny(&dir).engine(first));
        for n in 0..30 {
            append(&log, &mut writer, &format!("{n}"));
        }
        writer.sync().unwrap();
        drop((writer, log));
        let (log, mut writer) = open_one(tiny(&dir).engine(second));
        commit(&log, &mut writer, "30");
        drop((writer, log));
        let all: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
        assert_eq!(recovered(tiny(&dir).engine(first)), all);
    }
}

#[test]
fn on_demand_the_frontier_stands_until_somebody_asks() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = tiny(&dir).policy(Policy::OnDemand).disk(tap.clone());
    let (log, mut writer) = open_one(options);
    for n in 0..5 {
        append(&log, &mut writer, &format!("{n}"));
        assert_eq!(settle(&mut writer), Turn::Idle(None));
        tap.state().now += Duration::from_secs(3600);
    }
    assert_eq!(writer.frontier(), Seq(0));
    assert_eq!(writer.stats().syncs, 0);
    assert!(!tap.events().iter().any(|it| matches!(it, Event::Sync(_))));
    writer.sync().unwrap();
    assert_eq!((writer.frontier(), writer.stats().syncs), (Seq(5), 1));
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)).len(), 5);
}

#[test]
fn at_an_interval_the_frontier_stands_until_it_is_over() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let interval = Duration::from_millis(100);
    tap.state().now = interval;
    let options = tiny(&dir).policy(Policy::Interval(interval)).disk(tap.clone());
    let (log, mut writer) = open_one(options);
    append(&log, &mut writer, "one");
    settle(&mut writer);
    assert_eq!(writer.frontier(), Seq(1), "a whole interval had passed");
    append(&log, &mut writer, "two");
    assert_eq!(settle(&mut writer), Turn::Idle(Some(interval)), "says when to come back");
    tap.state().now += interval / 2;
    assert_eq!(settle(&mut writer), Turn::Idle(Some(interval / 2)));
    assert_eq!(writer.frontier(), Seq(1));
    tap.state().now += interval / 2;
    settle(&mut writer);
    assert_eq!(writer.frontier(), Seq(2));
    // Who waits is not made to wait for the clock.
    let stamp = append(&log, &mut writer, "three");
    writer.wait(stamp).unwrap();
}

/// Defect 5: when the interval is over, every segment that was written to is synced, however many there are.
#[test]
fn at_an_interval_every_segment_that_was_written_to_is_synced() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let interval = Duration::from_millis(100);
    let (log, mut writer) =
        open_one(tiny(&dir).policy(Policy::Interval(interval)).disk(tap.clone()));
    for round in 1..4 {
        for n in 0..40 {
            append(&log, &mut writer, &format!("{round} {n} {}", "x".repeat(700)));
        }
        settle(&mut writer);
        assert_eq!(writer.frontier(), Seq((round - 1) * 40), "the interval is not over");
        tap.state().now += interval;
        settle(&mut writer);
        assert_eq!(writer.frontier(), Seq(round * 40));
    }
    assert!(writer.stats().rotations > 10);
}

/// Whatever the options, a log whose disk has room takes appends.
#[test]
fn a_reserve_that_no_segment_can_hold_is_refused() {
    let home = temp_dir();
    let dir = home.path().join("log");
    // A segment of tiny logs has 14 blocks: 13 barriers and a vouch.
    let error = tiny(&dir).pipeline_bound(14).validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "option pipeline_bound is 14: from 1 to 1024, and with a block for each of these epochs and one \
         more at most what a segment holds (7168 bytes)"
    );
    let (log, mut writer) = open_one(tiny(&dir).pipeline_bound(13));
    for n in 0..100 {
        append(&log, &mut writer, &format!("{n}"));
    }
    writer.sync().unwrap();
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)).len(), 100);
}

/// Turns until nothing is in flight, and says what the last turn said.
fn settle(writer: &mut ShardWriter) -> Turn {
    for _ in 0..10_000 {
        match writer.turn().unwrap() {
            Turn::Again | Turn::Sleep => {}
            idle @ Turn::Idle(_) => return idle,
        }
    }
    panic!("never idle");
}

/// History 10: an idle shard vouches for its last acknowledgements; until then damage to them reads as torn.
#[test]
fn an_idle_shard_vouches_after_a_while_and_only_once() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let after = Duration::from_millis(10);
    let (log, mut writer) = open_one(tiny(&dir).vouch_after(after).disk(tap.clone()));
    assert_eq!(settle(&mut writer), Turn::Idle(None), "nothing to vouch for");
    commit(&log, &mut writer, "one");
    assert_eq!(writer.stats().unvouched, 1);
    assert_eq!(settle(&mut writer), Turn::Idle(Some(after)));
    tap.state().now += after / 2;
    assert_eq!(settle(&mut writer), Turn::Idle(Some(after / 2)));
    tap.state().now += after / 2;
    assert_eq!(settle(&mut writer), Turn::Idle(None));
    assert_eq!((writer.stats().vouches, writer.stats().unvouched), (1, 0));
    tap.state().now += Duration::from_secs(3600);
    assert_eq!(settle(&mut writer), Turn::Idle(None), "a vouch needs none itself");
    assert_eq!(writer.stats().vouches, 1);
    drop((writer, log));
    crate::support::edit(&segment_path(&dir, 0, 1), |bytes| bytes[1024 + 130] ^= 1);
    let damage = refused(tiny(&dir));
    assert!(damage.witness.is_some(), "{damage}");
}

#[test]
fn promises_are_sealed_on_demand() {
    for sealed in [false, true] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let (log, mut writer) = open_one(tiny(&dir));
        commit(&log, &mut writer, "one");
        if sealed {
            writer.seal_promises();
            settle(&mut writer);
            assert_eq!(writer.stats().unvouched, 0);
        }
        drop((writer, log));
        crate::support::edit(&segment_path(&dir, 0, 1), |bytes| bytes[1024 + 130] ^= 1);
        if sealed {
            refused(tiny(&dir));
        } else {
            assert_eq!(recovered(tiny(&dir)), [""; 0], "the limit, as it is stated");
        }
    }
}

#[test]
fn a_committed_epoch_is_vouched_for_by_an_idle_shard() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let after = Duration::from_millis(10);
    let (log, mut writers) = open_all(tiny(&dir).shards(2).vouch_after(after).disk(tap.clone()));
    for writer in &mut writers {
        writer.close_epoch().unwrap();
        writer.sync().unwrap();
    }
    for writer in &mut writers {
        settle(writer);
        tap.state().now += after;
        settle(writer);
        assert_eq!(writer.stats().vouches, 1);
    }
    drop((writers, log));
    // Shard 0's barrier is lost: shard 1 speaks of it.
    let path = segment_path(&dir, 0, 1);
    crate::support::edit(&path, |bytes| bytes[1024..].fill(0));
    let damage = refused(tiny(&dir).shards(2));
    let claim = damage.witness.unwrap().claim;
    assert!(matches!(claim, corewal::Claim::Committed(_)), "{damage}");
}

#[test]
fn an_epoch_is_committed_when_all_shards_have_closed_it() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(3));
    let first = writers[0].epoch();
    for (closed, writer) in writers.iter_mut().enumerate() {
        assert!(log.committed_epoch() < first, "{closed} of 3 have closed it");
        let stamp = append(&log, writer, &format!("of {closed}"));
        assert_eq!(stamp.epoch, first);
        assert_eq!(writer.close_epoch().unwrap(), first);
        assert!(log.committed_epoch() < first, "a barrier counts when it is durable");
        writer.sync().unwrap();
    }
    assert_eq!(log.committed_epoch(), first);
    log.wait_epoch(first).unwrap();
    let after = append(&log, &mut writers[0], "after");
    assert_eq!(after.epoch, first.next());
    writers[0].sync().unwrap();
    drop((writers, log));
    let (items, report) = recover(tiny(&dir).shards(3)).unwrap();
    assert_eq!(report.committed_epoch, first);
    assert_eq!(texts(&items), ["of 0", "of 1", "of 2", "|", "|", "|", "after"]);
    let committed: Vec<bool> = items.iter().map(|item| item.committed).collect();
    assert_eq!(committed, [true, true, true, true, true, true, false]);
}

#[test]
fn the_log_closes_an_epoch_everywhere_also_on_idle_shards() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut log = open(tiny(&dir).shards(3).engine(Engine::Auto));
    let seats = log.take_seats();
    let stop = AtomicBool::new(false);
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&stop);
        for seat in seats {
            let (stop, barrier) = (&stop, &barrier);
            scope.spawn(move || {
                let mut writer = seat.sit().unwrap();
                barrier.wait();
                while !stop.load(Ordering::SeqCst) {
                    if let Turn::Sleep | Turn::Idle(_) = writer.turn().unwrap() {
                        // Nobody wakes them for the end of the test.
                        writer.sleep(Some(Duration::from_millis(10))).unwrap();
                    }
                }
                writer.close().unwrap();
            });
        }
        barrier.wait();
        for _ in 0..5 {
            let epoch = log.close_epoch().unwrap();
            log.wait_epoch(epoch).unwrap();
            assert_eq!(log.committed_epoch(), epoch);
        }
    });
    let committed = log.committed_epoch();
    assert_eq!(log.close().unwrap().closed.len(), 3);
    assert_eq!(recover(tiny(&dir).shards(3)).unwrap().1.committed_epoch, committed);
}

#[test]
fn waiting_for_an_epoch_that_cannot_come_names_the_shard() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut log = open(tiny(&dir).shards(2));
    let epoch = Epoch(1);
    let error = log.wait_epoch(epoch).unwrap_err();
    assert!(matches!(error, EpochError::Untaken { shard: ShardId(0) }), "{error}");
    let mut seats = log.take_seats();
    let mut first = seats.remove(0).sit().unwrap();
    let error = log.wait_epoch(epoch).unwrap_err();
    assert!(matches!(error, EpochError::Untaken { shard: ShardId(1) }), "{error}");
    let second = seats.remove(0).sit().unwrap();
    first.close_epoch().unwrap();
    first.sync().unwrap();
    first.close().unwrap();
    drop(second);
    match log.wait_epoch(epoch).unwrap_err() {
        EpochError::Failed(failure) => {
            assert_eq!(failure.shard, ShardId(1));
            assert!(matches!(failure.cause, FailureCause::Dropped));
        }
        error => panic!("{error}"),
    }
    let error = log.wait_epoch(Epoch(2)).unwrap_err();
    assert!(matches!(error, EpochError::Closed { shard: ShardId(0) }), "{error}");
    drop(log);
    let log = open(tiny(&dir).shards(2));
    let error = log.wait_epoch(epoch).unwrap_err();
    assert!(matches!(error, EpochError::Earlier { epoch: Epoch(1) }), "{error}");
}

#[test]
fn a_waiter_is_told_when_a_writer_goes() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut log = open(tiny(&dir));
    let seat = log.take_seats().remove(0);
    let writer = seat.sit().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.wait_epoch(Epoch(1)));
        drop(writer);
        assert!(matches!(waiting.join().unwrap(), Err(EpochError::Failed(_))));
    });
}

#[test]
fn epochs_run_ahead_up_to_the_bound() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2).pipeline_bound(3));
    let mut close = |writer: usize| writers[writer].close_epoch();
    for epoch in 1..=3 {
        assert_eq!(close(0).unwrap(), Epoch(epoch));
    }
    let error = close(0).unwrap_err();
    let behind = ShardId(1);
    assert!(matches!(error, AppendError::EpochsAhead { open: 3, slowest } if slowest == behind));
    assert_eq!(
        error.to_string(),
        "3 epochs are closed and not committed, and no more may be; shard 1 holds them back: let its writer take \
         turns, and wait for an epoch"
    );
    close(1).unwrap();
    writers.iter_mut().for_each(|writer| writer.sync().unwrap());
    assert_eq!(log.committed_epoch(), Epoch(1));
    assert_eq!(writers[0].close_epoch().unwrap(), Epoch(4));
    assert!(matches!(writers[0].close_epoch(), Err(AppendError::EpochsAhead { .. })));
    let error = log.close_epoch().unwrap_err();
    assert!(matches!(error, EpochError::Ahead { open: 3, slowest } if slowest == behind));
    // Its barriers count when they are durable: shard 0 has closed more, and made none of those durable.
    for epoch in 2..=6 {
        assert_eq!(writers[1].close_epoch().unwrap(), Epoch(epoch));
        writers[1].sync().unwrap();
    }
    let error = writers[1].close_epoch().unwrap_err();
    assert!(matches!(error, AppendError::EpochsAhead { open: 3, slowest: ShardId(0) }), "{error}");
}

#[derive(Archive, Serialize)]
struct Trade {
    symbol: String,
    price: u64,
    sizes: Vec<u32>,
}

impl Record for Trade {
    const KIND: Kind = Kind(0x8001);
}

#[derive(Archive, Serialize)]
struct Other {
    text: String,
    number: u128,
}

impl Record for Other {}

#[test]
fn typed_records_come_back_in_place_with_their_schema_checked() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let schema = corewal::SchemaId(7);
    let (log, mut writer) = open_one(tiny(&dir).schema(schema));
    let trade = |n: u32| Trade {
        symbol: format!("symbol {n}"),
        price: u64::from(n) * 10,
        sizes: (0..n % 90).collect(),
    };
    for n in 0..100 {
        persist(&log, &mut writer, |it| it.append(&trade(n))).unwrap();
    }
    let large = Trade { symbol: "x".repeat(5000), price: 0, sizes: Vec::new() };
    writer.sync().unwrap();
    let error = writer.append(&large).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { len: 5001.., max: 4096 }), "{error}");
    append(&log, &mut writer, "no archive");
    writer.close().unwrap();
    log.close().unwrap();
    let mut recovery = Log::recover(tiny(&dir)).unwrap();
    for n in 0..100 {
        let entry = recovery.next_entry().unwrap().unwrap();
        assert_eq!((entry.kind(), entry.schema()), (Trade::KIND, schema));
        assert_eq!(entry.bytes().as_ptr().align_offset(16), 0);
        let found = entry.archived::<Trade>(schema).unwrap();
        let expected = trade(n);
        assert_eq!(found.symbol.as_str(), expected.symbol);
        assert_eq!(found.price.to_native(), expected.price);
        assert!(found.sizes.iter().map(|it| it.to_native()).eq(expected.sizes));
        match entry.archived::<Trade>(corewal::SchemaId(8)).map(|_| ()) {
            Err(AccessError::Schema { found, expected }) => {
                assert_eq!((found, expected), (schema, corewal::SchemaId(8)));
            }
            other => panic!("{other:?}"),
        }
    }
    let entry = recovery.next_entry().unwrap().unwrap();
    let error = entry.archived::<Other>(schema).map(|_| ()).unwrap_err();
    assert!(matches!(error, AccessError::Invalid(_)), "{error}");
}

#[test]
fn a_close_reports_each_shard_and_records_its_end() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut log = open(tiny(&dir).shards(4));
    let mut seats = log.take_seats();
    let mut closed = seats.remove(0).sit().unwrap();
    commit(&log, &mut closed, "closed");
    assert_eq!(closed.close().unwrap(), Seq(1));
    let mut dropped = seats.remove(0).sit().unwrap();
    commit(&log, &mut dropped, "dropped");
    drop(dropped);
    let empty = seats.remove(0).sit().unwrap();
    assert_eq!(empty.close().unwrap(), Seq(0));
    let report = log.close().unwrap();
    assert_eq!(report.closed, [(ShardId(0), Seq(1)), (ShardId(2), Seq(0)), (ShardId(3), Seq(0))]);
    assert_eq!(report.left_open, [ShardId(1)]);
    drop(seats);
    // What the manifest says of shard 1 binds.
    assert_eq!(recovered(tiny(&dir).shards(4)), ["closed", "dropped"]);
    crate::support::edit(&segment_path(&dir, 1, 1), |bytes| bytes[1024 + 130] ^= 1);
    let damage = refused(tiny(&dir).shards(4));
    assert!(matches!(damage.witness.unwrap().source, corewal::Source::Manifest(_)));
}

#[test]
fn a_log_with_live_writers_cannot_be_closed() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    commit(&log, &mut writers[1], "one");
    writers.remove(0).close().unwrap();
    let error = log.close().unwrap_err();
    assert!(matches!(error, CloseError::Live { shard: ShardId(1), .. }), "{error}");
    // The writer is still a writer, and still holds the lock.
    let stamp = writers[0].append_bytes(Kind::PUT, b"two").unwrap();
    writers[0].wait(stamp).unwrap();
    drop(writers);
    // So does the log, which the error gives back.
    drop(error);
    assert_eq!(recovered(tiny(&dir).shards(2)), ["one", "two"]);
}

/// What is appended after the close would stand behind the recorded end, and be lost.
#[test]
fn nobody_sits_down_when_the_log_is_closed() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut log = open(tiny(&dir).shards(2));
    let mut seats = log.take_seats();
    seats.remove(0).sit().unwrap().close().unwrap();
    let late = seats.remove(0);
    log.close().unwrap();
    let error = late.sit().unwrap_err();
    assert_eq!(error.shard, ShardId(1));
    assert_eq!(error.to_string(), "shard 1 has no ring: its log was closed");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    commit(&log, &mut writers[1], "kept");
    drop((writers, log));
    assert_eq!(recovered(tiny(&dir).shards(2)), ["kept"]);
}

/// Defect 14.
#[test]
fn other_options_at_reopening_keep_the_old_entries() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let shapes: [fn(Options) -> Options; 8] = [
        |it| it.shards(3),
        |it| it.shards(1),
        |it| it.shards(4).segment_len(16384),
        |it| it.shards(2).first_segment_len(8192),
        |it| it.block_len(1024),
        |it| it.block_len(4096).write_len(4096).segment_len(65536).first_segment_len(16384),
        |it| it.max_record(100),
        |it| it.access(corewal::AccessWish::Buffered),
    ];
    let mut expected: Vec<String> = Vec::new();
    for (index, shape) in shapes.into_iter().enumerate() {
        let options = shape(tiny(&dir));
        let (log, mut writers) = open_all(options);
        assert_eq!(log.incarnation().0, index as u64 + 1);
        for (shard, writer) in writers.iter_mut().enumerate() {
            for n in 0..20 {
                append(&log, writer, &format!("{index} {shard} {n}"));
            }
            writer.sync().unwrap();
        }
        let shards = writers.len();
        if index % 2 == 0 {
            for writer in writers {
                writer.close().unwrap();
            }
            log.close().unwrap();
        } else {
            drop((writers, log));
        }
        expected.extend(
            (0..shards).flat_map(|shard| (0..20).map(move |n| format!("{index} {shard} {n}"))),
        );
        let (items, _) = recover(tiny(&dir)).unwrap();
        assert!(items.is_sorted_by(|a, b| a.stamp < b.stamp));
        let mut found = texts(&items);
        found.sort();
        let mut all = expected.clone();
        all.sort();
        assert_eq!(found, all);
    }
}

#[test]
fn a_stamp_that_was_not_given_out_is_not_waited_for() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let stamp = commit(&log, &mut writers[0], "one");
    let strangers = [
        Stamp { shard: ShardId(1), ..stamp },
        Stamp { seq: stamp.seq.next(), ..stamp },
        Stamp { epoch: stamp.epoch.next(), ..stamp },
        Stamp { epoch: Epoch(0), ..stamp },
    ];
    for stranger in strangers {
        match writers[0].wait(stranger) {
            Err(WaitError::NotGiven { stamp }) => assert_eq!(stamp, stranger),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(log.standing(stamp), Standing::Durable);
    drop((writers, log));
    let (log, mut writer) = open_one(tiny(&dir));
    assert_eq!(log.standing(stamp), Standing::Durable);
    assert!(matches!(writer.wait(stamp), Err(WaitError::NotGiven { .. })));
}

#[test]
fn options_that_cannot_be_are_refused_with_their_rule() {
    let base = || Options::new("/nonexistent/log");
    let cases: Vec<(Options, &str)> = vec![
        (base().shards(0), "option shards is 0: at least 1"),
        (base().block_len(0), "option block_len is 0: a power of two from 512 to 65536"),
        (base().block_len(3000), "option block_len is 3000: a power of two from 512 to 65536"),
        (base().block_len(1 << 17), "option block_len is 131072: a power of two from 512 to 65536"),
        (
            base().segment_len((64 << 20) + 1),
            "option segment_len is 67108865: a multiple of block_len from 12288 to 4294967296",
        ),
        (
            base().segment_len(8192),
            "option segment_len is 8192: a multiple of block_len from 12288 to 4294967296",
        ),
        (
            base().first_segment_len(128 << 20),
            "option first_segment_len is 134217728: a multiple of block_len from 12288 to segment_len",
        ),
        (base().write_len(100), "option write_len is 100: a multiple of block_len up to 1 GiB"),
        (base().write_len(0), "option write_len is 0: a multiple of block_len up to 1 GiB"),
        (base().depth(0), "option depth is 0: from 1 to 1024"),
        (base().depth(1025), "option depth is 1025: from 1 to 1024"),
        (
            base().max_batch(1000),
            "option max_batch is 1000: from write_len to what a segment holds (67100672 bytes), and at \
             most 1 GiB",
        ),
        (
            base().max_batch(64 << 20),
            "option max_batch is 67108864: from write_len to what a segment holds (67100672 bytes), and \
             at most 1 GiB",
        ),
        (
            base().max_record(32 << 20),
            "option max_record is 33554432: at least 1, and with its headers at most max_batch",
        ),
        (
            base().max_record(usize::MAX),
            "option max_record is 18446744073709551615: at least 1, and with its headers at most \
             max_batch",
        ),
        (
            base().max_record(0),
            "option max_record is 0: at least 1, and with its headers at most max_batch",
        ),
        (base().prepared_ahead(0), "option prepared_ahead is 0: from 1 to 64"),
        (
            base().pipeline_bound(0),
            "option pipeline_bound is 0: from 1 to 1024, and with a block for each of these epochs and one \
             more at most what a segment holds (67100672 bytes)",
        ),
    ];
    for (options, text) in cases {
        assert_eq!(options.validate().unwrap_err().to_string(), text);
        let error = Log::recover(options).map(drop).unwrap_err();
        assert_eq!(error.to_string(), text, "and nothing was touched");
    }
    base().validate().unwrap();
    base().max_record((32 << 20) - 128).validate().unwrap();
}

/// Whoever prepares, and however many at once: each number is one file.
#[test]
fn segments_that_are_prepared_by_several_threads_are_one_file_each() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut kept = Vec::new();
    for incarnation in 0..4 {
        let options = tiny(&dir).prepared_ahead(8).preparing(corewal::Preparing::Thread);
        let (log, mut writer) = open_one(options);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = AtTheEnd(&is_done);
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_done.load(Ordering::SeqCst) {
                        log.prepare();
                    }
                });
            }
            for n in 0..60 {
                let text = format!("{incarnation} {n} {}", "x".repeat(800));
                commit(&log, &mut writer, &text);
                kept.push(text);
            }
        });
        drop((writer, log));
        assert!(recovered(tiny(&dir)) == kept, "incarnation {incarnation}");
    }
}

/// The room at the end of a segment is too short for it, so it is encoded anew, into a block for the next one.
#[test]
fn a_serializer_that_panics_costs_no_block() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir).depth(1));
    log.prepare();
    writer.turn().unwrap();
    for n in 0..5 {
        commit(&log, &mut writer, &format!("{n}"));
    }
    let attempt = || writer.append_with(Kind::PUT, 600, |_| panic!("a bug of the program"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).unwrap_err();
    assert_eq!(writer.stats().rotations, 1);
    let blocks = (0..10).take_while(|_| writer.seal_promises()).count();
    assert_eq!(blocks, 3, "one in flight, one that waits, one that is filled");
    settle(&mut writer);
    commit(&log, &mut writer, "5");
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["0", "1", "2", "3", "4", "5"]);
}

/// No duration of the options is too long to be added to the clock.
#[test]
fn a_duration_without_end_is_one() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    tap.state().now = Duration::from_secs(1);
    let options = tiny(&dir).vouch_after(Duration::MAX).lock_patience(Duration::MAX);
    let (log, mut writer) =
        open_one(options.policy(Policy::Interval(Duration::MAX)).disk(tap.clone()));
    commit(&log, &mut writer, "one");
    assert!(matches!(settle(&mut writer), Turn::Idle(Some(long)) if long > Duration::MAX / 2));
    append(&log, &mut writer, "two");
    assert!(matches!(settle(&mut writer), Turn::Idle(Some(long)) if long > Duration::MAX / 2));
    writer.sleep(Some(Duration::ZERO)).unwrap();
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(tiny(&dir)), ["one", "two"]);
}

/// However soon it is due: what has no room is not tried again at once.
#[test]
fn a_vouch_without_room_lets_the_writer_sleep() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir).vouch_after(Duration::ZERO));
    // Six blocks, of which a barrier each for two epochs, and a vouch, are kept free: two entries, and the vouches
    // for them.
    for text in ["one", "two"] {
        commit(&log, &mut writer, text);
        settle(&mut writer);
        writer.turn().unwrap();
    }
    assert_eq!(writer.stats().vouches, 2);
    writer.close_epoch().unwrap();
    writer.sync().unwrap();
    let turn = settle(&mut writer);
    assert!(matches!(turn, Turn::Idle(Some(rest)) if rest >= Duration::from_millis(1)), "{turn:?}");
    log.prepare();
    settle(&mut writer);
    assert_eq!(writer.stats().vouches, 3, "now there is room");
}

/// Who waits for an epoch makes its barrier durable, and asks for nothing else.
#[test]
fn on_demand_a_wait_for_an_epoch_asks_for_a_sync() {
    for policy in [Policy::OnDemand, Policy::Interval(Duration::from_secs(3600))] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let tap = Tap::new(&dir);
        let (log, mut writer) = open_one(tiny(&dir).policy(policy).disk(tap.clone()));
        append(&log, &mut writer, "one");
        let closed = persist(&log, &mut writer, ShardWriter::close_epoch).unwrap();
        settle(&mut writer);
        assert_eq!((log.committed_epoch(), writer.stats().syncs), (Epoch(0), 0), "nobody waits");
        let mut committed = pin!(log.committed(closed));
        let mut task = Context::from_waker(Waker::noop());
        assert!(committed.as_mut().poll(&mut task).is_pending());
        settle(&mut writer);
        assert_eq!((log.committed_epoch(), writer.stats().syncs), (closed, 1));
        assert!(committed.as_mut().poll(&mut task).is_ready());
        log.wait_epoch(closed).unwrap();

        // The next one is asked for before it is closed. What is no barrier waits.
        assert!(pin!(log.committed(closed.next())).poll(&mut task).is_pending());
        append(&log, &mut writer, "two");
        settle(&mut writer);
        assert_eq!(writer.stats().syncs, 1);
        let closed = persist(&log, &mut writer, ShardWriter::close_epoch).unwrap();
        writer.wait_epoch(closed).unwrap();
        assert_eq!((log.committed_epoch(), writer.stats().syncs), (closed, 2));
        writer.close().unwrap();
    }
}

/// A promise that is only written may vanish.
#[test]
fn on_demand_a_vouch_is_made_durable() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let after = Duration::from_millis(10);
    let options = tiny(&dir).policy(Policy::OnDemand).vouch_after(after).disk(tap.clone());
    let (log, mut writer) = open_one(options);
    let stamp = append(&log, &mut writer, "one");
    let mut task = Context::from_waker(Waker::noop());
    assert!(pin!(log.durable(stamp)).poll(&mut task).is_pending());
    settle(&mut writer);
    assert_eq!((writer.stats().unvouched, writer.stats().syncs), (1, 1));
    tap.state().now += after;
    settle(&mut writer);
    let stats = writer.stats();
    assert_eq!((stats.vouches, stats.unvouched, stats.syncs), (1, 0, 2));
    assert_eq!(writer.in_flight(), 0, "nothing is left that a power cut could take");

    // A batch that is only written vouches for nothing, until its promises are sealed in one that is durable.
    let stamp = append(&log, &mut writer, "two");
    assert!(pin!(log.durable(stamp)).poll(&mut task).is_pending());
    settle(&mut writer);
    append(&log, &mut writer, "three");
    settle(&mut writer);
    assert_eq!((writer.frontier(), writer.stats().unvouched), (stamp.seq, 1));
    writer.seal_promises();
    settle(&mut writer);
    assert_eq!((writer.stats().vouches, writer.in_flight()), (2, 0));
}
