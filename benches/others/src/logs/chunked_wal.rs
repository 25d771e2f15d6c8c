//! chunked-wal: a thread of its own writes and syncs what was sent to it meanwhile.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chunked_wal::{ChunkId, ChunkedWal, Config, Segment, StateMachine, WAL, WALRecord, WalTypes};
use codeq::config::{CodeqConfig, Crc32fast};
use codeq::{Decode, Encode};
use corewal_benches::Anything;
use corewal_benches::record::Records;

use crate::subject::{See, Subject};

/// How long the flush thread waits for more before it syncs.
const WINDOW: Duration = Duration::from_micros(50);
/// Of the records; 0 to 4 are the user's.
const TYPE: u32 = 1;

/// A record, with its type and a checksum: the log leaves both to its user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Action(Vec<u8>);

impl Encode for Action {
    fn encode<W: io::Write>(&self, mut to: W) -> Result<usize, io::Error> {
        let mut summed = Crc32fast::new_writer(&mut to);
        let len = TYPE.encode(&mut summed)? + self.0.encode(&mut summed)?;
        Ok(len + summed.write_checksum()?)
    }

    fn type_id(&self) -> Option<u32> {
        Some(TYPE)
    }
}

impl Decode for Action {
    fn decode<R: io::Read>(from: R) -> Result<Self, io::Error> {
        let mut summed = Crc32fast::new_reader(from);
        if u32::decode(&mut summed)? != TYPE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let record = Vec::decode(&mut summed)?;
        summed.verify_checksum(|| "a record")?;
        Ok(Self(record))
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Types;

impl WalTypes for Types {
    type Action = Action;
    type Checkpoint = u64;
    type Callback = SyncSender<Result<(), io::Error>>;
}

/// Sees what a reopened log holds. While the log is written there is nothing to see.
struct Seer<'a, 'b>(Option<&'a mut See<'b>>);

impl StateMachine<Types> for Seer<'_, '_> {
    type Error = io::Error;

    fn apply(
        &mut self,
        record: &WALRecord<Types>,
        _chunk: ChunkId,
        _segment: Segment,
    ) -> Result<(), io::Error> {
        match (record, &mut self.0) {
            (WALRecord::Action(action), Some(see)) => see(&action.0).map_err(io::Error::other),
            _ => Ok(()),
        }
    }

    fn checkpoint(&self) -> u64 {
        0
    }
}

pub(crate) struct Log {
    wal: Mutex<ChunkedWal<Types>>,
}

impl Log {
    fn append(wal: &mut ChunkedWal<Types>, record: &[u8]) -> Result<(), Anything> {
        wal.append(&WALRecord::Action(Action(record.to_vec())))?;
        wal.try_close_full_chunk(&Seer(None))?;
        Ok(())
    }

    fn send(wal: &mut ChunkedWal<Types>) -> Result<Receiver<Result<(), io::Error>>, Anything> {
        let (sender, receiver) = sync_channel(1);
        wal.send_pending(true, Some(sender))?;
        Ok(receiver)
    }
}

fn open(dir: &Path, mut seer: Seer<'_, '_>) -> Result<ChunkedWal<Types>, Anything> {
    let mut config = Config::new(dir.to_str().ok_or("a directory whose name is not text")?);
    config.flush_batch_wait = Some(WINDOW);
    Ok(ChunkedWal::open(Arc::new(config), &mut seer, Arc::new(|_, _| {}))?)
}

impl Subject for Log {
    const NAME: &'static str = "chunked-wal";
    const IS_DURABLE: bool = true;
    const DEPTH: usize = 4;
    const METHOD: &'static str = "send_pending(true), callback, window 50 us";
    type Ticket = Receiver<Result<(), io::Error>>;

    fn open(dir: &Path, _room: u64) -> Result<Self, Anything> {
        Ok(Self { wal: Mutex::new(open(dir, Seer(None))?) })
    }

    fn commit(&self, record: &[u8]) -> Result<(), Anything> {
        let mut wal = self.wal.lock().map_err(|_| "a thread panicked")?;
        Self::append(&mut wal, record)?;
        let sent = Self::send(&mut wal)?;
        drop(wal);
        self.finish(sent)
    }

    fn begin(&self, records: &mut Records, count: usize) -> Result<Self::Ticket, Anything> {
        let mut wal = self.wal.lock().map_err(|_| "a thread panicked")?;
        for _ in 0..count {
            Self::append(&mut wal, records.bytes())?;
            records.advance();
        }
        Self::send(&mut wal)
    }

    fn finish(&self, sent: Self::Ticket) -> Result<(), Anything> {
        Ok(sent.recv()??)
    }

    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything> {
        let start = Instant::now();
        let mut wal = self.wal.lock().map_err(|_| "a thread panicked")?;
        for _ in 0..count {
            Self::append(&mut wal, records.bytes())?;
            records.advance();
        }
        let took = start.elapsed();
        let sent = Self::send(&mut wal)?;
        drop(wal);
        self.finish(sent)?;
        Ok(Some(took))
    }

    fn close(self) -> Result<(), Anything> {
        Ok(self.wal.into_inner().map_err(|_| "a thread panicked")?.shutdown()?)
    }

    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything> {
        Ok(open(dir, Seer(Some(see)))?.shutdown()?)
    }
}
