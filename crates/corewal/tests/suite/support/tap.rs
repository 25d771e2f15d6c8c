//! The real disk with a tap: records what happens in which order, fails on demand, holds completions back,
//! and has a clock that stands until it is moved.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use corewal_disk::{
    Access, Alarm, Block, Completion, DeviceId, Disk, DiskFile, Durability, Entry, File, FileSlot,
    Held, Lock, Open, Operation, RealDisk, Ring, RingConfig, RingFacts, Token,
};

/// What happened. Paths are relative to the log's directory, which is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Create(PathBuf),
    WriteAt(PathBuf),
    SyncFile(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// A batch was handed to the ring: file, offset, and what its completion is to mean.
    Batch(PathBuf, u64, Durability),
    /// A sync was handed to the ring.
    Sync(PathBuf),
    /// A completion was handed to the engine.
    Completed(Token),
}

/// What becomes of an operation of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The next write reports an error.
    WriteFails,
    /// The next write reports one byte too few.
    WriteIsShort,
    /// The next sync reports an error.
    SyncFails,
}

/// In which order completions come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they complete.
    #[default]
    Natural,
    /// None comes back.
    Held,
    /// The last of those that are held.
    LastOnly,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) events: Vec<Event>,
    pub(crate) mishaps: VecDeque<Mishap>,
    pub(crate) order: Order,
    pub(crate) now: Duration,
    /// So many changes of files and folders still succeed, then none: as if the process had died there.
    pub(crate) budget: Option<usize>,
    /// Space for files is refused.
    pub(crate) full: bool,
    /// Bytes that were read from files.
    pub(crate) read_len: u64,
    /// Reads of files whose name ends so fail.
    pub(crate) unreadable: Option<String>,
    /// What the disk calls its device.
    pub(crate) device: Option<&'static str>,
    /// A device on which durable writes take as long as this, and syncs nothing.
    pub(crate) dsync_takes: Option<Duration>,
    /// Called whenever a file whose name ends so is opened.
    pub(crate) on_open: Option<(String, Hook)>,
}

/// Something to do at a given moment.
#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<Mutex<dyn FnMut() + Send>>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// The tapped disk.
#[derive(Debug)]
pub(crate) struct Tap {
    real: RealDisk,
    dir: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Tap {
    pub(crate) fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Self { real: RealDisk::new(), dir: dir.to_path_buf(), state: Arc::default() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }

    pub(crate) fn happens(&self, mishap: Mishap) {
        self.state().mishaps.push_back(mishap);
    }

    pub(crate) fn set_order(&self, order: Order) {
        self.state().order = order;
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.dir).unwrap_or(path).to_path_buf()
    }

    fn change(&self, event: Event) -> io::Result<()> {
        self.state().change(event)
    }
}

impl State {
    fn change(&mut self, event: Event) -> io::Result<()> {
        if let Some(budget) = &mut self.budget {
            *budget =
                budget.checked_sub(1).ok_or_else(|| io::Error::other("the process is dead"))?;
        }
        self.events.push(event);
        Ok(())
    }
}

impl Disk for Tap {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.real.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(Event::Create(self.relative(dir)))?;
        self.real.create_dir(dir)
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let name = self.relative(path);
        let hook = {
            let mut state = self.state();
            state.on_open.as_mut().filter(|(end, _)| name.ends_with(end)).map(|(_, it)| it.clone())
        };
        if let Some(hook) = hook {
            (hook.0.lock().unwrap())();
        }
        if open.create_new {
            self.change(Event::Create(name.clone()))?;
        }
        let inner = self.real.open(path, open)?;
        Ok(Arc::new(TapFile { inner, name, state: Arc::clone(&self.state) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Event::Rename(self.relative(from), self.relative(to)))?;
        self.real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Event::Remove(self.relative(path)))?;
        self.real.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(Event::SyncDir(self.relative(dir)))?;
        self.real.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        self.real.lock(path, holder)
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        let inner = self.real.ring(config)?;
        let state = Arc::clone(&self.state);
        Ok(Box::new(TapRing {
            inner,
            state,
            files: Vec::new(),
            mishaps: Vec::new(),
            held: Vec::new(),
        }))
    }

    fn device(&self, _dir: &Path) -> io::Result<Option<DeviceId>> {
        Ok(self.state().device.map(DeviceId::new))
    }

    fn now(&self) -> Duration {
        self.state().now
    }
}

struct TapFile {
    inner: File,
    name: PathBuf,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for TapFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name.display())
    }
}

impl TapFile {
    fn change(&self, event: Event) -> io::Result<()> {
        self.state.lock().unwrap().change(event)
    }
}

impl DiskFile for TapFile {
    fn access(&self) -> Access {
        self.inner.access()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let unreadable = self.state.lock().unwrap().unreadable.clone();
        if unreadable.is_some_and(|end| self.name.ends_with(end)) {
            return Err(io::Error::other("a bad sector"));
        }
        let len = self.inner.read_at(buf, at)?;
        self.state.lock().unwrap().read_len += len as u64;
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(Event::WriteAt(self.name.clone()))?;
        self.inner.write_at(buf, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Event::SyncFile(self.name.clone()))?;
        if self.state.lock().unwrap().dsync_takes.is_some() {
            return Ok(());
        }
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change(Event::SyncFile(self.name.clone()))?;
        self.inner.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.state.lock().unwrap().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.allocate(len)
    }

    fn drop_cache(&self) -> io::Result<bool> {
        self.inner.drop_cache()
    }

    fn as_any(&self) -> &dyn Any {
        // The rings of the real disk look for its files.
        self.inner.as_any()
    }
}

#[derive(Debug)]
struct TapRing {
    inner: Box<dyn Ring>,
    state: Arc<Mutex<State>>,
    files: Vec<(FileSlot, PathBuf)>,
    mishaps: Vec<(Token, Mishap)>,
    held: Vec<Completion>,
}

impl TapRing {
    fn name(&self, slot: FileSlot) -> PathBuf {
        let found = self.files.iter().rev().find(|(it, _)| *it == slot);
        found.map(|(_, name)| name.clone()).unwrap()
    }

    /// What a slow device does: it keeps its caller waiting.
    fn take_time(&self) {
        let began = Instant::now();
        let takes = self.state.lock().unwrap().dsync_takes.unwrap_or_default();
        while began.elapsed() < takes {
            std::hint::spin_loop();
        }
    }

    fn spoil(&self, mut completion: Completion) -> Completion {
        let mishap = self.mishaps.iter().find(|(token, _)| *token == completion.token);
        match mishap {
            Some((_, Mishap::WriteIsShort)) => {
                completion.result = completion.result.map(|written| written - 1);
            }
            Some(_) => completion.result = Err(io::Error::other("made to fail")),
            None => {}
        }
        completion
    }
}

impl Ring for TapRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        let slot = self.inner.register(file)?;
        // Its text is its name; its type is hidden behind that of the real file.
        self.files.push((slot, PathBuf::from(format!("{file:?}"))));
        Ok(slot)
    }

    fn release(&mut self, slot: FileSlot) {
        self.inner.release(slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.inner.take_block()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        let (token, event, is_write) = match &operation {
            Operation::Write { token, file, at, durability, .. } => {
                (*token, Event::Batch(self.name(*file), *at, *durability), true)
            }
            Operation::Sync { token, file } => (*token, Event::Sync(self.name(*file)), false),
        };
        {
            let mut state = self.state.lock().unwrap();
            state.events.push(event);
            let fits = |mishap: &Mishap| (*mishap != Mishap::SyncFails) == is_write;
            if state.mishaps.front().is_some_and(fits) {
                self.mishaps.extend(state.mishaps.pop_front().map(|mishap| (token, mishap)));
            }
        }
        if let Operation::Write { durability: Durability::Dsync, .. } = operation {
            self.take_time();
        }
        self.inner.push(operation)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.inner.submit()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.inner.reap(&mut self.held)?;
        let mut state = self.state.lock().unwrap();
        let ready = match state.order {
            Order::Held => Vec::new(),
            Order::Natural => std::mem::take(&mut self.held),
            Order::LastOnly => self.held.pop().into_iter().collect(),
        };
        state.events.extend(ready.iter().map(|it| Event::Completed(it.token)));
        completions.extend(ready.into_iter().map(|it| self.spoil(it)));
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.held.is_empty() { self.inner.wait(timeout) } else { Ok(()) }
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.inner.listen(alarm);
    }

    fn announce(&mut self) -> io::Result<()> {
        self.inner.announce()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }

    fn facts(&self) -> RingFacts {
        self.inner.facts()
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.inner.drain(completions)
    }
}
