//! Atomic groups and causes, from producers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use corewal::{
    AppendError, Commit, EncodeError, Kind, Log, ObserveError, Options, Pinning, Producer, Record,
    Stamp,
};

use super::{engines, in_bounded_time, open, recovered, temp_dir};

const PRODUCERS: usize = 8;
const GROUPS: usize = 60;

/// Small blocks, so that groups outgrow them, and producers meet their limit.
fn tight(dir: &std::path::Path) -> Options {
    Options::new(dir.join("log")).write_len(16 << 10).max_batch(64 << 10).max_record(32 << 10)
}

/// Groups of a few bytes up to a whole batch, and single entries between them.
fn append(producer: &Producer, index: usize) -> BTreeMap<(usize, usize), usize> {
    let mut durable = BTreeMap::new();
    for number in 0..GROUPS {
        let count = [1, 2, 7, 30][(index + number) % 4];
        let len = [0, 10, 300, 1500][number % 4] + 32;
        let items: Vec<Vec<u8>> = (0..count)
            .map(|at| format!("{index} {number} {at} {count}").into_bytes())
            .map(|mut bytes| {
                bytes.resize(len, b' ');
                bytes
            })
            .collect();
        let group =
            producer.append_batch_bytes(items.iter().map(|it| (Kind::PUT, &it[..]))).unwrap();
        assert_eq!(group.stamps().count(), count);
        producer.append_bytes(Kind::DELETE, b"between").unwrap();
        if number % 5 == index % 5 {
            producer.wait(group.last()).unwrap();
            durable.insert((index, number), count);
        }
    }
    durable
}

/// Whole groups by producer and number, each together and in order.
fn groups(options: Options) -> BTreeMap<(usize, usize), usize> {
    let mut recovery = Log::recover(options).unwrap();
    let mut found = BTreeMap::new();
    let mut last = [0; PRODUCERS];
    let mut expected = None;
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() != Kind::PUT {
            assert!(expected.is_none(), "{:?} in a group", entry.kind());
            continue;
        }
        let text = std::str::from_utf8(entry.bytes()).unwrap();
        let parts: Vec<usize> = text.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let [index, number, at, count] = parts[..] else { panic!("{text}") };
        assert_eq!(*expected.get_or_insert((index, number, 0, count)), (index, number, at, count));
        assert_eq!(entry.group_continues(), at + 1 < count);
        expected = (at + 1 < count).then_some((index, number, at + 1, count));
        if at == 0 {
            assert!(number >= last[index], "the order of producer {index}");
            last[index] = number;
        }
        found.insert((index, number), count);
    }
    assert!(expected.is_none(), "a group without its end");
    found
}

#[test]
fn groups_of_many_producers_are_recovered_whole_and_in_their_order() {
    for engine in engines() {
        in_bounded_time(move || {
            let temp = temp_dir();
            let options = tight(temp.path()).engine(engine).depth(2);
            let mut log = open(options.clone());
            let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
            let threads: Vec<_> = (0..PRODUCERS)
                .map(|index| (producer.clone(), index))
                .map(|(producer, index)| std::thread::spawn(move || append(&producer, index)))
                .collect();
            let mut durable = BTreeMap::new();
            for thread in threads {
                durable.extend(thread.join().unwrap());
            }
            // Without a close: as after a crash.
            drop((producer, log));
            let found = groups(options);
            assert!(found.len() > PRODUCERS * GROUPS / 2);
            assert!(durable.iter().all(|(id, count)| found.get(id) == Some(count)));
        });
    }
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Step(u64);

impl Record for Step {}

#[test]
fn groups_that_cannot_be_leave_no_trace() {
    in_bounded_time(|| {
        let temp = temp_dir();
        let options = tight(temp.path());
        let mut log = open(options.clone());
        let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
        let large = vec![7; 32 << 10];
        let too_large = producer.append_batch_bytes([(Kind::PUT, &large[..]); 2]).unwrap_err();
        assert!(matches!(too_large, AppendError::GroupTooLarge { .. }), "{too_large}");
        let empty = producer.append_batch_bytes([]).unwrap_err();
        assert!(matches!(empty, AppendError::EmptyGroup), "{empty}");
        let items = [(Kind::PUT, &b"a"[..]), (Kind::BARRIER, &b"b"[..])];
        let kind = producer.try_append_batch_bytes(items).unwrap_err();
        assert!(matches!(kind, AppendError::Kind(Kind::BARRIER)), "{kind}");
        let panics = |index: u64| {
            assert!(index < 2, "on purpose");
            (Kind::PUT, &b"never appended"[..])
        };
        let act = || producer.append_batch_bytes((0..3).map(panics));
        catch_unwind(AssertUnwindSafe(act)).unwrap_err();
        let group = producer.append_batch(&[Step(1), Step(2)]).unwrap();
        producer.wait(group.last()).unwrap();
        log.close().unwrap();
        let steps = recovered(options);
        assert_eq!(steps, [1_u64.to_le_bytes(), 2_u64.to_le_bytes()]);
    });
}

#[test]
fn tasks_append_what_they_encode_themselves() {
    let temp = temp_dir();
    let options = tight(temp.path());
    let mut log = open(options.clone());
    let producer = log.start_writers(Pinning::AllowedCpus).unwrap().remove(0);
    let encode = |bytes: &mut [u8]| {
        bytes[..4].copy_from_slice(b"text");
        Ok(4)
    };
    producer.try_append_with(Kind::PUT, 100, encode).unwrap();
    let too_large = producer.try_append_with(Kind::PUT, (32 << 10) + 1, encode).unwrap_err();
    assert!(matches!(too_large, AppendError::TooLarge { .. }), "{too_large}");
    let fails = |_: &mut [u8]| Err(EncodeError::custom("it cannot be"));
    let failed = producer.try_append_with(Kind::PUT, 1, fails).unwrap_err();
    assert!(matches!(failed, AppendError::Encode(_)), "{failed}");
    let commit = Commit { watermark: 7, offsets: Vec::new() };
    producer.try_append_commit(&commit).unwrap();
    producer.try_append_bytes_at(Kind::PUT, -5, b"timed").unwrap();
    log.close().unwrap();
    let mut recovery = Log::recover(options).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        found.push((entry.kind(), entry.timestamp(), entry.bytes().to_vec()));
    }
    let expected = [
        (Kind::PUT, None, b"text".to_vec()),
        (Kind::COMMIT, None, commit.encode()),
        (Kind::PUT, Some(-5), b"timed".to_vec()),
    ];
    assert_eq!(found, expected);
}

/// A seq that was left out is given to no entry, and nobody waits for it.
#[test]
fn an_effect_of_a_producer_comes_after_its_cause() {
    in_bounded_time(|| {
        let temp = temp_dir();
        // An empty batch of a vouch would reach the seq that was left out.
        let options = tight(temp.path()).shards(2).vouch_after(Duration::from_secs(3600));
        let mut log = open(options);
        let producers = log.start_writers(Pinning::AllowedCpus).unwrap();
        let causes: Vec<Stamp> =
            (0..50).map(|_| producers[1].append_bytes(Kind::PUT, b"cause").unwrap()).collect();
        let cause = *causes.last().unwrap();
        producers[0].append_bytes(Kind::PUT, b"before").unwrap();
        producers[0].observe(cause).unwrap();
        producers[0].drained().unwrap();
        let effect = producers[0].append_bytes(Kind::PUT, b"effect").unwrap();
        assert!(cause < effect);
        let later = Stamp { epoch: cause.epoch.next(), ..cause };
        let behind = producers[0].observe(later).unwrap_err();
        assert!(matches!(behind, ObserveError::EpochBehind { .. }), "{behind}");
        log.close().unwrap();
        let closed = producers[0].observe(cause).unwrap_err();
        assert!(matches!(closed, ObserveError::Closed { .. }), "{closed}");
    });
}
