//! A tenant around another tenant that writes down what happens.
//!
//! [`Recorder`] knows the order of operations and their bytes. It does not know what they mean, nor
//! what a power cut would have left of them.

mod ring;
mod trace;

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{
    Access, Block, Disk, DiskFile, Durability, Entry, EntryType, File, Held, Keeps, Lock, Open,
    Ring, RingConfig,
};
use ring::RecordedRing;
use trace::Log;

pub use trace::{Action, Bytes, Event, FileId, Outcome, Success, Trace};

/// A disk that hands everything on to another one, and writes it down as a [`Trace`].
///
/// The order is sound for power cuts, also with several threads: an operation begins in the trace
/// before it is handed over, and ends after it came back; so whatever was durable at some moment
/// has ended before it, and whatever can have reached the disk has begun.
///
/// ```
/// use std::sync::Arc;
/// use corewal_disk::{Action, Disk, Event, Open, RealDisk, Recorder};
///
/// let dir = tempfile::tempdir()?;
/// let recorder = Recorder::new(Arc::new(RealDisk::new()));
/// let file = recorder.open(&dir.path().join("a"), Open::CREATE)?;
/// file.write_at(b"bytes", 0)?;
/// file.sync_all()?;
/// recorder.mark(1); // what the program now believes to be durable
/// let trace = recorder.trace();
/// assert!(matches!(trace.events[0], Event::Begin(Action::Create { .. })));
/// assert_eq!(trace.events.last(), Some(&Event::Mark(1)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<dyn Disk>,
    notes: Notes,
    /// Held over every change of a name, so that the trace has them in their order.
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    files: HashMap<PathBuf, FileId>,
    count: u32,
}

impl Names {
    fn new_id(&mut self) -> FileId {
        self.count += 1;
        FileId(self.count)
    }
}

/// The trace, as all handles write it.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Log>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Log> {
        // An event is pushed whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) -> usize {
        self.lock().push(event)
    }

    fn store(&self, bytes: &[u8]) -> Bytes {
        self.lock().store(bytes)
    }

    /// Runs `operation` between its two events.
    fn around<T>(
        &self,
        action: Action,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let len = match &action {
            Action::Write { bytes, .. } => bytes.len(),
            _ => 0,
        };
        let begin = self.push(Event::Begin(action));
        let result = operation();
        self.push(Event::End { begin, outcome: Outcome::of(&result, len) });
        result
    }
}

impl Recorder {
    /// Records what happens on `inner` from now on.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, notes: Notes::default(), names: Arc::default() }
    }

    /// Takes what stands in `dir`, and below, into the trace as durable. Files that were not taken
    /// in are when they are opened.
    ///
    /// # Errors
    /// Those of listing and reading.
    pub fn found(&self, dir: &Path) -> io::Result<()> {
        self.notes.push(Event::FoundDir(dir.to_owned()));
        for entry in self.inner.list(dir)? {
            let path = dir.join(&entry.name);
            match entry.entry_type {
                EntryType::Directory => self.found(&path)?,
                EntryType::File => {
                    self.found_file(&mut self.names(), &path)?;
                }
                EntryType::Other => {}
            }
        }
        Ok(())
    }

    fn found_file(&self, names: &mut Names, path: &Path) -> io::Result<FileId> {
        let file = self.inner.open(path, Open::READ)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut block = Block::zeroed(len.max(1).next_multiple_of(512));
        let read = file.read_at(&mut block, 0)?;
        let bytes = self.notes.store(&block[..read.min(len)]);
        let id = names.new_id();
        names.files.insert(path.to_owned(), id);
        self.notes.push(Event::Found { file: id, path: path.to_owned(), bytes });
        Ok(id)
    }

    /// Puts a mark of your own into the trace, and returns its position.
    pub fn mark(&self, mark: u64) -> usize {
        self.notes.push(Event::Mark(mark))
    }

    /// How many events there are.
    #[must_use]
    pub fn position(&self) -> usize {
        self.notes.lock().trace.events.len()
    }

    /// What was recorded so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.notes.lock().trace.clone()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, names: &mut Names, path: &Path, open: Open) -> io::Result<(File, FileId)> {
        let id = names.new_id();
        let action = Action::Create { file: id, path: path.to_owned() };
        let inner = self.notes.around(action, || self.inner.open(path, open))?;
        names.files.insert(path.to_owned(), id);
        Ok((inner, id))
    }
}

impl Disk for Recorder {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let _names = self.names();
        if self.inner.list(dir).is_ok() {
            return self.inner.create_dir(dir);
        }
        let action = Action::CreateDir(dir.to_owned());
        self.notes.around(action, || self.inner.create_dir(dir))
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let mut names = self.names();
        let (inner, id) = if open.create_new {
            self.create(&mut names, path, open)?
        } else {
            let inner = self.inner.open(path, open)?;
            let id = match names.files.get(path) {
                Some(&id) => id,
                None => self.found_file(&mut names, path)?,
            };
            (inner, id)
        };
        Ok(Arc::new(RecordedFile { inner, id, notes: self.notes.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let Some(&file) = names.files.get(from) else {
            // Not there, or never opened: let the disk below say so, and take it in if it is there.
            self.inner.rename(from, to)?;
            self.found_file(&mut names, to)?;
            return Ok(());
        };
        let action = Action::Rename { file, from: from.to_owned(), to: to.to_owned() };
        self.notes.around(action, || self.inner.rename(from, to))?;
        names.files.remove(from);
        names.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        let Some(&file) = names.files.get(path) else { return self.inner.remove(path) };
        let action = Action::Remove { file, path: path.to_owned() };
        self.notes.around(action, || self.inner.remove(path))?;
        names.files.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let action = Action::SyncDir(dir.to_owned());
        self.notes.around(action, || self.inner.sync_dir(dir))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        self.notes.around(Action::Lock(path.to_owned()), || self.inner.lock(path, holder))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        let inner = self.inner.ring(config)?;
        Ok(Box::new(RecordedRing::new(inner, self.notes.clone())))
    }

    fn is_copy_on_write(&self, dir: &Path) -> io::Result<bool> {
        self.inner.is_copy_on_write(dir)
    }

    fn keeps(&self) -> Keeps {
        self.inner.keeps()
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }
}

/// A file whose writes and syncs are written down.
#[derive(Debug)]
struct RecordedFile {
    inner: File,
    id: FileId,
    notes: Notes,
}

impl RecordedFile {
    /// The file behind the trait.
    ///
    /// # Errors
    /// `InvalidInput` if another [`Disk`] opened it.
    fn of(file: &File) -> io::Result<&Self> {
        file.as_any().downcast_ref::<Self>().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the file belongs to another disk")
        })
    }

    fn inner(&self) -> &File {
        &self.inner
    }

    fn id(&self) -> FileId {
        self.id
    }
}

impl DiskFile for RecordedFile {
    fn access(&self) -> Access {
        self.inner.access()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let bytes = self.notes.store(buf);
        let (file, durability) = (self.id, Durability::Written);
        let action = Action::Write { file, at, bytes, durability };
        self.notes.around(action, || self.inner.write_at(buf, at))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.notes.around(Action::Sync { file: self.id }, || self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.notes.around(Action::Sync { file: self.id }, || self.inner.sync_all())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let action = Action::Allocate { file: self.id, len };
        self.notes.around(action, || self.inner.allocate(len))
    }

    /// Not recorded as a sync: that it makes anything durable is nothing to rely on.
    fn drop_cache(&self) -> io::Result<bool> {
        self.inner.drop_cache()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
