//! Positional reads and writes, directories, names and locks, as POSIX has them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reading, and what else the caller adds. std sets `O_CLOEXEC`.
pub(crate) fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    options
}

/// One pread(2).
pub(crate) fn read_at(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(buf, at)
}

/// One pwrite(2).
pub(crate) fn write_at(file: &fs::File, buf: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(buf, at)
}

/// Makes the names in `dir` durable (fsync(2): the file's own fsync does not).
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// rename(2): durable after [`sync_dir`].
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Opens `path` for its one holder, by flock(2); `None` if there is another.
pub(crate) fn lock(path: &Path) -> io::Result<Option<fs::File>> {
    let file = options().write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
