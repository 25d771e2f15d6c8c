//! The operating system's disk, with a look at every write that a ring gets.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal_disk::{
    Alarm, Block, Completion, Disk, Entry, File, FileSlot, Held, Lock, Open, Operation, RealDisk,
    Ring, RingConfig, RingFacts,
};

/// A write that was pushed to a ring.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Of the block.
    pub(crate) address: usize,
    /// What stood in it.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Tap {
    disk: RealDisk,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self { disk: RealDisk::new(), seen: Arc::default() }
    }

    /// What was pushed since the last time.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Disk for Tap {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        self.disk.open(path, open)
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
        let ring = self.disk.ring(config)?;
        Ok(Box::new(TapRing { ring, seen: self.seen.clone() }))
    }

    fn now(&self) -> Duration {
        self.disk.now()
    }
}

#[derive(Debug)]
struct TapRing {
    ring: Box<dyn Ring>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Ring for TapRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        self.ring.register(file)
    }

    fn release(&mut self, slot: FileSlot) {
        self.ring.release(slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.ring.take_block()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        if let Operation::Write { block, len, .. } = &operation {
            let seen = Seen { address: block.as_ptr().addr(), bytes: block[..*len].to_vec() };
            self.seen.lock().unwrap().push(seen);
        }
        self.ring.push(operation)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.reap(completions)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ring.wait(timeout)
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.ring.listen(alarm);
    }

    fn announce(&mut self) -> io::Result<()> {
        self.ring.announce()
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    fn facts(&self) -> RingFacts {
        self.ring.facts()
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.drain(completions)
    }
}
