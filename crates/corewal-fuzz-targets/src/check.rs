//! What must hold of any directory.

use std::sync::Arc;

use corewal::{Engine, Entry, Kind, Log, Options, Preparing, RecoverError, Stamp};
use corewal_format::crc32c;

use crate::DIR;
use crate::memory::MemoryDisk;

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    kind: Kind,
    /// Length and checksum of the payload: a failure prints whole streams.
    payload: (usize, u32),
}

impl Seen {
    fn of(entry: &Entry<'_>) -> Self {
        let payload = (entry.bytes().len(), crc32c(entry.bytes()));
        Self { stamp: entry.stamp(), kind: entry.kind(), payload }
    }
}

/// A stream, and the refusal that it ended with.
type Stream = (Vec<Seen>, Option<String>);

/// Options of a log so small that a fuzzer can touch all of it.
pub(crate) fn options(disk: &MemoryDisk) -> Options {
    Options::new(DIR)
        .disk(Arc::new(disk.clone()))
        .engine(Engine::Blocking)
        .preparing(Preparing::Manual)
        .shards(2)
        .block_len(512)
        .segment_len(4096)
        .first_segment_len(4096)
        .write_len(1024)
        .max_batch(2048)
        .max_record(1024)
        .depth(2)
        .prepared_ahead(1)
        .pipeline_bound(2)
}

/// Reads, recovers twice, opens, appends, and reads again.
pub(crate) fn check(disk: &MemoryDisk) {
    let read = read(disk);
    let recovered = recover(disk);
    if read.is_some() {
        assert_eq!(read.as_ref(), Some(&recovered), "a reader and a recovery differ");
    }
    assert_eq!(recover(disk), recovered, "two recoveries differ");
    let (entries, refusal) = &recovered;
    assert!(entries.is_sorted_by(|a, b| a.stamp < b.stamp), "stamps do not ascend: {entries:?}");
    if refusal.is_none() {
        go_on(disk, entries);
    }
}

fn read(disk: &MemoryDisk) -> Option<Stream> {
    let mut reader = match Log::read(options(disk)) {
        Ok(reader) => reader,
        Err(RecoverError::NoLog { .. }) => return None,
        Err(error) => return Some((Vec::new(), Some(error.to_string()))),
    };
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(Seen::of(&entry)),
            Ok(None) => return Some((entries, None)),
            Err(error) => return Some((entries, Some(error.to_string()))),
        }
    }
}

fn recover(disk: &MemoryDisk) -> Stream {
    let mut recovery = match Log::recover(options(disk)) {
        Ok(recovery) => recovery,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut entries = Vec::new();
    loop {
        match recovery.next_entry() {
            Ok(Some(entry)) => entries.push(Seen::of(&entry)),
            Ok(None) => return (entries, None),
            Err(error) => return (entries, Some(error.to_string())),
        }
    }
}

/// A log that was not refused: the next incarnation loses nothing and adds what it is given.
fn go_on(disk: &MemoryDisk, before: &[Seen]) {
    let recovery = Log::recover(options(disk)).expect("it was recovered a moment ago");
    let Ok(mut log) = recovery.open() else {
        assert_eq!(recover(disk).0, before, "an open that was refused changed the stream");
        return;
    };
    assert_eq!(read(disk).expect("it was opened"), (before.to_vec(), None), "opening lost entries");
    let mut appended = 0;
    for seat in log.take_seats() {
        let mut writer = seat.sit().expect("memory gives a ring");
        if let Ok(stamp) = writer.append_bytes(Kind::PUT, b"after") {
            writer.wait(stamp).expect("memory does not fail");
            appended += 1;
        }
        writer.close().expect("memory does not fail");
    }
    assert_ne!(appended, 0, "no shard took an entry");
    log.close().expect("memory does not fail");
    let (entries, refusal) = recover(disk);
    assert_eq!(refusal, None, "what was just closed is refused");
    assert_eq!(&entries[..before.len().min(entries.len())], before, "old entries changed");
    assert_eq!(entries.len(), before.len() + appended, "appended entries are missing");
    assert!(entries.is_sorted_by(|a, b| a.stamp < b.stamp), "stamps do not ascend: {entries:?}");
}
