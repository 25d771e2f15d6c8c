//! Where a job lives on a disk, and the few file operations that it needs.
//!
//! ```text
//! <job>/log/            the write-ahead log
//! <job>/output/         core-0000.out ...: what the sinks have written
//! <job>/snapshots/      state of a checkpoint, a file for each core
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::Disk;
use corewal_disk::{File, Open};

use crate::error::{FileError, Trying};

/// Where a job lives.
#[derive(Clone, Debug)]
pub struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Place {
    /// In `dir`, on `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Self {
        Self { disk, dir: dir.as_ref().to_path_buf() }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Makes the directories, durably.
    pub(crate) fn create(&self) -> Result<(), FileError> {
        for dir in [&self.dir, &self.output(), &self.snapshots()] {
            self.disk.create_dir(dir).trying("create", dir)?;
        }
        self.disk.sync_dir(&self.dir).trying("sync", &self.dir)?;
        let Some(parent) = self.dir.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        self.disk.sync_dir(parent).trying("sync", parent)
    }

    /// The whole file.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let file = self.disk.open(path, Open::READ).trying("open", path)?;
        read_from(&file, 0).trying("read", path)
    }

    /// Writes a file that is there whole and durable, or not at all.
    pub(crate) fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let part = path.with_extension("part");
        // One that a crash left behind.
        self.disk.remove(&part).trying("remove", &part)?;
        let file = self.disk.open(&part, Open::CREATE).trying("create", &part)?;
        file.write_at(bytes, 0).trying("write", &part)?;
        file.sync_all().trying("sync", &part)?;
        self.disk.rename(&part, path).trying("rename", &part)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        self.disk.sync_dir(dir).trying("sync", dir)
    }
}

/// The file's bytes from `at` on.
pub(crate) fn read_from(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?.saturating_sub(at);
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let count = file.read_at(&mut bytes, at)?;
    bytes.truncate(count);
    Ok(bytes)
}
