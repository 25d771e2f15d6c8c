//! A disk that stops when a manifest is renamed over its slot, or has become durable there.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corewal_disk::sim::SimDisk;
use corewal_disk::{Disk, Entry, File, Held, Lock, Open, Ring, RingConfig};

use crate::sim::DIR;

/// Where to stop, at a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopAt {
    /// It is renamed, and the directory is not synced.
    Renamed,
    /// The directory is synced.
    Durable,
}

/// A simulated disk that can be told to stop in the middle of a call.
#[derive(Debug)]
pub(super) struct Gate {
    disk: Arc<SimDisk>,
    armed: Mutex<Armed>,
}

#[derive(Debug, Default)]
struct Armed {
    /// Where to stop, and at which manifest from now on, from 1.
    stop: Option<(StopAt, u8)>,
    /// A manifest was renamed, and the directory not synced since.
    is_renamed: bool,
}

impl Gate {
    pub(super) fn new(disk: Arc<SimDisk>) -> Self {
        Self { disk, armed: Mutex::default() }
    }

    /// Stops at the manifest with this number, from 1, from now on.
    pub(super) fn stop(&self, at: StopAt, manifest: u8) {
        self.armed().stop = Some((at, manifest));
    }

    fn armed(&self) -> MutexGuard<'_, Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A manifest becomes durable: whether to stop there, and how.
    fn pass(&self) -> Option<StopAt> {
        let mut armed = self.armed();
        if !std::mem::take(&mut armed.is_renamed) {
            return None;
        }
        let (at, left) = armed.stop?;
        armed.stop = (left > 1).then(|| (at, left - 1));
        (left == 1).then_some(at)
    }
}

impl Disk for Gate {
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
        self.disk.rename(from, to)?;
        // Only manifests are renamed there; segments are renamed in the folders.
        self.armed().is_renamed |= to.parent() == Some(Path::new(DIR));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let stop = if dir == Path::new(DIR) { self.pass() } else { None };
        if stop == Some(StopAt::Renamed) {
            self.disk.crash_after(0);
        }
        let result = self.disk.sync_dir(dir);
        if stop == Some(StopAt::Durable) {
            self.disk.crash_after(0);
        }
        result
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        self.disk.lock(path, holder)
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        self.disk.ring(config)
    }

    fn is_copy_on_write(&self, dir: &Path) -> io::Result<bool> {
        self.disk.is_copy_on_write(dir)
    }

    fn now(&self) -> Duration {
        self.disk.now()
    }
}
