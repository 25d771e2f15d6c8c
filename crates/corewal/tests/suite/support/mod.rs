//! What the tests share: options of a tiny log, images built by hand, disks that fail on demand.

pub(crate) mod image;
pub(crate) mod memory;
pub(crate) mod tap;

use std::path::{Path, PathBuf};
use std::time::Duration;

use corewal::{
    AppendError, Damage, Engine, Kind, Log, Options, Preparing, RecoverError, Report, ShardWriter,
    Stamp, Turn,
};

/// A directory that is removed at the end of the test.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Options of a tiny log that does nothing by itself: blocks of 512 bytes, segments of 8 KiB, nobody prepares
/// and no vouch is due unless the test says so.
pub(crate) fn tiny(dir: &Path) -> Options {
    Options::new(dir)
        .engine(Engine::Blocking)
        .block_len(512)
        .segment_len(8192)
        .first_segment_len(4096)
        .write_len(1024)
        .max_batch(6144)
        .max_record(4096)
        .pipeline_bound(2)
        .preparing(Preparing::Manual)
        .vouch_after(Duration::from_secs(3600))
        .lock_patience(Duration::ZERO)
}

/// One entry, as it came out of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) stamp: Stamp,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) committed: bool,
}

/// Recovers without opening: the stream and the report.
pub(crate) fn recover(options: Options) -> Result<(Vec<Item>, Report), RecoverError> {
    let mut recovery = Log::recover(options)?;
    let mut items = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        items.push(Item {
            stamp: entry.stamp(),
            kind: entry.kind(),
            bytes: entry.bytes().to_vec(),
            committed: entry.is_committed(),
        });
    }
    let report = recovery.report().clone();
    Ok((items, report))
}

/// The same beside a writer.
pub(crate) fn read(options: Options) -> Result<(Vec<Item>, Report), RecoverError> {
    let mut reader = Log::read(options)?;
    let mut items = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        items.push(Item {
            stamp: entry.stamp(),
            kind: entry.kind(),
            bytes: entry.bytes().to_vec(),
            committed: entry.is_committed(),
        });
    }
    let report = reader.report().clone();
    Ok((items, report))
}

/// The payloads of the stream as text, barriers as `|`.
pub(crate) fn texts(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| match item.kind {
        Kind::BARRIER => "|".to_owned(),
        _ => String::from_utf8(item.bytes.clone()).unwrap(),
    };
    items.iter().map(text).collect()
}

/// The payloads of a recovery that must succeed.
pub(crate) fn recovered(options: Options) -> Vec<String> {
    texts(&recover(options).unwrap().0)
}

/// The damage of a recovery that must be refused for it.
pub(crate) fn refused(options: Options) -> Damage {
    match recover(options) {
        Err(RecoverError::Damaged(damage)) => *damage,
        other => panic!("damage was expected, found {other:?}"),
    }
}

/// Recovers what is there and opens the next incarnation.
pub(crate) fn open(options: Options) -> Log {
    Log::recover(options).unwrap().open().unwrap()
}

/// Opens a log of one shard and sits down.
pub(crate) fn open_one(options: Options) -> (Log, ShardWriter) {
    let mut log = open(options);
    let mut seats = log.take_seats();
    assert_eq!(seats.len(), 1);
    let writer = seats.remove(0).sit().unwrap();
    (log, writer)
}

/// Opens a log and sits down on all seats, on this thread.
pub(crate) fn open_all(options: Options) -> (Log, Vec<ShardWriter>) {
    let mut log = open(options);
    let writers = log.take_seats().into_iter().map(|seat| seat.sit().unwrap()).collect();
    (log, writers)
}

/// Appends, with as many turns and as much preparing as it takes.
pub(crate) fn append(log: &Log, writer: &mut ShardWriter, text: &str) -> Stamp {
    persist(log, writer, |writer| writer.append_bytes(Kind::PUT, text.as_bytes())).unwrap()
}

/// Tries until the writer is not full.
pub(crate) fn persist<T>(
    log: &Log,
    writer: &mut ShardWriter,
    mut act: impl FnMut(&mut ShardWriter) -> Result<T, AppendError>,
) -> Result<T, AppendError> {
    for _ in 0..1000 {
        match act(writer) {
            Err(AppendError::Full) => {
                log.prepare();
                if writer.turn().unwrap() == Turn::Sleep {
                    writer.sleep(None).unwrap();
                }
            }
            outcome => return outcome,
        }
    }
    panic!("the log stays full");
}

/// Appends and waits until it is durable; so it is a batch of its own.
pub(crate) fn commit(log: &Log, writer: &mut ShardWriter, text: &str) -> Stamp {
    let stamp = append(log, writer, text);
    writer.wait(stamp).unwrap();
    stamp
}

/// Path of a segment's file.
pub(crate) fn segment_path(dir: &Path, shard: u16, number: u64) -> PathBuf {
    dir.join(format!("shard-{shard:04}")).join(format!("{number:010}.seg"))
}

/// Changes bytes of a file.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Copies a log's directory, without its lock.
pub(crate) fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_log(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a log's directory holds, lock and preallocated manifest aside: to see that nothing changed.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(contents(&entry.path()));
        } else if entry.file_name() != "LOCK" && entry.file_name() != "MANIFEST-next" {
            found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}
