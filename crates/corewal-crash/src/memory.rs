//! A disk in memory on which everything is durable at once: what images are recovered on.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corewal_disk::{
    Access, Alarm, Block, Completion, Disk, DiskFile, Engine, Entry, EntryType, File, FileSlot,
    Held, Lock, Open, Operation, Ring, RingConfig, RingFacts, Token,
};

/// Alignment that files claim to need, in bytes.
const SECTOR_LEN: usize = 512;

/// Files in memory. Contents are shared until they are written to, so an image of a log costs what
/// differs in it.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    names: Mutex<Names>,
    /// Counts the questions, so that time goes on.
    ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct Names {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locks: HashMap<PathBuf, Weak<MemoryFile>>,
}

/// One file.
#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Arc<Vec<u8>>>,
}

impl MemoryDisk {
    /// A disk with these directories and files.
    #[must_use]
    pub fn new(
        dirs: impl IntoIterator<Item = PathBuf>,
        files: impl IntoIterator<Item = (PathBuf, Arc<Vec<u8>>)>,
    ) -> Self {
        let file = |(path, bytes)| (path, Arc::new(MemoryFile { bytes: Mutex::new(bytes) }));
        let names = Names {
            dirs: dirs.into_iter().collect(),
            files: files.into_iter().map(file).collect(),
            locks: HashMap::new(),
        };
        Self { names: Mutex::new(names), ticks: AtomicU64::new(0) }
    }

    /// All files with their contents, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Arc<Vec<u8>>)> {
        let names = self.names();
        names.files.iter().map(|(path, file)| (path.clone(), Arc::clone(&file.bytes()))).collect()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemoryDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let names = self.names();
        if !names.dirs.contains(dir) {
            return Err(not_found());
        }
        let within = |path: &&PathBuf| path.parent() == Some(dir);
        let entry = |path: &PathBuf, entry_type| Entry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            entry_type,
        };
        let dirs = names.dirs.iter().filter(within).map(|it| entry(it, EntryType::Directory));
        let files = names.files.keys().filter(within).map(|it| entry(it, EntryType::File));
        Ok(dirs.chain(files).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.names().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let mut names = self.names();
        let file = match names.files.get(path) {
            Some(_) if open.create_new => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => Arc::clone(file),
            None if open.create_new => {
                if !path.parent().is_some_and(|dir| names.dirs.contains(dir)) {
                    return Err(not_found());
                }
                let file = Arc::new(MemoryFile::default());
                names.files.insert(path.to_owned(), Arc::clone(&file));
                file
            }
            None => return Err(not_found()),
        };
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let file = names.files.remove(from).ok_or_else(not_found)?;
        names.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.names().files.remove(path);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        let mut names = self.names();
        if let Some(held) = names.locks.get(path).and_then(Weak::upgrade) {
            let holder = String::from_utf8_lossy(&held.bytes()).into_owned();
            return Ok(Err(Held { holder }));
        }
        let bytes = Mutex::new(Arc::new(holder.as_bytes().to_vec()));
        let file = Arc::new(MemoryFile { bytes });
        names.locks.insert(path.to_owned(), Arc::downgrade(&file));
        names.files.entry(path.to_owned()).or_default();
        Ok(Ok(Lock::new(file)))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        Ok(Box::new(MemoryRing {
            depth: config.depth as usize,
            pool: (0..config.block_count).map(|_| Block::zeroed(config.block_len)).collect(),
            lock: config.lock,
            files: Vec::new(),
            queued: VecDeque::new(),
            done: Vec::new(),
        }))
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.ticks.fetch_add(1, Ordering::Relaxed))
    }
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Arc<Vec<u8>>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_index(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

impl DiskFile for MemoryFile {
    /// Direct: what is read is what is there.
    fn access(&self) -> Access {
        Access::Direct { align: SECTOR_LEN }
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.bytes();
        let rest = bytes.get(to_index(at)?..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut bytes = self.bytes();
        let bytes = Arc::make_mut(&mut bytes);
        let at = to_index(at)?;
        let end = at + buf.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[at..end].copy_from_slice(buf);
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
        let mut bytes = self.bytes();
        let len = to_index(len)?;
        if bytes.len() < len {
            Arc::make_mut(&mut bytes).resize(len, 0);
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

/// A ring that does at once what is submitted, in order.
#[derive(Debug)]
struct MemoryRing {
    depth: usize,
    pool: Vec<Block>,
    lock: Option<Lock>,
    files: Vec<Option<File>>,
    queued: VecDeque<Operation>,
    done: Vec<Completion>,
}

impl MemoryRing {
    fn execute(&self, operation: Operation) -> Completion {
        match operation {
            Operation::Write { token, file, block, len, at, .. } => {
                let file = self.file(file);
                let result = file.write_at(&block[..len], at).map(|()| len);
                Completion { token, result, block: Some(block) }
            }
            Operation::Sync { token, .. } => Completion { token, result: Ok(0), block: None },
        }
    }

    fn file(&self, slot: FileSlot) -> &File {
        self.files[slot.0 as usize].as_ref().expect("the slot is registered")
    }

    fn knows(&self, token: Token) -> bool {
        let queued = self.queued.iter().any(|operation| match operation {
            Operation::Write { token: known, .. } | Operation::Sync { token: known, .. } => {
                *known == token
            }
        });
        queued || self.done.iter().any(|it| it.token == token)
    }
}

impl Ring for MemoryRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        self.files.push(Some(Arc::clone(file)));
        Ok(FileSlot(u32::try_from(self.files.len() - 1).map_err(io::Error::other)?))
    }

    fn release(&mut self, slot: FileSlot) {
        // Slots are not used again; a queued operation was submitted before its file is released.
        assert!(self.files[slot.0 as usize].take().is_some(), "the slot is registered");
    }

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        if self.in_flight() == self.depth {
            return Err(operation);
        }
        let (Operation::Write { token, file, .. } | Operation::Sync { token, file }) = &operation;
        self.file(*file);
        assert!(!self.knows(*token), "token {} is in flight", token.0);
        self.queued.push_back(operation);
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        while let Some(operation) = self.queued.pop_front() {
            let completion = self.execute(operation);
            self.done.push(completion);
        }
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
            registered_blocks: Err("memory".into()),
            calls: 0,
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit()?;
        self.reap(completions)?;
        self.lock = None;
        Ok(())
    }
}
