//! A disk in memory: just enough of one to write a small log and to read any.
//!
//! It models no crash and no fault. Files are direct, with an alignment of 512 bytes, and it asserts that the
//! engine keeps to that.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corewal_disk::{
    Access, Alarm, Block, Completion, Disk, DiskFile, Engine, Entry, EntryType, File, FileSlot,
    Held, Lock, Open, Operation, Ring, RingConfig, RingFacts,
};

const ALIGN: usize = 512;

/// Longer files are refused, in bytes: an engine that asks for one has believed a length that it read.
const MAX_FILE_LEN: u64 = 1 << 20;

/// Files by path. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
}

impl MemoryDisk {
    /// Puts a file with these bytes at `path`, and the directories above it.
    pub fn put(&self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        let path = path.as_ref().to_path_buf();
        let mut state = self.state();
        let above = path.ancestors().skip(1).map(Path::to_path_buf);
        state.directories.extend(above);
        state.files.insert(path, Arc::new(MemoryFile { bytes: Mutex::new(bytes) }));
    }

    /// Every file with its bytes, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        state.files.iter().map(|(path, file)| (path.clone(), file.bytes().clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        if !state.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |path: &Path, entry_type| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            (path.parent() == Some(dir)).then_some(Entry { name, entry_type })
        };
        let directories = state.directories.iter();
        let files = state.files.keys();
        Ok(directories
            .filter_map(|path| inside(path, EntryType::Directory))
            .chain(files.filter_map(|path| inside(path, EntryType::File)))
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().directories.insert(dir.to_path_buf());
        Ok(())
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let mut state = self.state();
        let known = state.files.get(path).cloned();
        match known {
            Some(_) if open.create_new => Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => Ok(file),
            None if open.create_new => {
                let file = Arc::new(MemoryFile { bytes: Mutex::new(Vec::new()) });
                state.files.insert(path.to_path_buf(), file.clone());
                Ok(file)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().files.remove(path);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _holder: &str) -> io::Result<Result<Lock, Held>> {
        Ok(Ok(Lock::new(Arc::new(MemoryFile { bytes: Mutex::new(Vec::new()) }))))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        let pool = (0..config.block_count).map(|_| Block::zeroed(config.block_len)).collect();
        Ok(Box::new(MemoryRing { files: Vec::new(), pool, queued: Vec::new(), done: Vec::new() }))
    }

    /// So that a prepared segment is not filled: its bytes are zeros already.
    fn is_copy_on_write(&self, _dir: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn offset(at: u64) -> io::Result<usize> {
    if at > MAX_FILE_LEN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    usize::try_from(at).map_err(io::Error::other)
}

fn assert_aligned(memory: &[u8], at: u64) {
    let address = memory.as_ptr() as usize;
    assert!(address.is_multiple_of(ALIGN), "memory is not aligned");
    assert!(memory.len().is_multiple_of(ALIGN), "{} bytes are no whole sectors", memory.len());
    assert!(at.is_multiple_of(ALIGN as u64), "offset {at} is not aligned");
}

impl DiskFile for MemoryFile {
    fn access(&self) -> Access {
        Access::Direct { align: ALIGN }
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        assert_aligned(buf, at);
        let bytes = self.bytes();
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let read = buf.len().min(bytes.len() - from);
        buf[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        assert_aligned(buf, at);
        let from = offset(at)?;
        let end = offset(at + buf.len() as u64)?;
        let mut bytes = self.bytes();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[from..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = offset(len)?;
        let mut bytes = self.bytes();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Writes land when they are submitted.
#[derive(Debug)]
struct MemoryRing {
    files: Vec<Option<File>>,
    pool: Vec<Block>,
    queued: Vec<Operation>,
    done: Vec<Completion>,
}

impl MemoryRing {
    fn file(&self, slot: FileSlot) -> &File {
        self.files[slot.0 as usize].as_ref().expect("the slot is registered")
    }

    fn execute(&self, operation: Operation) -> Completion {
        match operation {
            Operation::Write { token, file, block, len, at, .. } => {
                let result = self.file(file).write_at(&block[..len], at).map(|()| len);
                Completion { token, result, block: Some(block) }
            }
            Operation::Sync { token, .. } => Completion { token, result: Ok(0), block: None },
        }
    }
}

impl Ring for MemoryRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        self.files.push(Some(file.clone()));
        Ok(FileSlot(u32::try_from(self.files.len() - 1).expect("a small log has few files")))
    }

    fn release(&mut self, slot: FileSlot) {
        self.files[slot.0 as usize] = None;
    }

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        self.queued.push(operation);
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        let queued = std::mem::take(&mut self.queued);
        let done: Vec<_> = queued.into_iter().map(|operation| self.execute(operation)).collect();
        self.done.extend(done);
        Ok(())
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.done);
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
        self.queued.len() + self.done.len()
    }

    fn facts(&self) -> RingFacts {
        RingFacts {
            engine: Engine::Blocking,
            fallback: None,
            flags: Vec::new(),
            refused_flags: Vec::new(),
            registered_files: false,
            registered_blocks: Err("memory registers nothing".into()),
            calls: 0,
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit()?;
        self.reap(completions)
    }
}
