//! wal-db: appends without a lock, a sync for all that came.

use std::path::Path;
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::record::Records;
use wal_db::Wal;

use crate::subject::{See, Subject};

pub(crate) struct Log {
    wal: Wal,
}

fn open(dir: &Path) -> Result<Wal, Anything> {
    Ok(Wal::open(dir.join("log.wal"))?)
}

impl Log {
    fn append(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        for _ in 0..count {
            let _lsn = self.wal.append(records.bytes())?;
            records.advance();
        }
        Ok(())
    }
}

impl Subject for Log {
    const NAME: &'static str = "wal-db";
    const IS_DURABLE: bool = true;
    const METHOD: &'static str = "append, sync (fdatasync), one file that grows";
    type Ticket = ();

    fn open(dir: &Path, _room: u64) -> Result<Self, Anything> {
        Ok(Self { wal: open(dir)? })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        let _lsn = self.wal.append_and_sync(record)?;
        Ok(())
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<(), Anything> {
        self.append(records, count)?;
        Ok(self.wal.sync()?)
    }

    fn finish(&self, (): ()) -> Result<(), Anything> {
        Ok(())
    }

    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything> {
        let start = Instant::now();
        self.append(records, count)?;
        let took = start.elapsed();
        self.wal.sync()?;
        Ok(Some(took))
    }

    fn close(self) -> Result<(), Anything> {
        Ok(self.wal.sync()?)
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        for entry in open(dir)?.iter()? {
            see(entry?.data())?;
        }
        Ok(())
    }
}
