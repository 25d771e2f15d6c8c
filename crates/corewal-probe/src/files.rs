//! The files that cells write: prepared as the cell says, removed in the end.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use corewal_disk::{Access, Block, Disk, DiskFile, File, Open};

use crate::cell::{AccessKind, Cell, FileState, Method};

/// Zeros are written in pieces of this size, in bytes.
const FILL_LEN: usize = 256 << 10;

/// The files of a probe. Zero-filled ones are kept for the next cell, as a log recycles its segments.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    /// Length of each, in bytes.
    len: u64,
    /// What their names begin with.
    prefix: String,
    made: HashMap<PathBuf, FileState>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, dir: &Path, len: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        // Tells the files of two probes apart, also of two processes.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("corewal-probe-{}-{number}-", std::process::id());
        Self { disk, dir: dir.to_owned(), len, prefix, made: HashMap::new() }
    }

    pub(crate) fn rename(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file of a shard, prepared.
    ///
    /// # Errors
    /// Those of the file system; `Unsupported` if it has no direct I/O and the cell wants it.
    pub(crate) fn open(&mut self, cell: &Cell, shard: u16) -> io::Result<File> {
        let [access, state] = [cell.access.name(), cell.state.name()];
        let name = format!("{}{access}-{state}-{shard}", self.prefix);
        let name = self.dir.join(name);
        if cell.state != FileState::ZeroFilled || !self.made.contains_key(&name) {
            self.disk.remove(&name)?;
            self.made.insert(name.clone(), cell.state);
            let file = self.disk.open(&name, mode(Open::CREATE, cell))?;
            match cell.state {
                FileState::Growing => {}
                FileState::Allocated => file.allocate(self.len)?,
                FileState::ZeroFilled => fill(&*file, self.len)?,
            }
            file.sync_all()?;
            self.disk.sync_dir(&self.dir)?;
        }
        let open = mode(Open::WRITE, cell);
        let open = if cell.method == Method::ODsync { open.dsync() } else { open };
        let file = self.disk.open(&name, open)?;
        if cell.access == AccessKind::Direct && file.access() == Access::Buffered {
            let text = format!("no direct I/O on {}", self.dir.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        // What an earlier cell left in the cache is not this one's.
        file.drop_cache()?;
        Ok(file)
    }

    /// Writes back what a cell left behind, so that the next one does not pay for it.
    pub(crate) fn settle(&mut self, file: &File, cell: &Cell) -> io::Result<()> {
        match cell.state {
            FileState::ZeroFilled => file.sync_all(),
            FileState::Growing | FileState::Allocated => self.remove_except_filled(),
        }
    }

    fn remove_except_filled(&mut self) -> io::Result<()> {
        for (path, _) in self.made.extract_if(|_, state| *state != FileState::ZeroFilled) {
            self.disk.remove(&path)?;
        }
        self.disk.sync_dir(&self.dir)
    }
}

fn mode(open: Open, cell: &Cell) -> Open {
    match cell.access {
        AccessKind::Direct => open.direct(),
        AccessKind::Buffered => open,
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for path in self.made.keys() {
            // What stays behind is a file with a name that says what it is.
            let _ = self.disk.remove(path);
        }
    }
}

/// Writes every block once.
///
/// # Errors
/// Those of writing and of fsync(2).
pub(crate) fn fill(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    file.allocate(len)?;
    let zeros = Block::zeroed(FILL_LEN);
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).map_or(FILL_LEN, |rest| rest.min(FILL_LEN));
        file.write_at(&zeros[..part], at)?;
        at += part as u64;
    }
    file.sync_all()
}
