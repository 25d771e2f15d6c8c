//! Reading one shard: by seq, from a seq on, and as it becomes durable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal::{
    AccessError, Engine, Kind, Log, Options, Record, SchemaId, Seq, ShardId, Stamp, Tail, TailError,
};
use corewal_disk::sim::{Cut, DirectIo, SimDisk, SimOptions};

use crate::support::{append, commit, edit, open_one, persist, segment_path, temp_dir, tiny};

const SHARD: ShardId = ShardId(0);

/// A log of three incarnations with gaps of nothing between, many segments, and groups; all of it durable.
fn long_log(options: impl Fn() -> Options) -> Vec<(Stamp, Vec<u8>)> {
    let mut expected = Vec::new();
    for life in 0..3 {
        let (log, mut writer) = open_one(options());
        for index in 0..40_usize {
            let bytes = vec![u8::try_from(index).unwrap(); (index * 131) % 1900];
            let stamp = persist(&log, &mut writer, |it| it.append_bytes(Kind::PUT, &bytes));
            expected.push((stamp.unwrap(), bytes));
            if index % 3 == 0 {
                writer.turn().unwrap();
            }
            if index % 11 == 0 {
                let seq = expected.last().unwrap().0.seq.next();
                let epoch = persist(&log, &mut writer, corewal::ShardWriter::close_epoch).unwrap();
                expected.push((Stamp { epoch, seq, shard: SHARD }, Vec::new()));
            }
        }
        writer.sync().unwrap();
        if life == 1 {
            writer.close().unwrap();
            log.close().unwrap();
        }
    }
    expected
}

#[test]
fn every_entry_is_found_by_its_seq_in_any_order() {
    let dir = temp_dir();
    let expected = long_log(|| tiny(dir.path()));
    let reader = Log::read(tiny(dir.path())).unwrap();
    let mut shard = reader.shard(SHARD).unwrap();
    for step in [1, 7, expected.len() - 3] {
        for index in 0..expected.len() {
            let (stamp, bytes) = &expected[index * step % expected.len()];
            let entry = shard.read(stamp.seq).unwrap().unwrap();
            assert_eq!((entry.stamp(), entry.bytes()), (*stamp, &bytes[..]));
        }
    }
    let last = expected.last().unwrap().0.seq;
    assert!(shard.read(Seq(0)).unwrap().is_none());
    assert!(shard.read(last.next()).unwrap().is_none());
    assert!(reader.shard(ShardId(1)).is_none());
}

#[test]
fn a_seek_goes_on_with_everything_from_there() {
    let dir = temp_dir();
    let expected = long_log(|| tiny(dir.path()));
    let reader = Log::read(tiny(dir.path())).unwrap();
    for (index, (from, _)) in expected.iter().enumerate() {
        let mut shard = reader.shard(SHARD).unwrap();
        shard.seek(from.seq).unwrap();
        for (stamp, bytes) in &expected[index..] {
            let entry = shard.next_entry().unwrap().unwrap();
            assert_eq!((entry.stamp(), entry.bytes()), (*stamp, &bytes[..]));
        }
        assert!(shard.next_entry().unwrap().is_none());
    }
}

/// Where blocks are smaller than direct I/O is aligned to, segments are written through the cache and read past
/// it.
#[test]
fn blocks_below_the_alignment_of_direct_io_are_found_by_seq() {
    for block_len in [512, 1024] {
        let sim = SimOptions::new(1).direct(DirectIo::Supported { align: 4096 });
        let disk = Arc::new(SimDisk::with(sim));
        let options =
            || tiny(Path::new("/log")).segment_len(16384).block_len(block_len).disk(disk.clone());
        let expected = long_log(options);
        let (log, mut writer) = open_one(options());
        let added = commit(&log, &mut writer, "of this incarnation");
        let mut shard = log.reader(SHARD).unwrap();
        for (stamp, bytes) in &expected {
            let entry = shard.read(stamp.seq).unwrap().unwrap();
            assert_eq!((entry.stamp(), entry.bytes()), (*stamp, &bytes[..]));
        }
        for (from, _) in &expected {
            let mut tail = log.tail(SHARD, from.seq).unwrap().unwrap();
            assert_eq!(tail.try_next().unwrap().unwrap().stamp(), *from);
        }
        let mut tail = log.tail(SHARD, added.seq).unwrap().unwrap();
        assert_eq!(tail.try_next().unwrap().unwrap().stamp(), added);
    }
}

/// Only a few blocks of a log are read to find one entry: what is broken elsewhere does not matter.
#[test]
fn a_random_read_does_not_read_everything() {
    let dir = temp_dir();
    let expected = long_log(|| tiny(dir.path()));
    let reader = Log::read(tiny(dir.path())).unwrap();
    let (stamp, bytes) = &expected[expected.len() / 2];
    let mut shard = reader.shard(SHARD).unwrap();
    assert!(shard.read(stamp.seq).unwrap().is_some());
    // The first segment is broken behind its header.
    edit(&segment_path(dir.path(), 0, 1), |file| file[1024..].fill(7));
    let mut shard = reader.shard(SHARD).unwrap();
    let entry = shard.read(stamp.seq).unwrap().unwrap();
    assert_eq!(entry.bytes(), bytes);
    assert!(shard.read(Seq(2)).is_err(), "what is asked for must verify");
}

#[test]
fn a_live_log_is_read_up_to_its_frontier() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let first = commit(&log, &mut writer, "first");
    let second = append(&log, &mut writer, "second");
    let mut reader = log.reader(SHARD).unwrap();
    assert_eq!(reader.read(first.seq).unwrap().unwrap().bytes(), b"first");
    assert!(reader.read(second.seq).unwrap().is_none(), "it is not durable");
    writer.wait(second).unwrap();
    assert!(reader.read(second.seq).unwrap().is_none(), "as of when it was made");
    let mut reader = log.reader(SHARD).unwrap();
    assert_eq!(reader.read(second.seq).unwrap().unwrap().bytes(), b"second");
}

fn drain(tail: &mut Tail) -> Vec<(Stamp, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(entry) = tail.try_next().unwrap() {
        found.push((entry.stamp(), entry.bytes().to_vec()));
    }
    found
}

#[test]
fn a_tail_delivers_each_entry_once_when_it_is_durable_over_rotations() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut tail = log.tail(SHARD, Seq(1)).unwrap().unwrap();
    let mut found = Vec::new();
    let mut expected = Vec::new();
    for index in 0..60_usize {
        let bytes = vec![7; (index * 131) % 1900];
        let stamp = persist(&log, &mut writer, |it| it.append_bytes(Kind::PUT, &bytes)).unwrap();
        expected.push((stamp, bytes));
        found.extend(drain(&mut tail));
        let frontier = writer.frontier();
        assert_eq!(found.len() as u64, frontier.0, "all up to the frontier, and nothing above");
    }
    writer.sync().unwrap();
    found.extend(drain(&mut tail));
    assert!(writer.stats().rotations > 3);
    assert_eq!(found, expected);
    assert_eq!(tail.position(), expected.last().unwrap().0.seq.next());
    writer.close().unwrap();
    log.close().unwrap();
    assert!(matches!(tail.try_next(), Err(TailError::Closed)));
}

/// What is in flight is on the disk already, and not durable: no tail shows it.
#[test]
fn a_tail_shows_nothing_that_a_power_cut_could_take_back() {
    let disk = Arc::new(SimDisk::new(5));
    let options =
        |disk: &Arc<SimDisk>| tiny("/log".as_ref()).disk(disk.clone()).engine(Engine::Auto);
    let (log, mut writer) = open_one(options(&disk));
    let mut inside = log.tail(SHARD, Seq(1)).unwrap().unwrap();
    let mut outside = Log::follow(options(&disk), SHARD, Seq(1)).unwrap().unwrap();
    let (mut seen_inside, mut seen_outside) = (0, 0);
    for index in 0..40 {
        append(&log, &mut writer, &format!("entry {index}"));
        log.prepare();
        writer.turn().unwrap();
        seen_inside += drain(&mut inside).len();
        seen_outside += drain(&mut outside).len();
        let after = Arc::new(disk.fork().power_cut(&Cut::lose_all()));
        let (kept, _) = crate::support::recover(options(&after)).unwrap();
        assert!(seen_inside <= kept.len(), "{seen_inside} of {}", kept.len());
        assert!(seen_outside <= seen_inside, "promises are behind the frontier");
        if index % 3 == 0 {
            writer.sleep(None).unwrap();
        }
    }
    assert!(seen_outside > 5 && seen_inside > seen_outside, "{seen_inside} {seen_outside}");
}

/// Another process sees what the promises cover; the vouch covers the rest; closes and reopenings go by.
#[test]
fn a_tail_from_outside_follows_promises_vouches_and_reopenings() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let first = commit(&log, &mut writer, "first");
    let mut tail = Log::follow(tiny(dir.path()), SHARD, Seq(1)).unwrap().unwrap();
    assert_eq!(drain(&mut tail), [], "nothing on the disk says that it was durable");
    let second = commit(&log, &mut writer, "second");
    assert_eq!(drain(&mut tail), [(first, b"first".to_vec())]);
    writer.seal_promises();
    writer.turn().unwrap();
    writer.sync().unwrap();
    assert_eq!(drain(&mut tail), [(second, b"second".to_vec())], "the vouch covers it");
    let third = commit(&log, &mut writer, "third");
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(drain(&mut tail), [(third, b"third".to_vec())], "the manifest covers it");

    let (log, mut writer) = open_one(tiny(dir.path()));
    let fourth = commit(&log, &mut writer, "fourth");
    let lost = append(&log, &mut writer, "lost");
    assert_eq!(drain(&mut tail), []);
    drop((writer, log));
    let (log, mut writer) = open_one(tiny(dir.path()));
    assert_eq!(drain(&mut tail), [(fourth, b"fourth".to_vec())], "its run was ended");
    let fifth = commit(&log, &mut writer, "fifth");
    assert!(fifth > lost);
    writer.close().unwrap();
    log.close().unwrap();
    let mut late = Log::follow(tiny(dir.path()), SHARD, fourth.seq).unwrap().unwrap();
    let rest = [(fourth, b"fourth".to_vec()), (fifth, b"fifth".to_vec())];
    assert_eq!(drain(&mut tail), rest[1..]);
    assert_eq!(drain(&mut late), rest);
}

#[test]
fn a_tail_that_waits_is_given_what_comes() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut tail = log.tail(SHARD, Seq(1)).unwrap().unwrap();
    assert!(tail.next_entry(Duration::ZERO).unwrap().is_none());
    let waiter = std::thread::spawn(move || {
        let entry = tail.next_entry(Duration::from_secs(60)).unwrap().unwrap();
        entry.bytes().to_vec()
    });
    commit(&log, &mut writer, "at last");
    assert_eq!(waiter.join().unwrap(), b"at last");
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Trade {
    price: u64,
}

impl Record for Trade {}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Named {
    name: String,
}

impl Record for Named {}

/// Each incarnation names its schema; one log holds several, and none is taken for another.
#[test]
fn several_schemas_live_in_one_log_and_typed_reads_tell_them_apart() {
    let dir = temp_dir();
    let (trades, names) = (SchemaId(1), SchemaId(2));
    let (log, mut writer) = open_one(tiny(dir.path()).schema(trades));
    let stamp = writer.append(&Trade { price: 7 }).unwrap();
    writer.wait(stamp).unwrap();
    drop((writer, log));
    let (log, mut writer) = open_one(tiny(dir.path()).schema(names));
    let stamp = writer.append(&Named { name: "x".repeat(30) }).unwrap();
    writer.wait(stamp).unwrap();
    drop((writer, log));
    let mut reader = Log::read(tiny(dir.path())).unwrap();
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.schema(), trades);
    assert_eq!(entry.archived::<Trade>(trades).unwrap().price, 7);
    let error = entry.archived::<Named>(names).err().unwrap();
    assert_eq!(error, AccessError::Schema { found: trades, expected: names });
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.archived::<Named>(names).unwrap().name.len(), 30);
    assert!(entry.archived::<Trade>(trades).is_err());
}
