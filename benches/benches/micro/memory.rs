//! Logs in memory: on tmpfs where there is one.

use std::path::{Path, PathBuf};

use corewal::{AppendError, Kind, Log, Options, Preparing};
use tempfile::TempDir;

/// A log that was closed, and goes away.
pub(crate) struct LogInMemory {
    dir: TempDir,
}

impl LogInMemory {
    /// `entries` of `len` bytes, dealt to the shards; `per_epoch` of each shard in an epoch.
    pub(crate) fn new(shards: u16, entries: u64, len: usize, per_epoch: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let this = Self { dir: tempfile::tempdir_in(memory).unwrap() };
        let mut log = Log::recover(this.options().shards(shards)).unwrap().open().unwrap();
        let seats = log.take_seats();
        let mut writers: Vec<_> = seats.into_iter().map(|it| it.sit().unwrap()).collect();
        let bytes = vec![0xA5; len];
        for index in 0..entries / u64::from(shards) {
            for writer in &mut writers {
                while let Err(error) = writer.append_bytes(Kind::PUT, &bytes) {
                    assert!(matches!(error, AppendError::Full), "{error}");
                    writer.sync().unwrap();
                }
            }
            if index % per_epoch == per_epoch - 1 {
                for writer in &mut writers {
                    writer.close_epoch().unwrap();
                    writer.sync().unwrap();
                }
            }
        }
        for writer in writers {
            writer.close().unwrap();
        }
        log.close().unwrap();
        this
    }

    fn options(&self) -> Options {
        let path: PathBuf = self.dir.path().join("log");
        // Nothing is prepared beside the measurement, and the shards are looked at on one thread.
        Options::new(path)
            .preparing(Preparing::Manual)
            .first_segment_len(96 << 20)
            .segment_len(96 << 20)
    }

    /// Recovers it to the end, and counts the bytes of its entries.
    pub(crate) fn recover(&self) -> usize {
        let mut recovery = Log::recover(self.options()).unwrap();
        let mut sum = 0;
        while let Some(entry) = recovery.next_entry().unwrap() {
            sum += entry.bytes().len();
        }
        sum
    }
}
