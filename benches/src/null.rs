//! A disk that keeps nothing, and a ring that is done at once.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corewal_disk::{
    Access, Alarm, Block, Completion, Disk, DiskFile, Engine, Entry, File, FileSlot, Held, Lock,
    Open, Operation, Ring, RingConfig, RingFacts,
};

/// Every file is new and empty, and what is written to it is forgotten.
#[derive(Debug)]
pub struct NullDisk {
    start: Instant,
}

impl Default for NullDisk {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Disk for NullDisk {
    fn list(&self, _dir: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, _path: &Path, open: Open) -> io::Result<File> {
        if open.create_new {
            Ok(Arc::new(NullFile::default()))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _holder: &str) -> io::Result<Result<Lock, Held>> {
        Ok(Ok(Lock::new(Arc::new(NullFile::default()))))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        let pool = (0..config.block_count).map(|_| Block::zeroed(config.block_len)).collect();
        let depth = config.depth as usize;
        Ok(Box::new(NullRing { pool, done: VecDeque::with_capacity(depth), files: 0 }))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[derive(Debug, Default)]
struct NullFile {
    len: AtomicU64,
}

impl DiskFile for NullFile {
    fn access(&self) -> Access {
        Access::Direct { align: 512 }
    }

    fn read_at(&self, _buf: &mut [u8], _at: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _buf: &[u8], _at: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Relaxed))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.len.fetch_max(len, Ordering::Relaxed);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct NullRing {
    pool: Vec<Block>,
    done: VecDeque<Completion>,
    files: u32,
}

impl Ring for NullRing {
    fn register(&mut self, _file: &File) -> io::Result<FileSlot> {
        self.files += 1;
        Ok(FileSlot(self.files))
    }

    fn release(&mut self, _slot: FileSlot) {}

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        self.done.push_back(match operation {
            Operation::Write { token, block, len, .. } => {
                Completion { token, result: Ok(len), block: Some(block) }
            }
            Operation::Sync { token, .. } => Completion { token, result: Ok(0), block: None },
        });
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.extend(self.done.drain(..));
        Ok(())
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    /// Nothing here ever sleeps.
    fn listen(&mut self, _alarm: &Arc<Alarm>) {}

    fn announce(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn facts(&self) -> RingFacts {
        RingFacts {
            engine: Engine::Blocking,
            fallback: None,
            flags: Vec::new(),
            refused_flags: Vec::new(),
            registered_files: false,
            registered_blocks: Err("nothing is written".into()),
            calls: 0,
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.reap(completions)
    }
}
