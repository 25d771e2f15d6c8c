//! Positional reads and writes, and directories, as POSIX has them.

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
