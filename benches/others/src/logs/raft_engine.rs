//! raft-engine: a region for each producer, its entries by index; writers that come together share a sync.

use std::path::Path;
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::record::Records;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::subject::{See, Subject};

/// Entries that are fetched at once.
const FETCHED: u64 = 4096;

/// A record as a message of protobuf, which the log wants.
#[derive(Clone)]
struct Message;

impl MessageExt for Message {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        number(&entry.value)
    }
}

/// A record's number, which begins it.
fn number(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |it| u64::from_le_bytes(*it))
}

/// A record's producer, which stands behind its number.
fn region(record: &[u8]) -> u64 {
    let producer = record.get(8..12).and_then(|it| it.first_chunk());
    1 + u64::from(producer.map_or(0, |it| u32::from_le_bytes(*it)))
}

pub(crate) struct Log {
    engine: Engine,
}

impl Log {
    fn add(batch: &mut LogBatch, record: &[u8]) -> Result<(), Anything> {
        let mut entry = BytesValue::new();
        entry.value = record.to_vec();
        Ok(batch.add_entries::<Message>(region(record), &[entry])?)
    }
}

fn open(dir: &Path) -> Result<Engine, Anything> {
    let config = Config {
        dir: dir.to_str().ok_or("a directory whose name is not text")?.to_owned(),
        // The records compress well, which says nothing about a log.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    Ok(Engine::open(config)?)
}

impl Subject for Log {
    const NAME: &'static str = "raft-engine";
    const IS_DURABLE: bool = true;
    const METHOD: &'static str = "write(sync), no compression";
    type Ticket = ();

    fn open(dir: &Path, _room: u64) -> Result<Self, Anything> {
        Ok(Self { engine: open(dir)? })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        let mut batch = LogBatch::with_capacity(1);
        Self::add(&mut batch, record)?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        let mut batch = LogBatch::with_capacity(count);
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let mut entry = BytesValue::new();
            entry.value = records.bytes().to_vec();
            entries.push(entry);
            records.advance();
        }
        batch.add_entries::<Message>(region(records.bytes()), &entries)?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn finish(&self, (): ()) -> Result<(), Anything> {
        Ok(())
    }

    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything> {
        let start = Instant::now();
        let mut batch = LogBatch::with_capacity(1);
        for _ in 0..count {
            Self::add(&mut batch, records.bytes())?;
            self.engine.write(&mut batch, false)?;
            records.advance();
        }
        let took = start.elapsed();
        self.engine.sync()?;
        Ok(Some(took))
    }

    fn close(self) -> Result<(), Anything> {
        Ok(self.engine.sync()?)
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        let engine = open(dir)?;
        let mut regions = engine.raft_groups();
        regions.sort_unstable();
        for region in regions {
            let (Some(first), Some(last)) = (engine.first_index(region), engine.last_index(region))
            else {
                continue;
            };
            let mut entries = Vec::new();
            for begin in (first..=last).step_by(FETCHED as usize) {
                entries.clear();
                let end = (begin + FETCHED).min(last + 1);
                engine.fetch_entries_to::<Message>(region, begin, end, None, &mut entries)?;
                entries.iter().try_for_each(|it| see(&it.value))?;
            }
        }
        Ok(())
    }
}
