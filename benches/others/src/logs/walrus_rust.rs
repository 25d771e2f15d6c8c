//! walrus-rust: topics in files of a gigabyte. With its default schedule it syncs every 200 ms, so an acknowledgement
//! says nothing about a power cut; measured both as `SyncEach` and so.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked};
use corewal_benches::record::Records;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::subject::{See, Subject};
use crate::works;

const TOPIC: &str = "records";
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// The log takes its directory, and whether it prints what it does, from the environment alone.
const DIR: &str = "WALRUS_DATA_DIR";
const QUIET: &str = "WALRUS_QUIET";

/// Measures it in a process that has the environment for it.
fn in_environment(
    asked: &Asked,
    run: impl FnOnce(&Asked) -> Result<Answer, Anything>,
) -> Result<Answer, Anything> {
    if std::env::var_os(QUIET).is_some() {
        return run(asked);
    }
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(QUIET, "1")
        // Relative: the working directory says which log.
        .env(DIR, "walrus")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().ok_or("no answer")?)?)
}

pub(crate) fn run(asked: &Asked) -> Result<Answer, Anything> {
    in_environment(asked, works::run::<Log>)
}

pub(crate) fn run_unsynced(asked: &Asked) -> Result<Answer, Anything> {
    in_environment(asked, works::run::<Unsynced>)
}

fn open(dir: &Path, schedule: FsyncSchedule) -> Result<Walrus, Anything> {
    std::env::set_current_dir(dir)?;
    let reads = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Ok(Walrus::with_consistency_and_schedule(reads, schedule)?)
}

fn begin(wal: &Walrus, records: &mut Records, count: usize) -> Result<(), Anything> {
    let mut batch = Vec::with_capacity(count);
    for _ in 0..count {
        batch.push(records.bytes().to_vec());
        records.advance();
    }
    let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    Ok(wal.batch_append_for_topic(TOPIC, &batch)?)
}

fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
    let wal = open(dir, FsyncSchedule::NoFsync)?;
    loop {
        let entries = wal.batch_read_for_topic(TOPIC, READ_BYTES, true)?;
        if entries.is_empty() {
            return Ok(());
        }
        entries.iter().try_for_each(|it| see(&it.data))?;
    }
}

pub(crate) struct Log {
    wal: Walrus,
}

impl Subject for Log {
    const NAME: &'static str = "walrus-rust";
    const IS_DURABLE: bool = true;
    const METHOD: &'static str = "SyncEach";
    type Ticket = ();

    fn open(dir: &Path, _room: u64) -> Result<Self, Anything> {
        Ok(Self { wal: open(dir, FsyncSchedule::SyncEach)? })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        Ok(self.wal.append_for_topic(TOPIC, record)?)
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        begin(&self.wal, records, count)
    }

    fn finish(&self, (): ()) -> Result<(), Anything> {
        Ok(())
    }

    fn burst(&self, _records: &mut Records, _count: usize) -> Result<Option<Duration>, Anything> {
        Ok(None)
    }

    fn close(self) -> Result<(), Anything> {
        Ok(())
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        replay(dir, see)
    }
}

/// With its default schedule.
pub(crate) struct Unsynced {
    wal: Walrus,
}

impl Subject for Unsynced {
    const NAME: &'static str = "walrus-rust, every 200 ms";
    const IS_DURABLE: bool = false;
    const METHOD: &'static str = "acknowledged before it is synced";
    type Ticket = ();

    fn open(dir: &Path, _room: u64) -> Result<Self, Anything> {
        Ok(Self { wal: open(dir, FsyncSchedule::Milliseconds(200))? })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        Ok(self.wal.append_for_topic(TOPIC, record)?)
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        begin(&self.wal, records, count)
    }

    fn finish(&self, (): ()) -> Result<(), Anything> {
        Ok(())
    }

    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything> {
        let start = Instant::now();
        for _ in 0..count {
            self.wal.append_for_topic(TOPIC, records.bytes())?;
            records.advance();
        }
        Ok(Some(start.elapsed()))
    }

    fn close(self) -> Result<(), Anything> {
        Ok(())
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        replay(dir, see)
    }
}
