//! The third tenant: a disk that keeps nothing, and a ring that is done at once.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{
    Access, Alarm, Block, Completion, Disk, DiskFile, Engine, Entry, File, FileSlot, Held, Keeps,
    Lock, Open, Operation, Ring, RingConfig, RingFacts,
};

/// A disk that forgets everything at once: no file is there, whatever was written.
///
/// For dry runs, for tests of what stands around a log, and to measure what a log costs without a
/// disk. Writes and syncs succeed at once, touch no file, and make nothing durable;
/// [`keeps`](Disk::keeps) says [`Keeps::Nothing`]. Reading finds zeros. The lock is always
/// free. Its ring takes every engine and needs none: it makes no system call.
///
/// ```
/// use std::path::Path;
/// use corewal_disk::{Disk, Keeps, NullDisk, Open};
///
/// let disk = NullDisk::new();
/// disk.open(Path::new("/nowhere/file"), Open::CREATE)?.write_at(b"gone", 0)?;
/// assert!(disk.open(Path::new("/nowhere/file"), Open::READ).is_err());
/// assert_eq!(disk.keeps(), Keeps::Nothing);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct NullDisk {
    start: Instant,
}

impl NullDisk {
    /// A disk of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for NullDisk {
    fn default() -> Self {
        Self::new()
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
        // What is opened for writing is to be used again under another name.
        if open.write {
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

    /// Filling a file with zeros gains nothing.
    fn is_copy_on_write(&self, _dir: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Nothing
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

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let left = self.len.load(Ordering::Relaxed).saturating_sub(at);
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        buf[..len].fill(0);
        Ok(len)
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

    fn calls(&self) -> u64 {
        0
    }

    fn facts(&self) -> RingFacts {
        RingFacts {
            engine: Engine::Blocking,
            fallback: Some("nothing is written".into()),
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
