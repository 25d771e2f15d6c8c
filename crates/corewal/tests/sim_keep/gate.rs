//! A disk that stops its reader at one operation until somebody else has done something.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal_disk::sim::SimDisk;
use corewal_disk::{Access, Disk, DiskFile, Entry, File, Held, Lock, Open, Ring, RingConfig};

/// Lists, opens and reads, counted; the rest goes through.
#[derive(Debug)]
pub(crate) struct Gate {
    disk: Arc<SimDisk>,
    count: Count,
}

/// Where a reader has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Gate,
    End,
}

/// Stops whoever does the operation with number `at`.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    pub(crate) done: Arc<AtomicUsize>,
    pub(crate) at: usize,
    pub(crate) stopped: Sender<Met>,
    pub(crate) go_on: Arc<Mutex<Receiver<()>>>,
}

impl Count {
    fn pass(&self) {
        if self.done.fetch_add(1, Ordering::SeqCst) == self.at {
            self.stopped.send(Met::Gate).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
    }
}

impl Gate {
    pub(crate) fn new(disk: &Arc<SimDisk>, count: Count) -> Self {
        Self { disk: Arc::clone(disk), count }
    }
}

impl Disk for Gate {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.count.pass();
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        self.count.pass();
        let file = self.disk.open(path, open)?;
        Ok(Arc::new(GateFile { file, count: self.count.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        self.disk.lock(path, holder)
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        self.disk.ring(config)
    }

    fn now(&self) -> Duration {
        self.disk.now()
    }
}

#[derive(Debug)]
struct GateFile {
    file: File,
    count: Count,
}

impl DiskFile for GateFile {
    fn access(&self) -> Access {
        self.file.access()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.count.pass();
        self.file.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_at(buf, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn drop_cache(&self) -> io::Result<bool> {
        self.file.drop_cache()
    }

    fn as_any(&self) -> &dyn Any {
        self.file.as_any()
    }
}
