//! okaywal: entries of chunks, one file at a time, preallocated. A record is an entry; many at once are chunks of one.
//!
//! The log recycles a file once its entries are in a checkpoint, which this work has none of: so its one file has room for
//! all.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::record::Records;
use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use crate::subject::{See, Subject};

pub(crate) struct Log {
    wal: WriteAheadLog,
}

/// Sends the chunks of each entry that is recovered to whoever replays the log. While the log is written there is nobody.
#[derive(Debug)]
struct Manager {
    to: Option<SyncSender<Vec<Vec<u8>>>>,
}

impl LogManager for Manager {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        // An entry that was not committed has no chunks.
        if let (Some(chunks), Some(to)) = (entry.read_all_chunks()?, &self.to) {
            to.send(chunks).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        last: EntryId,
        _entries: &mut SegmentReader,
        _wal: &WriteAheadLog,
    ) -> io::Result<()> {
        Err(io::Error::other(format!("no checkpoint was asked for, at {last:?}")))
    }
}

fn configuration(dir: &Path, room: u64) -> Result<Configuration, Anything> {
    // Twice, for what the log itself writes.
    let room = u32::try_from((room * 2).max(64 << 20)).unwrap_or(u32::MAX);
    Ok(Configuration::default_for(dir.join("log"))
        .preallocate_bytes(room)
        .checkpoint_after_bytes(u64::MAX))
}

impl Subject for Log {
    const NAME: &'static str = "okaywal";
    const IS_DURABLE: bool = true;
    const METHOD: &'static str = "commit of an entry, preallocated file";
    type Ticket = ();

    fn open(dir: &Path, room: u64) -> Result<Self, Anything> {
        Ok(Self { wal: configuration(dir, room)?.open(Manager { to: None })? })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        let mut entry = self.wal.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit()?;
        Ok(())
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        let mut entry = self.wal.begin_entry()?;
        for _ in 0..count {
            entry.write_chunk(records.bytes())?;
            records.advance();
        }
        entry.commit()?;
        Ok(())
    }

    fn finish(&self, (): ()) -> Result<(), Anything> {
        Ok(())
    }

    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything> {
        let start = Instant::now();
        let mut entry = self.wal.begin_entry()?;
        for _ in 0..count {
            entry.write_chunk(records.bytes())?;
            records.advance();
        }
        let took = start.elapsed();
        entry.commit()?;
        Ok(Some(took))
    }

    fn close(self) -> Result<(), Anything> {
        Ok(self.wal.shutdown()?)
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        let (to, from) = sync_channel(64);
        let configuration = configuration(dir, 0)?;
        std::thread::scope(|scope| {
            let opened = scope.spawn(move || -> io::Result<()> {
                // The manager, and with it the sender, goes with the log.
                configuration.open(Manager { to: Some(to) })?.shutdown()
            });
            let mut seen = Ok(());
            while let (Ok(()), Ok(records)) = (&seen, from.recv()) {
                seen = records.iter().try_for_each(|it| see(it));
            }
            drop(from);
            let opened = opened.join().map_err(|_| "the log panicked")?;
            seen?;
            Ok(opened?)
        })
    }
}
