//! Timestamps of the user's: kept beside the payload, in no order.

use corewal::{
    AppendError, Kind, Log, Pinning, Preparing, Record, SchemaId, Seq, ShardId, ShardWriter, Stamp,
};

use crate::support::{open_one, persist, temp_dir, tiny};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Reading {
    sensor: String,
    value: u64,
}

impl Record for Reading {}

const TIMES: [i64; 6] = [0, 1, -1, 1_700_000_000_000_000_000, i64::MIN, i64::MAX];

fn payload(len: usize) -> Vec<u8> {
    (0..=255).cycle().skip(len % 256).take(len).collect()
}

/// Alone, in groups, around blocks and the write size, among entries without one.
#[test]
fn timestamps_come_back_with_their_entries() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut expected: Vec<(Stamp, Option<i64>, Vec<u8>)> = Vec::new();
    let sizes = [0, 1, 15, 16, 17, 351, 352, 353, 367, 368, 880, 1000, 2000, 4079, 4080];
    for (index, len) in sizes.into_iter().enumerate() {
        let bytes = payload(len);
        let time = TIMES[index % TIMES.len()];
        let timed = |it: &mut ShardWriter| it.append_bytes_at(Kind::PUT, time, &bytes);
        let stamp = persist(&log, &mut writer, timed).unwrap();
        expected.push((stamp, Some(time), bytes.clone()));
        let plain = |it: &mut ShardWriter| it.append_bytes(Kind::FIRST_USER, &bytes);
        let stamp = persist(&log, &mut writer, plain).unwrap();
        expected.push((stamp, None, bytes.clone()));
        // With one, without, with one; of every size up to a whole batch.
        let mut transaction = writer.begin();
        let part = &bytes[..len / 3];
        transaction.append_bytes_at(Kind::PUT, time, part).unwrap();
        transaction.append_bytes(Kind::DELETE, part).unwrap();
        transaction.append_bytes_at(Kind::COMMIT, !time, part).unwrap();
        let group = persist(&log, &mut writer, |it| it.commit(&mut transaction)).unwrap();
        let times = [Some(time), None, Some(!time)];
        expected
            .extend(group.stamps().zip(times).map(|(stamp, time)| (stamp, time, part.to_vec())));
        writer.sync().unwrap();
    }
    let mut reader = log.reader(ShardId(0)).unwrap();
    for (stamp, time, bytes) in expected.iter().rev() {
        let entry = reader.read(stamp.seq).unwrap().unwrap();
        assert_eq!((entry.timestamp(), entry.bytes()), (*time, &bytes[..]), "{stamp}");
    }
    drop((writer, log));
    let mut recovery = Log::recover(tiny(dir.path())).unwrap();
    for (stamp, time, bytes) in &expected {
        let entry = recovery.next_entry().unwrap().unwrap();
        assert_eq!((entry.stamp(), entry.timestamp(), entry.bytes()), (*stamp, *time, &bytes[..]));
    }
    assert!(recovery.next_entry().unwrap().is_none());
}

#[test]
fn a_timestamp_counts_as_part_of_its_record() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let bytes = payload(4081);
    let timed = |it: &mut ShardWriter| it.append_bytes_at(Kind::PUT, 1, &bytes);
    let error = persist(&log, &mut writer, timed).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { len: 4097, max: 4096 }), "{error}");
    let barrier = writer.append_bytes_at(Kind::BARRIER, 1, b"").unwrap_err();
    assert!(matches!(barrier, AppendError::Kind(Kind::BARRIER)), "{barrier}");
    assert_eq!(writer.append_bytes(Kind::PUT, b"").unwrap().seq, Seq(1), "they left no trace");
}

#[test]
fn a_record_behind_a_timestamp_is_read_in_place() {
    let dir = temp_dir();
    let options = tiny(dir.path()).preparing(Preparing::Thread);
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let producer = log.start_writers(Pinning::Unpinned).unwrap().remove(0);
    for (value, time) in (0..).zip(TIMES) {
        let reading = Reading { sensor: "s".repeat(value * 9), value: value as u64 };
        let stamp = producer.append_at(time, &reading).unwrap();
        producer.wait(stamp).unwrap();
        let stamp = producer.append_bytes_at(Kind::FIRST_USER, time, b"bytes").unwrap();
        producer.wait(stamp).unwrap();
    }
    log.close().unwrap();
    let mut recovery = Log::recover(tiny(dir.path())).unwrap();
    for (value, time) in (0..).zip(TIMES) {
        let entry = recovery.next_entry().unwrap().unwrap();
        let reading = entry.archived::<Reading>(SchemaId(0)).unwrap();
        assert_eq!((reading.value.to_native(), entry.timestamp()), (value as u64, Some(time)));
        assert_eq!(reading.sensor.len(), value * 9);
        let entry = recovery.next_entry().unwrap().unwrap();
        assert_eq!((entry.bytes(), entry.timestamp()), (&b"bytes"[..], Some(time)));
    }
}
