//! Segments that end before they are full: on demand, by a count of entries, by age.

use std::path::Path;
use std::time::Duration;

use corewal::{AppendError, Kind, Log, Policy, ShardWriter};

use crate::support::tap::Tap;
use crate::support::{append, commit, open_one, persist, recovered, segment_path, temp_dir, tiny};

/// How many batches each segment's file has.
fn batches(dir: &Path) -> Vec<usize> {
    let bytes = (1..).map_while(|number| std::fs::read(segment_path(dir, 0, number)).ok());
    let count =
        |bytes: Vec<u8>| bytes.chunks(512).filter(|block| block.starts_with(b"CWBT")).count();
    bytes.map(count).collect()
}

fn rotate(log: &Log, writer: &mut ShardWriter) {
    while !writer.rotate() {
        log.prepare();
        writer.turn().unwrap();
    }
}

#[test]
fn a_rotation_begins_a_segment_with_the_next_entry() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    assert!(writer.rotate(), "nothing stands in the first one");
    commit(&log, &mut writer, "a");
    // Sealed by the rotation, not by a turn.
    append(&log, &mut writer, "b");
    rotate(&log, &mut writer);
    assert!(writer.rotate() && writer.rotate(), "once is enough");
    assert_eq!(writer.stats().rotations, 1);
    commit(&log, &mut writer, "c");
    rotate(&log, &mut writer);
    commit(&log, &mut writer, &"d".repeat(4000));
    assert_eq!(writer.stats().rotations, 2);
    assert_eq!(batches(dir.path())[..3], [2, 1, 1]);
    let everything = ["a".to_owned(), "b".to_owned(), "c".to_owned(), "d".repeat(4000)];
    drop((writer, log));
    assert_eq!(recovered(tiny(dir.path())), everything, "as after a crash");
    let (log, mut writer) = open_one(tiny(dir.path()));
    commit(&log, &mut writer, "e");
    rotate(&log, &mut writer);
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(tiny(dir.path()))[..4], everything);
}

#[test]
fn without_another_segment_nothing_is_rotated() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    append(&log, &mut writer, "a");
    assert!(!writer.rotate());
    append(&log, &mut writer, "b");
    writer.sync().unwrap();
    assert_eq!((writer.stats().batches, writer.stats().rotations), (1, 0), "the batch went on");
    rotate(&log, &mut writer);
    assert_eq!(writer.stats().rotations, 1);
}

/// On a full disk the rest of the current segment is not given up, and what the barriers need stays.
#[test]
fn a_full_disk_is_not_made_fuller() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = || tiny(&dir).disk(tap.clone()).rotate_after_entries(2);
    let (log, mut writer) = open_one(options());
    while log.prepare() {}
    tap.state().full = true;
    let mut count = 0;
    loop {
        match writer.append_bytes(Kind::PUT, b"an event") {
            Ok(stamp) => {
                writer.wait(stamp).unwrap();
                count += 1;
            }
            Err(AppendError::NoSpace(_)) => break,
            Err(AppendError::Full) => {
                log.prepare();
                writer.turn().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        log.prepare();
    }
    // With two entries in each segment but the last, half of the room would have been lost.
    assert!(count >= 25, "{count}");
    assert!(!writer.rotate());
    for _ in 0..2 {
        writer.close_epoch().unwrap();
    }
    writer.sync().unwrap();
    writer.close().unwrap();
    log.close().unwrap();
    tap.state().full = false;
    assert_eq!(recovered(options()).len(), count + 2);
}

#[test]
fn segments_end_by_a_count_of_entries() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()).rotate_after_entries(3));
    let mut expected = Vec::new();
    for index in 0..8 {
        while log.prepare() {}
        expected.push(format!("{index}"));
        commit(&log, &mut writer, &expected[index]);
    }
    assert_eq!(batches(dir.path())[..3], [3, 3, 2]);
    // A batch is not parted, nor is a group.
    while log.prepare() {}
    let group = (0..5).map(|_| (Kind::PUT, &b"g"[..]));
    persist(&log, &mut writer, |it| it.append_batch_bytes(group.clone())).unwrap();
    expected.extend((0..5).map(|_| "g".to_owned()));
    writer.sync().unwrap();
    commit(&log, &mut writer, "last");
    expected.push("last".to_owned());
    assert_eq!(batches(dir.path())[..4], [3, 3, 3, 1]);
    drop((writer, log));
    assert_eq!(recovered(tiny(dir.path())), expected);
}

#[test]
fn segments_end_by_the_age_of_their_first_entry() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let hour = Duration::from_secs(3600);
    let options = || tiny(&dir).disk(tap.clone()).policy(Policy::OnDemand);
    let (log, mut writer) = open_one(options().rotate_after(hour));
    for (minutes, rotations) in [(50, 0), (59, 0), (1, 1), (59, 1), (0, 1), (1, 2), (600, 3)] {
        while log.prepare() {}
        tap.state().now += Duration::from_secs(60 * minutes);
        // The first entry came after 50 minutes, so it is an hour old after 110.
        commit(&log, &mut writer, "an event");
        assert_eq!(writer.stats().rotations, rotations, "after {minutes} more minutes");
    }
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(options()).len(), 7);
}
