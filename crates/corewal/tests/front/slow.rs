//! A disk whose writes complete when the test says so, on the blocking engine.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use corewal_disk::{
    Alarm, Block, Completion, Disk, Entry, File, FileSlot, Held, Lock, Open, Operation, RealDisk,
    Ring, RingConfig, RingFacts,
};

/// Holds completions back while it is shut.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    /// Panics at the next reap, as a bug in the engine would.
    panics: bool,
    alarms: Vec<Arc<Alarm>>,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().is_shut = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().is_shut = false;
        self.tell();
    }

    /// The next reap panics.
    pub(crate) fn break_down(&self) {
        self.state.lock().unwrap().panics = true;
        self.tell();
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.state.lock().unwrap().alarms.iter().for_each(|alarm| alarm.raise());
    }
}

/// The real disk behind a gate.
#[derive(Debug)]
pub(crate) struct GatedDisk {
    pub(crate) gate: Arc<Gate>,
    disk: RealDisk,
}

impl GatedDisk {
    pub(crate) fn new() -> Self {
        Self { gate: Arc::default(), disk: RealDisk::new() }
    }
}

impl Disk for GatedDisk {
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
        let config = RingConfig { engine: corewal::Engine::Blocking, ..config };
        let inner = self.disk.ring(config)?;
        Ok(Box::new(GatedRing { inner, gate: Arc::clone(&self.gate) }))
    }

    fn now(&self) -> Duration {
        self.disk.now()
    }
}

#[derive(Debug)]
struct GatedRing {
    inner: Box<dyn Ring>,
    gate: Arc<Gate>,
}

impl Ring for GatedRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        self.inner.register(file)
    }

    fn release(&mut self, slot: FileSlot) {
        self.inner.release(slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.inner.take_block()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        self.inner.push(operation)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.inner.submit()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let state = self.gate.state.lock().unwrap();
        let (is_shut, panics) = (state.is_shut, state.panics);
        drop(state);
        assert!(!panics, "the test breaks the ring");
        if is_shut { Ok(()) } else { self.inner.reap(completions) }
    }

    /// Until the gate opens, or the alarm that the ring listens to is raised.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let alarm = {
            let state = self.gate.state.lock().unwrap();
            if !state.is_shut || state.panics {
                return Ok(());
            }
            state.alarms[0].clone()
        };
        alarm.wait(timeout)
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.inner.listen(alarm);
        self.gate.state.lock().unwrap().alarms.push(Arc::clone(alarm));
    }

    fn announce(&mut self) -> io::Result<()> {
        self.inner.announce()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn facts(&self) -> RingFacts {
        self.inner.facts()
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.inner.drain(completions)
    }
}
